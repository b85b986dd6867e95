"""Fixtures: small images on disk, a tiny config, and tools run in processes of their own.

Tools run in processes that a fork server starts: torch and the framework are imported once for
all of them, which takes seconds for a new interpreter.
"""

import itertools
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

# Two tests run at a time: more threads would only wait for each other.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

ROOT = Path(__file__).parents[1]

# Files of long tests. They start first, so that no worker is left alone with one at the end.
LONG_FILES = (
    'tests/engine/test_compile.py',
    'tests/engine/test_training.py',
    'tests/test_contract.py',
    'tests/distributed/test_sharding.py',
    'tests/test_equivalence.py',
    'tests/engine/test_processes.py',
    'tests/engine/test_nothing_lost.py',
    'tests/cli/test_train.py',
    'tests/cli/test_study.py',
    'tests/cli/test_slurm.py',
)


def pytest_collection_modifyitems(items):
    def place(item) -> int:
        file = item.path.relative_to(ROOT).as_posix()
        return LONG_FILES.index(file) if file in LONG_FILES else len(LONG_FILES)

    items.sort(key=place)


# A shell that starts pytest in the background makes it and its children ignore Ctrl-C, which some
# tests send to their children. A child inherits the default instead.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session')
def root() -> Path:
    return ROOT


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def image_folder(tmp_path):
    """Function: write noise around a colour per class to ``root/<class>/<n>.png``; returns root."""

    def make(classes=3, per_class=8, size=24, name='images') -> Path:
        rng = np.random.default_rng(0)
        for c in range(classes):
            folder = tmp_path / name / f'class_{c}'
            folder.mkdir(parents=True)
            for i in range(per_class):
                pixels = rng.integers(0, 100, (size, size, 3)) + 50 * c
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{i}.png')
        return tmp_path / name

    return make


TINY = dict(
    method=dict(
        type='BYOL',
        backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1]),
        hidden_dim=32,
        proj_dim=16,
        base_ema=0.9,
    ),
    # No hold-out: measuring the final figures would take as long as the training.
    data=dict(train=dict(type='Digits', split='val', limit=140), mean=[0.5] * 3, std=[0.5] * 3),
    views=[
        dict(
            size=20,
            flip_p=0.0,
            jitter=[0.4, 0.4, 0.2, 0.1],
            jitter_p=0.8,
            gray_p=0.2,
            blur_p=0.5,
            solarize_p=0.2,
        )
    ]
    * 2,
    optimizer=dict(type='LARS', momentum=0.9),
    epochs=2,
    batch_size=20,
    base_lr=1.0,
    weight_decay=1e-6,
    warmup_epochs=0.5,
    workers=0,
    log_every=5,
    online_eval=dict(every=0),
)


@pytest.fixture
def tiny():
    """Function: the settings of a run of 14 steps on 140 digits, with top-level keys replaced."""
    from ssl_zoo.config.settings import settings_from_dict

    def make(**changes):
        return settings_from_dict({**TINY, **changes})

    return make


DIGITS_RUN = dict(
    method=dict(
        type='BYOL',
        backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1]),
        hidden_dim=32,
        proj_dim=16,
    ),
    views=[dict(size=8, jitter=[0.4, 0.4, 0.2, 0.1], jitter_p=0.8)] * 2,
    optimizer=dict(type='LARS', momentum=0.9),
    epochs=1,
    batch_size=20,
    base_lr=1.0,
    workers=0,
    online_eval=dict(every=0),
)
DIGITS_DATA = dict(
    train=dict(type='Digits', split='val', size=8),
    val=40,
    test=dict(type='Digits', split='test', size=8, limit=60),
    mean=[0.5] * 3,
    std=[0.5] * 3,
)


@pytest.fixture(scope='module')
def train_on_digits(tmp_path_factory):
    """Function: train BYOL for an epoch on digits of 8 px, with keys of its data replaced.

    Returns the checkpoint.
    """
    from ssl_zoo.checkpoint import checkpoints_in
    from ssl_zoo.config.settings import settings_from_dict
    from ssl_zoo.engine.trainer import build_trainer

    def train(**data) -> Path:
        folder = tmp_path_factory.mktemp('run')
        settings = settings_from_dict({**DIGITS_RUN, 'data': {**DIGITS_DATA, **data}})
        build_trainer(settings, folder).fit()
        return checkpoints_in(folder)[0]

    return train


@pytest.fixture(scope='module')
def checkpoint(train_on_digits) -> Path:
    """The checkpoint of a run of 7 steps on 140 digits, 40 held out, tested on 60."""
    return train_on_digits()


# The fork server imports these once; every process that it forks has them.
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(
    [
        'torch._dynamo',
        'tensorboard.compat',
        'sklearn.linear_model',
        'ssl_zoo.engine.trainer',
        'ssl_zoo.config.loading',
        'ssl_zoo.methods',
        'ssl_zoo.cli.evaluation_arguments',
        'ssl_zoo.evaluation.protocols.knn',
        'ssl_zoo.evaluation.protocols.semi_supervised',
        'ssl_zoo.evaluation.protocols.transfer',
    ]
)
PROCESS = """
import multiprocessing, os, runpy, sys
multiprocessing.set_start_method(None, force=True)
for fd, path in ((1, log + '.out'), (2, log + '.err')):
    os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), fd)
os.environ.clear()
os.environ.update(env)
os.chdir(cwd)
sys.stdout, sys.stderr, sys.argv = open(1, 'w', buffering=1), open(2, 'w', buffering=1), argv
import torch
torch.set_num_threads(threads)
runpy.run_path(argv[0], run_name='__main__')
"""
LONG = 600  # seconds: a limit for what ends on an event, reached only if the event never comes


def _process(log: Path, cwd: Path, arguments, env: dict, threads: int = 1):
    """A process of the fork server that runs a script; its output goes to log.out and log.err."""
    scope = dict(
        log=str(log),
        cwd=str(cwd),
        argv=[str(argument) for argument in arguments],
        env={key: str(value) for key, value in {**os.environ, **env}.items()},
        threads=threads,
    )
    return SERVER.Process(target=exec, args=(PROCESS, scope))


def _output(log: Path) -> tuple[str, str]:
    """The stdout and stderr of a process so far."""
    files = (log.with_suffix('.out'), log.with_suffix('.err'))
    out, err = (file.read_text() if file.exists() else '' for file in files)
    return out, err


@pytest.fixture(scope='session')
def run_tool(tmp_path_factory):
    """Function: run a script in a process of its own; returns the finished process with its output.

    Arguments that begin with an option of Python's ('-m', '-c', '-X') start a new interpreter.
    """
    logs = tmp_path_factory.mktemp('run_tool')
    numbers = itertools.count()

    def run(*arguments, cwd=ROOT, timeout=LONG, threads=1):
        env = dict(OMP_NUM_THREADS=str(threads))
        if str(arguments[0]).startswith('-'):
            return subprocess.run(
                [sys.executable, *map(str, arguments)],
                cwd=cwd,
                env={**os.environ, **env},
                text=True,
                capture_output=True,
                timeout=timeout,
            )
        log = logs / f'{next(numbers)}'
        process = _process(log, cwd, arguments, env, threads)
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(arguments, timeout, *_output(log))
        return subprocess.CompletedProcess(arguments, process.exitcode, *_output(log))

    return run


class Group:
    """Processes that run a tool together, with the environment that torchrun gives them.

    Attributes:
        pids: process ids.
        logs: the path of each process's output, without '.out' and '.err'.
    """

    def __init__(self, n: int, folder: Path, *arguments, **env):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        self.logs = [folder / f'process{i}' for i in range(n)]
        self.members = []
        for i, log in enumerate(self.logs):
            values = dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS=1) | env
            if n > 1:
                values |= dict(
                    WORLD_SIZE=n,
                    RANK=i,
                    LOCAL_RANK=i,
                    LOCAL_WORLD_SIZE=n,
                    MASTER_ADDR='127.0.0.1',
                    MASTER_PORT=port,
                )
            self.members.append(_process(log, folder, arguments, values))
        for member in self.members:
            member.start()
        self.pids = [member.pid for member in self.members]

    def until(self, text: str, seconds: float = LONG) -> None:
        """Wait until the first process has printed ``text``, to stdout or stderr."""
        end = time.monotonic() + seconds
        while text not in (printed := ''.join(_output(self.logs[0]))):
            assert time.monotonic() < end and self.members[0].is_alive(), printed
            time.sleep(0.01)

    def ended(self, seconds: float = LONG) -> list[tuple[int, str, str]]:
        """Exit code, stdout and stderr of each process; all must end within these seconds."""
        end = time.monotonic() + seconds
        for member in self.members:
            member.join(max(end - time.monotonic(), 0))
        waiting = [i for i, member in enumerate(self.members) if member.is_alive()]
        for i in waiting:
            os.kill(self.pids[i], signal.SIGKILL)
        outputs = [_output(log) for log in self.logs]
        assert not waiting, f'processes {waiting} have not ended: {outputs}'
        codes = [member.exitcode for member in self.members]
        return [(code, *texts) for code, texts in zip(codes, outputs, strict=True)]


@contextmanager
def _starting(folder: Path):
    groups = []

    def start(n: int, *arguments, cwd=folder, **env) -> Group:
        groups.append(Group(n, cwd, *arguments, **env))
        return groups[-1]

    try:
        yield start
    finally:
        for group in groups:
            for member in group.members:
                if member.is_alive():
                    member.kill()


@pytest.fixture
def processes(tmp_path):
    """Function: start a tool on n processes, in tmp_path; returns the Group."""
    with _starting(tmp_path) as start:
        yield start


@pytest.fixture(scope='module')
def module_processes(tmp_path_factory):
    """The same as ``processes``, for fixtures of a whole module."""
    with _starting(tmp_path_factory.mktemp('processes')) as start:
        yield start


@pytest.fixture(autouse=True)
def _no_leaked_handlers():
    yield
    for name in list(logging.root.manager.loggerDict):
        if name.startswith('ssl_zoo.'):
            for handler in logging.getLogger(name).handlers:
                handler.close()


STUDY_FIGURES = {
    ('BYOL', 0): 90.0,
    ('BYOL', 1): 92.0,
    ('BYOL', 2): 91.0,
    ('A & <b>', 0): 93.5,
    ('A & <b>', 1): 94.0,
    ('A & <b>', 2): 95.0,
    ('MoCo|v2', 0): 89.0,
    ('MoCo|v2', 2): 90.5,
}


@pytest.fixture
def study_folder(tmp_path):
    """Function: write the folder of a study as tools/study.py leaves it; returns the folder.

    ``figures`` is {(method, seed): k-NN} or {(method, seed, label): k-NN}; linear is k-NN + 1.
    """

    def make(
        figures=STUDY_FIGURES,
        labels=(),
        trials=(),
        random_weights=True,
        failed=(),
        log=True,
        **definition,
    ) -> Path:
        out = tmp_path / 'study'
        _write_json(
            out / 'study.json', {**_study_definition(figures, labels, trials), **definition}
        )
        methods = list(dict.fromkeys(key[0] for key in figures))
        for number, ((method, seed, *label), knn) in enumerate(figures.items()):
            arm = f'arm_{methods.index(method)}{"".join(label)}'
            folder = out / 'runs' / arm / f'seed_{seed}'
            axes = {'batch size': label[0]} if label else {}
            _write_json(folder / 'record.json', _run_record(method, axes, seed, knn, number))
            if log:
                _write_log(folder / 'log.jsonl')
        for method, seed, error in failed:
            folder = out / 'runs' / f'failed_{method}' / f'seed_{seed}'
            record = dict(kind='run', method=method, axes={}, seed=seed)
            _write_json(folder / 'record.json', dict(record, status='failed', error=error))
        for number, (method, factor, knn) in enumerate(trials):
            folder = out / 'trials' / method / str(number)
            _write_json(folder / 'record.json', _trial_record(method, factor, knn))
        if random_weights:
            record = dict(kind='baseline', method='random weights', axes={}, seed=0, status='done')
            figures_of_random_weights = dict(knn=70.0, linear=71.0)
            _write_json(
                out / 'runs/random_weights/seed_0/record.json',
                dict(record, figures=figures_of_random_weights),
            )
        return out

    return make


def _study_definition(figures, labels, trials) -> dict:
    methods = dict.fromkeys(key[0] for key in figures)
    tune = dict(key='base_lr', factors=[0.5, 1, 2], seed=0, options=[])
    return dict(
        name='toy',
        title='Toy <study>',
        question='Which & why?',
        caveats=['Little <data>.'],
        reference='BYOL',
        methods={m: dict(config=f'configs/{m}.py', options=['epochs=2']) for m in methods},
        axes={'batch size': list(labels)} if labels else {},
        seeds=sorted({key[1] for key in figures}),
        recipe=['epochs=2'],
        tune=tune if trials else None,
        metrics=[
            dict(key='knn', name='k-NN', protocol='k=20'),
            dict(key='linear', name='linear', protocol='L-BFGS'),
        ],
        command='python tools/study.py toy',
        versions=dict(torch='2'),
        machine='2 cores',
    )


def _run_record(method, axes, seed, knn, number) -> dict:
    return dict(
        kind='run',
        method=method,
        axes=axes,
        seed=seed,
        status='done',
        error=None,
        figures=dict(knn=knn, linear=knn + 1),
        n_test=360,
        test_manifest='abc',
        lr=dict(key='base_lr', value=8.0),
        cost=dict(
            epochs=2,
            train_seconds=60.0 + number,
            images_per_second=500.0,
            peak_memory_bytes=2**29,
            memory_of='process',
            device='cpu, 1 threads',
            device_hours=(60 + number) / 3600,
            parameters=1.2e6,
        ),
        checkpoint='checkpoints/step_00000010.pth',
        config=dict(method=dict(type=method), seed=seed, epochs=2),
    )


def _trial_record(method, factor, knn) -> dict:
    record = dict(kind='trial', method=method, key='base_lr', factor=factor, n_val=180)
    record['value'] = 8.0 * factor
    if knn is None:
        return dict(record, status='failed', error='the loss is nan')
    return dict(record, status='done', val_knn=knn)


def _write_log(path: Path) -> None:
    rows = [
        {
            'step': step,
            'epoch': step / 5,
            'train/loss': 4 - step / 10,
            'train/lr': 1.0,
            'val/knn': 50 + step,
            'val/rankme': 9.0,
        }
        for step in range(0, 11, 2)
    ]
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
