"""Where images come from. A source knows how many images it has, reads one by position, and may know labels.

The sources themselves are in files.py (image folders, lists), arrays.py (CIFAR, STL-10, digits) and shards.py (tar archives).

Every source has
    __len__()                     number of images
    read(i) -> PIL image, RGB     raises Unreadable
    pixels(i) -> the same as a (H, W, 3) uint8 array, which training reads; a source defines one of the two
    name(i) -> str                what to call image i in messages
    encoded(i) -> suffix, bytes   image i as a file, as it is stored if it is one
    order(epoch, seed)            the order in which an epoch visits the images
    labels: (n,) int64 or None;   classes: list of names or None
"""

import hashlib
import io

import numpy as np
from PIL import Image

from ssl_zoo.data.random import permutation
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import SOURCES


class Source:
    """Base of all sources; holds what they share."""

    labels: np.ndarray | None = None
    classes: list[str] | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def __init_subclass__(cls, **arguments):
        super().__init_subclass__(**arguments)
        # Each of the two follows the other where the nearest class, this one or a mixin, defines one of them alone.
        given = next(
            names for base in cls.__mro__ if (names := {'read', 'pixels'} & vars(base).keys())
        )
        if given == {'read'}:
            cls.pixels = lambda self, i: np.array(cls.read(self, i))
        elif given == {'pixels'}:
            cls.read = lambda self, i: Image.fromarray(cls.pixels(self, i))

    def read(self, i: int) -> Image.Image:
        raise NotImplementedError(
            f'{type(self).__name__} must define read(self, i) or pixels(self, i)'
        )

    def pixels(self, i: int) -> np.ndarray:
        raise NotImplementedError(
            f'{type(self).__name__} must define read(self, i) or pixels(self, i)'
        )

    def name(self, i: int) -> str:
        return f'{type(self).__name__} image {i}'

    def encoded(self, i: int) -> tuple[str, bytes]:
        """Image i as an image file: its suffix, such as '.png', and its bytes. Raises Unreadable."""
        file = io.BytesIO()
        self.read(i).save(file, 'PNG')
        return '.png', file.getvalue()

    def order(self, epoch: int, seed: int, only: np.ndarray | None = None) -> np.ndarray:
        """The order in which an epoch visits the images, a permutation of range(n), int64: a function of its arguments alone.

        Args:
            only: positions of the n images that are visited, all by default; the permutation is then of range(len(only)). Here it
                does not depend on which they are; where it matters that neighbours are read together, they keep the order of all.
        """
        return permutation(len(self) if only is None else len(only), seed, epoch)

    def manifest(self) -> str:
        """SHA-256 over names and labels in order, the first 16 hexadecimal digits: equal for equal data sets."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            digest.update(
                f'{self.name(i)}\t{"" if self.labels is None else self.labels[i]}\n'.encode(
                    errors='surrogateescape'
                )
            )
        return digest.hexdigest()[:16]


class Joined(Source):
    """Two sources one after the other, with the classes of the first."""

    def __init__(self, first: Source, second: Source):
        self.parts, self.classes = (first, second), first.classes
        self.labels = (
            None
            if first.labels is None or second.labels is None
            else np.concatenate([first.labels, second.labels])
        )

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def _part(self, i: int) -> tuple[Source, int]:
        first, second = self.parts
        return (first, i) if i < len(first) else (second, i - len(first))

    def read(self, i: int) -> Image.Image:
        part, i = self._part(i)
        return part.read(i)

    def pixels(self, i: int) -> np.ndarray:
        part, i = self._part(i)
        return part.pixels(i)

    def name(self, i: int) -> str:
        part, i = self._part(i)
        return part.name(i)

    def encoded(self, i: int) -> tuple[str, bytes]:
        part, i = self._part(i)
        return part.encoded(i)


class Subset(Source):
    """Some images of another source, in the order of ``indices``."""

    def __init__(self, source: Source, indices: np.ndarray):
        self.source, self.indices = source, np.asarray(indices, dtype=np.int64)
        self.labels = None if source.labels is None else source.labels[self.indices]
        self.classes = source.classes

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
        return self.source.order(epoch, seed, self.indices if only is None else self.indices[only])


def balanced_order(source: Source, seed: int = 0) -> np.ndarray:
    """A fixed order of the images in which every beginning is stratified: classes take turns, each in a random order."""
    order = permutation(len(source), seed)
    if source.labels is None:
        return order
    labels = source.labels[order]
    turn = np.empty(len(order), dtype=np.int64)
    for label in np.unique(labels):
        where = labels == label
        turn[where] = np.arange(where.sum())
    return order[np.argsort(turn, kind='stable')]


def build_source(cfg: dict) -> Source:
    """A source from its config; the key ``limit`` takes so many of its images, a fixed choice balanced over classes."""
    cfg = dict(cfg)
    limit = cfg.pop('limit', None)
    source = SOURCES.create(cfg)
    if limit is None:
        return source
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= len(source):
        raise ConfigError(
            f'limit={limit!r}, but {cfg["type"]} has {len(source)} images; give a number from 1 to {len(source)}'
        )
    return Subset(source, np.sort(balanced_order(source)[:limit]))
