"""Write the scalars of a run to log.jsonl and to TensorBoard."""

import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from ssl_zoo.storage.atomic import append_lines, atomic_write


class ScalarLog:
    """log.jsonl and TensorBoard's event files of a work directory.

    On a full disk an error is reported, and training continues without the log.

    Args:
        work_dir: the work directory.
        logger: gets the errors.
        tensorboard: whether to write for TensorBoard.
    """

    def __init__(self, work_dir: str | Path, logger: logging.Logger, tensorboard: bool = True):
        self.path = Path(work_dir, 'log.jsonl')
        self.tensorboard_dir = Path(work_dir, 'tensorboard')
        self.logger = logger
        self.tensorboard = tensorboard
        self._writer: SummaryWriter | None = None
        self._purge_step: int | None = None

    def remove_lines_after(self, step: int) -> None:
        """Remove the lines of log.jsonl after a step, because a resumed run writes them again.

        At step 0 all lines are removed. Lines that a crash has left incomplete are removed too.
        TensorBoard hides what an earlier process has written after the step.
        """
        self._purge_step = step + 1 if step else 0
        if not self.path.exists():
            return
        lines = []
        for line in self.path.read_text(errors='replace').splitlines():
            with suppress(ValueError, KeyError, TypeError):
                if json.loads(line)['step'] <= step > 0:
                    lines.append(line + '\n')
        with suppress(OSError):
            atomic_write(self.path.resolve(), lambda file: file.write(''.join(lines).encode()))

    def write(self, step: int, epoch: float, scalars: dict[str, float]) -> None:
        """Write one row of scalars, such as {'train/loss': 1.0}.

        Args:
            step: optimizer step of the row.
            epoch: epochs done after that step.
            scalars: name -> value.
        """
        try:
            row = dict(step=step, epoch=round(epoch, 4), **scalars)
            append_lines(self.path, json.dumps(row) + '\n')
        except OSError as error:
            self.logger.error(f'could not write the log: {error}')
        self.write_tensorboard(scalars, step)

    def write_tensorboard(self, scalars: dict[str, float], step: int) -> None:
        """Write scalars of a step for TensorBoard alone."""

        def write(writer: SummaryWriter) -> None:
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)

        self._to_tensorboard(write)

    def write_image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, (H, W, 3) uint8 RGB, for TensorBoard."""
        self._to_tensorboard(lambda writer: writer.add_image(name, image, step, dataformats='HWC'))

    def _to_tensorboard(self, write: Callable[[SummaryWriter], None]) -> None:
        if not self.tensorboard:
            return
        try:
            if self._writer is None:
                threading.excepthook = _excepthook_without_tensorboard
                folder = str(self.tensorboard_dir)
                self._writer = SummaryWriter(folder, purge_step=self._purge_step)
                self._purge_step = None  # a file that is begun later hides nothing
            write(self._writer)
            self._writer.flush()
        except OSError as error:
            self.logger.error(f'could not write for TensorBoard: {error}')
            self._writer = None  # its thread has ended; the next row begins a new file

    def close(self) -> None:
        """Close TensorBoard's event file."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
            self._writer = None


def _excepthook_without_tensorboard(args, before=threading.excepthook) -> None:
    """Print no traceback for an OSError in TensorBoard's writer thread.

    TensorBoard raises the error again in the next call of its writer, where it is reported.
    """
    is_writer_thread = type(args.thread).__name__ == '_AsyncWriterThread'
    if not (isinstance(args.exc_value, OSError) and is_writer_thread):
        before(args)
