"""Names of classes in a text file, for sources that store a class as a number."""

from pathlib import Path

import numpy as np

from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.storage.reading import read_regular

CLASSES_FILE = 'classes.txt'


def stored_class_names(folders: list[Path], labels: np.ndarray | None) -> list[str] | None:
    """Read the names in CLASSES_FILE beside the data, None if there is no such file or no label.

    Args:
        folders: the folders of the data; if there are several, all have the same file or none.
        labels: (n,) int64, or None.

    Raises:
        ConfigError: the files differ, or do not fit the labels.
    """
    files = [folder / CLASSES_FILE for folder in folders]
    present = [file for file in files if file.is_file()]
    if labels is None or not present:
        return None
    names = read_class_names(present[0], labels)
    for file in files:
        if not file.is_file() or read_class_names(file, labels) != names:
            raise ConfigError(
                f'{present[0]} names the classes, and {file} does not name the same; labels are '
                f'numbers, and the same number must be the same class in all folders'
            )
    return names


def read_class_names(path: str | Path, labels: np.ndarray) -> list[str]:
    """Read the names of classes 0, 1, ..., one per line.

    Args:
        path: the text file. Bytes that are not UTF-8 are kept as surrogates.
        labels: (n,) int64.

    Raises:
        MissingData: there is no such file.
        ConfigError: the file cannot be read, or does not hold a distinct name for each label.
    """
    file = Path(path).expanduser()
    try:
        text = read_regular(file).decode('utf-8-sig', errors='surrogateescape')
    except FileNotFoundError:
        raise MissingData(
            f'looked for the names of the classes at {file.absolute()}, but there is no such file'
        ) from None
    except OSError as error:
        raise ConfigError(
            f'the names of the classes in {file.absolute()} cannot be read: {error}'
        ) from None
    names = [line.strip() for line in text.split('\n') if line.strip()]
    if labels.max() >= len(names) or len(set(names)) < len(names):
        raise ConfigError(
            f'{file.absolute()} names {len(set(names))} classes in {len(names)} lines, and the '
            f'labels go from 0 to {labels.max()}; it needs a distinct name for each'
        )
    return names


def class_names_text(names: list[str]) -> bytes:
    """Return the content of a file of class names.

    Raises:
        ConfigError: the file could not be read back as the same names.
    """
    for name in names:
        if name != name.strip() or not name or '\n' in name:
            raise ConfigError(
                f'the class {name!r} has no name that fits on a line of {CLASSES_FILE}: it is '
                f'empty, or holds a line break or spaces at an end; rename it'
            )
    return ''.join(f'{name}\n' for name in names).encode(errors='surrogateescape')
