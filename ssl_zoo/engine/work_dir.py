"""The work directory of a run: create it, lock it, remove leftover temporary files."""

from contextlib import suppress
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.lock import FileLock

# Temporary files of a process that was killed while it wrote.
LEFTOVERS = (
    'checkpoints/*.tmp.*',
    'log.jsonl.tmp.*',
    'views.png.tmp.*',
    'not_finite_*.tmp.*',
)


def make_work_dir(path: Path, unique: bool) -> Path:
    """Make the work directory.

    Args:
        path: the directory.
        unique: make a new directory: ``path``, or the first of path-2, path-3 ... that does not
            exist. Two runs that start at once get two directories, because creating a
            directory is atomic.

    Returns:
        The directory that was made.

    Raises:
        ConfigError: the directory cannot be made.
    """
    try:
        if not unique:
            path.mkdir(parents=True, exist_ok=True)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        return _make_unique(path)
    except OSError as error:
        raise ConfigError(f'cannot make the work directory {path}: {error}') from None


def _make_unique(path: Path) -> Path:
    candidate = path
    number = 1
    while True:
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_name(f'{path.name}-{number}')


def claim(work_dir: Path) -> FileLock:
    """Lock a work directory for this process, and remove temporary files of a killed process.

    Raises:
        ConfigError: another run uses the directory, or nothing can be written there.
    """
    try:
        lock = FileLock(work_dir / '.lock')
    except OSError as error:
        raise ConfigError(
            f'cannot write to the work directory {work_dir}: {error}; choose another --work-dir'
        ) from None
    if not lock.acquire():
        holder = lock.holder()
        lock.release()
        raise ConfigError(
            f'{work_dir} is in use by another run ({holder}); wait for it, stop it, or choose '
            f'another --work-dir'
        )
    if lock.locked:  # without a lock the temporary files may belong to a live run
        _remove_leftovers(work_dir)
    return lock


def _remove_leftovers(work_dir: Path) -> None:
    with suppress(OSError):
        for pattern in LEFTOVERS:
            for file in work_dir.glob(pattern):
                file.unlink()
