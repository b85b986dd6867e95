"""Trainings of the pieces: each is a process of `ssl-zoo speedrun`, ended when its time is up."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from session import ROOT, Session

from ssl_zoo.checkpoint import checkpoints_in
from ssl_zoo.evaluation.results import rows_of

SAVING = 20  # seconds in which a stopped run writes its checkpoint
# What makes a run of --small small.
SMALL = [
    'method.backbone.width=0.125',
    'method.backbone.layers=(1, 1, 1, 1)',
    'batch_size=20',
    'warmup_epochs=0',
    'compile=False',
    'precision=float32',  # many CPUs emulate bf16
    'workers=0',
    'data.expected_images=None',
]


def image_options(session: Session, name: str, classes: int = 10, size: int = 32) -> list[str]:
    """Return the options that name the images: a folder of ``session.data``, or noise for --small.

    Without the folder the config's own images are read. No image is held out.
    """
    folder = session.data / name
    if session.small:
        folder = session.out / 'noise' / name
        _write_noise(folder / 'train', classes, 6, size)
        _write_noise(folder / 'test', classes, 2, size)
    if not folder.is_dir():
        return ['data.val=None']
    test = next((part for part in ('test', 'val') if (folder / part).is_dir()), 'test')
    return [
        f"data.train={{'type': 'ImageFolder', 'root': '{folder}/train'}}",
        f"data.test={{'type': 'ImageFolder', 'root': '{folder}/{test}'}}",
        'data.val=None',
    ]


def _write_noise(folder: Path, classes: int, per_class: int, size: int) -> None:
    rng = np.random.default_rng(0)
    for c in range(classes):
        (folder / f'class_{c}').mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = rng.integers(0, 100, (size, size, 3)) + 15 * c
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f'class_{c}/{i}.png')


def fitting_epochs(
    session: Session, name: str, config: str, options: list[str], seconds: float
) -> int:
    """Return the epochs that fit into ``seconds``, from the speed of a short run.

    The number is kept in the out folder, so that a run that is continued has the same schedule.
    """
    path = session.out / f'{name}.epochs'
    if path.exists():
        return int(path.read_text())
    epochs = 1
    if not session.small:
        folder = session.out / f'{name}_speed'
        quick = ['epochs=2', 'warmup_epochs=0', 'online_eval.every=0', 'data.test=None', 'hooks=[]']
        command = [sys.executable, str(ROOT / 'tools/train.py'), str(ROOT / config)]
        command += ['--work-dir', str(folder), '--resume', 'auto']
        command += ['--cfg-options', *options, *quick]
        subprocess.run(command, check=True, timeout=session.left())
        lines = [row for row in rows_of(folder / 'log.jsonl') if 'train/loss' in row]
        speed = lines[-1]['train/images_per_second']
        images = lines[-1]['step'] * _batch_size(folder) / lines[-1]['epoch']
        # A tenth is left for start, compilation and looks.
        epochs = max(int(0.9 * seconds * speed / images), 1)
        print(f'{name}: {speed:.0f} images/s, so {epochs} epochs', flush=True)
    path.write_text(f'{epochs}\n')
    return epochs


def _batch_size(folder: Path) -> int:
    from ssl_zoo.config.loading import load_config

    return load_config(folder / 'config.py').batch_size


def race(session: Session, name: str, config: str, options: list[str], seconds: float) -> dict:
    """Train until the race or ``seconds`` are over; a run that was cut before goes on.

    Returns:
        The row of the race as of its last look, with ``complete``: whether it has come to its end.
    """
    folder = session.out / name
    command = [sys.executable, str(ROOT / 'tools/speedrun.py'), str(ROOT / config)]
    command += ['--work-dir', str(folder), '--records', str(session.out / 'races.jsonl')]
    if checkpoints_in(folder):
        command.append('--resume')
    process = subprocess.Popen([*command, '--cfg-options', *options])
    try:
        code = process.wait(max(min(seconds, session.left() - SAVING), 1))
    except subprocess.TimeoutExpired:
        code = _stop(process)
    finally:
        process.kill()
    record = folder / 'speedrun.json'
    if not record.exists():
        raise RuntimeError(f'{name} ended with exit code {code} before its first look')
    row = json.loads(record.read_text())
    session.curves[name] = row.pop('curve')
    row['complete'] = code == 0
    row['exit_code'] = code
    return row


def _stop(process: subprocess.Popen) -> int:
    """Let a run save its state and end."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(SAVING)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def looks(target: float, every: float) -> str:
    """Return the option that gives a config a race."""
    return f"hooks=[{{'type': 'Race', 'target': {target}, 'every': {every}}}]"
