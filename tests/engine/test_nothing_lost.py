"""Damage, full disks and signals at bad moments: what is lost (at most the steps since a
checkpoint), and what is said.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ssl_zoo.checkpoint import checkpoints_in, newest_checkpoint, read_checkpoint
from ssl_zoo.engine.hooks.checkpoint import CheckpointHook
from ssl_zoo.engine.hooks.online_evaluation import OnlineEvaluationHook
from ssl_zoo.engine.hooks.progress import ProgressHook
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.engine.work_dir import claim
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.results import write_row

ROOT = Path(__file__).parents[2]
CONFIG = """
_backbone = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
method = dict(type='BYOL', backbone=_backbone, hidden_dim=32, proj_dim=16)
data = dict(train=dict(type='Digits', split='val'), val=40)
views = [dict(size=20)] * 2
optimizer, epochs, batch_size, base_lr = dict(type='LARS', momentum=0.9), 2, 20, 1.0
workers, log_every, online_eval, checkpoint = 0, 1, dict(every=1), dict(every=0.5, keep=3)
"""
# A process that has imported everything already forks one for each run, which takes as long as the
# run and no longer.
SERVER = """
import json, os, sys
sys.path.insert(0, {root!r})
import torch, ssl_zoo.cli.train as train, ssl_zoo.engine.trainer, ssl_zoo.methods.byol
torch.set_num_threads(1)
print('ready', flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if 'wait' in order:
        print(os.waitpid(order['wait'], 0)[1], flush=True)
        continue
    if pid := os.fork():
        print(pid, flush=True)
        continue
    os.setsid()
    for fd, name in ((0, '/dev/null'), (1, order['name'] + '.out'), (2, order['name'] + '.err')):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), fd)
    exec(order['plant'])
    sys.exit(train.main(order['arguments']))
"""


class Tool:
    """A run of tools/train.py, with a ``plant`` executed before it."""

    def __init__(self, server, folder, arguments, plant=''):
        self.server, self.name = server, str(folder / f'tool{len(list(folder.glob("*.out")))}')
        self.pid = int(self.ask(plant=plant, name=self.name, arguments=[str(a) for a in arguments]))

    def ask(self, **order):
        self.server.stdin.write(json.dumps(order) + '\n')
        self.server.stdin.flush()
        return self.server.stdout.readline()

    def send(self, signum, group=False):
        (os.killpg if group else os.kill)(self.pid, signum)

    def end(self):
        """(exit code as a shell has it, stdout, stderr)"""
        code = os.waitstatus_to_exitcode(int(self.ask(wait=self.pid)))
        return code if code >= 0 else 128 - code, *(
            Path(f'{self.name}.{kind}').read_text() for kind in ('out', 'err')
        )


@pytest.fixture(scope='module')
def server():
    process = subprocess.Popen(
        [sys.executable, '-c', SERVER.format(root=str(ROOT))],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert process.stdout.readline() == 'ready\n'
    yield process
    process.stdin.close()
    process.wait(30)


@pytest.fixture
def tool(server, tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)

    def start(work_dir, *arguments, plant=''):
        return Tool(
            server, tmp_path, [tmp_path / 'config.py', '--work-dir', work_dir, *arguments], plant
        )

    return start


@pytest.fixture(scope='module')
def whole(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    (folder / 'config.py').write_text(CONFIG)
    assert Tool(server, folder, [folder / 'config.py', '--work-dir', folder / 'run']).end()[0] == 0
    return folder / 'run'


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def logged(work_dir):
    """What log.jsonl says, without speeds."""
    return [
        {k: v for k, v in row.items() if 'per_second' not in k and 'wait' not in k}
        for row in rows(work_dir / 'log.jsonl')
    ]


def like(whole, work_dir):
    a, b = (read_checkpoint(checkpoints_in(d)[0]) for d in (whole, work_dir))
    return (
        a['step'] == b['step']
        and all(torch.equal(a['method'][k], b['method'][k]) for k in a['method'])
        and all(
            torch.equal(s['momentum_buffer'], b['optimizer']['state'][k]['momentum_buffer'])
            for k, s in a['optimizer']['state'].items()
        )
        and logged(whole) == logged(work_dir)
        and [r['value'] for r in rows(whole / 'results.jsonl')]
        == [r['value'] for r in rows(work_dir / 'results.jsonl')]
    )


# ---- damage


@pytest.mark.long
def test_a_flipped_byte_is_found_or_changes_nothing(whole, tmp_path):
    path = checkpoints_in(whole)[0]
    data, good = path.read_bytes(), read_checkpoint(path)
    tensor = data.find(good['method']['online.backbone.conv1.weight'].numpy().tobytes()[:32])
    assert tensor > 0
    places = [
        tensor,
        tensor + 9,
        *torch.randint(len(data), (34,)).tolist(),
        *torch.randint(6000, (24,)).tolist(),
    ]
    (tmp_path / 'checkpoints').mkdir()
    found, before = 0, checkpoints_in(whole)[1].read_bytes()
    for place in places:
        (tmp_path / 'checkpoints/step_00000011.pth').write_bytes(before)
        (tmp_path / 'checkpoints/step_00000014.pth').write_bytes(
            data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
        )
        reports = []
        content = newest_checkpoint(tmp_path, reports.append)
        assert content['step'] == (11 if reports else 14)
        if not reports:  # padding, or a copy of what the archive says elsewhere
            assert all(torch.equal(content['method'][k], good['method'][k]) for k in good['method'])
            assert place not in places[:2] and content['config'] == good['config']
        found += bool(reports)
    assert found >= 30


@pytest.mark.long
def test_a_torn_checkpoint_is_passed_over(whole, tmp_path):
    data, before = (p.read_bytes() for p in checkpoints_in(whole)[:2])
    (tmp_path / 'checkpoints').mkdir()
    for place in [0, 1, 100, len(data) - 1, *torch.randint(len(data), (16,)).tolist()]:
        (tmp_path / 'checkpoints/step_00000011.pth').write_bytes(before)
        (tmp_path / 'checkpoints/step_00000014.pth').write_bytes(data[:place])
        reports = []
        assert newest_checkpoint(tmp_path, reports.append)['step'] == 11 and len(reports) == 1


@pytest.mark.parametrize(
    'change',
    [
        lambda c: c['config'].update(base_lr=2.0),
        lambda c: c.update(step=3),
        lambda c: c['optimizer']['param_groups'][0].update(lr=3.0),
        lambda c: c['optimizer']['state'][0]['momentum_buffer'].view(-1)[0].add_(1e-3),
    ],
)
def test_the_digest_covers_everything(whole, tmp_path, change):
    content = torch.load(checkpoints_in(whole)[0], weights_only=True)
    change(content)
    torch.save(content, tmp_path / 'changed.pth')
    with pytest.raises(ConfigError, match='is damaged'):
        read_checkpoint(tmp_path / 'changed.pth')


def test_keep_and_keep_every_together(tiny, tmp_path):
    build_trainer(
        tiny(epochs=4, checkpoint=dict(every=0.5, keep=2, keep_every=1.5)), tmp_path
    ).fit()
    assert sorted(int(p.stem[5:]) for p in checkpoints_in(tmp_path)) == [11, 21, 25, 28]


@pytest.mark.long
def test_what_a_killed_process_left_goes_at_the_next_start_and_a_directory_in_use_is_refused(
    tool, whole, tmp_path
):
    plant = (
        'import time, pathlib, os\n'
        'def save(content, file):\n file.write(b"torn"); file.flush(); '
        f'pathlib.Path({str(tmp_path / "mark")!r}).touch(); time.sleep(60)\n'
        'real = torch.save\ntorch.save = lambda content, file: (save if content["step"] == 7 '
        'else real)(content, file)'
    )
    run = tool(tmp_path / 'run', plant=plant)
    wait_for(tmp_path / 'mark')
    code, _, err = tool(tmp_path / 'run', '--resume').end()
    assert code == 2 and 'is in use by another run (process' in err and len(err.splitlines()) == 1
    run.send(signal.SIGKILL)
    assert run.end()[0] == 137 and list(tmp_path.glob('run/checkpoints/*.tmp.*'))
    (tmp_path / 'run/log.jsonl.tmp.77').touch()
    code, out, err = tool(tmp_path / 'run', '--resume', 'auto').end()
    assert (
        code == 0
        and 'resumed at step 4' in out
        and not list(tmp_path.rglob('run/**/*.tmp.*'))
        and like(whole, tmp_path / 'run')
    )


@pytest.mark.long
def test_a_killed_run_holds_its_directory_no_longer_though_its_workers_live_on(tmp_path):
    code = (
        'import os, pathlib, time\nfrom ssl_zoo.engine.work_dir import claim\nheld = '
        f'claim(pathlib.Path({str(tmp_path)!r}))\n'
        'worker = os.fork()\nprint(worker, flush=True) if worker else None\ntime.sleep(60)'
    )
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True) as run:
        worker = int(run.stdout.readline())
        with pytest.raises(ConfigError, match='in use by another run'):
            claim(tmp_path)
        run.kill()
        run.wait()
        try:
            claim(tmp_path).release()
        finally:
            os.kill(worker, signal.SIGKILL)


def wait_until(condition, seconds=600):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for(mark):
    wait_until(mark.exists)


@pytest.mark.parametrize('place', ['/proc/none', '/dev/null/run', '/dev/null'])
def test_a_place_that_cannot_be_written_gets_a_sentence(tool, place):
    code, _, err = tool(place).end()
    assert code == 2 and 'cannot' in err and len(err.splitlines()) == 1


# ---- full disks

LIMIT = 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))'


@pytest.mark.long
def test_files_that_cannot_grow_cost_the_checkpoint_and_not_the_run(tool, tmp_path, whole):
    size = checkpoints_in(whole)[0].stat().st_size
    code, out, err = tool(tmp_path / 'run', plant=LIMIT.format(40000)).end()
    assert code == 1 and size > 40000, err
    assert (
        'error: the last checkpoint could not be written, see the log' in err
        and 'Traceback' not in err
    ), err
    assert (
        'step 14/14' in out and out.count('training goes on, older checkpoints are untouched') >= 4
    )
    assert not list(tmp_path.rglob('run/**/*.tmp.*')) and not checkpoints_in(tmp_path / 'run')
    assert all(isinstance(row, dict) for row in rows(tmp_path / 'run/log.jsonl'))


@pytest.mark.long
def test_a_disk_that_fills_up_leaves_the_older_checkpoint(tool, tmp_path, whole):
    disk = tmp_path / 'disk'
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', str(disk)], capture_output=True
        ).returncode
    ):
        pytest.skip('this process may not mount')
    try:
        fill = f"""
from ssl_zoo.engine.checkpoint_writer import CheckpointWriter
real = CheckpointWriter.save
def save(self, runner):
    path = real(self, runner)
    try:
        with open({str(disk / 'filler')!r}, "wb", buffering=0) as file:
            while file.write(bytes(512)): pass
    except OSError: pass
    return path
CheckpointWriter.save = save"""
        code, out, err = tool(disk / 'run', plant=fill).end()
        assert code in (1, 2) and 'Traceback' not in err and 'step 14/14' in out, err
        assert 'No space left on device' in out + err
        assert [read_checkpoint(p)['step'] for p in checkpoints_in(disk / 'run')] == [
            4
        ] and not list(disk.rglob('*.tmp.*'))
        rows(disk / 'run/log.jsonl')
        (disk / 'filler').unlink()
        assert tool(disk / 'run', '--resume').end()[0] == 0
        assert like(whole, disk / 'run')
    finally:
        subprocess.run(['umount', '-l', str(disk)])


def test_rows_are_written_all_or_none(tmp_path):
    for n in (1, 30, 200):
        code = (
            f'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n'
            f'from ssl_zoo.evaluation.results import write_row\n'
            f'write_row({str(tmp_path)!r}, *[dict(value=i) for i in range({n})])'
        )
        done = subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
        )
        assert (done.returncode == 0) == (n == 1), done.stderr
        assert rows(tmp_path / 'results.jsonl') == [dict(value=0)]
    with open(tmp_path / 'results.jsonl', 'a') as file:
        file.write('{"torn": ')
    write_row(tmp_path, dict(value=2), dict(value=3))
    lines = (tmp_path / 'results.jsonl').read_text().splitlines()
    assert lines[1:] == ['{"torn": ', '{"value": 2}', '{"value": 3}']


# ---- signals

PHASES = {
    'step': ('ssl_zoo.engine.trainer', 'Trainer', 'one_pass', 6),
    'online_eval': (
        'ssl_zoo.engine.hooks.online_evaluation',
        'OnlineEvaluationHook',
        'evaluate',
        2,
    ),
    'saving': ('ssl_zoo.engine.checkpoint_writer', 'CheckpointWriter', '_write', 2),
    'start': ('ssl_zoo.engine.hooks.online_evaluation', 'OnlineEvaluationHook', 'evaluate', 1),
}


def planted(phase, mark):
    """Code that makes a phase of the run touch ``mark`` and wait for the file ``signalled``."""
    module, cls, name, times = PHASES[phase]
    return f"""
import importlib, pathlib, time
cls = getattr(importlib.import_module({module!r}), {cls!r})
real, calls = getattr(cls, {name!r}), []
def marked(*args, **kwargs):
    calls.append(1)
    if len(calls) == {times}:
        pathlib.Path({str(mark)!r}).touch()
        while not pathlib.Path({str(mark.with_name('signalled'))!r}).exists(): time.sleep(0.01)
    return real(*args, **kwargs)
setattr(cls, {name!r}, marked)"""


@pytest.mark.parametrize(
    ('phase', 'signum', 'group'),
    [
        pytest.param('start', signal.SIGTERM, False, marks=pytest.mark.long),
        pytest.param('start', signal.SIGINT, True, marks=pytest.mark.long),
        pytest.param('step', signal.SIGTERM, True, marks=pytest.mark.long),
        ('step', signal.SIGINT, True),
        pytest.param('step', signal.SIGUSR1, True, marks=pytest.mark.long),
        pytest.param('online_eval', signal.SIGINT, False, marks=pytest.mark.long),
        pytest.param('online_eval', signal.SIGUSR1, True, marks=pytest.mark.long),
        pytest.param('saving', signal.SIGTERM, True, marks=pytest.mark.long),
        pytest.param('saving', signal.SIGINT, False, marks=pytest.mark.long),
    ],
)
def test_a_signal_saves_and_the_resumed_run_is_the_same(
    tool, whole, tmp_path, phase, signum, group
):
    workers = ['--cfg-options', f'workers={2 * group}']
    run = tool(tmp_path / 'run', *workers, plant=planted(phase, tmp_path / 'mark'))
    wait_for(tmp_path / 'mark')
    run.send(signum, group)
    (tmp_path / 'signalled').touch()
    code, out, err = run.end()
    assert code == 128 + signum and 'Traceback' not in err + out, err
    if phase != 'start':
        assert (
            f'stopped by {signum.name} after step' in err
            and f'continue with --resume --work-dir {tmp_path}/run' in err
        )
        assert checkpoints_in(tmp_path / 'run')
    assert not list(tmp_path.rglob('run/**/*.tmp.*'))
    assert tool(tmp_path / 'run', '--resume', 'auto', *workers).end()[0] == 0
    assert like(whole, tmp_path / 'run')


@pytest.mark.long
def test_a_second_ctrl_c_stops_at_once_without_damage(tool, whole, tmp_path):
    plant = planted('saving', tmp_path / 'mark')
    run = tool(tmp_path / 'run', '--cfg-options', 'workers=2', plant=plant)
    wait_for(tmp_path / 'mark')
    run.send(signal.SIGINT, True)
    wait_until(lambda: 'Ctrl-C again to stop at once' in Path(run.name + '.out').read_text())
    run.send(signal.SIGINT, True)  # it ends the wait of the phase
    code, _, err = run.end()
    assert code == 130 and 'Traceback' not in err and 'stopped; continue with --resume' in err
    assert tool(tmp_path / 'run', '--resume').end()[0] == 0 and like(whole, tmp_path / 'run')


@pytest.mark.parametrize('delay', [0.3, 1.5])
def test_ctrl_c_while_everything_is_imported(tmp_path, delay):
    (tmp_path / 'config.py').write_text(CONFIG)
    process = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / 'tools/train.py'),
            str(tmp_path / 'config.py'),
            '--work-dir',
            str(tmp_path),
        ],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert process.returncode in (130, -2) and 'Traceback' not in err


# ---- lines

WITH_HOLD_OUT = dict(train=dict(type='Digits', split='val'), val=40)


@pytest.mark.long
def test_figures_that_a_crash_has_cost_are_made_once(tiny, tmp_path, monkeypatch):
    settings = tiny(data=WITH_HOLD_OUT, online_eval=dict(every=1))
    build_trainer(settings, tmp_path / 'whole').fit()
    for cls, name in (
        (CheckpointHook, 'after_train'),
        (OnlineEvaluationHook, 'report'),
        (None, 'torn'),
    ):
        work_dir = tmp_path / name
        if cls is None:
            build_trainer(settings, work_dir).fit()
            for file in ('results.jsonl', 'log.jsonl'):
                data = (work_dir / file).read_bytes()
                (work_dir / file).write_bytes(data[:-40])
        else:
            with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
                real = getattr(cls, name)
                patch.setattr(
                    cls,
                    name,
                    lambda self, runner, real=real, cls=cls: (
                        cls is CheckpointHook and real(self, runner),
                        1 / 0,
                    ),
                )
                build_trainer(settings, work_dir).fit()
        for _ in range(2):
            build_trainer(settings, work_dir, resume='auto').fit()
        assert logged(work_dir) == logged(tmp_path / 'whole'), name
        if cls is None:
            (work_dir / 'results.jsonl').write_text(
                ''.join(
                    line + '\n'
                    for line in (work_dir / 'results.jsonl').read_text().splitlines()[4:]
                )
            )
        assert [r['value'] for r in rows(work_dir / 'results.jsonl')] == [
            r['value'] for r in rows(tmp_path / 'whole/results.jsonl')
        ]


@pytest.mark.parametrize(
    'lost', [7, *(pytest.param(lost, marks=pytest.mark.long) for lost in (3, 9))]
)
def test_lines_beyond_the_resumed_step_go_and_none_is_lost(tiny, tmp_path, monkeypatch, lost):
    """A crash at step ``lost``: before the first checkpoint, between a checkpoint and the
    evaluation after it, and later.
    """
    settings = tiny(data=WITH_HOLD_OUT, online_eval=dict(every=0.5), log_every=1)
    build_trainer(settings, tmp_path / 'whole').fit()
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        evaluate, report = OnlineEvaluationHook.evaluate, ProgressHook.report
        if lost == 7:
            patch.setattr(
                OnlineEvaluationHook,
                'evaluate',
                lambda self, runner, *a: evaluate(self, runner, *a) if runner.step < 7 else 1 / 0,
            )
        else:
            patch.setattr(
                ProgressHook,
                'report',
                lambda self, runner, done: (report(self, runner, done), done == lost and 1 / 0),
            )
        build_trainer(settings, tmp_path / 'run').fit()
    with open(tmp_path / 'run/log.jsonl', 'a') as file:
        file.write('{"step": 9, "epo')
    build_trainer(settings, tmp_path / 'run', resume='auto').fit()
    assert logged(tmp_path / 'run') == logged(tmp_path / 'whole')
