"""The cost of a training: time, images per second, memory, devices."""

import resource
import statistics
import sys
from pathlib import Path

import torch

from ssl_zoo.engine.trainer import Trainer
from ssl_zoo.evaluation.results import rows_of
from ssl_zoo.studies.records import is_number


def peak_memory() -> int:
    """Return the peak GPU memory of this process in bytes; without a GPU, the peak main memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    bytes_per_unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit


def training_cost(trainer: Trainer, peak_memory_bytes: int, work_dir: Path) -> dict:
    """Return the cost of a training that has ended.

    ``images_per_second`` is the median over the progress lines after the first. The time of online
    evaluations does not count.

    Args:
        trainer: the trainer, after ``fit``.
        peak_memory_bytes: peak memory over all attempts.
        work_dir: work directory of the run.
    """
    on_gpu = torch.cuda.is_available()
    threads = torch.get_num_threads()
    plural = 's' if threads > 1 else ''
    device = torch.cuda.get_device_name() if on_gpu else f'cpu, {threads} thread{plural}'
    devices = 1 if on_gpu else threads
    seconds = trainer.train_seconds
    return dict(
        epochs=trainer.settings.epochs,
        steps=trainer.max_steps,
        images=trainer.plan.images,
        batch_size=trainer.plan.batch_size,
        train_seconds=seconds,
        images_per_second=_median_speed(work_dir),
        peak_memory_bytes=peak_memory_bytes,
        memory_of='GPU' if on_gpu else 'process',
        devices=devices,
        device_hours=seconds * devices / 3600,
        device=device,
        parameters=sum(p.numel() for p in trainer.method.backbone.parameters()),
    )


def _median_speed(work_dir: Path) -> float | None:
    speeds = [
        row['train/images_per_second']
        for row in rows_of(work_dir / 'log.jsonl')
        if is_number(row.get('step')) and row['step'] > 1
        if is_number(row.get('train/images_per_second')) and row['train/images_per_second'] > 0
    ]
    return statistics.median(speeds) if speeds else None
