"""Stop on a signal: finish the step, save, raise Stopped."""

from typing import TYPE_CHECKING

from mmengine.hooks import Hook

from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.objects import barrier
from ssl_zoo.distributed.signals import StopSignals
from ssl_zoo.errors import Stopped

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer


class StopHook(Hook):
    """On Ctrl-C, SIGTERM or SIGUSR1 (SLURM): finish the optimizer step, save, stop.

    After the first signal, Ctrl-C stops at once.

    Attributes:
        signals: records the signals of this process.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.signals = StopSignals()

    def before_train(self, runner: 'Trainer') -> None:
        self.signals.catch(runner.logger.warning)

        def stop_if_any(signal_flags: list[int]) -> None:
            if any(signal_flags):
                self.stop(runner, signal_flags)

        runner.summed_counts.register(self.signals.received_flags, stop_if_any)

    def stop(self, runner: 'Trainer', signal_flags: list[int]) -> None:
        """Save, then raise Stopped. All ranks call it at the same step.

        Args:
            runner: the run.
            signal_flags: for each signal of StopSignals.CAUGHT, the number of ranks that got it.
        """
        path = runner.save_checkpoint()
        if rank() == 0:
            runner.logger.warning(f'saved {path}' if path else 'nothing could be saved')
        runner.visualizer.close()  # while no process has ended
        barrier()  # torchrun ends all processes as soon as one process ends
        raise Stopped(StopSignals.first_received(signal_flags), runner.step, path is not None)

    def on_wait_stopped(self, runner: 'Trainer') -> None:
        """Raise Stopped after a signal, while this process waits for data without end.

        The state is saved if it is that after a whole step, and of one process: others may wait
        for this one inside a step.
        """
        flags = self.signals.received_flags()
        between_steps = runner.iter % runner.plan.accumulate == 0
        if world_size() == 1 and between_steps and runner.step:
            self.stop(runner, flags)
        raise Stopped(StopSignals.first_received(flags), runner.step, saved=False)

    def on_exit(self, runner: 'Trainer') -> None:
        """Restore the signal handlers that were there before the run."""
        self.signals.release()
