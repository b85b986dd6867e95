"""Set the method's progress before each pass; call ``after_step`` after each optimizer step."""

from typing import TYPE_CHECKING

from mmengine.hooks import Hook

from ssl_zoo.distributed.batchnorm import RunningStatistics

if TYPE_CHECKING:
    from ssl_zoo.engine.runner import ZooRunner


class MethodHook(Hook):
    """Tells the method its progress and calls ``after_step``.

    ``progress`` and ``epoch`` of the method are set before each pass. After each optimizer step
    ``after_step`` is called, and BatchNorm's running statistics are averaged over ranks.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: 'ZooRunner') -> None:
        self.statistics = RunningStatistics(runner.method)

    def before_train_iter(
        self, runner: 'ZooRunner', batch_idx: int, data_batch: dict | None = None
    ) -> None:
        runner.method.progress = runner.step / runner.max_steps
        runner.method.epoch = runner.plan.epoch(runner.step)

    def after_train_iter(
        self,
        runner: 'ZooRunner',
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        if runner.at_step_end:
            runner.method.after_step()
            self.statistics.average()
