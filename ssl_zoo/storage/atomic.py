"""Write files completely or not at all."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ssl_zoo.errors import ConfigError

# What may lie under a name besides a regular file. A rename would replace it without a word.
OTHER_KINDS = {
    stat.S_IFLNK: 'a symbolic link',
    stat.S_IFIFO: 'a named pipe',
    stat.S_IFSOCK: 'a socket',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
    stat.S_IFDIR: 'a folder',
}


def atomic_write(path: Path, write: Callable[[BinaryIO], object], start: bytes = b'') -> None:
    """Write a file so that ``path`` always holds either its old content or all of its new content.

    Args:
        path: the file; its folder is made.
        write: called with a temporary file beside ``path``, which is then flushed to disk and
            renamed to ``path``.
        start: first bytes of every file of this kind. A file that the user has named is given
            them: a mistake must not replace a file of another kind.

    Raises:
        OSError: the file cannot be written, or ``path`` is a link, a device, a pipe, a folder, or a
            file of another kind; ``path`` is unchanged.
    """
    check_regular(path, start)
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


def check_regular(path: Path, start: bytes = b'') -> None:
    """Check that ``path`` does not exist, or is a regular file that may be written.

    Args:
        path: the file.
        start: first bytes that the file must have, unless it is empty.

    Raises:
        FileExistsError: it is a link, a device, a pipe, a socket, a folder, or begins differently.
        OSError: its first bytes cannot be read.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    kind = OTHER_KINDS.get(stat.S_IFMT(mode))
    if kind:
        raise FileExistsError(f'{path} is {kind}, not a regular file')
    if not start:
        return
    with open(path, 'rb') as file:
        first_bytes = file.read(len(start))
    if first_bytes not in (b'', start):
        raise FileExistsError(
            f'a file of another kind is there already: it begins with {first_bytes!r}, not with '
            f'{start!r}'
        )


def leftovers(folder: Path, name: str) -> list[Path]:
    """Return the temporary files of ``atomic_write`` that killed processes have left.

    Args:
        folder: the folder.
        name: regular expression of the file's name.

    Raises:
        OSError: the folder cannot be read.
    """
    pattern = re.compile(f'(?:{name})' + r'\.tmp\.[0-9]+')
    return [folder / file for file in os.listdir(folder) if pattern.fullmatch(file)]


def append_lines(path: Path, text: str) -> None:
    """Append whole lines to a file.

    If a crash has left the last line incomplete, a newline is written first, so that this line does
    not run into the new lines.

    Raises:
        OSError: the lines cannot be written, or ``path`` is a device, a pipe or a folder; none of
            them is then in the file.
    """
    check_regular(path.resolve())  # a link to a file stays a link
    with open(path, 'ab+', buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        last_byte = file.read(1)
        data = text.encode(errors='backslashreplace')
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
