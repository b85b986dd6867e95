"""Lock files: one process at a time works in a folder."""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from ssl_zoo.storage.atomic import check_regular

RUN_LOCK = '.lock'  # the lock file of a run, in its work directory
RUN_FILES = ('log.jsonl', 'checkpoints')  # a run makes these beside its lock file
HOLDER = b'process'  # the start of the description in a locked file


class FileLock:
    """An exclusive lock on a file, held until ``release`` or the end of the process.

    The lock is POSIX's (``lockf``), not ``flock``: worker processes of a loader would inherit a
    ``flock`` and hold it for seconds after their parent was killed. POSIX locks belong to a
    process: if any code of the process closes the file, the lock is released.

    Args:
        path: the lock file, made if it does not exist.

    Attributes:
        locked: whether the file is locked; False on a file system without locks, even after
            ``acquire`` returned True.

    Raises:
        OSError: the file cannot be opened for writing, or is no regular file.
    """

    def __init__(self, path: Path):
        self.locked = False
        check_regular(path)
        # Without a buffer: if the disk is full, close() must not try again to write the
        # description.
        self._file = open(path, 'ab+', buffering=0)

    def acquire(self, wait: bool = False) -> bool:
        """Lock the file and write a description of this process into it.

        Args:
            wait: wait until no other process holds the lock.

        Returns:
            False if another process holds the lock; True otherwise, also on a file system without
            locks.
        """
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # some network file systems have no locks
            return True
        self.locked = True
        with suppress(OSError):
            self._file.truncate(0)
            self._file.write(HOLDER + f' {os.getpid()} on {socket.gethostname()}'.encode())
        return True

    def holder(self) -> str:
        """Return the process that locked the file last, such as 'process 4711 on node3'."""
        self._file.seek(0)
        return self._file.read().decode(errors='replace').strip()

    def release(self) -> None:
        """Close the file, which releases the lock."""
        self._file.close()
        self.locked = False


def is_work_dir(folder: Path) -> bool:
    """Whether a run has used a folder as its work directory: its lock file lies there."""
    lock = folder / RUN_LOCK
    if not lock.is_file():
        return False
    if any(os.path.lexists(folder / name) for name in RUN_FILES):
        return True
    try:
        with open(lock, 'rb') as file:
            return file.read(len(HOLDER)) == HOLDER
    except OSError:
        return False


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock on a file. False if there is no such file."""
    if not path.exists():
        return False
    lock = FileLock(path)
    is_free = lock.acquire()
    lock.release()
    return not is_free
