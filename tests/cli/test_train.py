"""tools/train.py as a user runs it, each time in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssl_zoo.cli.train import default_work_dir
from ssl_zoo.engine.work_dir import make_work_dir

# As run_tool has it: sums come out the same to the last bit only with the same number of threads.
ONE_THREAD = {**os.environ, 'OMP_NUM_THREADS': '1'}

# What makes that example small: 14 steps on 140 images.
SMALL = [
    'data.train.split=val',
    'data.val=40',
    'method.backbone.width=0.125',
    'method.backbone.layers=(1, 1, 1, 1)',
    'views.0.size=20',
    'views.1.size=20',
    'batch_size=20',
    'workers=0',
    'log_every=5',
    'epochs=2',
]


@pytest.fixture
def toy(tmp_path, root):
    """The config of the method in docs/extending.md, written outside the repository."""
    page = (root / 'docs/extending.md').read_text()
    blocks = dict(re.findall(r'```python\n# (my_\w+\.py)\n(.*?)```', page, re.DOTALL))
    for name in ('my_method.py', 'my_config.py'):
        (tmp_path / name).write_text(blocks[name])
    return tmp_path / 'my_config.py'


@pytest.mark.long
def test_a_method_outside_the_repository_trains(toy, tmp_path, run_tool, root):
    done = run_tool(root / 'tools/train.py', toy, '--cfg-options', *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / 'work_dirs' / f'{tmp_path.name}_my_config').iterdir()
    assert re.search(r'step 14/14 +loss [\d.]+ .*pull [\d.]+ +keep [\d.]+', done.stdout)
    assert 'k-NN' in done.stdout and (run / 'checkpoints' / 'step_00000014.pth').exists()
    again = run_tool(
        root / 'tools/train.py', run / 'config.py', '--work-dir', tmp_path / 'again', cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr  # the dumped config is enough to run it again
    losses = [
        [
            line
            for line in map(json.loads, (d / 'log.jsonl').read_text().splitlines())
            if 'train/loss' in line
        ][-1]['train/loss']
        for d in (run, tmp_path / 'again')
    ]
    assert losses[0] == losses[1]


def test_a_misspelt_argument_of_ones_own_method(toy, tmp_path, run_tool, root):
    done = run_tool(root / 'tools/train.py', toy, '--cfg-options', 'method.backbon=1', cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "error: method 'Invariance' has no argument 'backbon': did you mean 'backbone'"
        in done.stderr
    )
    assert 'Traceback' not in done.stderr and not (tmp_path / 'work_dirs').exists()


def test_dry_run_prints_the_plan_and_writes_nothing(run_tool, root, tmp_path):
    done = run_tool(
        root / 'tools/train.py', root / 'configs/byol/digits.py', '--dry-run', cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for words in (
        'plan',
        '1,257 images',
        'warm-up',
        'LARS adaptation',
        'view 2',
        'one synthetic step',
        'images/s',
        'GiB',
    ):
        assert words in done.stdout
    assert not list(tmp_path.iterdir())


def test_dry_run_without_the_data_assumes_the_recipes_images(run_tool, root, tmp_path):
    done = run_tool(
        root / 'tools/train.py',
        root / 'configs/byol/r50_imagenet.py',
        '--dry-run',
        '--cfg-options',
        'epochs=300',
        'accumulate=16',
        'views.0.size=32',
        'views.1.size=32',
        'method.backbone.name=resnet18',
        'method.backbone.width=0.25',
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (
        'note: looked for class folders with images in' in done.stdout
        and '1,281,167' in done.stdout
    )
    assert '4096 images per optimizer step = 16 passes x 256' in done.stdout
    assert 'of 1 x 16 images (the run has 16 x 256) on cpu' in done.stdout
    assert '93,835 in 300 epochs' in done.stdout and '0 -> 4.8 (0.3 x 4096 / 256)' in done.stdout


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['configs/byol/none.py'], 'there is no config at'),
        (
            [
                'configs/byol/r18_cifar10.py',
                '--dry-run',
                '--cfg-options',
                'data.train.type=ImageFoldr',
            ],
            "did you mean 'ImageFolder'",
        ),
        (
            ['configs/byol/r50_imagenet.py', '--cfg-options', 'data.train.root=/none'],
            'looked for class folders with images in /none',
        ),
        (['configs/byol/digits.py', '--cfg-options', 'epoch=3'], "did you mean 'epochs'"),
        (['configs/byol/digits.py', '--resume', '--work-dir', '/none/x'], 'nothing to resume'),
        (
            ['configs/byol/digits.py', '--resume', '/none.pth'],
            'there is no checkpoint at /none.pth',
        ),
        (['configs/byol/digits.py', '--work-dir', '/proc/none'], 'cannot make the work directory'),
    ],
)
def test_mistakes_end_with_one_sentence(run_tool, root, arguments, sentence):
    done = run_tool(root / 'tools/train.py', *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr and 'Traceback' not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.long
def test_ctrl_c_saves_and_resume_ends_like_an_uninterrupted_run(toy, tmp_path, root, run_tool):
    options = ['--cfg-options', *SMALL, 'epochs=12', 'workers=2', 'log_every=1']
    whole = run_tool(root / 'tools/train.py', toy, '--work-dir', 'whole', *options, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr

    process = subprocess.Popen(
        [sys.executable, str(root / 'tools/train.py'), str(toy), '--work-dir', 'stopped', *options],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=ONE_THREAD,
    )
    for line in process.stdout:
        if 'step 20/' in line:
            break
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
    out, err = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGINT, err
    assert time.monotonic() - started < 20
    assert 'SIGINT: finishing this step and saving' in out and 'Traceback' not in err
    assert re.search(
        r'stopped by SIGINT after step \d+; continue with --resume --work-dir \S*/stopped', err
    )

    resumed = run_tool(
        root / 'tools/train.py', toy, '--work-dir', 'stopped', '--resume', *options, cwd=tmp_path
    )
    assert resumed.returncode == 0, resumed.stderr
    import torch

    from ssl_zoo.checkpoint import read_checkpoint

    a, b = (
        read_checkpoint(tmp_path / d / 'checkpoints' / 'step_00000084.pth')['method']
        for d in ('whole', 'stopped')
    )
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.long
def test_sigterm_to_the_whole_group_saves_as_well(toy, tmp_path, root):
    process = subprocess.Popen(
        [
            sys.executable,
            str(root / 'tools/train.py'),
            str(toy),
            '--work-dir',
            'run',
            '--cfg-options',
            *SMALL,
            'epochs=200',
            'workers=2',
            'log_every=1',
        ],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=ONE_THREAD,
    )
    for line in process.stdout:
        if 'step 10/' in line:
            break
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert 'Traceback' not in err and list((tmp_path / 'run' / 'checkpoints').iterdir())


# ---- the folder of a run without --work-dir


def start_run(config, name=None):
    """Make the folder of a run with a checkpoint, as train does; return its name."""
    folder = make_work_dir(default_work_dir(config, resume=False), unique=True)
    if name:
        folder = folder.rename(folder.with_name(name))
    (folder / 'checkpoints').mkdir()
    (folder / 'checkpoints/step_00000007.pth').touch()
    return folder.name


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """Function: set the clock and the time zone."""
    monkeypatch.chdir(tmp_path)
    gmtime = time.gmtime

    def set_clock(seconds, zone='UTC'):
        monkeypatch.setenv('TZ', zone)
        time.tzset()
        monkeypatch.setattr('ssl_zoo.cli.train.time.gmtime', lambda: gmtime(seconds))

    yield set_clock
    monkeypatch.undo()
    time.tzset()


def test_folders_are_named_by_utc_in_every_time_zone(clock):
    summer_ends = 1792890000  # 25 October 2026, 01:00 UTC
    for zone in ('UTC', 'Europe/Berlin', 'America/New_York'):
        clock(summer_ends, zone)
        assert default_work_dir('a/b.py', False) == Path('work_dirs/a_b/20261025-010000')


def test_resume_takes_the_newest_run_though_the_clock_went_back(clock):
    clock(1792890000)
    names = [start_run('a/b.py')]
    clock(1792886400)  # an hour earlier
    names += [start_run('a/b.py') for _ in range(11)]
    assert names[1] == '20261025-010000-2' and names[-1] == '20261025-010000-12'
    assert default_work_dir('a/b.py', True).name == names[-1]
    clock(1792893600)
    assert start_run('a/b.py') == '20261025-020000'
    assert default_work_dir('a/b.py', 'auto').name == '20261025-020000'


def test_resume_takes_no_folder_of_the_user_and_no_run_without_checkpoints(clock):
    clock(1792890000)
    start_run('a/b.py', 'old')
    assert default_work_dir('a/b.py', True).name == 'old'  # the only run
    first = start_run('a/b.py')
    start_run('a/b.py', '20261025-010000 (copy)')
    Path('work_dirs/a_b/20261025-010000-2/checkpoints').mkdir(parents=True)
    assert default_work_dir('a/b.py', True).name == first
