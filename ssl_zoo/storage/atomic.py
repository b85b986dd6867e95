"""Files that are written whole or not at all."""

import os
from pathlib import Path

from ssl_zoo.errors import ConfigError


def atomic_write(path: Path, write) -> None:
    """Call ``write(file)`` on a temporary file beside ``path``, flush it to disk, rename it to ``path``."""
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
        os.fsync(folder)  # or the rename itself may be lost
    finally:
        os.close(folder)


def append_lines(path: Path, text: str) -> None:
    """Append whole lines to a file, all of them or, with an OSError, none. A line that a crash has left unfinished stays alone."""
    with open(path, 'ab+', buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        data = b'\n' * (file.read(1) not in (b'', b'\n')) + text.encode()
        try:
            written = file.write(
                data
            )  # one call; on a full disk it may write a part and not complain
            if written < len(data):
                file.write(data[written:])
        except OSError:
            file.truncate(size)
            raise


def write_or_raise(path: Path, write) -> None:
    """atomic_write for what an evaluation keeps. Raises ConfigError if it cannot be written."""
    try:
        atomic_write(path, write)
    except (
        OSError,
        RuntimeError,
    ) as error:  # RuntimeError: torch's, when its archive cannot be finished
        reason = (
            error
            if isinstance(error, OSError)
            else f'{type(error).__name__}: {str(error).splitlines()[0]}'
        )
        raise ConfigError(
            f'could not write {path}: {reason}; free some space, or choose another folder with --work-dir; the same command '
            f'goes on from here'
        ) from None
