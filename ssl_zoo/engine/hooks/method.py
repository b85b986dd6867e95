"""Drive the method: its progress before each step, ``after_step`` after it."""

from mmengine.hooks import Hook

from ssl_zoo.distributed.batchnorm import RunningStatistics


class MethodHook(Hook):
    """Tells the method its progress before each step and calls ``after_step`` after each optimiser step."""

    priority = 'VERY_HIGH'

    def before_train(self, runner):
        self.statistics = RunningStatistics(runner.method)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.method.progress, runner.method.epoch = (
            runner.step / runner.max_steps,
            runner.plan.epoch(runner.step),
        )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.at_step_end:
            runner.method.after_step()
            self.statistics.average()
