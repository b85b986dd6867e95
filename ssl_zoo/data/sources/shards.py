"""Images in tar archives as WebDataset writes them, read by position: a million images in a thousand large files."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from ssl_zoo.data.decode import SUFFIXES, read_pixels
from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources.base import Source
from ssl_zoo.data.sources.shard_index import find_shards, index_of
from ssl_zoo.errors import ConfigError, MissingData, UnreadableImage
from ssl_zoo.registry import SOURCES

OPEN_SHARDS = 64  # per process; two windows of shards are read around the seam between them


@SOURCES.register_module()
class TarShards(Source):
    """Uncompressed tar archives as WebDataset writes them: the files of a key are a sample, an image and at most one ``.cls``.

    The key is a file's path up to the first dot of its name; what follows is the kind of file: an image suffix, or cls for the
    class, a number below 100,000. Other files are left out. Images are numbered through the shards, those of one in the order in
    which their images begin. Their places are looked up once, from the headers, and kept beside the shards if that can be written.

    An epoch reads from at most ``window`` shards at a time, which the page cache can hold: shards in random order, the images of
    each ``window`` of them shuffled together. With a window of all shards the order is that of an image folder with the same images.
    All processes and loader workers take their turns from this one stream of positions. So no node, process or worker needs shards
    of its own, their numbers need not divide, none sees another's images, none is left out, and a run resumes at any batch.

    Args:
        shards: a folder of .tar files, one such file, or a pattern such as '/data/train-{000000..000146}.tar' or '/data/*.tar'.
        window: how many shards are shuffled together.
        classes: text file with the name of class 0, 1, ... in each line; their numbers by default.
    Raises:
        ConfigError: no shards, one that is compressed or cut short, images without a label among others with one.
    """

    def __init__(self, shards: str, window: int = 16, classes: str | None = None):
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise ConfigError(f'window={window!r}, but it must be a number of shards from 1')
        self.window, self.paths = window, find_shards(shards)
        try:
            self.stats = [(stat.st_size, stat.st_mtime_ns) for stat in map(os.stat, self.paths)]
        except OSError as error:
            raise ConfigError(f'a shard of {shards} cannot be read: {error}') from None
        folder = Path(os.path.commonpath([os.path.dirname(path) for path in self.paths]))
        self.names = [Path(path).relative_to(folder).as_posix() for path in self.paths]
        self.index = index_of(self.paths, self.names, self.stats)
        self.firsts = (
            np.cumsum(self.index.counts) - self.index.counts
        )  # (S,), position of each shard's first image
        self.labels = self.index.labels if len(self.index.labels) else None
        if classes is not None:
            self.classes = _class_names(classes, self.labels)
        elif self.labels is not None:
            self.classes = [str(i) for i in range(self.labels.max() + 1)]

    def __len__(self) -> int:
        return len(self.index.offsets)

    def _bytes(self, i: int) -> bytes:
        i = range(len(self))[i]
        shard = int(np.searchsorted(self.firsts, i, 'right')) - 1
        size = int(self.index.sizes[i])
        try:
            opened = _opened(self.paths[shard], *self.stats[shard])  # held while it is read
            data = os.pread(opened.fd, size, int(self.index.offsets[i]))
        except OSError as error:
            raise UnreadableImage(f'{type(error).__name__}: {error}') from None
        if len(data) < size:
            raise UnreadableImage(f'{self.paths[shard]} has become shorter since the start')
        return data

    def pixels(self, i: int) -> np.ndarray:
        return read_pixels(self._bytes(i), self.name(i))

    def name(self, i: int) -> str:
        i = range(len(self))[i]
        shard = np.searchsorted(self.firsts, i, 'right') - 1
        key = self.index.keys[self.index.ends[i - 1] if i else 0 : self.index.ends[i]].tobytes()
        return f'{self.names[shard]}/{key.decode(errors="surrogateescape")}'

    def encoded(self, i: int) -> tuple[str, bytes]:
        return SUFFIXES[self.index.suffixes[i]], self._bytes(i)

    def order(self, epoch: int, seed: int, only: np.ndarray | None = None) -> np.ndarray:
        n, shards = len(self), len(self.paths)
        windows = -(-shards // self.window)
        window = np.empty(shards, dtype=np.int32)
        window[permutation(shards, seed, epoch, 1)] = (
            np.arange(shards) * windows // shards
        )  # of nearly equal size
        order = permutation(n, seed, epoch)
        if windows > 1:
            order = order[np.argsort(np.repeat(window, self.index.counts)[order], kind='stable')]
        if only is None:
            return order
        turn = np.empty(n, dtype=np.int64)
        turn[order] = np.arange(n)
        return np.argsort(turn[only], kind='stable')


class _Opened:
    """A file descriptor that lives as long as something refers to it: one thread may still read when another opens many files."""

    def __init__(self, path: str):
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self, close=os.close):
        if hasattr(self, 'fd'):
            close(self.fd)


@lru_cache(maxsize=OPEN_SHARDS)
def _opened(path: str, length: int, mtime: int) -> _Opened:
    """A shard, opened once per process and shared by forked workers: pread moves no position. Raises OSError, also if it changed."""
    opened = _Opened(path)
    stat = os.fstat(opened.fd)
    if (stat.st_size, stat.st_mtime_ns) != (length, mtime):
        raise OSError(f'{path} has changed since the start')
    return opened


def _class_names(path: str, labels: np.ndarray | None) -> list[str]:
    file = Path(path).expanduser()
    try:
        names = [
            line.strip()
            for line in file.read_text(encoding='utf-8-sig').splitlines()
            if line.strip()
        ]
    except FileNotFoundError:
        raise MissingData(
            f'looked for the names of the classes at {file.absolute()}, but there is no such file'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'the names of the classes in {file.absolute()} cannot be read: {error}; save them as UTF-8 text'
        ) from None
    if labels is None:
        raise ConfigError(
            f'classes={path!r}, but the shards have no labels (.cls); leave classes out'
        )
    if labels.max() >= len(names) or len(set(names)) < len(names):
        raise ConfigError(
            f'{file.absolute()} names {len(set(names))} classes in {len(names)} lines, and the labels go from 0 to '
            f'{labels.max()}; it needs a name of its own for each'
        )
    return names
