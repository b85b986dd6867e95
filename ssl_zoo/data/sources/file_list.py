"""A source of the images that a text file lists."""

from functools import partial
from pathlib import Path

import numpy as np

from ssl_zoo.data.sources.base import NO_LABEL, numbers_as_names
from ssl_zoo.data.sources.class_labels import combinations, first_measured_value
from ssl_zoo.data.sources.class_names import read_class_names, stored_class_names
from ssl_zoo.data.sources.image_files import ImageFiles, existing_folder, missing_files
from ssl_zoo.data.sources.list_lines import (
    UNLABELLED,
    Reading,
    fitting_reading,
    is_class_number,
)
from ssl_zoo.data.sources.multi_labels import multi_label_columns, split_classes
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.registry import SOURCES


@SOURCES.register_module()
class FileList(ImageFiles):
    """Images listed in a text file, one per line: a path, optionally followed by a tab and a class.

    A class is a number below 100,000 or a name. Named classes are numbered in the sorted order of
    their names; a file of class names gives names to numbers. A space instead of a tab may precede
    the number, as in Caffe's lists, if it does in every line. Empty lines are skipped. A line
    without a class, or with the class -1, is an image without label. Where the files do not exist
    by this reading, others are tried, see fitting_reading: columns with commas or semicolons, a
    header, and class names after a space.

    Args:
        path: the text file, UTF-8; other bytes are those of file names.
        root: folder that relative paths start from; by default the folder of the text file.
        classes: text file with the names of classes 0, 1, ..., one per line, if the list has
            numbers; by default classes.txt beside the list. Without such a file the classes are
            numbers.
        labelled: False leaves the classes of the lines out: the images have no labels.
        separator: what stands between the classes of an image that has several, such as ',' in
            'cat,dog'; it alone stands for none of the classes. None for one class per image.

    Raises:
        MissingData: there is no such text file or folder.
        ConfigError: the text is empty, images do not exist, the class names do not fit the labels,
            or the labels are no classes: numbers with a fraction, or several classes in one.
    """

    def __init__(
        self,
        path: str,
        root: str | None = None,
        classes: str | None = None,
        labelled: bool = True,
        separator: str | None = None,
    ):
        listing = Path(path).expanduser()
        lines = _read_lines(listing)
        if root is None:
            folder = listing.parent
        else:
            folder = existing_folder(root, 'the images of a list')
        reading, (missing, checked) = fitting_reading(lines, partial(missing_files, folder))
        if missing:
            raise ConfigError(
                f'{len(missing)} of {checked} files checked from the list {listing.absolute()} are '
                f'not in {folder.absolute()}, the first is {missing[0]!r}{_remedy(reading)}'
            )
        super().__init__(folder, reading.files)
        if reading.note:
            self.notes = (f'{listing}: {reading.note}',)
        if separator == '':
            raise ConfigError("separator is '', but it must be a text such as ','")
        if labelled and separator is None:
            self._set_classes(reading.classes, listing, classes)
        elif labelled:
            self._set_multi_labels(reading.classes, listing, classes, separator)

    def _set_classes(self, names: list[str] | None, listing: Path, classes: str | None) -> None:
        file_of = {} if names is None else dict(zip(names, self.files, strict=True))
        file_of.pop(UNLABELLED, None)
        given = set(file_of)
        numbered = bool(given) and all(is_class_number(name) for name in given)
        if given and not numbered:
            _check_classes(file_of, listing)
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

    def _set_multi_labels(
        self, names: list[str] | None, listing: Path, classes: str | None, separator: str
    ) -> None:
        file_of = {} if names is None else dict(zip(names, self.files, strict=True))
        file_of.pop(UNLABELLED, None)
        file_of = {
            part: file for name, file in file_of.items() for part in split_classes(name, separator)
        }
        if classes is not None or not file_of:
            superfluous = 'classes' if file_of else 'separator'
            raise ConfigError(
                f'separator={separator!r} divides labels into names, of which the list '
                f'{listing.absolute()} has {len(file_of):,}; leave {superfluous} out'
            )
        _check_classes(file_of, listing)
        self.multi_labels, self.classes = multi_label_columns(names, separator)


def _check_classes(file_of: dict[str, str], listing: Path) -> None:
    """Raise ConfigError if labels are measured values, or several classes in one.

    Args:
        file_of: an image of each label.
        listing: the list, for messages.
    """
    fix = 'set labelled=False to train without labels'
    value = first_measured_value(file_of)
    if value is not None:
        raise ConfigError(
            f'the list {listing.absolute()} gives {file_of[value]!r} the label {value!r}, one of '
            f'{len(file_of):,} different numbers, and a class is a whole number from 0, '
            f'{UNLABELLED} for no label, or a name; group the values into classes, or {fix}'
        )
    made_of_others, _ = combinations(file_of)
    if made_of_others:
        name, parts, separator = made_of_others[0]
        raise ConfigError(
            f'the list {listing.absolute()} gives {file_of[name]!r} the label {name!r}, which '
            f'would be one class, apart from those of {parts[0]!r} and {parts[1]!r}; set '
            f'separator={separator!r} for several classes per image, number the classes if this '
            f'is meant as one, or {fix}'
        )


def _remedy(reading: Reading) -> str:
    root = 'set root to the folder the paths start from'
    if reading.classes is not None or not any(sign in reading.files[0] for sign in ' ,;|:'):
        return f'; {root}'
    return (
        f', a whole line; if it is more than a path, write path, tab and class, or a header such '
        f'as path,label above columns with commas; if it is a path, {root}'
    )


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
