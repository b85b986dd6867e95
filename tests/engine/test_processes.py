"""tools/train.py on two processes: what one process trains, told once, stopped and resumed
together.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from ssl_zoo.checkpoint import checkpoints_in, read_checkpoint
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.stream_sampler import order_of

CONFIG = """
_backbone = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))
method = dict(type='BYOL', backbone=_backbone, hidden_dim=32, proj_dim=16, base_ema=0.9)
_digits = dict(type='Digits', split='val', size=20)
data = dict(train=_digits, val=40, mean=(0.5,) * 3, std=(0.5,) * 3)
_jitter = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)
views = [dict(size=20, flip_p=0.0, **_jitter, gray_p=0.2, blur_p=0.5)] * 2
optimizer = dict(type='LARS', momentum=0.9)
epochs, batch_size, base_lr, weight_decay, warmup_epochs = 2, 20, 1.0, 1e-6, 0.5
workers, log_every = 0, 1
online_eval = dict(every=1)
parallel = dict(timeout=30)
"""
SLOW = '''
import time
from ssl_zoo.methods.byol import BYOL
from ssl_zoo.registry import METHODS
import torch
from ssl_zoo.distributed import rank

@METHODS.register_module(force=True)
class Slow(BYOL):
    """BYOL that takes its time, with dropout."""
    def loss(self, views, **batch):
        time.sleep(0.02)
        return super().loss([torch.nn.functional.dropout(view, 0.1) for view in views], **batch)

@METHODS.register_module(force=True)
class Uneven(BYOL):
    """A loss that is not a number, on the second process only."""
    def loss(self, views, **batch):
        out = super().loss(views, **batch)
        is_bad = rank() == 1 and self.progress >= 0.5
        return dict(loss=out['loss'] * (float('nan') if is_bad else 1.0))

@METHODS.register_module(force=True)
class Torn(BYOL):
    """A view that is not finite on the second process, before every synchronised BatchNorm."""
    def loss(self, views, **batch):
        if rank() == 1 and self.progress >= 0.5:
            views = [view * float('inf') for view in views]
        return super().loss(views, **batch)
'''


@pytest.fixture
def config(tmp_path):
    (tmp_path / 'slow.py').write_text(SLOW)
    (tmp_path / 'config.py').write_text(CONFIG + "imports = ['slow.py']\n")
    return tmp_path / 'config.py'


@pytest.fixture
def train(processes, root, config):
    """Function: start the training on n processes."""

    def run(n, *options, work='run', resume=False):
        arguments = [root / 'tools/train.py', config, '--work-dir', work, *['--resume'] * resume]
        return processes(n, *arguments, *(['--cfg-options', *options] if options else []))

    return run


def rows(run, name='log.jsonl') -> list[dict]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def losses(run) -> list[float]:
    return [row['train/loss'] for row in rows(run) if 'train/loss' in row]


def weights(run) -> dict:
    return read_checkpoint(checkpoints_in(run)[0])['method']


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_two_processes_train_what_one_trains_and_write_it_once(train, tmp_path):
    # A small learning rate: with a large one training magnifies float32's rounding, which is all
    # that may differ.
    ended = [train(n, 'base_lr=0.3', work=f'{n}').ended() for n in (1, 2)]
    for code, _, err in sum(ended, []):
        assert code == 0 and err == '', err
    one, two = tmp_path / '1', tmp_path / '2'
    torch.testing.assert_close(
        torch.tensor(losses(two)), torch.tensor(losses(one)), rtol=1e-3, atol=0
    )
    assert losses(one)[-1] < 0.9 * losses(one)[0]  # and it has learnt
    assert len(losses(two)) == 14 and [row['step'] for row in rows(two)] == [
        row['step'] for row in rows(one)
    ]
    knn, results = (
        [[row[key] for row in rows(run, name) if key in row] for run in (one, two)]
        for name, key in (('log.jsonl', 'val/knn'), ('results.jsonl', 'value'))
    )
    assert len(knn[0]) == 3 and knn[1] == pytest.approx(
        knn[0], abs=2.51
    )  # an image of the 40 may fall to another class
    assert len(results[0]) == 4 and results[1] == pytest.approx(results[0], abs=2.51)
    assert [r['metric'] for r in rows(two, 'results.jsonl')] == [
        r['metric'] for r in rows(one, 'results.jsonl')
    ]
    files = [
        sorted(str(p.relative_to(run)) for p in run.rglob('*') if 'tfevents' not in p.name)
        for run in (one, two)
    ]
    assert files[0] == files[1] and len(list((two / 'tensorboard').iterdir())) == 1
    log, (_, out, _), (_, silent, _) = (two / 'train.log').read_text(), *ended[1]
    assert silent == ''
    for text in (log, out):
        assert text.count('plan\n') == 1 and text.count('step 14/14') == 1
        assert (
            '20 images per optimizer step = 2 processes x 10' in text
            and 'BatchNorm over all processes' in text
        )
    assert (two / 'command.txt').read_text().count('\n') == 1
    a, b = (weights(run) for run in (one, two))
    for name, value in a.items():
        torch.testing.assert_close(b[name].float(), value.float(), rtol=0.02, atol=0.02)


LONG = (
    'epochs=200',
    'method.type=Slow',
    'online_eval.every=0',
    'checkpoint.every=20',
    'data.val=None',
)
SHORT = ('epochs=2', 'method.type=Slow', 'online_eval.every=0')


@pytest.mark.long
def test_a_signal_to_one_process_stops_both_and_they_resume_bit_for_bit(train, tmp_path):
    whole = train(2, *SHORT, work='whole')
    assert [code for code, _, _ in whole.ended()] == [0, 0]
    group = train(2, *SHORT)
    group.until('step 5/14')
    os.kill(group.pids[1], signal.SIGTERM)
    (code, out, err), (other, out1, err1) = group.ended()
    assert (code, other) == (143, 143), err + err1
    assert (
        re.fullmatch(
            r'stopped by SIGTERM after step (\d+); continue with --resume --work-dir \S*/run\n', err
        )
        and err1 == ''
    )
    stopped = int(re.search(r'after step (\d+)', err)[1])
    assert 5 <= stopped < 14 and f'/run/checkpoints/step_{stopped:08d}.pth' in out
    assert '[process 1] SIGTERM: finishing this step' in out1 and 'Traceback' not in out + out1
    assert checkpoints_in(tmp_path / 'run')[0].name == f'step_{stopped:08d}.pth'
    (code, out, err), _ = train(2, *SHORT, resume=True).ended()
    assert code == 0 and out.count(f'resumed at step {stopped} of 14') == 1, err
    assert same(weights(tmp_path / 'whole'), weights(tmp_path / 'run'))
    assert losses(tmp_path / 'whole') == losses(tmp_path / 'run')


@pytest.mark.long
def test_a_signal_to_torchrun_stops_all_and_the_run_goes_on_with_it(config, root, tmp_path):
    """torchrun passes it on, and waits for its processes."""
    command = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node=2',
        '--log-dir',
        'logs',
        '--redirects',
        '3',
        str(root / 'tools/train.py'),
        str(config),
        '--work-dir',
        'run',
        '--cfg-options',
        *LONG,
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
    )
    end = time.monotonic() + 600
    while not (
        (tmp_path / 'run/train.log').exists()
        and 'step 5/' in (tmp_path / 'run/train.log').read_text()
    ):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=600)
    assert process.returncode != 0
    (first,), (second,) = (list((tmp_path / 'logs').rglob(f'{i}/stderr.log')) for i in (0, 1))
    assert re.fullmatch(
        r'(.*\n)?stopped by SIGTERM after step \d+; continue with --resume --work-dir \S*/run\n',
        first.read_text(),
    )
    assert (
        'Traceback' not in first.read_text() + second.read_text()
        and 'stopped' not in second.read_text()
    )
    [path] = checkpoints_in(tmp_path / 'run')
    assert f'/run/checkpoints/{path.name}' in (tmp_path / 'run/train.log').read_text()


@pytest.fixture
def broken(image_folder):
    """Function: options for 60 images of which these cannot be read."""

    def make(*which):
        folder = image_folder(classes=2, per_class=30, size=20)
        for i in which:
            (folder / f'class_{i // 30}' / f'{i % 30}.png').write_bytes(b'broken')
        return (
            f'data={{"train": {{"type": "ImageFolder", "root": "{folder}"}}, "max_unreadable": '
            '0.05}',
            'online_eval.every=0',
        )

    return make


@pytest.mark.long
def test_unreadable_images_are_counted_once_over_both_processes(train, tmp_path, broken):
    (code, out, err), (_, out1, _) = train(2, *broken(3, 44), 'epochs=3').ended()
    assert code == 0, err
    log = (tmp_path / 'run/train.log').read_text()
    for text in (out, log):
        assert text.count('skipped class_') == 2 and text.count('skipped class_0/') == 1
        assert (
            '2 of 60 training images could not be read and were skipped: class_0/'
            in text.splitlines()[-1]
        )
    assert out1 == ''


def test_an_image_that_is_unreadable_in_the_last_step_is_counted(train, tmp_path, broken):
    """With two processes the last step has none after it that could tell."""
    options = broken()
    folder = re.search(r'"root": "([^"]*)"', options[0])[1]
    name = ImageFolder(folder).name(
        int(order_of(0, 60, 0)[-1])
    )  # position 59: of the second process
    with open(f'{folder}/{name}', 'wb') as file:
        file.write(b'broken')
    for n in (1, 2):
        assert [code for code, _, _ in train(n, *options, 'epochs=1', work=f'{n}').ended()] == [
            0
        ] * n
        assert (
            f'1 of 60 training images could not be read and were skipped: {name}'
            in (tmp_path / f'{n}/train.log').read_text()
        )


def test_too_many_unreadable_images_stop_both_with_one_sentence(train, broken):
    (code, out, err), (other, out1, err1) = train(2, *broken(*range(2, 60, 6)), 'epochs=50').ended(
        40
    )
    assert (code, other) == (2, 2) and err1 == '', err + err1
    assert re.fullmatch(
        r'error: \d+ of 60 training images cannot be read, '
        r'more than the share data.max_unreadable=0.05 allows: .*\n',
        err,
    )
    assert 'Traceback' not in out + out1


def test_mistakes_are_told_once_and_at_once(train, tmp_path):
    for options, sentence in (
        (
            ['data.train={"type": "ImageFolder", "root": "/none"}'],
            'looked for class folders with images in /none',
        ),
        (['batch_size=21'], 'batch_size=21 cannot be shared out evenly over 2 processes'),
    ):
        (code, _, err), (other, _, err1) = train(2, *options).ended()
        assert (code, other) == (2, 2) and sentence in err and err.count('\n') == 1
        assert 'Traceback' not in err + err1 and (
            err1 == '' or sentence in err1 and err1.startswith('[process 1] error: ')
        )
        if 'looked' in sentence:
            assert err1 == ''
    assert not (tmp_path / 'run').exists()


@pytest.mark.long
def test_a_work_directory_in_use_is_refused_to_both(train, tmp_path):
    group = train(2, *LONG)
    group.until('step 3/')
    for n in (1, 2):
        (code, _, err), *others = train(n, *LONG).ended()
        assert (
            code == 2
            and re.search(r'run is in use by another run \(process \d+ on .*\); wait for it', err)
            and err.count('\n') == 1
        )
        assert [(c, e) for c, _, e in others] == [(2, '')] * (n - 1)
    os.kill(group.pids[0], signal.SIGINT)  # the run that has it was not disturbed
    assert [code for code, _, _ in group.ended()] == [130, 130]
    (code, _, err), (_, _, err1) = train(2, *LONG).ended()
    assert code == 2 and 'already holds a run (step_' in err and err1 == ''


@pytest.mark.long
@pytest.mark.parametrize(
    ('method', 'found'),
    [('Uneven', "the term 'loss' of the loss"), ('Torn', 'the output of online.backbone.conv1')],
)
def test_a_value_that_is_not_finite_on_one_process_stops_both(train, tmp_path, method, found):
    (code, out, err), (other, out1, err1) = train(
        2, f'method.type={method}', 'online_eval.every=0', 'log_every=5'
    ).ended()
    assert (code, other) == (3, 3) and err1 == '', err + err1
    assert (
        err.startswith('error: not finite at step 7: ')
        and err.count('\n') == 1
        and '. Images of the batch: ' in err
    )
    assert 'Traceback' not in out + out1 and [p.name for p in checkpoints_in(tmp_path / 'run')] == [
        'step_00000007.pth'
    ]
    dump = torch.load(next((tmp_path / 'run').glob('not_finite_step_*.pth')), weights_only=True)
    assert dump['step'] == 7 and len(dump['batch']['index']) == 20
    assert err.startswith(f'error: not finite at step 7: {found}') and ' on process 1. ' in err


@pytest.mark.long
def test_a_sharded_run_trains_stops_and_resumes_under_ddp_and_alone(train, tmp_path):
    sharded = 'parallel.strategy=fsdp'
    group = train(2, sharded, 'online_eval.every=1', 'method.type=Slow')
    group.until('step 7/14')
    os.kill(group.pids[0], signal.SIGUSR1)
    (code, out, err), (other, _, _) = group.ended()
    assert (code, other) == (
        138,
        138,
    ) and 'parameters and optimizer state shared out; BatchNorm over all processes' in out, err
    for n, options, work in ((2, [], 'a'), (2, [sharded], 'b')):
        shutil.copytree(tmp_path / 'run', tmp_path / work)
        (code, out, err), *_ = train(
            n, *options, 'online_eval.every=1', 'method.type=Slow', work=work, resume=True
        ).ended()
        assert code == 0 and 'resumed at step' in out, err
    assert [p.name for p in checkpoints_in(tmp_path / 'a')][0] == 'step_00000014.pth'
    a, b = weights(tmp_path / 'a'), weights(tmp_path / 'b')
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(b[name].float(), value.float(), rtol=1e-3, atol=1e-4)
