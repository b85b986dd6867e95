"""Sources of image files: a folder per class, any folder, a list."""

import os
from pathlib import Path

import numpy as np

from ssl_zoo.data.decode import SUFFIXES, read_pixels
from ssl_zoo.data.sources.base import Source
from ssl_zoo.errors import ConfigError, MissingData, UnreadableImage
from ssl_zoo.registry import SOURCES

CHECKED_FILES = (
    10_000  # of a list; asking a network drive for each of a million files would take minutes
)


class _Files(Source):
    """A source of image files below a root."""

    def __init__(
        self,
        root: Path,
        files: list[str],
        labels: list[int] | None = None,
        classes: list[str] | None = None,
    ):
        self.root = root
        self.files = (
            files  # relative to root, so that the manifest does not depend on where it lies
        )
        self.labels = None if labels is None else np.array(labels, dtype=np.int64)
        self.classes = classes

    def __len__(self) -> int:
        return len(self.files)

    def pixels(self, i: int) -> np.ndarray:
        path = self.root / self.files[i]
        try:
            data = np.fromfile(path, dtype=np.uint8)
        except OSError as error:
            raise UnreadableImage(f'{type(error).__name__}: {error}') from None
        return read_pixels(data, path)

    def name(self, i: int) -> str:
        return self.files[i]

    def encoded(self, i: int) -> tuple[str, bytes]:
        path = self.root / self.files[i]
        suffix = path.suffix.lower()
        return (suffix, path.read_bytes()) if suffix in SUFFIXES else super().encoded(i)


def _folder(root: str, what: str) -> Path:
    path = Path(root).expanduser()
    if not path.is_dir():
        problem = 'is a file' if path.exists() else 'does not exist'
        raise MissingData(
            f'looked for {what} in {path.absolute()}, but that {problem}; set root to a folder that holds it'
        )
    return path


def _images_below(folder: Path) -> list[str]:
    """Image files below a folder, at any depth, links followed, sorted, relative to it; hidden files and folders left out."""
    found, seen, stack = [], set(), [folder]
    while stack:
        current = stack.pop()
        real = current.resolve()
        if real in seen:  # a link that leads back up
            continue
        seen.add(real)
        for entry in os.scandir(current):
            if entry.name.startswith('.'):
                continue
            path = Path(entry.path)
            if entry.is_dir():
                stack.append(path)
            elif path.suffix.lower() in SUFFIXES and entry.is_file():
                found.append(path.relative_to(folder).as_posix())
    return sorted(found)


@SOURCES.register_module()
class ImageFolder(_Files):
    """``root/<class>/.../image``: one folder per class, images at any depth inside. Classes are numbered in sorted order.

    Args:
        root: the folder that holds the class folders.
    Raises:
        ConfigError: root missing, no class folders, no images.
    """

    def __init__(self, root: str):
        path = _folder(root, 'class folders with images')
        classes = sorted(
            d.name for d in path.iterdir() if d.is_dir() and not d.name.startswith('.')
        )
        files, labels = [], []
        for label, name in enumerate(classes):
            inside = _images_below(path / name)
            files += [f'{name}/{file}' for file in inside]
            labels += [label] * len(inside)
        if not files:
            raise MissingData(
                f'looked for class folders with images ({" ".join(SUFFIXES)}) in {path.absolute()}, and found '
                f"{len(classes)} folders and no images in them; for images without class folders use type='Images'"
            )
        super().__init__(path, files, labels, classes)


@SOURCES.register_module()
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
            raise MissingData(
                f'looked for images ({" ".join(SUFFIXES)}) in {path.absolute()} and below, and found none'
            )
        super().__init__(path, files)


def _is_number(text: str) -> bool:
    """Whether a class is the number of a class: '7', but not '01440764', which is a name made of digits."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and str(int(text)) == text


@SOURCES.register_module()
class FileList(_Files):
    """Images named in a text file, one per line: a path, optionally followed by a tab and its class.

    A class may be a number below 100,000 or a name; names are numbered in sorted order. A number may also follow a space, as in
    Caffe's lists, if it does so in every line. Empty lines are skipped. Either all lines have a class or none.

    Args:
        path: the text file, UTF-8.
        root: folder that relative paths start from; the text file's own by default.
    Raises:
        ConfigError: a missing file or folder, an empty list, a class in some lines only, files that do not exist.
    """

    def __init__(self, path: str, root: str | None = None):
        listing = Path(path).expanduser()
        if not listing.is_file():
            raise MissingData(
                f'looked for a text list of images at {listing.absolute()}, but there is no such file'
            )
        folder = listing.parent if root is None else _folder(root, 'the images of a list')
        try:
            lines = [
                line
                for line in listing.read_text(encoding='utf-8-sig').splitlines()
                if line.strip()
            ]
        except UnicodeDecodeError as error:
            raise ConfigError(
                f'the list {listing.absolute()} is not UTF-8 text ({error}); save it as UTF-8'
            ) from None
        if not lines:
            raise ConfigError(f'the list {listing.absolute()} is empty; it needs one path per line')
        tabbed = any('\t' in line for line in lines)
        numbered = not tabbed and all(
            _is_number(line.rsplit(' ', 1)[-1]) and ' ' in line.strip() for line in lines
        )
        rows = [
            line.rsplit('\t' if tabbed else ' ', 1) if tabbed or numbered else [line]
            for line in lines
        ]
        bare = [
            row[0]
            for row in rows
            if len(row) < len(rows[0]) or (len(row) == 2 and not row[1].strip())
        ]
        if bare or len({len(row) for row in rows}) > 1:
            short = bare[0] if bare else min(rows, key=len)[0]
            raise ConfigError(
                f'the list {listing.absolute()} gives a class for some images and not for {short!r}; '
                f'either every line has a tab and a class, or none'
            )
        files = [row[0].strip() for row in rows]
        looked_at = files[:: max(len(files) // CHECKED_FILES, 1)]
        missing = [file for file in looked_at if not (folder / file).is_file()]
        if missing:
            raise ConfigError(
                f'{len(missing)} of {len(looked_at)} files looked at from the list {listing.absolute()} are not '
                f'in {folder.absolute()}, the first is {missing[0]!r}; set root to the folder the paths start from'
            )
        if len(rows[0]) == 1:
            super().__init__(folder, files)
            return
        names = [row[1].strip() for row in rows]
        if all(_is_number(name) for name in names):
            labels = [int(name) for name in names]
            classes = [str(i) for i in range(max(labels) + 1)]
        else:
            classes = sorted(set(names))
            number = {name: i for i, name in enumerate(classes)}
            labels = [number[name] for name in names]
        super().__init__(folder, files, labels, classes)
