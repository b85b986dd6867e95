"""Signals that ask a run to stop: Ctrl-C, SIGTERM, and SIGUSR1 (SLURM)."""

import signal
from collections.abc import Callable
from types import FrameType

_requested = False


def stop_requested() -> bool:
    """Whether a signal has asked the run of this process to stop."""
    return _requested


def _set_requested(requested: bool) -> None:
    global _requested
    _requested = requested


class StopSignals:
    """Records the signal that asks a run to stop; the run acts on it at the end of a step.

    After the first signal, Ctrl-C stops at once.

    Attributes:
        received: number of the last signal; None before the first one.
    """

    CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self):
        self.received: int | None = None
        self._previous_handlers = {}

    def catch(self, report: Callable[[str], object]) -> None:
        """Record signals from now on; ``report(sentence)`` is called for each."""

        def record(signum: int, _: FrameType | None) -> None:
            self.received = signum
            _set_requested(True)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            name = signal.Signals(signum).name
            report(f'{name}: finishing this step and saving; Ctrl-C again to stop at once')

        self._previous_handlers = {signum: signal.signal(signum, record) for signum in self.CAUGHT}

    def received_flags(self) -> list[int]:
        """Return for each signal of ``CAUGHT``: 1 if it was the last signal received, else 0."""
        return [int(self.received == signum) for signum in self.CAUGHT]

    @classmethod
    def first_received(cls, flags: list[int]) -> int:
        """Return the first signal of ``CAUGHT`` whose flag (or sum over ranks) is not 0."""
        return next(signum for signum, n in zip(cls.CAUGHT, flags, strict=True) if n)

    def release(self) -> None:
        """Restore the handlers that were there before ``catch``."""
        _set_requested(False)
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        self._previous_handlers = {}
