"""tools/train.py as a user runs it, each time in a process of its own."""
import json
import re
import signal
import subprocess
import sys
import time

import pytest

TOY = '''
"""A method of one's own."""
import torch
from ssl_zoo import METHODS, Method
from ssl_zoo.backbones import build_backbone


@METHODS.register_module()
class Invariance(Method):
    """Pulls two views together and keeps every feature's deviation at 1.

    Args:
        backbone: keys of build_backbone.
        weight: of the deviation term.
    """

    def __init__(self, backbone, weight=1.0):
        super().__init__()
        self.backbone = build_backbone(**backbone)
        self.embed_dim, self.weight = self.backbone.embed_dim, weight

    def loss(self, views, **batch):
        a, b = (self.backbone(v) for v in views)                                  # (B, embed_dim)
        pull, keep = (a - b).square().mean(), sum((1 - z.std(0)).relu().mean() for z in (a, b))
        return dict(loss=pull + self.weight * keep, pull=pull, keep=keep)
'''
TOY_CONFIG = '''
"""Its config, in the same folder outside the repository."""
imports = ['my_method.py']
method = dict(type='Invariance', backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1)), weight=2.0)
data = dict(train=dict(type='Digits', split='val'), val=40)
views = [dict(size=20, flip_p=0.0)] * 2
optimizer = dict(type='SGD', momentum=0.9)
epochs, batch_size, base_lr, workers, log_every = 2, 20, 0.5, 0, 5
'''


@pytest.fixture
def toy(tmp_path):
    (tmp_path / 'my_method.py').write_text(TOY)
    (tmp_path / 'my_config.py').write_text(TOY_CONFIG)
    return tmp_path / 'my_config.py'


def test_a_method_outside_the_repository_trains(toy, tmp_path, run_tool, root):
    done = run_tool(root / 'tools/train.py', toy, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / 'work_dirs' / f'{tmp_path.name}_my_config').iterdir()
    assert re.search(r'step 14/14 +loss [\d.]+ .*pull [\d.]+ +keep [\d.]+', done.stdout)
    assert 'k-NN' in done.stdout and (run / 'checkpoints' / 'step_00000014.pth').exists()
    again = run_tool(root / 'tools/train.py', run / 'config.py', '--work-dir', tmp_path / 'again', cwd=tmp_path)
    assert again.returncode == 0, again.stderr                                    # the dumped config is enough to run it again
    losses = [[line for line in map(json.loads, (d / 'log.jsonl').read_text().splitlines()) if 'train/loss' in line][-1]['train/loss']
              for d in (run, tmp_path / 'again')]
    assert losses[0] == losses[1]


def test_a_misspelt_argument_of_ones_own_method(toy, tmp_path, run_tool, root):
    done = run_tool(root / 'tools/train.py', toy, '--cfg-options', 'method.wieght=1', cwd=tmp_path)
    assert done.returncode == 2
    assert "error: method 'Invariance' has no argument 'wieght': did you mean 'weight'" in done.stderr
    assert 'Traceback' not in done.stderr and not (tmp_path / 'work_dirs').exists()


def test_dry_run_prints_the_plan_and_writes_nothing(run_tool, root, tmp_path):
    done = run_tool(root / 'tools/train.py', root / 'configs/byol/digits.py', '--dry-run', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ('plan', '1,257 images', 'warm-up', 'LARS adaptation', 'view 2', 'one synthetic step', 'images/s', 'GiB'):
        assert words in done.stdout
    assert not list(tmp_path.iterdir())


def test_dry_run_without_the_data_assumes_the_recipes_images(run_tool, root, tmp_path):
    done = run_tool(root / 'tools/train.py', root / 'configs/byol/r50_imagenet.py', '--dry-run', '--cfg-options', 'epochs=300',
                    'views.0.size=64', 'views.1.size=64', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'note: looked for class folders with images in' in done.stdout and '1,281,167' in done.stdout
    assert '93,835 in 300 epochs' in done.stdout and '0 -> 4.8 (0.3 x 4096 / 256)' in done.stdout


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (['configs/byol/none.py'], 'there is no config at'),
    (['configs/byol/r50_imagenet.py', '--cfg-options', 'data.train.root=/none'], 'looked for class folders with images in /none'),
    (['configs/byol/digits.py', '--cfg-options', 'epoch=3'], "did you mean 'epochs'"),
    (['configs/byol/digits.py', '--resume', '--work-dir', '/none/x'], 'nothing to resume'),
    (['configs/byol/digits.py', '--resume', '/none.pth'], 'there is no checkpoint at /none.pth'),
    (['configs/byol/digits.py', '--work-dir', '/proc/none'], 'cannot make the work directory'),
])
def test_mistakes_end_with_one_sentence(run_tool, root, arguments, sentence):
    done = run_tool(root / 'tools/train.py', *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr and 'Traceback' not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_ctrl_c_saves_and_resume_ends_like_an_uninterrupted_run(toy, tmp_path, root, run_tool):
    options = ['--cfg-options', 'epochs=12', 'workers=2', 'log_every=1']
    whole = run_tool(root / 'tools/train.py', toy, '--work-dir', 'whole', *options, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr

    process = subprocess.Popen([sys.executable, str(root / 'tools/train.py'), str(toy), '--work-dir', 'stopped', *options],
                               cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    for line in process.stdout:
        if 'step 20/' in line:
            break
    started = time.monotonic()
    import os
    os.killpg(process.pid, signal.SIGINT)                                         # a terminal sends it to the workers too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, err
    assert time.monotonic() - started < 20
    assert 'SIGINT: finishing this step and saving' in out and 'Traceback' not in err
    assert re.search(r'stopped by SIGINT after step \d+; continue with --resume --work-dir stopped', err)

    resumed = run_tool(root / 'tools/train.py', toy, '--work-dir', 'stopped', '--resume', *options, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    import torch

    from ssl_zoo.engine.checkpoint import read_checkpoint
    a, b = (read_checkpoint(tmp_path / d / 'checkpoints' / 'step_00000084.pth')['method'] for d in ('whole', 'stopped'))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_sigterm_to_the_whole_group_saves_as_well(toy, tmp_path, root):
    import os
    process = subprocess.Popen([sys.executable, str(root / 'tools/train.py'), str(toy), '--work-dir', 'run', '--cfg-options',
                                'epochs=200', 'workers=2', 'log_every=1'], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    for line in process.stdout:
        if 'step 10/' in line:
            break
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert 'Traceback' not in err and list((tmp_path / 'run' / 'checkpoints').iterdir())
