"""Stopping when asked: by Ctrl-C, by SIGTERM, by SIGUSR1 (SLURM)."""

import signal


class StopSignals:
    """Remembers the signal that asks to stop, for whoever ends a step to look at. A second Ctrl-C stops at once.

    Attributes: received: its number, None while there was none.
    """

    CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self):
        self.received: int | None = None
        self.before = {}

    def catch(self, tell) -> None:
        """From now on; ``tell(sentence)`` is called when one comes."""

        def receive(signum, _):
            self.received = signum
            signal.signal(signal.SIGINT, signal.default_int_handler)
            tell(
                f'{signal.Signals(signum).name}: finishing this step and saving; Ctrl-C again to stop at once'
            )

        self.before = {s: signal.signal(s, receive) for s in self.CAUGHT}

    def asked(self) -> list[int]:
        """For each signal, whether it was received."""
        return [int(self.received == signum) for signum in self.CAUGHT]

    @classmethod
    def first(cls, asked: list[int]) -> int:
        """The signal that was asked to stop by; ``asked`` may be a sum over processes."""
        return next(signum for signum, n in zip(cls.CAUGHT, asked, strict=True) if n)

    def release(self) -> None:
        """Give the signals back to who had them before."""
        for s, handler in self.before.items():
            signal.signal(s, handler)
        self.before = {}
