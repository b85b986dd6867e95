"""Loaders: batches of views for training and of images for evaluation, made in worker processes."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, get_worker_info

from ssl_zoo.data.eval_dataset import EvalDataset
from ssl_zoo.data.resilient_loader import SHARED_MEMORY_REMEDY
from ssl_zoo.data.sources import Source
from ssl_zoo.data.stream_sampler import StreamSampler
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.distributed.process_group import rank_info
from ssl_zoo.errors import ConfigError

# Seconds that an evaluation waits for a batch. Shorter than parallel.timeout, the time that the
# other processes wait for this one.
WORKER_TIMEOUT = 600
GRACE_SECONDS = 30  # seconds that a worker goes on after SIGTERM
# Where torch keeps the batches that workers hand over.
SHARED_MEMORY = '/dev/shm'
M_TRIM_THRESHOLD = -1  # parameters of glibc's mallopt
M_MMAP_THRESHOLD = -3


def default_workers() -> int:
    """Return the workers per process: its share of the machine's cores minus one, at most 8."""
    cores = (os.cpu_count() or 2) // rank_info().local_size
    return min(max(cores - 1, 0), 8)


def start_method() -> str:
    """Return how loader workers are started: as ``multiprocessing.set_start_method`` was told.

    By default 'fork' on Linux, whatever Python's default: forked workers start at once.
    """
    chosen = multiprocessing.get_start_method(allow_none=True)
    if chosen is None and sys.platform == 'linux':
        return 'fork'
    return chosen or multiprocessing.get_context().get_start_method()


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks of up to 32 MiB for the next image.

    By default glibc returns the pages of an image to the system and gets new, cleared pages for the
    next: a fifth of the time that a JPEG takes.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 128 << 20)


def _return_batch(batch: dict) -> dict:
    """Collate function for datasets that make whole batches.

    A worker moves the batch into shared memory here. Left to the thread that sends it, a lack of
    shared memory would lose the batch without a message to the main process.
    """
    if get_worker_info() is not None:
        for value in batch.values():
            for tensor in value if isinstance(value, list) else [value]:
                if isinstance(tensor, torch.Tensor):
                    tensor.share_memory_()
    return batch


def _check_shared_memory(workers: int, batch_bytes: int, prefetch: int) -> int:
    """Return how many batches each worker may prepare in advance, for shared memory to hold them.

    Args:
        workers: number of worker processes.
        batch_bytes: bytes of a batch.
        prefetch: largest number of batches that a worker prepares in advance.

    Raises:
        ConfigError: not even one batch of each worker fits, and the one that is being used.
    """
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:  # a system without it
        return prefetch
    processes = rank_info().local_size
    free = status.f_bavail * status.f_frsize // processes
    fitting = int(free // max(batch_bytes, 1)) - 1  # one is being used
    if fitting >= workers:
        return min(prefetch, fitting // workers)
    needed = (workers + 1) * batch_bytes * processes
    fewer = f'workers={fitting}, ' if fitting > 0 else ''
    raise ConfigError(
        f'{workers} loader workers need {_mib(needed)} of shared memory for batches of '
        f'{_mib(batch_bytes)}, and {SHARED_MEMORY} has {_mib(free * processes)} free; '
        f'{SHARED_MEMORY_REMEDY}, or take {fewer}workers=0 or smaller batches'
    )


def _mib(number: int) -> str:
    return f'{number / 2**20:,.1f} MiB'


def _init_worker(worker_number: int) -> None:
    """Leave SIGINT, SIGUSR1 and SIGTERM to the main process, and limit the worker's threads.

    A terminal or scheduler sends these signals to the whole process group. The main process still
    needs batches to end its step, so a worker goes on for GRACE_SECONDS after SIGTERM. A longer
    time would delay Python's exit: Python sends SIGTERM to left-over workers and waits for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))
    torch.set_num_threads(1)
    keep_freed_memory()


def _data_loader(
    dataset: Dataset,
    workers: int,
    batch_sampler: Iterable,
    batch_bytes: int,
    prefetch: int,
    timeout: float,
) -> DataLoader:
    arguments: dict[str, Any] = {}
    if workers:
        arguments = dict(
            prefetch_factor=_check_shared_memory(workers, batch_bytes, prefetch),
            timeout=timeout,
            multiprocessing_context=start_method(),
        )
    return DataLoader(
        dataset,
        num_workers=workers,
        batch_sampler=batch_sampler,
        collate_fn=_return_batch,
        worker_init_fn=_init_worker,
        pin_memory=torch.cuda.is_available(),
        # A loader draws a seed for its workers. Without this generator it would draw from torch's
        # global generator and change the training's random numbers.
        generator=torch.Generator(),
        **arguments,
    )


def train_loader(
    dataset: ViewDataset,
    batch_size: int,
    workers: int | None,
    start: int = 0,
    stop: int | None = None,
    share: tuple[int, int] = (0, 1),
    timeout: float = 0,
) -> Iterable[dict]:
    """Make a loader of this rank's share of the batches `start` to `stop` - 1 (StreamSampler).

    The views depend neither on the number of workers nor on the number of ranks.

    Args:
        dataset: makes the batches, see ViewDataset.__getitems__.
        batch_size: images in a batch, over all ranks.
        workers: number of worker processes; 0 for a DataLoader without workers; None for no
            DataLoader: this process makes the batches, as for images held on the device.
        start: number of the first batch.
        stop: number of the batch before which the stream ends; None for no end.
        share: (rank, world size).
        timeout: seconds to wait for a worker's batch before DataLoader raises RuntimeError; 0 for
            no limit.
    """
    order = partial(dataset.source.order, seed=dataset.seed)
    sampler = StreamSampler(len(dataset), batch_size, order, start, stop, share)
    if workers is None:
        return map(dataset.__getitems__, sampler)
    batch_bytes = -(-batch_size // share[1]) * sum(3 * view.size**2 for view in dataset.views)
    return _data_loader(dataset, workers, sampler, batch_bytes, 4, timeout)


def eval_loader(
    source: Source,
    size: int,
    resize: int,
    batch_size: int = 256,
    workers: int = 0,
    interpolation: str = 'bicubic',
    start: int = 0,
    timeout: float = 0,
) -> DataLoader:
    """Make a loader of all images of a source, once and in order, in batches of EvalDataset.

    Args:
        source: the images.
        size: side of the centre crop in pixels.
        resize: short side of the image before the crop, in pixels.
        batch_size: images in a batch.
        workers: number of worker processes.
        interpolation: 'bicubic' or 'bilinear'.
        start: number of the first batch.
        timeout: as in `train_loader`.
    """
    dataset = EvalDataset(source, size, resize, interpolation)
    images = range(start * batch_size, len(source))
    batches = BatchSampler(images, batch_size, drop_last=False)
    batch_bytes = min(batch_size, len(images)) * 3 * size**2
    return _data_loader(dataset, workers, batches, batch_bytes, 2, timeout)
