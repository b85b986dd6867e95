"""Which few images have labels in semi-supervised learning: SimCLR's official ImageNet lists, and stratified lists of our own."""

import hashlib
import os
import re
from http.client import HTTPException
from pathlib import Path

import numpy as np

from ssl_zoo.data.random import mix
from ssl_zoo.data.sources import Source, balanced_order
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.storage.atomic import write_or_raise
from ssl_zoo.storage.digest import sha256_of_file

# google-research/simclr, imagenet_subsets/: 12,811 and 128,116 file names, 12 or 13 and 128 or 129 of each class, 1 % within 10 %.
ADDRESS = 'https://raw.githubusercontent.com/google-research/simclr/master/imagenet_subsets/'
OFFICIAL = {
    '1%': ('1percent.txt', '71e82a48ba78252683ae334c4d019ebd5c6e855b9599c1389fbe83eb9549cf17'),
    '10%': ('10percent.txt', '6d09de11e7bdaf5b1f3b1f249b6183695f97310cdd20f0c03e7235b6b9392091'),
}
SHARE = re.compile(r'(\d+\.?\d*|\.\d+)%', re.ASCII)
PER_CLASS = re.compile(r'(\d{1,18})-per-class', re.ASCII)


def is_imagenet(source: Source) -> bool:
    """Whether the classes are ImageNet-1k's: a thousand folders named n and eight digits."""
    return len(source.classes or []) == 1000 and all(
        re.fullmatch(r'n\d{8}', c) for c in source.classes
    )


def official_list(labels: str, folder: str | Path | None = None, address: str = ADDRESS) -> Path:
    """SimCLR's list for '1%' or '10%', fetched once and checked.

    Args:
        folder: where it is kept; ``$XDG_CACHE_HOME/ssl_zoo`` by default.
        address: where it is fetched from.
    Raises:
        MissingData: it cannot be fetched, or what comes is not the list.
    """
    from torch.hub import download_url_to_file

    name, digest = OFFICIAL[labels]
    folder = Path(
        folder or Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'ssl_zoo'
    )
    path = folder / f'simclr_{name}'
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            download_url_to_file(address + name, str(path), hash_prefix=digest, progress=False)
        except (
            OSError,
            RuntimeError,
            HTTPException,
            ValueError,
        ) as error:  # RuntimeError: of another SHA-256
            raise MissingData(
                f'could not fetch the official list {address + name} ({error}); fetch it by hand and give it with '
                f'--list'
            ) from None
    found = sha256_of_file(path)
    if found != digest:
        raise MissingData(
            f'{path} is not the official list: its SHA-256 is {found[:16]}..., and it must be {digest[:16]}...; remove it'
        )
    return path


def draw_labels(source: Source, labels: str, seed: int) -> np.ndarray:
    """A fixed choice of labelled images, as equal over classes as they allow; with one seed a smaller choice lies within a larger.

    Args:
        source: with labels.
        labels: a share such as '1%', or '4-per-class'.
        seed: of the draw.
    Returns:
        (n,) int64, sorted positions in ``source``.
    Raises:
        ConfigError: another form, more labels than there are, fewer than classes.
    """
    share, per_class = SHARE.fullmatch(labels), PER_CLASS.fullmatch(labels)
    counts = np.bincount(source.labels)
    counts = counts[counts > 0]
    if share and 0 < float(share[1]) <= 100:
        n = round(float(share[1]) / 100 * len(source))
        if n < len(counts):
            raise ConfigError(
                f'{labels} of {len(source)} images are {n}, fewer than the {len(counts)} classes; ask for more, such as '
                f'1-per-class'
            )
    elif per_class and int(per_class[1]):
        if int(per_class[1]) > counts.min():
            raise ConfigError(
                f'{labels}, but the smallest class has {counts.min()} images; ask for at most so many'
            )
        n = int(per_class[1]) * len(counts)
    else:
        raise ConfigError(
            f'--labels {labels!r} is neither a share above 0% and up to 100%, such as 1% or 10%, nor a number such as '
            f'4-per-class'
        )
    return np.sort(balanced_order(source, seed=mix(3, seed))[:n])


def read_list(path: str | Path, source: Source) -> np.ndarray:
    """The images that a text list names, one per line, by their name in the data set or, as in SimCLR's lists, by their file name
    alone: (n,) int64, sorted positions.

    Raises:
        ConfigError: no such file, not text, no names, names twice or not in the data set.
    """
    try:
        text = (
            Path(path).read_bytes().decode('utf-8-sig', errors='surrogateescape')
        )  # file names may hold any bytes
        lines = [line for line in text.replace('\r\n', '\n').split('\n') if line]
    except FileNotFoundError:
        raise MissingData(
            f'looked for a list of labelled images at {Path(path).absolute()}, but there is no such file'
        ) from None
    except OSError as error:
        raise ConfigError(f'the list {path} cannot be read: {error}') from None
    if not lines:
        raise ConfigError(f'the list {path} is empty; it needs one image per line')
    names = [source.name(i) for i in range(len(source))]
    known = {name: i for i, name in enumerate(names)}
    if lines[0] not in known:
        known = {name.rsplit('/', 1)[-1]: i for i, name in enumerate(names)}
        if len(known) < len(names):
            raise ConfigError(
                f'the list {path} names {lines[0]!r}, which is not in the data set under that name, and by file names alone '
                f'its images cannot be told apart; give names such as {names[0]!r}'
            )
    missing = [line for line in lines if line not in known]
    if missing:
        raise ConfigError(
            f'{len(missing)} of {len(lines)} names in the list {path} are not in the data set, the first is {missing[0]!r}; '
            f'its {len(names)} images have names such as {names[0]!r}'
        )
    found = np.unique([known[line] for line in lines])
    if len(found) < len(lines):
        raise ConfigError(
            f'the list {path} names {len(lines) - len(found)} images twice; every image counts once'
        )
    return found


def write_list(path: str | Path, source: Source, chosen: np.ndarray) -> str:
    """Write the names of some images, one per line; the SHA-256 of the file."""
    text = ''.join(f'{source.name(i)}\n' for i in chosen).encode(errors='surrogateescape')
    write_or_raise(Path(path), lambda file: file.write(text))
    return hashlib.sha256(text).hexdigest()
