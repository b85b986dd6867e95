"""Batches: an endless, resumable order of images, views made in workers, unreadable images replaced and reported."""

import ctypes
import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources import Source
from ssl_zoo.data.views import View, crop, sample
from ssl_zoo.distributed.process_group import rank_info
from ssl_zoo.errors import UnreadableImage

REPLACEMENTS = 100  # unreadable images in a row after which nearly all must be
GRACE_SECONDS = 30  # a worker lives on after SIGTERM


def order_of(epoch: int, n: int, seed: int) -> np.ndarray:
    """Source.order of n images where it is the default one: a pure function of (seed, epoch, n)."""
    return permutation(n, seed, epoch)


class StreamSampler(Sampler):
    """Batches of (epoch, image) from one permutation after the other, without end and without dropping images.

    Batch k holds positions k * batch_size to (k + 1) * batch_size - 1 of the stream, where position p is image p % n of
    epoch p // n. BYOL's official code counts so too: K = epochs * n // batch_size steps. So a run can start at any batch.

    Args:
        n: images; batch_size: images per batch; order: epoch -> permutation of range(n); start: the first batch; stop: the batch to
            end before.
        share: (i, n) for the i-th of n processes, which gets images i, i + n, i + 2n ... of every batch.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        order: Callable[[int], np.ndarray],
        start: int = 0,
        stop: int | None = None,
        share: tuple[int, int] = (0, 1),
    ):
        self.n, self.batch_size, self.order, self.start, self.stop, self.share = (
            n,
            batch_size,
            order,
            start,
            stop,
            share,
        )

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        k, epoch, order = self.start, -1, None
        while self.stop is None or k < self.stop:
            batch = []
            for position in range(
                k * self.batch_size + self.share[0], (k + 1) * self.batch_size, self.share[1]
            ):
                if position // self.n != epoch:
                    epoch = position // self.n
                    order = self.order(epoch)
                batch.append((epoch, int(order[position % self.n])))
            yield batch
            k += 1

    def __len__(self) -> int:
        if self.stop is None:
            raise TypeError('the stream has no end')
        return self.stop - self.start


class ViewDataset(Dataset):
    """(epoch, image) -> cropped uint8 views and the numbers that the photometric step needs.

    An unreadable image is replaced by another one, so that batches keep their size, and reported. Which one is fixed, and far
    away: the neighbours in a folder are often broken together.

    Args:
        source: the images; views: the recipes; seed: of the random numbers.
    """

    def __init__(self, source: Source, views: list[View], seed: int):
        self.source, self.views, self.seed = source, views, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: list[tuple[int, int]]) -> dict:
        """One batch: views [(B, 3, H, W) uint8], not yet mirrored, params [(B, P) float32], index (B,) int64, unreadable
        [(image, reason)].

        Without readable images there are no views: the main process says so (an error raised here would reach the user with
        a worker's traceback).
        """
        epochs, indices, unreadable = (
            np.array([epoch for epoch, _ in keys]),
            np.array([i for _, i in keys]),
            [],
        )
        params = self._params(epochs, indices)
        views = [
            torch.empty(len(keys), 3, view.size, view.size, dtype=torch.uint8)
            for view in self.views
        ]
        for k, wanted in enumerate(
            indices.tolist()
        ):  # one after the other: an image is cropped while the cache holds it
            pixels, i, failed = self._readable_from(wanted)
            unreadable += failed
            if pixels is None:
                return dict(views=None, unreadable=unreadable)
            if i != wanted:
                indices[k] = i
                params[:, k] = self._params(epochs[k : k + 1], indices[k : k + 1])[:, 0]
            crop(pixels, self.views, params[:, k], [out[k] for out in views])
        return dict(
            views=views,
            params=list(torch.from_numpy(params)),
            index=torch.from_numpy(indices),
            unreadable=unreadable,
        )

    def _params(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """(views, images, len(PARAMS)) float32."""
        return np.stack(
            [
                sample(view, number, epochs, indices, self.seed)
                for number, view in enumerate(self.views)
            ]
        )

    def _readable_from(self, i: int):
        failed = []
        for _ in range(min(len(self.source), REPLACEMENTS)):
            try:
                return self.source.pixels(i), i, failed
            except UnreadableImage as error:
                failed.append((i, str(error)))
                i = self._next(i)
        return None, i, failed

    def _next(self, i: int) -> int:
        """The image that stands for an unreadable one; from one to the next all are reached once."""
        n = len(self.source)
        return (i + next(s for s in range(int(n * 0.618), 2 * n + 2) if math.gcd(s, n) == 1)) % n


def default_workers() -> int:
    """Loader processes: one less than there are cores for each process of this machine, at most 8."""
    return min(max((os.cpu_count() or 2) // rank_info().local_size - 1, 0), 8)


def _as_is(batch):
    return batch


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks of up to 32 MiB for the next image, instead of fetching and clearing pages for each: a fifth of
    the time of a JPEG. Elsewhere nothing."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 128 << 20)  # M_TRIM_THRESHOLD


def _quiet_worker(_):
    """Workers leave Ctrl-C, SIGUSR1 and SIGTERM, which a terminal or scheduler sends to the whole group, to the main process.

    The main process still needs batches while it ends its step, so a worker lives on for a while after SIGTERM. Not for
    ever: SIGTERM is also what Python ends left-over workers with at exit, and then waits for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))
    torch.set_num_threads(1)
    keep_freed_memory()


def _loader(dataset: Dataset, workers: int, **arguments) -> DataLoader:
    # A generator of its own: a loader draws a seed for its workers, and must not draw it from the training's stream.
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=_quiet_worker,
        pin_memory=torch.cuda.is_available(),
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
    """Batches ``start`` to ``stop`` of the stream, this process's share of each. The views depend neither on workers nor on processes.

    Args:
        workers: processes that make them; None for this one, without DataLoader.
        timeout: seconds to wait for a batch of the workers before a RuntimeError; 0 for ever.
    """
    sampler = StreamSampler(
        len(dataset),
        batch_size,
        partial(dataset.source.order, seed=dataset.seed),
        start,
        stop,
        share,
    )
    if workers is None:
        return map(dataset.__getitems__, sampler)
    return _loader(
        dataset,
        workers,
        batch_sampler=sampler,
        prefetch_factor=4 if workers else None,
        timeout=timeout if workers else 0,
    )


def _at_most_long(image: Image.Image) -> Image.Image:
    """The middle of a very long image, 16 times as long as wide: its short side resized, all of it could fill the memory."""
    length = 16 * min(image.size)
    if max(image.size) <= length:
        return image
    width, height = (min(side, length) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


class EvalDataset(Dataset):
    """Images as evaluation sees them: short side resized to ``resize``, centre crop of ``size``, no randomness.

    An unreadable image is left out and reported.
    """

    def __init__(self, source: Source, size: int, resize: int, interpolation: str = 'bicubic'):
        self.source, self.size, self.resize, self.interpolation = (
            source,
            size,
            resize,
            interpolation,
        )

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, indices: list[int]) -> dict:
        """{'pixels': (b, 3, size, size) uint8, 'index': (b,) int64, 'unreadable': [(image, reason)]}"""
        from torchvision.transforms.v2 import functional as F

        pixels, kept, unreadable = [], [], []
        for i in indices:
            try:
                image = self.source.read(i)
            except UnreadableImage as error:
                unreadable.append((i, str(error)))
                continue
            if image.size != (self.size, self.size) or self.size != self.resize:
                image = _at_most_long(image)
                image = F.center_crop(
                    F.resize(
                        image, self.resize, interpolation=F.InterpolationMode(self.interpolation)
                    ),
                    self.size,
                )
            pixels.append(np.asarray(image).transpose(2, 0, 1))
            kept.append(i)
        stacked = np.stack(pixels) if pixels else np.empty((0, 3, self.size, self.size), np.uint8)
        return dict(
            pixels=torch.from_numpy(np.ascontiguousarray(stacked)),
            index=torch.tensor(kept, dtype=torch.int64),
            unreadable=unreadable,
        )


def eval_loader(
    source: Source,
    size: int,
    resize: int,
    batch_size: int = 256,
    workers: int = 0,
    interpolation: str = 'bicubic',
) -> DataLoader:
    """All images of a source once, in order."""
    return _loader(EvalDataset(source, size, resize, interpolation), workers, batch_size=batch_size)
