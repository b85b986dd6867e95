"""The index of tar shards: positions, keys and labels of their images, stored beside the shards."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_zoo.data.decode import SUFFIXES, readable_suffixes
from ssl_zoo.data.sources.base import NO_LABEL
from ssl_zoo.data.sources.left_out import kind_of, left_out_note
from ssl_zoo.data.sources.tar import DamagedArchive, members
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.progress_bar import progress_bar
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.digest import sha256_of_json
from ssl_zoo.storage.reading import open_npz

FORMAT = 3  # of the stored index
MAX_CLASSES = 100_000  # as in FileList
PROGRESS_BAR_SHARDS = 50  # a progress bar is shown for at least this number of shards
OTHERS = re.compile(rb'([0-9]{1,15} [^\n\r]+\n)*')  # lines of ShardIndex.others
LABEL_BYTES = 100  # bytes read of a .cls file; a longer label is no number below MAX_CLASSES


class ShardIndex(NamedTuple):
    """Where the n images of S shards are, in order. It takes 33 bytes and the key for an image.

    Attributes:
        counts: (S,) int64, images in each shard.
        offsets: (n,) int64, position of the image's first byte in its shard.
        sizes: (n,) int64, number of bytes of the image.
        suffixes: (n,) uint8, index into SUFFIXES.
        labels: (n,) int64, NO_LABEL for an image without label; (0,) for shards without labels.
        ends: (n,) int64, position of the end of the image's key in `keys`.
        keys: uint8, all keys in UTF-8, one after the other.
        others: uint8, the files that are left out: lines of a number, a space and the kind.
    """

    counts: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    suffixes: np.ndarray
    labels: np.ndarray
    ends: np.ndarray
    keys: np.ndarray
    others: np.ndarray

    def left_out(self) -> Counter:
        """Return the number of files that are left out, by their kind, see left_out_note."""
        left_out: Counter = Counter()
        for line in self.others.tobytes().decode(errors='replace').splitlines():
            number, _, kind = line.partition(' ')
            left_out[kind] += int(number)
        return left_out

    def fits(self, lengths: np.ndarray) -> bool:
        """Whether the index is complete, and every image lies within its shard.

        Args:
            lengths: (S,) int64, number of bytes of each shard.
        """
        return self._has_valid_shapes(len(lengths)) and self._has_valid_values(lengths)

    def _has_valid_shapes(self, shards: int) -> bool:
        dtypes = ('int64', 'int64', 'int64', 'uint8', 'int64', 'int64', 'uint8', 'uint8')
        if any(a.dtype != dtype or a.ndim != 1 for a, dtype in zip(self, dtypes, strict=True)):
            return False
        n = len(self.offsets)
        per_image = (self.offsets, self.sizes, self.suffixes, self.ends)
        return (
            n > 0
            and len(self.counts) == shards
            and len(self.labels) in (0, n)
            and all(len(a) == n for a in per_image)
        )

    def _has_valid_values(self, lengths: np.ndarray) -> bool:
        n = len(self.offsets)
        if any((a < 0).any() for a in self._replace(labels=self.labels - NO_LABEL)):
            return False
        if (self.counts > n).any() or self.counts.sum() != n:
            return False
        last_offsets = np.repeat(lengths, self.counts) - self.sizes
        return bool(
            (self.offsets <= last_offsets).all()
            and (self.suffixes < len(SUFFIXES)).all()
            and (self.labels < MAX_CLASSES).all()
            and (np.diff(self.ends) >= 0).all()
            and self.ends[-1] == len(self.keys)
            and OTHERS.fullmatch(self.others.tobytes()) is not None
        )


def load_or_build_index(
    paths: list[str], names: list[str], stats: list[tuple[int, int]]
) -> ShardIndex:
    """Load the index stored beside the first shard, or build it and store it where possible.

    A stored index of other shards, or of shards that have changed since, is not used.

    Args:
        paths: paths of the shards.
        names: names of the shards, which do not depend on the folder that holds them.
        stats: (number of bytes, modification time in ns) of each shard.

    Raises:
        MissingData: the shards have no images.
        ConfigError: two images have the same key, only some images have labels, or a shard is not
            an intact uncompressed tar archive.
    """
    lengths = np.array([length for length, _ in stats], dtype=np.int64)
    state = sha256_of_json([FORMAT, readable_suffixes(), names, stats])
    path = Path(paths[0]).parent / f'index-{sha256_of_json(names)[:8]}.npz'
    index = _load(path, state)
    if index is not None and index.fits(lengths):
        return index
    index = _build(paths, lengths)
    try:
        atomic_write(path, lambda file: np.savez(file, state=np.array(state), **index._asdict()))
    except OSError:  # the folder of shards is often read-only
        pass
    return index


def _load(path: Path, state: str) -> ShardIndex | None:
    try:
        with open_npz(path) as stored:
            if str(stored['state']) != state:
                return None
            return ShardIndex(*(stored[name] for name in ShardIndex._fields))
    except Exception:  # no index, or a damaged one: zipfile and numpy raise many types
        return None


def _build(paths: list[str], lengths: np.ndarray) -> ShardIndex:
    """Scan all shards and join their indices."""
    indices = []
    first_shard: dict[bool, str] = {}  # has labels (True or False) -> first such shard
    shown = len(paths) >= PROGRESS_BAR_SHARDS
    with progress_bar(len(paths), 'index of the shards', 'shards', shown=shown) as progress:
        for path, length in zip(paths, lengths.tolist(), strict=True):
            index = _scan(path, length)
            indices.append(index)
            if len(index.offsets):
                first_shard.setdefault(len(index.labels) > 0, path)
            if len(first_shard) > 1:
                raise ConfigError(
                    f'the images in {first_shard[True]} have labels (.cls), and those in '
                    f'{first_shard[False]} have none; either all shards have labels or none'
                )
            progress.update()
    joined = ShardIndex(*map(np.concatenate, zip(*indices, strict=True)))
    if not first_shard:
        notes = left_out_note('shards', 0, joined.left_out())
        raise MissingData(
            f'looked for images ({" ".join(readable_suffixes())}) in {len(paths)} shards, the '
            f'first is {paths[0]}, and found none{"".join(f" ({note})" for note in notes)}'
        )
    key_bytes = np.array([len(index.keys) for index in indices])
    key_starts = np.cumsum(key_bytes) - key_bytes
    return joined._replace(ends=joined.ends + np.repeat(key_starts, joined.counts))


def _scan(path: str, length: int) -> ShardIndex:
    """Make the index of one shard; this takes about 500 bytes of memory for each image."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            images, labels, left_out = _Contents(fd, path).read(length)
        finally:
            os.close(fd)
    except DamagedArchive as damage:
        raise ConfigError(f'the shard {path} {damage}') from None
    except OSError as error:
        raise ConfigError(f'the shard {path} cannot be read: {error}') from None
    _check_pairs(path, images, labels)
    keys = [key.encode(errors='surrogateescape') for key in images]
    columns = np.array(list(images.values()), dtype=np.int64).reshape(-1, 3)
    return ShardIndex(
        counts=np.array([len(images)]),
        offsets=columns[:, 0],
        sizes=columns[:, 1],
        suffixes=columns[:, 2].astype(np.uint8),
        labels=np.array([labels[key] for key in images if labels], dtype=np.int64),
        ends=np.cumsum([len(key) for key in keys], dtype=np.int64),
        keys=np.frombuffer(b''.join(keys), dtype=np.uint8),
        others=np.frombuffer(
            ''.join(f'{number} {kind}\n' for kind, number in left_out.items()).encode(), np.uint8
        ),
    )


class _Contents:
    """The images and labels of a shard.

    The key of a file is its path up to the first dot of the name, as in WebDataset. Names such as
    2024.05.07_cam1.jpg have no image suffix after that dot; their key goes up to the last dot,
    unless their sample has an image already, as 0001.jpg has beside 0001.mask.png.

    Args:
        fd: file descriptor of the shard.
        path: path of the shard, for messages.

    Attributes:
        images: key -> (offset, size, index into SUFFIXES).
        labels: key -> label.
        left_out: number of other files by their kind, see left_out_note.
    """

    def __init__(self, fd: int, path: str):
        self.fd = fd
        self.path = path
        self.suffixes = readable_suffixes()
        self.images: dict[str, tuple[int, int, int]] = {}
        self.labels: dict[str, int] = {}
        self.left_out: Counter = Counter()

    def read(self, length: int) -> tuple[dict[str, tuple[int, int, int]], dict[str, int], Counter]:
        """Read the headers of the shard, of ``length`` bytes: images, labels, left_out."""
        dotted = []
        for name, offset, size in members(self.fd, length):
            folder, slash, base = name.rpartition('/')
            stem, _, kind = base.partition('.')
            if not stem:  # a hidden file
                continue
            key = folder + slash + stem
            suffix = f'.{kind.lower()}'
            if suffix == '.cls' or suffix in self.suffixes:
                self._add(name, key, suffix, offset, size)
                continue
            last = os.path.splitext(base)[1]
            if last.lower() == '.cls' or last.lower() in self.suffixes:
                dotted.append((name, key, last, offset, size))
            else:
                self.left_out[kind_of(base)] += 1
        plain = set(self.images)
        for name, key, last, offset, size in dotted:
            if key in plain:  # such as 0001.mask.png
                self.left_out[kind_of(name, name[len(key) :])] += 1
            else:
                self._add(name, name.removesuffix(last), last.lower(), offset, size)
        if dotted:
            self.images = dict(sorted(self.images.items(), key=lambda item: item[1]))
        return self.images, self.labels, self.left_out

    def _add(self, name: str, key: str, suffix: str, offset: int, size: int) -> None:
        if suffix != '.cls':
            if key in self.images:
                raise ConfigError(
                    f'the shard {self.path} has two images with the key {key!r}; '
                    f'give every image a key of its own'
                )
            self.images[key] = (offset, size, SUFFIXES.index(suffix))
            return
        if key in self.labels:
            raise ConfigError(
                f'the shard {self.path} has two labels (.cls) with the key {key!r}; '
                f'give every image one label'
            )
        text = os.pread(self.fd, min(size, LABEL_BYTES), offset)
        self.labels[key] = _parse_label(text, f'{name} in the shard {self.path}')


def _check_pairs(path: str, images: dict, labels: dict) -> None:
    """Raise ConfigError for a label without an image, or if only some images have labels."""
    without_image = next((key for key in labels if key not in images), None)
    if without_image is not None:
        raise ConfigError(
            f'the shard {path} has a label and no image for {without_image!r}; '
            f'images end in one of {" ".join(readable_suffixes())}'
        )
    without_label = next((key for key in images if labels and key not in labels), None)
    if without_label is not None:
        raise ConfigError(
            f'the shard {path} has a label (.cls) for some images and not for {without_label!r}; '
            f'either all have one or none'
        )


def _parse_label(text: bytes, source: str) -> int:
    digits = text.strip()
    if digits == b'-1':
        return NO_LABEL
    if not digits.isdigit() or len(digits) > 20 or int(digits) >= MAX_CLASSES:
        raise ConfigError(
            f'{source} holds {text[:20]!r}, but a label is a whole number from 0 to '
            f'{MAX_CLASSES - 1:,}, or -1 for an image without label'
        )
    return int(digits)
