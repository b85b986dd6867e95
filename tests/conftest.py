"""Fixtures: small images on disk, a tiny config, and a way to run a tool as a user does."""
import logging
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')            # two tests run at a time: more threads would only wait for each other

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='session')
def root() -> Path:
    return ROOT


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def image_folder(tmp_path):
    """Function: make ``root/<class>/<n>.png`` of noise around a colour per class; returns the root."""
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
    method=dict(type='BYOL', backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1]),
                hidden_dim=32, proj_dim=16, base_ema=0.9),
    data=dict(train=dict(type='Digits', split='val'), val=40, mean=[0.5] * 3, std=[0.5] * 3),
    views=[dict(size=20, flip_p=0.0, jitter=[0.4, 0.4, 0.2, 0.1], jitter_p=0.8, gray_p=0.2, blur_p=0.5, solarize_p=0.2)] * 2,
    optimizer=dict(type='LARS', momentum=0.9), epochs=2, batch_size=20, base_lr=1.0, weight_decay=1e-6, warmup_epochs=0.5,
    workers=0, log_every=5, watch=dict(every=0))


@pytest.fixture
def tiny():
    """Function: the settings of a run of 14 steps on 140 digits, with top-level keys replaced."""
    from ssl_zoo.engine.settings import check

    def make(**changes):
        return check({**TINY, **changes})
    return make


@pytest.fixture(scope='session')
def run_tool():
    """Function: run a tool in a process of its own; returns the finished process with its output as text."""
    def run(*arguments, cwd=ROOT, timeout=300, threads=1):
        env = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
        return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=env, text=True, capture_output=True,
                              timeout=timeout)
    return run


@pytest.fixture(autouse=True)
def _no_leaked_handlers():
    yield
    for name in list(logging.root.manager.loggerDict):
        if name.startswith('ssl_zoo.'):
            for handler in logging.getLogger(name).handlers:
                handler.close()
