"""Piece a: every method trains on the device; the ResNet-50 step of BYOL beside lightly's."""

import logging
import tempfile
import time
from pathlib import Path

from resnet50_step import from_jpegs, measure_step, peak
from session import ROOT, Session
from training import SMALL

from ssl_zoo.config.loading import load_config
from ssl_zoo.engine.trainer import build_trainer


def run(session: Session) -> None:
    for config in digits_configs()[: 2 if session.small else None]:
        name = f'method {config.parent.name}/{config.stem}'
        session.part(name, 10, lambda config=config: train_an_epoch(config, session))
    top = session.part('peak', 5, lambda: dict(bf16_flops=peak(session.small)))
    most = (top or {}).get('bf16_flops', float('nan'))
    first, *others = [4] if session.small else [128, 256]
    session.part(f'step, batch {first}', 90, lambda: measure_step(session, first, most))
    session.part('step from JPEGs', 60, lambda: from_jpegs(session, first))
    for batch in others:
        session.part(
            f'step, batch {batch}', 90, lambda batch=batch: measure_step(session, batch, most)
        )
    if not session.small:
        # Beyond what fits, the backward pass computes the activations again.
        session.part(
            'step, batch 512, recompute', 60, lambda: measure_step(session, 512, most, True)
        )


def digits_configs() -> list[Path]:
    """Return the configs of the digits, of every method one or more."""
    paths = sorted((ROOT / 'configs').glob('*/digits*.py'))
    return [path for path in paths if path.parent.name not in ('_base_', 'studies')]


def train_an_epoch(config: Path, session: Session) -> dict:
    """Train an epoch of a config in bf16."""
    options = ['epochs=1', 'warmup_epochs=0', 'workers=0', 'precision=bf16', 'online_eval.every=0']
    options += ['data.test=None', 'data.val=None']
    if session.small:
        options += [*SMALL, 'data.train.split=val']
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        runner = build_trainer(load_config(config, options), Path(folder, 'run'))
        runner.logger.setLevel(logging.ERROR)
        runner.fit()
    return dict(steps=runner.step, seconds=round(time.perf_counter() - started, 1))
