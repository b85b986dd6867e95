"""Which tar archives a pattern stands for, and where the images in them are."""

import os
import re
from glob import glob
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_zoo.data.decode import SUFFIXES
from ssl_zoo.data.sources.tar import Damaged, members
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.digest import sha256_of_json

FORMAT = 1  # of the stored index
MOST_CLASSES = 100_000  # as in FileList
MOST_SHARDS = 1_000_000
BAR_SHARDS = 50  # from so many shards on, a bar shows how far the index is


def find_shards(shards: str) -> list[str]:
    """The absolute paths of the shards that a folder, a file or a pattern stands for.

    Args:
        shards: see TarShards. Ranges and lists in braces keep their order; what a folder or * gives is sorted.
    Raises:
        ConfigError: nothing there, or one that a range names is not.
    """
    if not isinstance(shards, str) or '://' in shards or shards.startswith('pipe:'):
        raise ConfigError(
            f'shards={shards!r}, but it must be a folder, a .tar file or a pattern of them on this machine, such as '
            f'/data/train-{{000000..000146}}.tar'
        )
    path = os.path.abspath(os.path.expanduser(shards))
    if os.path.isdir(path):
        found = sorted(
            str(p) for p in Path(path).glob('*.tar') if p.is_file() and not p.name.startswith('.')
        )
        if not found:
            packed = [
                p.name
                for p in Path(path).glob('*.t*')
                if re.search(r'\.(tar\.\w+|tgz|tbz2?|txz)$', p.name)
            ]
            raise MissingData(
                f'looked for shards (*.tar) in {path}, and found '
                + (
                    f'compressed ones alone, such as {packed[0]}; unpack them to plain .tar'
                    if packed
                    else 'none; give the folder that holds them or a pattern'
                )
            )
        return found
    if os.path.isfile(path):
        return [path]
    found, missing = [], []
    for name in _braces(path):
        matches = (
            [name]
            if os.path.isfile(name)
            else [match for match in sorted(glob(name)) if os.path.isfile(match)]
        )
        found += matches
        missing += [] if matches else [name]
    if missing:
        raise MissingData(
            f'looked for the shards {path}, but there is no {missing[0]}'
            + (f', and {len(missing) - 1} others are missing' if len(missing) > 1 else '')
            + '; correct shards'
        )
    return list(dict.fromkeys(found))


def _braces(pattern: str) -> list[str]:
    """What a pattern with {000..146} and {a,b} stands for."""
    names, done = [pattern], []
    while names:
        name = names.pop()
        found = re.search(r'\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}', name)
        if not found:
            done.append(name)
            continue
        first, last, either = found.groups()
        if either is not None:
            options = either.split(',')
        elif abs(int(last) - int(first)) + len(names) + len(done) < MOST_SHARDS:
            step, width = (
                (1 if int(last) >= int(first) else -1),
                len(first) if first.startswith('0') else 0,
            )
            options = [
                str(number).zfill(width) for number in range(int(first), int(last) + step, step)
            ]
        else:
            raise ConfigError(
                f'{pattern} stands for more than {MOST_SHARDS:,} shards; check the numbers in its braces'
            )
        names += [
            name[: found.start()] + option + name[found.end() :] for option in reversed(options)
        ]
    return list(dict.fromkeys(done))


class Index(NamedTuple):
    """Where the n images of S shards are, in their order; 33 bytes for an image, and its key."""

    counts: np.ndarray  # (S,) int64, images in each shard
    offsets: np.ndarray  # (n,) int64, first byte of the image in its shard
    sizes: np.ndarray  # (n,) int64, bytes
    suffixes: np.ndarray  # (n,) uint8, which of SUFFIXES
    labels: np.ndarray  # (n,) int64, or (0,) without labels
    ends: np.ndarray  # (n,) int64, where the key ends in keys
    keys: np.ndarray  # uint8, all keys, UTF-8

    def fits(self, lengths: np.ndarray) -> bool:
        """Whether it is whole, and every image lies within its shard of so many bytes."""
        types = ('int64', 'int64', 'int64', 'uint8', 'int64', 'int64', 'uint8')
        if any(a.dtype != t or a.ndim != 1 for a, t in zip(self, types, strict=True)):
            return False
        n = len(self.offsets)
        if (
            not n
            or len(self.counts) != len(lengths)
            or len(self.labels) not in (0, n)
            or any(len(a) != n for a in self[1:4] + self[5:6])
        ):
            return False
        if any((a < 0).any() for a in self) or (self.counts > n).any() or self.counts.sum() != n:
            return False
        return bool(
            (self.offsets <= np.repeat(lengths, self.counts) - self.sizes).all()
            and (self.suffixes < len(SUFFIXES)).all()
            and (self.labels < MOST_CLASSES).all()
            and (np.diff(self.ends) >= 0).all()
            and self.ends[-1] == len(self.keys)
        )


def index_of(paths: list[str], names: list[str], stats: list[tuple[int, int]]) -> Index:
    """The index stored beside the first shard if it is of these very ones, else one from their headers, stored if that can be written.

    Args:
        paths: of the shards; names: what they are called wherever they lie; stats: their bytes and times of change in ns.
    Raises:
        ConfigError: no images, two with one key, labels for some, a shard that is not an intact plain tar archive.
    """
    lengths = np.array([length for length, _ in stats], dtype=np.int64)
    state = sha256_of_json([FORMAT, names, stats])
    path = Path(paths[0]).parent / f'index-{sha256_of_json(names)[:8]}.npz'
    try:
        with np.load(path, allow_pickle=False) as stored:
            index = (
                Index(*(stored[name] for name in Index._fields))
                if str(stored['state']) == state
                else None
            )
    except Exception:  # none, or a damaged one, which makes zipfile and numpy raise nearly anything
        index = None
    if index is not None and index.fits(lengths):
        return index
    index = _build(paths, lengths)
    try:
        atomic_write(path, lambda file: np.savez(file, state=np.array(state), **index._asdict()))
    except OSError:  # shards are often kept where nobody may write
        pass
    return index


def _build(paths: list[str], lengths: np.ndarray) -> Index:
    from ssl_zoo.progress_bar import progress_bar

    parts, labelled = [], {}
    with progress_bar(
        len(paths), 'index of the shards', 'shards', shown=len(paths) >= BAR_SHARDS
    ) as progress:
        for path, length in zip(paths, lengths.tolist(), strict=True):
            part = _scan(path, length)
            parts.append(part)
            if len(part.offsets):
                labelled.setdefault(len(part.labels) > 0, path)
            if len(labelled) > 1:
                raise ConfigError(
                    f'the images in {labelled[True]} have labels (.cls), and those in {labelled[False]} have none; '
                    f'either all shards have labels or none'
                )
            progress.update()
    if not labelled:
        raise MissingData(
            f'looked for images ({" ".join(SUFFIXES)}) in {len(paths)} shards, the first is {paths[0]}, and found none'
        )
    joined = Index(*map(np.concatenate, zip(*parts, strict=True)))
    bytes_of_keys = np.array([len(part.keys) for part in parts])
    return joined._replace(
        ends=joined.ends + np.repeat(np.cumsum(bytes_of_keys) - bytes_of_keys, joined.counts)
    )


def _scan(path: str, length: int) -> Index:
    """The index of one shard; some 500 bytes for an image while it is made."""
    images, labels = {}, {}
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for name, offset, size in members(fd, length):
                folder, slash, base = name.rpartition('/')
                stem, _, kind = base.partition('.')
                key, suffix = folder + slash + stem, f'.{kind.lower()}'
                if not stem:  # hidden files
                    continue
                if suffix == '.cls':
                    labels[key] = _label(
                        os.pread(fd, min(size, 100), offset), f'{name} in the shard {path}'
                    )
                elif suffix in SUFFIXES:
                    if key in images:
                        raise ConfigError(
                            f'the shard {path} has two images with the key {key!r}; give every image a key of its own'
                        )
                    images[key] = offset, size, SUFFIXES.index(suffix)
        finally:
            os.close(fd)
    except Damaged as damaged:
        raise ConfigError(f'the shard {path} {damaged}') from None
    except OSError as error:
        raise ConfigError(f'the shard {path} cannot be read: {error}') from None
    without = next((key for key in labels if key not in images), None)
    if without is not None:
        raise ConfigError(
            f'the shard {path} has a label and no image for {without!r}; images end in one of {" ".join(SUFFIXES)}'
        )
    without = next((key for key in images if labels and key not in labels), None)
    if without is not None:
        raise ConfigError(
            f'the shard {path} has a label (.cls) for some images and not for {without!r}; either all have one or none'
        )
    keys = [key.encode(errors='surrogateescape') for key in images]
    places = np.array(list(images.values()), dtype=np.int64).reshape(-1, 3)
    return Index(
        np.array([len(images)]),
        places[:, 0],
        places[:, 1],
        places[:, 2].astype(np.uint8),
        np.array([labels[key] for key in images] if labels else [], dtype=np.int64),
        np.cumsum([len(key) for key in keys], dtype=np.int64),
        np.frombuffer(b''.join(keys), dtype=np.uint8),
    )


def _label(text: bytes, where: str) -> int:
    digits = text.strip()
    if not digits.isdigit() or len(digits) > 20 or int(digits) >= MOST_CLASSES:
        raise ConfigError(
            f'{where} holds {text[:20]!r}, but a label is a whole number from 0 to {MOST_CLASSES - 1:,}'
        )
    return int(digits)
