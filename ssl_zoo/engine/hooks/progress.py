"""What a user watches: the progress line, TensorBoard, log.jsonl, the picture of the first views."""

import json
import math
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.hooks import Hook
from torch.utils.tensorboard import SummaryWriter

from ssl_zoo.config.settings import Settings
from ssl_zoo.distributed import all_reduce_sum, rank, world_size
from ssl_zoo.errors import NonFiniteError
from ssl_zoo.losses import COLLAPSE_THRESHOLD
from ssl_zoo.storage.atomic import append_lines, atomic_write


def _without_tensorboard(args, before=threading.excepthook) -> None:
    """TensorBoard's thread hands its error on to whoever writes next, where it is told: no traceback of it as well."""
    if not (
        isinstance(args.exc_value, OSError) and type(args.thread).__name__ == '_AsyncWriterThread'
    ):
        before(args)


class ProgressHook(Hook):
    """A progress line every ``log_every`` steps; the same numbers go to TensorBoard and to log.jsonl.

    Values stay on the device between lines and are fetched in one copy, so the device is never waited for in between;
    mmengine's own logging reads every value at every step, into histories that it copies whole each time.
    """

    priority = 'ABOVE_NORMAL'  # its clock starts before the first online evaluation

    def __init__(self, settings: Settings):
        self.every = settings.log_every
        self.values: list[dict] = []
        self.writer = None

    def before_train(self, runner):
        self.started = self.since = time.perf_counter()
        self.first_step = self.last_step = runner.step
        self.waited = 0.0
        if rank() == 0:
            self._forget_after(runner)

    def _forget_after(self, runner) -> None:
        """Take lines of log.jsonl away that a resumed run is going to write again, and one that a crash has left unfinished."""
        path = Path(runner.work_dir, 'log.jsonl')
        if path.exists():
            kept = []
            for line in path.read_text(errors='replace').splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    if json.loads(line)['step'] <= runner.step > 0:
                        kept.append(line + '\n')
            with suppress(OSError):
                atomic_write(path, lambda file: file.write(''.join(kept).encode()))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append({k: v.detach() for k, v in outputs.items()})
        done = runner.step + 1
        if runner.at_step_end and (done % self.every == 0 or done in (1, runner.max_steps)):
            self.report(runner, done)

    def report(self, runner, done: int) -> None:
        """Print and write the means since the last line. Raises NonFiniteError if the loss is not finite."""
        names = list(self.values[0])
        table = torch.stack(
            [
                torch.stack([v[name].float().to(runner.device) for name in names])
                for v in self.values
            ]
        )
        table = all_reduce_sum(table) / world_size()  # a process's loss is that of its own images
        means = dict(
            zip(names, table.mean(0).tolist(), strict=True)
        )  # the one copy from the device
        if not math.isfinite(means['loss']):
            bad = next(
                i
                for i, row in enumerate(table.tolist())
                if not math.isfinite(row[names.index('loss')])
            )
            step = (runner.iter + 1 - len(self.values) + bad) // runner.plan.accumulate
            raise NonFiniteError(
                f'the loss is {table[bad, names.index("loss")].item()} at step {step}', step
            )
        if 'decay' in means:
            means['decay'] = self.values[-1][
                'decay'
            ].item()  # a schedule: its last value, not a mean
        now = time.perf_counter()
        seconds = now - self.since
        steps = done - self.last_step
        means |= dict(
            lr=runner.plan.lr(done - 1),
            images_per_second=steps * runner.plan.batch_size / seconds,
            data_wait=(runner.data_seconds - self.waited) / seconds,
        )
        left = (now - self.started) / (done - self.first_step) * (runner.max_steps - done)
        self.values, self.since, self.last_step, self.waited = [], now, done, runner.data_seconds
        if rank() > 0:
            return
        rest = ''.join(
            f'  {k} {v:.5g}'
            for k, v in means.items()
            if k not in ('loss', 'lr', 'decay', 'images_per_second', 'data_wait')
        )
        decay = f'  decay {means["decay"]:.5f}' if 'decay' in means else ''
        runner.logger.info(
            f'epoch {runner.plan.epoch(done):.1f}/{runner.plan.epoch(runner.max_steps):.0f}  step {done}/{runner.max_steps}  '
            f'loss {means["loss"]:.4f}  lr {means["lr"]:.4g}{decay}{rest}  {means["images_per_second"]:.0f} images/s  '
            f'data wait {means["data_wait"]:.0%}  left {timedelta(seconds=round(left))}'
        )
        if done > 1 and means.get('feature_std', 1.0) < COLLAPSE_THRESHOLD:
            runner.logger.warning(
                f'warning: the projections are collapsing: all images get nearly the same vector (feature std '
                f'{means["feature_std"]:.3f}, 1 is healthy); check predictor, decay, batch size and learning rate'
            )
        self.write(runner, done, {f'train/{k}': v for k, v in means.items()})

    def write(self, runner, step: int, scalars: dict[str, float]) -> None:
        """Scalars to TensorBoard and log.jsonl. A disk that is full costs the log, not the run."""
        try:
            row = dict(step=step, epoch=round(runner.plan.epoch(step), 4), **scalars)
            append_lines(Path(runner.work_dir, 'log.jsonl'), json.dumps(row) + '\n')
        except OSError as error:
            runner.logger.error(f'could not write the log: {error}')
        try:
            if self.writer is None:
                threading.excepthook = _without_tensorboard
                self.writer = SummaryWriter(
                    str(Path(runner.work_dir, 'tensorboard')), purge_step=runner.step
                )
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, step)
            self.writer.flush()
        except OSError as error:
            runner.logger.error(f'could not write for TensorBoard: {error}')
            self.writer = None  # its thread has ended; the next line begins a new file

    def pause(self, seconds: float, once: bool = False) -> None:
        """Leave the time of an evaluation out of images/s; one that happens ``once`` also out of the time left."""
        self.since += seconds
        if once:
            self.started += seconds

    def after_run(self, runner):
        if self.writer is not None:
            with suppress(OSError):
                self.writer.close()
