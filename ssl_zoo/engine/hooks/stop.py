"""Stop on a signal: finish the step, save, raise Stopped."""

from mmengine.hooks import Hook

from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import barrier
from ssl_zoo.distributed.signals import StopSignals
from ssl_zoo.errors import Stopped


class StopHook(Hook):
    """On Ctrl-C, SIGTERM or SIGUSR1 (SLURM): finish the optimiser step, save, stop. A second Ctrl-C stops at once."""

    priority = 'LOWEST'

    def __init__(self, save):
        self.save, self.signals = save, StopSignals()

    def before_train(self, runner):
        self.signals.catch(runner.logger.warning)

    def stop(self, runner, asked: list[int]) -> None:
        """Called on all processes when one was asked to stop: save, and stop when all is saved."""
        path = self.save(runner)
        if rank() == 0:
            runner.logger.warning(f'saved {path}' if path else 'nothing could be saved')
        barrier()  # torchrun ends all others when the first has ended
        raise Stopped(StopSignals.first(asked), runner.step, path is not None)

    def release(self):
        self.signals.release()
