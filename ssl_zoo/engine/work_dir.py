"""The work directory of a run: create it, lock it, remove leftover temporary files."""

import os
from contextlib import suppress
from pathlib import Path

from ssl_zoo.checkpoint import checkpoints_in
from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.atomic import leftovers
from ssl_zoo.storage.lock import RUN_LOCK, FileLock
from ssl_zoo.validation import path_mistake

# Files of which a process that was killed may have left temporary files: folder, name.
WRITTEN_FILES = (
    ('checkpoints', r'step_[0-9]{8}\.pth'),
    (
        '.',
        r'log\.jsonl|views\.png|config\.py|versions\.json|speedrun\.json|not_finite_step_[0-9]{8}\.pth',
    ),
)

# A run replaces these. Without the lock file, which only a run makes, they are the user's.
REPLACED_FILES = ('config.py', 'versions.json', 'log.jsonl', 'views.png', 'speedrun.json')


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
        ConfigError: the directory cannot be made, or its path is not UTF-8.
    """
    mistake = path_mistake(path.absolute())
    if mistake:
        raise ConfigError(mistake)
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
        ConfigError: another run uses the directory, it holds files that no run has written, or
            nothing can be written there.
    """
    _check_own_files(work_dir)
    try:
        lock = FileLock(work_dir / RUN_LOCK)
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


def _check_own_files(work_dir: Path) -> None:
    if os.path.lexists(work_dir / RUN_LOCK) or checkpoints_in(work_dir):
        return
    for name in REPLACED_FILES:
        if os.path.lexists(work_dir / name):
            raise ConfigError(
                f'{work_dir} holds {name}, which no run has written and a run would replace; '
                f'choose another --work-dir'
            )


def _remove_leftovers(work_dir: Path) -> None:
    for folder, name in WRITTEN_FILES:
        with suppress(OSError):
            for file in leftovers(work_dir / folder, name):
                file.unlink()
