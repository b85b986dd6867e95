"""Where images come from. A source knows how many images it has, reads one by position, and may know labels.

Every source has
    __len__()                     number of images
    read(i) -> PIL image, RGB     raises Unreadable
    name(i) -> str                what to call image i in messages
    labels: (n,) int64 or None;   classes: list of names or None
"""
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from ..registry import DATASETS, ConfigError, nearest
from .decode import SUFFIXES, read_image
from .random import permutation

CHECKED_FILES = 10_000        # of a list; asking a network drive for each of a million files would take minutes


class Source:
    """Base of all sources; holds what they share."""
    labels: np.ndarray | None = None
    classes: list[str] | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, i: int) -> Image.Image:
        raise NotImplementedError

    def name(self, i: int) -> str:
        return f'{type(self).__name__} image {i}'

    def manifest(self) -> str:
        """SHA-256 over names and labels in order, the first 16 hexadecimal digits: equal for equal data sets."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            digest.update(f'{self.name(i)}\t{"" if self.labels is None else self.labels[i]}\n'.encode())
        return digest.hexdigest()[:16]


class _Files(Source):
    """A source of image files below a root."""

    def __init__(self, root: Path, files: list[str], labels: list[int] | None = None, classes: list[str] | None = None):
        self.root = root
        self.files = files                       # relative to root, so that the manifest does not depend on where it lies
        self.labels = None if labels is None else np.array(labels, dtype=np.int64)
        self.classes = classes

    def __len__(self) -> int:
        return len(self.files)

    def read(self, i: int) -> Image.Image:
        return read_image(self.root / self.files[i])

    def name(self, i: int) -> str:
        return self.files[i]


def _folder(root: str, what: str) -> Path:
    path = Path(root).expanduser()
    if not path.is_dir():
        problem = 'is a file' if path.exists() else 'does not exist'
        raise ConfigError(f'looked for {what} in {path.absolute()}, but that {problem}; set root to a folder that holds it')
    return path


def _images_below(folder: Path) -> list[str]:
    """Image files below a folder, at any depth, links followed, sorted, relative to it; hidden files and folders left out."""
    found, seen, stack = [], set(), [folder]
    while stack:
        current = stack.pop()
        real = current.resolve()
        if real in seen:                         # a link that leads back up
            continue
        seen.add(real)
        for entry in current.iterdir():
            if entry.name.startswith('.'):
                continue
            if entry.is_dir():
                stack.append(entry)
            elif entry.suffix.lower() in SUFFIXES:
                found.append(entry.relative_to(folder).as_posix())
    return sorted(found)


@DATASETS.register_module()
class ImageFolder(_Files):
    """``root/<class>/.../image``: one folder per class, images at any depth inside. Classes are numbered in sorted order.

    Args:
        root: the folder that holds the class folders.
    Raises:
        ConfigError: root missing, no class folders, no images.
    """

    def __init__(self, root: str):
        path = _folder(root, 'class folders with images')
        classes = sorted(d.name for d in path.iterdir() if d.is_dir() and not d.name.startswith('.'))
        files, labels = [], []
        for label, name in enumerate(classes):
            inside = _images_below(path / name)
            files += [f'{name}/{file}' for file in inside]
            labels += [label] * len(inside)
        if not files:
            raise ConfigError(f'looked for class folders with images ({" ".join(SUFFIXES)}) in {path.absolute()}, and found '
                              f'{len(classes)} folders and no images in them; for images without class folders use type=\'Images\'')
        super().__init__(path, files, labels, classes)


@DATASETS.register_module()
class Images(_Files):
    """All images below a folder, at any depth, without labels.

    Args:
        root: the folder.
    Raises:
        ConfigError: root missing or without images.
    """

    def __init__(self, root: str):
        path = _folder(root, 'images')
        files = _images_below(path)
        if not files:
            raise ConfigError(f'looked for images ({" ".join(SUFFIXES)}) in {path.absolute()} and below, and found none')
        super().__init__(path, files)


@DATASETS.register_module()
class FileList(_Files):
    """Images named in a text file, one per line: a path, optionally followed by a tab and its class.

    A class may be a number or a name; names are numbered in sorted order. A number may also follow a space, as in Caffe's
    lists, if it does so in every line. Empty lines are skipped. Either all lines have a class or none.

    Args:
        path: the text file, UTF-8.
        root: folder that relative paths start from; the text file's own by default.
    Raises:
        ConfigError: a missing file or folder, an empty list, a class in some lines only, files that do not exist.
    """

    def __init__(self, path: str, root: str | None = None):
        listing = Path(path).expanduser()
        if not listing.is_file():
            raise ConfigError(f'looked for a text list of images at {listing.absolute()}, but there is no such file')
        folder = listing.parent if root is None else _folder(root, 'the images of a list')
        lines = [line for line in listing.read_text(encoding='utf-8-sig').splitlines() if line.strip()]
        if not lines:
            raise ConfigError(f'the list {listing.absolute()} is empty; it needs one path per line')
        tabbed = any('\t' in line for line in lines)
        numbered = not tabbed and all(line.rsplit(' ', 1)[-1].isdigit() and ' ' in line.strip() for line in lines)
        rows = [line.rsplit('\t' if tabbed else ' ', 1) if tabbed or numbered else [line] for line in lines]
        bare = [row[0] for row in rows if len(row) < len(rows[0]) or (len(row) == 2 and not row[1].strip())]
        if bare or len({len(row) for row in rows}) > 1:
            short = bare[0] if bare else min(rows, key=len)[0]
            raise ConfigError(f'the list {listing.absolute()} gives a class for some images and not for {short!r}; '
                              f'either every line has a tab and a class, or none')
        files = [row[0].strip() for row in rows]
        looked_at = files[::max(len(files) // CHECKED_FILES, 1)]
        missing = [file for file in looked_at if not (folder / file).is_file()]
        if missing:
            raise ConfigError(f'{len(missing)} of {len(looked_at)} files looked at from the list {listing.absolute()} are not '
                              f'in {folder.absolute()}, the first is {missing[0]!r}; set root to the folder the paths start from')
        if len(rows[0]) == 1:
            super().__init__(folder, files)
            return
        names = [row[1].strip() for row in rows]
        if all(name.isdigit() for name in names):
            labels = [int(name) for name in names]
            classes = [str(i) for i in range(max(labels) + 1)]
        else:
            classes = sorted(set(names))
            labels = [classes.index(name) for name in names]
        super().__init__(folder, files, labels, classes)


class _Arrays(Source):
    """A source of images in memory, (n, H, W, 3) uint8."""

    def __init__(self, images: np.ndarray, labels=None, classes: list[str] | None = None):
        self.images = images
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.classes = classes

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> Image.Image:
        return Image.fromarray(self.images[i])


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f'{name} is {value!r}: {nearest(value, allowed)}')


def _torchvision(name: str, root: str, download: bool, **arguments):
    """A torchvision data set, with a sentence when its files are not there."""
    from torchvision import datasets
    folder = Path(root).expanduser()
    try:
        return getattr(datasets, name)(str(folder), download=download, **arguments)
    except RuntimeError as error:
        raise ConfigError(f'looked for the files of {name} in {folder.absolute()}: {error}; set root to the folder that '
                          f'holds them, or download=True to fetch them') from None
    except OSError as error:
        raise ConfigError(f'could not fetch {name} into {folder.absolute()}: {error}') from None


class _Cifar(_Arrays):
    def __init__(self, root: str, split: str = 'train', download: bool = False):
        _one_of('split', split, ('train', 'test'))
        data = _torchvision(type(self).__name__, root, download, train=split == 'train')
        super().__init__(data.data, data.targets, list(data.classes))


@DATASETS.register_module()
class CIFAR10(_Cifar):
    """CIFAR-10 in its original files, through torchvision: 50,000 'train' and 10,000 'test' images of 32 px.

    Args:
        root: folder of cifar-10-batches-py; split: 'train' or 'test'; download: fetch the files if they are missing.
    """


@DATASETS.register_module()
class CIFAR100(_Cifar):
    """CIFAR-100 in its original files, through torchvision; arguments as CIFAR10's."""


@DATASETS.register_module()
class STL10(_Arrays):
    """STL-10 through torchvision, 96 px: 'train' (5,000), 'test' (8,000), 'unlabeled' (100,000), 'train+unlabeled'.

    Splits with unlabelled images have no labels.

    Args:
        root: folder of stl10_binary; split: see above; download: fetch the files if they are missing.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        _one_of('split', split, ('train', 'test', 'unlabeled', 'train+unlabeled'))
        data = _torchvision('STL10', root, download, split=split)
        labels = None if 'unlabeled' in split else data.labels
        super().__init__(data.data.transpose(0, 2, 3, 1), labels, None if labels is None else list(data.classes))


@DATASETS.register_module()
class Digits(_Arrays):
    """scikit-learn's bundled 8 px handwritten digits, upscaled to RGB of 32 px by default; needs no download.

    A fixed split, stratified by class: 'train' 1257, 'val' 180 (for choices), 'test' 360 images.

    Args:
        split: 'train', 'val' or 'test'; size: side in pixels.
    """

    def __init__(self, split: str = 'train', size: int = 32):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
        _one_of('split', split, ('train', 'val', 'test'))
        digits = load_digits()
        rest, test = train_test_split(np.arange(1797), test_size=360, random_state=0, stratify=digits.target)
        train, val = train_test_split(rest, test_size=180, random_state=0, stratify=digits.target[rest])
        chosen = dict(train=train, val=val, test=test)[split]
        gray = (digits.images[chosen] * (255 / 16)).round().astype(np.uint8)
        images = [Image.fromarray(g).resize((size, size), Image.Resampling.BICUBIC).convert('RGB') for g in gray]
        super().__init__(np.stack([np.asarray(image) for image in images]), digits.target[chosen], [str(i) for i in range(10)])
        self.numbers = chosen

    def name(self, i: int) -> str:
        return f'digit {self.numbers[i]}'


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

    def name(self, i: int) -> str:
        return self.source.name(self.indices[i])


def shuffled(source: Source, seed: int = 0) -> np.ndarray:
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
    source = DATASETS.create(cfg)
    if limit is None:
        return source
    if not isinstance(limit, int) or not 0 < limit <= len(source):
        raise ConfigError(f'limit={limit!r}, but {cfg["type"]} has {len(source)} images; give a number from 1 to {len(source)}')
    return Subset(source, np.sort(shuffled(source)[:limit]))


def hold_out(source: Source, share: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Cut a hold-out from a source: (indices that stay, indices held out), both sorted, balanced over classes.

    Args:
        share: a number of images (int) or a share of them (float below 1).
    """
    n = round(share * len(source)) if isinstance(share, float) else share
    if not 0 < n < len(source):
        raise ConfigError(f'holdout={share!r} of {len(source)} images leaves nothing on one side; give a number from 1 to '
                          f'{len(source) - 1} or a share between 0 and 1')
    order = shuffled(source, seed=1)
    return np.sort(order[n:]), np.sort(order[:n])
