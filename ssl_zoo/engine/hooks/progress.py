"""Print a progress line every few steps, and write its numbers to the log."""

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ssl_zoo.config.settings import Settings
from ssl_zoo.distributed import all_reduce_sum, rank, world_size
from ssl_zoo.errors import ConfigError, NonFiniteError
from ssl_zoo.losses import COLLAPSE_THRESHOLD

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer

STATE = 'ssl_zoo.progress'  # key of the hook's state in a checkpoint
# Scalars with a fixed place in the progress line. Other scalars of the method come after 'decay'.
NAMED_SCALARS = ('loss', 'lr', 'decay', 'images_per_second', 'data_wait')


class ProgressHook(Hook):
    """Prints a progress line every ``log_every`` steps; log.jsonl and TensorBoard get its numbers.

    Between lines, values stay on the device; at a line they are fetched in one copy. So the host
    waits for the device only once per line. mmengine's own logging reads every value at every step
    into histories, and copies the whole histories each time.
    """

    priority = 'ABOVE_NORMAL'  # its clock starts before the first online evaluation

    def __init__(self, settings: Settings):
        self.every = settings.log_every
        self.values: list[dict[str, Tensor]] = []  # scalars of each pass since the last line
        # From since_last_line, of the checkpoint that the run resumed from; None after a line.
        self.resumed: dict | None = None

    def before_train(self, runner: 'Trainer') -> None:
        self.started = time.perf_counter()
        self.since = self.started  # time of the last line
        self.first_step = runner.step
        self.last_step = runner.step  # step of the last line
        # The runner's data_seconds and paused_seconds at the last line.
        self.waited = 0.0
        self.paused = runner.paused_seconds

    def after_train_iter(
        self,
        runner: 'Trainer',
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        self.values.append({name: value.detach() for name, value in outputs.items()})
        done = runner.step + 1
        if runner.at_step_end and (done % self.every == 0 or done in (1, runner.max_steps)):
            self.report(runner, done)

    def report(self, runner: 'Trainer', done: int) -> None:
        """Print the means since the last line and write them to the log. All ranks call it.

        Args:
            runner: the run.
            done: number of optimizer steps done, including the current step.

        Raises:
            NonFiniteError: the loss is not finite; the error names the step.
        """
        means = self._fetch_means(runner)
        now = time.perf_counter()
        seconds = now - self.since - (runner.paused_seconds - self.paused)
        steps = done - self.last_step
        means['lr'] = runner.plan.lr(done - 1)
        means['images_per_second'] = steps * runner.plan.batch_size / seconds
        means['data_wait'] = (runner.data_seconds - self.waited) / seconds
        steps_left = runner.max_steps - done
        started = self.started + runner.paused_once_seconds
        seconds_left = (now - started) / (done - self.first_step) * steps_left
        self.values = []
        self.resumed = None
        self.since = now
        self.last_step = done
        self.waited = runner.data_seconds
        self.paused = runner.paused_seconds
        if rank() > 0:
            return
        runner.logger.info(_progress_line(runner, done, means, seconds_left))
        if done > 1 and means.get('feature_std', 1.0) < COLLAPSE_THRESHOLD:
            runner.logger.warning(
                f'warning: the projections are collapsing: all images get nearly the same vector '
                f'(feature std {means["feature_std"]:.3f}, 1 is healthy); check predictor, decay, '
                f'batch size and learning rate'
            )
        runner.log_scalars(done, {f'train/{name}': value for name, value in means.items()})

    def before_save_checkpoint(self, runner: 'Trainer', checkpoint: dict) -> None:
        checkpoint[STATE] = self.since_last_line(runner)

    def after_load_checkpoint(self, runner: 'Trainer', checkpoint: dict) -> None:
        state = checkpoint.get(STATE)
        if state is not None:
            _check_state(state)
        self.resumed = state

    def since_last_line(self, runner: 'Trainer') -> dict:
        """Return the scalars of the passes since the last line, for a checkpoint.

        With them the next line of a resumed run has the means of a run that was not stopped. All
        ranks call it.

        Returns:
            'names' of the scalars, and their 'values', (passes, scalars) float32 on the CPU, means
            over ranks.
        """
        if not self.values:
            return self.resumed or dict(names=[], values=torch.empty(0, 0))
        return dict(names=list(self.values[0]), values=self._table(runner).cpu())

    def _table(self, runner: 'Trainer') -> Tensor:
        """Compute the means over ranks of each pass since the last line.

        Returns:
            (passes, scalars) float32, on the device.
        """
        names = list(self.values[0])
        rows = [
            torch.stack([values[name].float().to(runner.device) for name in names])
            for values in self.values
        ]
        # Each rank has the loss of its own images.
        table = all_reduce_sum(torch.stack(rows)) / world_size()
        if self.resumed is not None and self.resumed['names'] == names:
            table = torch.cat([self.resumed['values'].to(table.device), table])
        return table

    def _fetch_means(self, runner: 'Trainer') -> dict[str, float]:
        """Compute the means of all scalars over ranks and over the passes since the last line."""
        names = list(self.values[0])
        table = self._table(runner)  # (passes, scalars)
        means = dict(zip(names, table.mean(0).tolist(), strict=True))  # the one copy to the host
        if not math.isfinite(means['loss']):
            losses = table[:, names.index('loss')].tolist()
            first = next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
            step = (runner.iter + 1 - len(losses) + first) // runner.plan.accumulate
            raise NonFiniteError(f'the loss is {losses[first]} at step {step}', step)
        if 'decay' in means:  # a schedule: show its last value, not a mean
            means['decay'] = self.values[-1]['decay'].item()
        return means


def _check_state(state: object) -> None:
    """Raise ConfigError unless ``state`` is what ``since_last_line`` returns."""
    names = state.get('names') if isinstance(state, dict) else None
    values = state.get('values') if isinstance(state, dict) else None
    is_whole = (
        isinstance(names, list)
        and isinstance(values, Tensor)
        and values.dtype == torch.float32
        and values.ndim == 2
        and values.shape[1] == len(names)
    )
    if not is_whole:
        raise ConfigError(
            f'cannot resume: {STATE!r} of the checkpoint must be names and a float32 tensor '
            f'(passes, names); give a checkpoint of this run'
        )


def _progress_line(
    runner: 'Trainer', done: int, means: dict[str, float], seconds_left: float
) -> str:
    plan = runner.plan
    parts = [
        f'epoch {plan.epoch(done):.1f}/{plan.epoch(runner.max_steps):.0f}',
        f'step {done}/{runner.max_steps}',
        f'loss {means["loss"]:.4f}',
        f'lr {means["lr"]:.4g}',
    ]
    if 'decay' in means:
        parts.append(f'decay {means["decay"]:.5f}')
    parts += [f'{name} {value:.5g}' for name, value in means.items() if name not in NAMED_SCALARS]
    parts += [
        f'{means["images_per_second"]:.0f} images/s',
        f'data wait {means["data_wait"]:.0%}',
        f'left {timedelta(seconds=round(seconds_left))}',
    ]
    return '  '.join(parts)
