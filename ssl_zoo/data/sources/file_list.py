"""A source of the images that a text file lists."""

from pathlib import Path

import numpy as np

from ssl_zoo.data.sources.base import NO_LABEL, numbers_as_names
from ssl_zoo.data.sources.class_names import read_class_names, stored_class_names
from ssl_zoo.data.sources.image_files import ImageFiles, existing_folder, missing_files
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.registry import SOURCES

UNLABELLED = '-1'  # the class of a line whose image has no label


@SOURCES.register_module()
class FileList(ImageFiles):
    """Images listed in a text file, one per line: a path, optionally followed by a tab and a class.

    A class is a number below 100,000 or a name. Named classes are numbered in the sorted order of
    their names; a file of class names gives names to numbers. A space instead of a tab may precede
    the number, as in Caffe's lists, if it does in every line. Empty lines are skipped. A line
    without a class, or with the class -1, is an image without label.

    Args:
        path: the text file, UTF-8; other bytes are those of file names.
        root: folder that relative paths start from; by default the folder of the text file.
        classes: text file with the names of classes 0, 1, ..., one per line, if the list has
            numbers; by default classes.txt beside the list. Without such a file the classes are
            numbers.

    Raises:
        MissingData: there is no such text file or folder.
        ConfigError: the text is empty, images do not exist, or the class names do not fit the
            labels.
    """

    def __init__(self, path: str, root: str | None = None, classes: str | None = None):
        listing = Path(path).expanduser()
        lines = _read_lines(listing)
        if root is None:
            folder = listing.parent
        else:
            folder = existing_folder(root, 'the images of a list')
        files, class_names = _parse_lines(lines)
        missing, checked = missing_files(folder, files)
        if missing:
            raise ConfigError(
                f'{len(missing)} of {checked} files checked from the list {listing.absolute()} are '
                f'not in {folder.absolute()}, the first is {missing[0]!r}; set root to the folder '
                f'the paths start from'
            )
        super().__init__(folder, files)
        self._set_classes(class_names, listing, classes)

    def _set_classes(self, names: list[str] | None, listing: Path, classes: str | None) -> None:
        given = set() if names is None else set(names) - {UNLABELLED}
        numbered = bool(given) and all(_is_class_number(name) for name in given)
        if classes is not None and not numbered:
            raise ConfigError(
                f'classes={classes!r} names classes that are numbers, and the list '
                f'{listing.absolute()} has none; leave classes out'
            )
        if not given:
            return
        if numbered:
            number = {name: int(name) for name in given}
        else:
            self.classes = sorted(given)
            number = {name: i for i, name in enumerate(self.classes)}
        number[UNLABELLED] = NO_LABEL
        self.labels = np.array([number[name] for name in names], dtype=np.int64)
        if not numbered:
            return
        if classes is not None:
            self.classes = read_class_names(classes, self.labels)
        else:
            self.classes = stored_class_names([listing.parent], self.labels)
        if self.classes is None:
            self.classes = numbers_as_names(self.labels)
            self.classes_are_numbers = True


def _read_lines(listing: Path) -> list[str]:
    if not listing.is_file():
        raise MissingData(
            f'looked for a text list of images at {listing.absolute()}, but there is no such file'
        )
    try:
        # File names may hold any bytes, and characters at which splitlines would split.
        text = listing.read_bytes().decode('utf-8-sig', errors='surrogateescape')
    except OSError as error:
        raise ConfigError(f'the list {listing.absolute()} cannot be read: {error}') from None
    lines = [line for line in text.replace('\r\n', '\n').split('\n') if line.strip()]
    if not lines:
        raise ConfigError(f'the list {listing.absolute()} is empty; it needs one path per line')
    return lines


def _parse_lines(lines: list[str]) -> tuple[list[str], list[str] | None]:
    """Return the paths, and their classes (UNLABELLED for none) or None."""
    separator = _class_separator(lines)
    if separator is None:
        return [line.strip() for line in lines], None
    files = []
    classes = []
    for line in lines:
        path, separated, class_name = line.rpartition(separator)
        if not separated:
            path = line
            class_name = ''
        files.append(path.strip())
        classes.append(class_name.strip() or UNLABELLED)
    return files, classes


def _class_separator(lines: list[str]) -> str | None:
    """Return the separator of path and class: tab, space (each line ends in a number), or None."""
    if any('\t' in line for line in lines):
        return '\t'
    numbered = all(
        ' ' in line.strip() and _is_class_number_or_unlabelled(line.strip().rsplit(' ', 1)[-1])
        for line in lines
    )
    return ' ' if numbered else None


def _is_class_number_or_unlabelled(text: str) -> bool:
    return text == UNLABELLED or _is_class_number(text)


def _is_class_number(text: str) -> bool:
    """Whether a class is a number, such as '7'; '01440764' is a name made of digits."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and str(int(text)) == text
