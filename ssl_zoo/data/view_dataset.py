"""Cropped views of training images: step 1 (sample) and step 2 (crop) for a batch."""

import math

import numpy as np
import torch
from torch.utils.data import Dataset

from ssl_zoo.data.crop import crop
from ssl_zoo.data.sources import Source
from ssl_zoo.data.views import View, sample
from ssl_zoo.errors import UnreadableImage

MAX_REPLACEMENTS = 100  # attempts to read; if all fail, nearly all images must be unreadable


class ViewDataset(Dataset):
    """(epoch, image) -> cropped uint8 views, and the parameters for the photometric step.

    An unreadable image is replaced by another one, so that batches keep their size, and is
    reported. The replacement is fixed, and far away in the source, because neighbours in a folder
    are often damaged together.

    Args:
        source: the images.
        views: recipe of each view.
        seed: seed of the views' parameters.
    """

    def __init__(self, source: Source, views: list[View], seed: int):
        self.source = source
        self.views = views
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: list[tuple[int, int]]) -> dict:
        """Make one batch.

        Args:
            keys: B pairs (epoch, image).

        Returns:
            `views`, a list of (B, 3, size, size) uint8, not yet flipped; `params`, a list of (B,
            len(PARAMS)) float32, both with one entry per view; `index`, (B,) int64, positions of
            the images read; `unreadable`, a list of (image, reason). If no readable image is found,
            `views` is None, `params` and `index` are missing, and the main process raises the
            error: an error raised here would reach the user with a worker's traceback.
        """
        epochs = np.array([epoch for epoch, _ in keys])
        indices = np.array([i for _, i in keys])
        unreadable = []
        params = self._params(epochs, indices)
        views = [
            torch.empty(len(keys), 3, view.size, view.size, dtype=torch.uint8)
            for view in self.views
        ]
        # Each image is cropped for all views while it is in the cache.
        for k, requested in enumerate(indices.tolist()):
            pixels, i, failed = self._first_readable(requested)
            unreadable += failed
            if pixels is None:
                return dict(views=None, unreadable=unreadable)
            if i != requested:
                indices[k] = i
                row = slice(k, k + 1)
                params[:, row] = self._params(epochs[row], indices[row])
            crop(pixels, self.views, params[:, k], [batch[k] for batch in views])
        return dict(
            views=views,
            params=list(torch.from_numpy(params)),
            index=torch.from_numpy(indices),
            unreadable=unreadable,
        )

    def _params(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Draw the parameters: (views, images, len(PARAMS)) float32."""
        return np.stack(
            [
                sample(view, number, epochs, indices, self.seed)
                for number, view in enumerate(self.views)
            ]
        )

    def _first_readable(self, i: int) -> tuple[np.ndarray | None, int, list[tuple[int, str]]]:
        """Find the first readable image among image i and its replacements.

        Returns:
            pixels (H, W, 3) uint8, or None if no image can be read; position of the image; (image,
            reason) of the unreadable images before it.
        """
        failed: list[tuple[int, str]] = []
        for _ in range(min(len(self.source), MAX_REPLACEMENTS)):
            try:
                return self.source.pixels(i), i, failed
            except UnreadableImage as error:
                failed.append((i, str(error)))
                i = self._replacement(i)
        return None, i, failed

    def _replacement(self, i: int) -> int:
        """Return the position of the image that replaces unreadable image i.

        The step is coprime to n, so that a chain of replacements reaches every image once. The step
        is about 0.618 n (the golden section), so that the chain spreads over the source.
        """
        n = len(self.source)
        candidates = range(int(n * 0.618), 2 * n + 2)
        step = next(candidate for candidate in candidates if math.gcd(candidate, n) == 1)
        return (i + step) % n
