"""Write a checkpoint every few epochs and at the end."""

from typing import TYPE_CHECKING

from mmengine.hooks import Hook

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer


class CheckpointHook(Hook):
    """Has checkpoints written every few epochs and at the end.

    Args:
        every: epochs between checkpoints.
    """

    # After hooks of the config (NORMAL), so that their state of this step is saved; before an
    # evaluation (LOW), which may take long or fail.
    priority = 'BELOW_NORMAL'

    def __init__(self, every: float):
        self.every = every

    def after_optimizer_step(self, runner: 'Trainer') -> None:
        if runner.due(self.every) or runner.step == runner.max_steps:
            runner.save_checkpoint()

    def after_train(self, runner: 'Trainer') -> None:
        runner.save_checkpoint()  # again, if the disk was full
