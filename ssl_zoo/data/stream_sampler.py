"""The order in which training visits images: batches from an endless stream of epochs."""

from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

from ssl_zoo.data.random import permutation


def order_of(epoch: int, n: int, seed: int) -> np.ndarray:
    """Return the order of an epoch over n images, for sources with the default `Source.order`.

    Returns:
        (n,) int64, a permutation of range(n).
    """
    return permutation(n, seed, epoch)


class StreamSampler(Sampler):
    """Batches of (epoch, image) from a stream of permutations, one per epoch.

    The stream has no end and drops no images. Batch k holds the positions k * batch_size to
    (k + 1) * batch_size - 1 of the stream; position p is element p % n of the permutation of epoch
    p // n. So a run can start at any batch. BYOL's official code counts in the same way:
    K = epochs * n // batch_size steps.

    Args:
        n: number of images in the source.
        batch_size: number of images in a batch, over all ranks.
        order: epoch -> (n,) permutation of range(n).
        start: number of the first batch.
        stop: number of the batch before which the stream ends; None for no end.
        share: (rank, world size). Rank r of w ranks gets the images r, r + w, r + 2 w ... of every
            batch.

    Yields:
        a batch, a list of (epoch, image).
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
        self.n = n
        self.batch_size = batch_size
        self.order = order
        self.start = start
        self.stop = stop
        self.share = share

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rank, world_size = self.share
        batch_number = self.start
        epoch = -1
        order = None
        while self.stop is None or batch_number < self.stop:
            first = batch_number * self.batch_size
            batch = []
            for position in range(first + rank, first + self.batch_size, world_size):
                if position // self.n != epoch:
                    epoch = position // self.n
                    order = self.order(epoch)
                batch.append((epoch, int(order[position % self.n])))
            yield batch
            batch_number += 1

    def __len__(self) -> int:
        if self.stop is None:
            raise TypeError('the stream has no end')
        return self.stop - self.start
