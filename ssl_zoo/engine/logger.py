"""The logger of a run: standard output and train.log."""

import logging
import sys
from pathlib import Path

from ssl_zoo.distributed import rank
from ssl_zoo.printable import printable
from ssl_zoo.storage.atomic import check_regular


class PrintableLines(logging.Formatter):
    """Formats lines with control characters and undecodable bytes of names escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class LogFile(logging.FileHandler):
    """A log file. On a full disk the run goes on without it; stderr reports that once."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            print(
                f'could not write {self.baseFilename}: {sys.exc_info()[1]}; the run goes on',
                file=sys.stderr,
            )


def make_logger(name: str, work_dir: str | Path) -> logging.Logger:
    """Make a logger to standard output and to train.log. Lines of ranks above 0 name the rank.

    Raises:
        OSError: train.log cannot be written.
    """
    path = Path(work_dir, 'train.log')
    check_regular(path.resolve())
    logger = logging.getLogger(name)
    logger.propagate = False
    prefix = f'[process {rank()}] ' if rank() > 0 else ''
    handlers: dict[logging.Handler, str] = {
        logging.StreamHandler(sys.stdout): '%H:%M:%S',
        LogFile(path, encoding='utf-8'): '%Y-%m-%d %H:%M:%S',
    }
    for handler, time_format in handlers.items():
        handler.setFormatter(PrintableLines(f'%(asctime)s  {prefix}%(message)s', time_format))
        logger.addHandler(handler)
    return logger
