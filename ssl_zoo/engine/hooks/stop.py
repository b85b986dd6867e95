"""Stop on a signal: finish the step, save, raise Stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.hooks import Hook

from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.objects import barrier
from ssl_zoo.distributed.signals import StopSignals
from ssl_zoo.errors import Stopped

if TYPE_CHECKING:
    from ssl_zoo.engine.runner import ZooRunner


class StopHook(Hook):
    """On Ctrl-C, SIGTERM or SIGUSR1 (SLURM): finish the optimizer step, save, stop.

    After the first signal, Ctrl-C stops at once.

    Args:
        save: function that takes the runner, writes a checkpoint and returns its path, or None if
            it could not be written.

    Attributes:
        signals: records the signals of this process.
    """

    priority = 'LOWEST'

    def __init__(self, save: Callable[['ZooRunner'], Path | None]):
        self.save = save
        self.signals = StopSignals()

    def before_train(self, runner: 'ZooRunner') -> None:
        self.signals.catch(runner.logger.warning)

    def stop(self, runner: 'ZooRunner', signal_flags: list[int]) -> None:
        """Save, then raise Stopped. All ranks call it at the same step.

        Args:
            runner: the run.
            signal_flags: for each signal of StopSignals.CAUGHT, the number of ranks that got it.
        """
        path = self.save(runner)
        if rank() == 0:
            runner.logger.warning(f'saved {path}' if path else 'nothing could be saved')
        barrier()  # torchrun ends all processes as soon as one process ends
        raise Stopped(StopSignals.first_received(signal_flags), runner.step, path is not None)

    def stop_waiting(self, runner: 'ZooRunner') -> None:
        """Raise Stopped after a signal, while this process waits for data without end.

        The state is saved if it is that after a whole step, and of one process: others may wait
        for this one inside a step.
        """
        flags = self.signals.received_flags()
        between_steps = runner.iter % runner.plan.accumulate == 0
        if world_size() == 1 and between_steps and runner.step:
            self.stop(runner, flags)
        raise Stopped(StopSignals.first_received(flags), runner.step, saved=False)

    def release(self) -> None:
        """Restore the signal handlers that were there before the run."""
        self.signals.release()
