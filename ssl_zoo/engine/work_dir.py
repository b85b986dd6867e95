"""The work directory of a run: made, claimed, and logged to."""

import fcntl
import itertools
import logging
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from ssl_zoo.errors import ConfigError


def make_work_dir(path: Path, unique: bool) -> Path:
    """Make the directory. If it must be ``unique``, making it is what claims it: two runs started at once get two of them."""
    try:
        if not unique:
            path.mkdir(parents=True, exist_ok=True)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        for n in itertools.count(1):
            claimed = path if n == 1 else path.with_name(f'{path.name}-{n}')
            try:
                claimed.mkdir()
                return claimed
            except FileExistsError:
                continue
    except OSError as error:
        raise ConfigError(f'cannot make the work directory {path}: {error}') from None


def claim(work_dir: Path):
    """Claim a work directory for as long as this process lives; the open file is the claim.

    Raises:
        ConfigError: another run has it, or nothing can be written there.
    """
    path = work_dir / '.lock'
    try:
        file = open(path, 'a+')
    except OSError as error:
        raise ConfigError(
            f'cannot write to the work directory {work_dir}: {error}; choose another --work-dir'
        ) from None
    try:
        # Not flock: loader workers would inherit it, and hold it for seconds after this process was killed.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        raise ConfigError(
            f'{work_dir} is in use by another run ({file.read().strip()}); wait for it, stop it, or choose another '
            f'--work-dir'
        ) from None
    except OSError:  # some network file systems have no locks
        return file
    with suppress(OSError):
        for left_over in itertools.chain.from_iterable(
            map(
                work_dir.glob,
                (  # of a process that was killed while it wrote
                    'checkpoints/*.tmp.*',
                    'log.jsonl.tmp.*',
                    'views.png.tmp.*',
                    'not_finite_*.tmp.*',
                ),
            )
        ):
            left_over.unlink()
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
    return file


class LogFile(logging.FileHandler):
    """A log that a full disk cannot stop the run with."""

    def handleError(self, record) -> None:
        if not self.__dict__.get('failed'):
            self.failed = True
            print(
                f'could not write {self.baseFilename}: {sys.exc_info()[1]}; the run goes on',
                file=sys.stderr,
            )
