"""Small hooks: the learning rate, unreadable images, signals."""

from mmengine.hooks import Hook


class ScheduleHook(Hook):
    """Sets learning rate and weight decay as functions of the step. Nothing to save: a resumed run computes the same values."""

    priority = 'HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for group in runner.optim_wrapper.optimizer.param_groups:
            group['lr'] = group['lr_scale'] * (
                runner.plan.lr(runner.step) if group['scheduled'] else runner.plan.peak_lr
            )
            if group['adapt']:
                group['weight_decay'] = runner.plan.weight_decay(runner.step)
