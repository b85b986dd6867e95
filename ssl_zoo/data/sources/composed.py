"""Sources made from other sources: a subset of a source, or two sources joined."""

import numpy as np
from PIL import Image

from ssl_zoo.data.sources.base import Source


class Joined(Source):
    """Two sources, one after the other.

    Classes are those of the first source. There are labels only if both sources have labels.
    """

    def __init__(self, first: Source, second: Source):
        self.first = first
        self.second = second
        self.classes = first.classes
        self.classes_are_numbers = first.classes_are_numbers
        self.notes = first.notes + second.notes
        self.in_memory = first.in_memory and second.in_memory
        if first.labels is not None and second.labels is not None:
            self.labels = np.concatenate([first.labels, second.labels])
        if first.multi_labels is not None and second.multi_labels is not None:
            self.multi_labels = np.concatenate([first.multi_labels, second.multi_labels])

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def _locate(self, i: int) -> tuple[Source, int]:
        """Return the source that holds image i, and the position of the image in that source."""
        if i < len(self.first):
            return self.first, i
        return self.second, i - len(self.first)

    def read(self, i: int) -> Image.Image:
        source, position = self._locate(i)
        return source.read(position)

    def pixels(self, i: int) -> np.ndarray:
        source, position = self._locate(i)
        return source.pixels(position)

    def name(self, i: int) -> str:
        source, position = self._locate(i)
        return source.name(position)

    def encoded(self, i: int) -> tuple[str, bytes]:
        source, position = self._locate(i)
        return source.encoded(position)

    def file_stats(self, only: np.ndarray | None = None) -> np.ndarray | None:
        parts = (self.first.file_stats(), self.second.file_stats())
        if parts[0] is None or parts[1] is None:
            return None
        stats = np.concatenate(parts)
        return stats if only is None else stats[only]


class Subset(Source):
    """Selected images of another source.

    Args:
        source: the other source.
        indices: (n,) positions in ``source``, in the order of the subset.
    """

    def __init__(self, source: Source, indices: np.ndarray):
        self.source = source
        self.indices = np.asarray(indices, dtype=np.int64)
        self.classes = source.classes
        self.classes_are_numbers = source.classes_are_numbers
        self.warnings = source.warnings
        self.notes = source.notes
        self.in_memory = source.in_memory
        if source.labels is not None:
            self.labels = source.labels[self.indices]
        if source.multi_labels is not None:
            self.multi_labels = source.multi_labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, i: int) -> Image.Image:
        return self.source.read(self.indices[i])

    def pixels(self, i: int) -> np.ndarray:
        return self.source.pixels(self.indices[i])

    def name(self, i: int) -> str:
        return self.source.name(self.indices[i])

    def encoded(self, i: int) -> tuple[str, bytes]:
        return self.source.encoded(self.indices[i])

    def order(self, epoch: int, seed: int, only: np.ndarray | None = None) -> np.ndarray:
        visited = self.indices if only is None else self.indices[only]
        return self.source.order(epoch, seed, visited)

    def file_stats(self, only: np.ndarray | None = None) -> np.ndarray | None:
        return self.source.file_stats(self.indices if only is None else self.indices[only])
