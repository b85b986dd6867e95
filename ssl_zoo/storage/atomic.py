"""Write files completely or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ssl_zoo.errors import ConfigError


def atomic_write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that ``path`` always holds either its old content or all of its new content.

    Args:
        path: the file; its folder is made.
        write: called with a temporary file beside ``path``, which is then flushed to disk and
            renamed to ``path``.

    Raises:
        OSError: the file cannot be written; ``path`` is unchanged.
    """
    temporary = path.with_name(f'{path.name}.tmp.{os.getpid()}')
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, 'wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # without it a crash of the machine may undo the rename
    finally:
        os.close(folder)


def append_lines(path: Path, text: str) -> None:
    """Append whole lines to a file.

    If a crash has left the last line incomplete, a newline is written first, so that this line does
    not run into the new lines.

    Raises:
        OSError: the lines cannot be written; none of them is then in the file.
    """
    with open(path, 'ab+', buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        last_byte = file.read(1)
        data = text.encode()
        if last_byte not in (b'', b'\n'):
            data = b'\n' + data
        try:
            # On a full disk one call may write only a part of the data, without an error.
            written = file.write(data)
            if written < len(data):
                file.write(data[written:])
        except OSError:
            file.truncate(size)
            raise


def write_or_raise(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call ``atomic_write`` for a file of an evaluation; the error message names the remedy.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        atomic_write(path, write)
    except OSError as error:
        reason = str(error)
    except RuntimeError as error:  # torch raises it when it cannot finish its archive
        reason = f'{type(error).__name__}: {str(error).splitlines()[0]}'
    else:
        return
    raise ConfigError(
        f'could not write {path}: {reason}; free some space, or choose another folder with '
        f'--work-dir; the same command goes on from here'
    )
