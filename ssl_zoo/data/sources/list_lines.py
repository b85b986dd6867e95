"""Read the lines of a list of images: paths, and classes where there are some."""

import csv
from collections.abc import Callable, Iterator
from typing import NamedTuple

UNLABELLED = '-1'  # the class of a line whose image has no label
# Names of columns, in lower case.
PATH_COLUMNS = (
    'path',
    'file',
    'filename',
    'file_name',
    'filepath',
    'file_path',
    'image',
    'image_name',
    'image_path',
    'img',
    'img_path',
)
CLASS_COLUMNS = (
    'label',
    'labels',
    'class',
    'classes',
    'class_name',
    'class_id',
    'category',
    'target',
)


class Reading(NamedTuple):
    """One way to read a list of n lines.

    Attributes:
        files: paths.
        classes: their classes, UNLABELLED for none, or None.
        note: how the lines were read, if not as FileList's description says.
        has_header: whether the first line holds names of columns.
    """

    files: list[str]
    classes: list[str] | None
    note: str = ''
    has_header: bool = False


def fitting_reading(
    lines: list[str], find_missing: Callable[[list[str]], tuple[list[str], int]]
) -> tuple[Reading, tuple[list[str], int]]:
    """Choose the first reading of a list whose files all exist, else the one that fits best.

    Args:
        lines: the lines, none of them empty.
        find_missing: returns the files that do not exist, and the number of files checked.

    Returns:
        the reading, and what ``find_missing`` returned for its files.
    """
    best = _usual_reading(lines)
    found = find_missing(best.files)
    if not found[0]:
        return best, found
    for reading in _other_readings(lines):
        missing, checked = find_missing(reading.files)
        share = len(missing) / checked
        least = len(found[0]) / found[1]
        if share < least or (share == least and reading.has_header and best.classes is None):
            best = reading
            found = (missing, checked)
    return best, found


def _usual_reading(lines: list[str]) -> Reading:
    separator = _class_separator(lines)
    if separator is None:
        return Reading([line.strip() for line in lines], None)
    files = []
    classes = []
    for line in lines:
        path, separated, class_name = line.rpartition(separator)
        if not separated:
            path = line
            class_name = ''
        files.append(path.strip())
        classes.append(class_name.strip() or UNLABELLED)
    return Reading(files, classes)


def _class_separator(lines: list[str]) -> str | None:
    """Return the separator of path and class: tab, space (each line ends in a number), or None."""
    if any('\t' in line for line in lines):
        return '\t'
    numbered = all(
        ' ' in line.strip() and _is_class_number_or_unlabelled(line.strip().rsplit(' ', 1)[-1])
        for line in lines
    )
    return ' ' if numbered else None


def _other_readings(lines: list[str]) -> Iterator[Reading]:
    """Yield the readings as columns, and with a class name after the last space."""
    for delimiter in '\t,;':
        rows = _columns(lines, delimiter)
        if rows is None:
            continue
        header = [name.strip().lower() for name in rows[0]]
        paths = [i for i, name in enumerate(header) if name in PATH_COLUMNS]
        classes = [i for i, name in enumerate(header) if name in CLASS_COLUMNS]
        if len(paths) == 1 and len(classes) <= 1 and len(rows) > 1:
            note = f'the first line {lines[0]!r} is read as the header of columns'
            class_column = classes[0] if classes else None
            yield _reading_of_columns(rows[1:], paths[0], class_column, note, has_header=True)
        elif len(header) == 2:
            note = f'path and class are read as columns separated by {delimiter!r}'
            yield _reading_of_columns(rows, 0, 1, note)
    if all(' ' in line.strip() for line in lines):
        split = [line.strip().rpartition(' ') for line in lines]
        files = [path.strip() for path, _, _ in split]
        note = 'the word after the last space is read as the class'
        yield Reading(files, [name for _, _, name in split], note)


def _columns(lines: list[str], delimiter: str) -> list[list[str]] | None:
    """Split lines at a delimiter outside quotes; None if their numbers of columns differ."""
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return None
    if len(rows) != len(lines) or len({len(row) for row in rows}) > 1:
        return None
    return rows


def _reading_of_columns(
    rows: list[list[str]],
    path_column: int,
    class_column: int | None,
    note: str,
    has_header: bool = False,
) -> Reading:
    files = [row[path_column].strip() for row in rows]
    classes = None
    if class_column is not None:
        classes = [row[class_column].strip() or UNLABELLED for row in rows]
    return Reading(files, classes, note, has_header)


def _is_class_number_or_unlabelled(text: str) -> bool:
    return text == UNLABELLED or is_class_number(text)


def is_class_number(text: str) -> bool:
    """Whether a class is a number, such as '7'; '01440764' is a name made of digits."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and str(int(text)) == text
