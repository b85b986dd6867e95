"""Images in tar archives as WebDataset writes them, read by position."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from ssl_zoo.data.decode import SUFFIXES, check_file_size, read_pixels
from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources.base import Source, numbers_as_names
from ssl_zoo.data.sources.class_names import read_class_names, stored_class_names
from ssl_zoo.data.sources.left_out import left_out_note
from ssl_zoo.data.sources.shard_index import load_or_build_index
from ssl_zoo.data.sources.shard_paths import find_shards
from ssl_zoo.errors import ConfigError, UnreadableImage
from ssl_zoo.registry import SOURCES

# Number of files that a process keeps open: near the end of a window of shards, the next window is
# read too.
OPEN_SHARDS = 64


@SOURCES.register_module()
class TarShards(Source):
    """Images in uncompressed tar archives, as WebDataset writes them.

    Files with the same key are a sample: an image and at most one label. The key is a file's path
    up to the first dot of its name. The rest of the name is an image suffix, or cls for a file that
    holds the class, a number below 100,000. Where the rest is more than that, as in
    2024.05.07_cam1.jpg, the key goes up to the last dot, unless the sample has an image already.
    Other files are left out and counted. Images are numbered in the
    order of the shards, and within a shard in the order of the archive. Their positions are read
    once, from the headers, and stored beside the shards if the folder is writable.

    An epoch visits the shards in random order and shuffles the images of each `window` shards
    together, so that it reads from at most `window` shards at a time, which the page cache can
    hold. With a window of all shards the order is that of an image folder with the same images. All
    ranks and workers share one stream of positions. So no node, rank or worker needs shards of its
    own, the number of shards need not be a multiple of the number of ranks, every image is visited
    once, and a run can resume at any batch.

    Args:
        shards: a folder of .tar files, one such file, or a pattern such as
            '/data/train-{000000..000146}.tar' or '/data/*.tar'.
        window: number of shards that are shuffled together.
        classes: text file with the names of classes 0, 1, ..., one per line; by default
            classes.txt beside the shards, which `ssl-zoo make-shards` writes. Without such a file
            the classes are numbers.

    Attributes:
        index: see ShardIndex.

    Raises:
        MissingData: there are no shards, no images, or no file of class names.
        ConfigError: a shard is compressed or cut short, only some images have a label, or the class
            names do not fit the labels.
    """

    def __init__(self, shards: str, window: int = 16, classes: str | None = None):
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise ConfigError(f'window={window!r}, but it must be a number of shards from 1')
        self.window = window
        self.paths = find_shards(shards)
        try:
            stats = [os.stat(path) for path in self.paths]
        except OSError as error:
            raise ConfigError(f'a shard of {shards} cannot be read: {error}') from None
        self.stats = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
        folder = os.path.commonpath([os.path.dirname(path) for path in self.paths])
        self.names = [Path(path).relative_to(folder).as_posix() for path in self.paths]
        self.index = load_or_build_index(self.paths, self.names, self.stats)
        self.notes = left_out_note(shards, len(self.index.offsets), self.index.left_out())
        # (S,), position of each shard's first image
        self.first_images = np.cumsum(self.index.counts) - self.index.counts
        if len(self.index.labels):
            self.labels = self.index.labels
        self.classes = self._class_names(classes)
        if self.classes is None and self.labels is not None:
            self.classes = numbers_as_names(self.labels)
            self.classes_are_numbers = True

    def _class_names(self, classes: str | None) -> list[str] | None:
        """Return the names that a file gives: `classes`, or the file beside the shards."""
        if classes is None:
            folders = sorted({Path(path).parent for path in self.paths})
            return stored_class_names(folders, self.labels)
        if self.labels is None:
            raise ConfigError(
                f'classes={classes!r}, but the shards have no labels (.cls); leave classes out'
            )
        return read_class_names(classes, self.labels)

    def __len__(self) -> int:
        return len(self.index.offsets)

    def _shard_of(self, i: int) -> int:
        return int(np.searchsorted(self.first_images, i, 'right')) - 1

    def _read_bytes(self, i: int) -> bytes:
        i = range(len(self))[i]
        shard = self._shard_of(i)
        size = int(self.index.sizes[i])
        check_file_size(size, self.max_pixels)
        try:
            # The variable keeps the file open until the bytes are read.
            file = _open_shard(self.paths[shard], *self.stats[shard])
            data = os.pread(file.fd, size, int(self.index.offsets[i]))
        except OSError as error:
            raise UnreadableImage(f'{type(error).__name__}: {error}') from None
        if len(data) < size:
            raise UnreadableImage(f'{self.paths[shard]} has become shorter since the start')
        return data

    def pixels(self, i: int) -> np.ndarray:
        return read_pixels(self._read_bytes(i), self.name(i), self.max_pixels)

    def name(self, i: int) -> str:
        i = range(len(self))[i]
        start = self.index.ends[i - 1] if i else 0
        key = self.index.keys[start : self.index.ends[i]].tobytes()
        return f'{self.names[self._shard_of(i)]}/{key.decode(errors="surrogateescape")}'

    def encoded(self, i: int) -> tuple[str, bytes]:
        return SUFFIXES[self.index.suffixes[i]], self._read_bytes(i)

    def file_stats(self, only: np.ndarray | None = None) -> np.ndarray:
        """Return the size of each image, and the time of its shard."""
        times = np.repeat([mtime for _, mtime in self.stats], self.index.counts)
        stats = np.stack([self.index.sizes, times], axis=1).astype(np.int64)
        return stats if only is None else stats[only]

    def order(self, epoch: int, seed: int, only: np.ndarray | None = None) -> np.ndarray:
        order = self._order_of_all(epoch, seed)
        if only is None:
            return order
        turn = np.empty(len(self), dtype=np.int64)
        turn[order] = np.arange(len(self))
        return np.argsort(turn[only], kind='stable')

    def _order_of_all(self, epoch: int, seed: int) -> np.ndarray:
        shards = len(self.paths)
        windows = -(-shards // self.window)
        order = permutation(len(self), seed, epoch)
        if windows == 1:
            return order
        window_of_shard = np.empty(shards, dtype=np.int32)
        # The windows have nearly equal numbers of shards.
        window_of_shard[permutation(shards, seed, epoch, 1)] = np.arange(shards) * windows // shards
        window_of_image = np.repeat(window_of_shard, self.index.counts)
        return order[np.argsort(window_of_image[order], kind='stable')]


class _OpenFile:
    """A file that is closed when the last reference is dropped.

    So a thread can still read a file that another thread has pushed out of the cache.
    """

    def __init__(self, path: str):
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self, close=os.close):
        if hasattr(self, 'fd'):
            close(self.fd)


@lru_cache(maxsize=OPEN_SHARDS)
def _open_shard(path: str, length: int, mtime: int) -> _OpenFile:
    """Open a shard, once per process. Forked workers can share it: pread uses no file position.

    Raises:
        OSError: the file cannot be opened, or its length or modification time has changed since the
            start.
    """
    file = _OpenFile(path)
    stat = os.fstat(file.fd)
    if (stat.st_size, stat.st_mtime_ns) != (length, mtime):
        raise OSError(f'{path} has changed since the start')
    return file
