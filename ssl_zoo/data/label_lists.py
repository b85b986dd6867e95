"""Labelled images of semi-supervised learning: SimCLR's lists, drawn lists, lists in text files."""

import hashlib
import os
import re
from http.client import HTTPException
from pathlib import Path

import numpy as np

from ssl_zoo.data.random import mix
from ssl_zoo.data.sources import Source, balanced_order, stratified_order
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.storage.atomic import write_or_raise
from ssl_zoo.storage.digest import sha256_of_file
from ssl_zoo.storage.reading import read_regular

# google-research/simclr, imagenet_subsets/: 12,811 and 128,116 file names; 12 or 13 and 128 or 129
# of each class. The 1 % list is part of the 10 % list.
ADDRESS = 'https://raw.githubusercontent.com/google-research/simclr/master/imagenet_subsets/'
# Labels -> (file name, SHA-256).
OFFICIAL = {
    '1%': ('1percent.txt', '71e82a48ba78252683ae334c4d019ebd5c6e855b9599c1389fbe83eb9549cf17'),
    '10%': ('10percent.txt', '6d09de11e7bdaf5b1f3b1f249b6183695f97310cdd20f0c03e7235b6b9392091'),
}
LIST_BYTES = 2**30  # largest text file of names
SHARE = re.compile(r'(\d+\.?\d*|\.\d+)%', re.ASCII)
PER_CLASS = re.compile(r'(\d{1,18})-per-class', re.ASCII)


def is_imagenet(source: Source) -> bool:
    """Whether the classes are ImageNet-1k's: 1000 names of the letter n and eight digits."""
    classes = source.classes or []
    return len(classes) == 1000 and all(re.fullmatch(r'n\d{8}', name) for name in classes)


def official_list(labels: str, folder: str | Path | None = None, address: str = ADDRESS) -> Path:
    """Fetch SimCLR's list of labelled ImageNet images, once, and check its SHA-256.

    Args:
        labels: '1%' or '10%'.
        folder: where the list is stored; ``$XDG_CACHE_HOME/ssl_zoo`` by default.
        address: URL of the folder with the lists.

    Returns:
        the path of the list, a text file with one file name per line.

    Raises:
        MissingData: the list cannot be fetched, or has another SHA-256.
    """
    name, sha256 = OFFICIAL[labels]
    folder = _cache_folder() if folder is None else Path(folder)
    path = folder / f'simclr_{name}'
    if not path.is_file():
        _fetch(address + name, path, sha256)
    actual = sha256_of_file(path)
    if actual != sha256:
        raise MissingData(
            f'{path} is not the official list: its SHA-256 is {actual[:16]}..., and it must be '
            f'{sha256[:16]}...; remove it'
        )
    return path


def _cache_folder() -> Path:
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(cache).expanduser() / 'ssl_zoo'


def _fetch(url: str, path: Path, sha256: str) -> None:
    from torch.hub import download_url_to_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), hash_prefix=sha256, progress=False)
    except (OSError, RuntimeError, HTTPException, ValueError) as error:
        # RuntimeError: the file has another SHA-256.
        raise MissingData(
            f'could not fetch the official list {url} ({error}); fetch it by hand and give it '
            f'with --list'
        ) from None


def draw_labels(source: Source, labels: str, seed: int) -> np.ndarray:
    """Draw labelled images: a share with the classes in proportion, or a number of each class.

    A share has at least one image of each class. With the same seed, a smaller draw of the same
    kind is a subset of a larger draw.

    Args:
        source: a source with labels.
        labels: a share such as '1%', or a number such as '4-per-class'.
        seed: seed of the draw.

    Returns:
        (n,) int64, sorted positions in the source.

    Raises:
        ConfigError: `labels` has another form, or asks for more labels than a class has images or
            for fewer labels than classes.
    """
    n = number_of_labels(source, labels)
    order = stratified_order if labels.endswith('%') else balanced_order
    return np.sort(order(source, seed=mix(3, seed))[:n])


def number_of_labels(source: Source, labels: str) -> int:
    """Return how many labels ``draw_labels`` draws. Raises ConfigError as it does."""
    counts = np.bincount(source.labels)
    counts = counts[counts > 0]
    share = SHARE.fullmatch(labels)
    if share and 0 < float(share[1]) <= 100:
        n = round(float(share[1]) / 100 * len(source))
        if n < len(counts):
            raise ConfigError(
                f'{labels} of {len(source)} images are {n}, fewer than the {len(counts)} classes; '
                f'ask for more, such as 1-per-class'
            )
        return n
    per_class = PER_CLASS.fullmatch(labels)
    if per_class and int(per_class[1]):
        if int(per_class[1]) > counts.min():
            raise ConfigError(
                f'{labels}, but the smallest class has {counts.min()} images; '
                f'ask for at most {counts.min()}-per-class'
            )
        return int(per_class[1]) * len(counts)
    raise ConfigError(
        f'--labels {labels!r} is neither a share above 0% and up to 100%, such as 1% or 10%, '
        f'nor a number such as 4-per-class'
    )


def read_list(path: str | Path, source: Source) -> np.ndarray:
    """Find the images that a text file lists, one per line.

    Each line is the name of an image in the source or, as in SimCLR's lists, the last part of a
    name (the file name). All lines have the form of the first line.

    Args:
        path: the text file.
        source: the images.

    Returns:
        (n,) int64, sorted positions in the source.

    Raises:
        MissingData: there is no such file.
        ConfigError: the file cannot be read or has no names; a name is repeated or not in the
            source.
    """
    lines = _read_lines(path)
    position = _positions_by_name(path, lines[0], source)
    missing = [line for line in lines if line not in position]
    if missing:
        raise ConfigError(
            f'{len(missing)} of {len(lines)} names in the list {path} are not in the data set, the '
            f'first is {missing[0]!r}; its {len(source)} images have names such as '
            f'{source.name(0)!r}'
        )
    positions = np.unique([position[line] for line in lines])
    if len(positions) < len(lines):
        raise ConfigError(
            f'the list {path} names {len(lines) - len(positions)} images twice; '
            f'every image counts once'
        )
    return positions


def _read_lines(path: str | Path) -> list[str]:
    try:
        # File names may hold any bytes.
        text = read_regular(path, LIST_BYTES).decode('utf-8-sig', errors='surrogateescape')
    except FileNotFoundError:
        raise MissingData(
            f'looked for a list of labelled images at {Path(path).absolute()}, but there is no '
            f'such file'
        ) from None
    except OSError as error:
        raise ConfigError(f'the list {path} cannot be read: {error}') from None
    # Not splitlines, which splits at characters that file names may hold.
    lines = [line for line in text.replace('\r\n', '\n').split('\n') if line]
    if not lines:
        raise ConfigError(f'the list {path} is empty; it needs one image per line')
    return lines


def _positions_by_name(path: str | Path, first_line: str, source: Source) -> dict[str, int]:
    """Map name -> position, or last part of the name -> position if the first line is no name."""
    names = [source.name(i) for i in range(len(source))]
    position = {name: i for i, name in enumerate(names)}
    if first_line in position:
        return position
    position = {name.rsplit('/', 1)[-1]: i for i, name in enumerate(names)}
    if len(position) < len(names):
        raise ConfigError(
            f'the list {path} names {first_line!r}, which is not in the data set under that name, '
            f'and by file names alone its images cannot be told apart; give names such as '
            f'{names[0]!r}'
        )
    return position


def write_list(path: str | Path, source: Source, indices: np.ndarray) -> str:
    """Write the names of images to a text file, one per line.

    Args:
        path: the text file; its folder is created.
        source: the images.
        indices: (n,) positions in the source.

    Returns:
        the SHA-256 of the file.
    """
    text = ''.join(f'{source.name(i)}\n' for i in indices).encode(errors='surrogateescape')
    write_or_raise(Path(path), lambda file: file.write(text))
    return hashlib.sha256(text).hexdigest()
