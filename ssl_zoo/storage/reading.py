"""Read files that somebody else may have written: regular files of a limited size, JSON as data."""

import errno
import json
import os
import stat
import zipfile
from pathlib import Path

import numpy as np

from ssl_zoo.printable import printable

JSON_BYTES = 64 * 2**20  # largest JSON file, and largest line of JSON
# Largest size of the arrays in a compressed file: in bytes, and per byte of a larger file.
NPZ_BYTES = 256 * 2**20
NPZ_RATIO = 20
LARGEST_NUMBER = 1e100  # its square is a float
DEEPEST = 100  # lists and dicts within each other; Python's own limit is near 1,000


def read_regular(path: str | Path, limit: int = JSON_BYTES) -> bytes:
    """Return the bytes of a regular file.

    A FIFO would block, and a device might never end, so neither is read.

    Args:
        path: the file.
        limit: largest number of bytes.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is larger than ``limit``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, 'rb') as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, 'it is not a regular file', str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f'it is larger than {limit:,} bytes', str(path))
    return content


def open_npz(path: str | Path) -> np.lib.npyio.NpzFile:
    """Open a file of numpy.savez whose arrays are not much larger than the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, or expands to more than NPZ_RATIO times its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            expanded = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from None
    limit = max(NPZ_BYTES, NPZ_RATIO * os.stat(path).st_size)
    if expanded > limit:
        raise ValueError(f'its arrays have {expanded:,} bytes, more than the limit of {limit:,}')
    return np.load(path, allow_pickle=False)


def parse_json(text: bytes | str) -> object:
    """Return a JSON value whose strings can be printed and whose numbers fit a float.

    Strings are passed through ``printable``.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or has a number above 1e100.
    """
    if isinstance(text, bytes):
        text = text.decode(errors='replace')
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise ValueError('not JSON') from None
    except ValueError:
        raise ValueError('a number of too many digits') from None
    except RecursionError:
        raise ValueError('nested too deeply') from None
    return _checked(value, DEEPEST)


def _checked(value: object, depth: int) -> object:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, (int, float)):
        if LARGEST_NUMBER < abs(value) < float('inf'):
            raise ValueError(f'a number beyond {LARGEST_NUMBER:g}')
        return value
    if value is None:
        return value
    if not depth:
        raise ValueError('nested too deeply')
    if isinstance(value, list):
        return [_checked(item, depth - 1) for item in value]
    assert isinstance(value, dict)  # the last type that the json module gives
    return {printable(key): _checked(item, depth - 1) for key, item in value.items()}
