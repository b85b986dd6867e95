"""Set learning rate and weight decay before each step."""

from typing import TYPE_CHECKING

from mmengine.hooks import Hook

if TYPE_CHECKING:
    from ssl_zoo.engine.runner import ZooRunner


class ScheduleHook(Hook):
    """Sets learning rate and weight decay as functions of the step.

    It has no state to save: a resumed run computes the same values.
    """

    priority = 'HIGH'

    def before_train_iter(
        self, runner: 'ZooRunner', batch_idx: int, data_batch: dict | None = None
    ) -> None:
        plan = runner.plan
        for group in runner.optim_wrapper.optimizer.param_groups:
            lr = plan.lr(runner.step) if group['scheduled'] else plan.peak_lr
            group['lr'] = group['lr_scale'] * lr
            if group['adapt']:
                group['weight_decay'] = plan.weight_decay(runner.step)
