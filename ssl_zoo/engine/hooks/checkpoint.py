"""Write a checkpoint every few epochs and at the end."""

from contextlib import suppress
from pathlib import Path

import torch
from mmengine.hooks import Hook

from ssl_zoo.checkpoint import FORMAT, add_digest, checkpoints_in
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.sources import Source
from ssl_zoo.data.views import VIEW_VERSION
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import broadcast_object
from ssl_zoo.distributed.sharding import full_state, is_sharded
from ssl_zoo.errors import NonFiniteError
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.versions import versions


class CheckpointHook(Hook):
    """Writes ``checkpoints/step_XXXXXXXX.pth`` every few epochs and at the end; keeps the newest few, and some for good.

    A checkpoint that cannot be written (full disk) is reported, and training goes on with the older ones untouched. Process 0 writes,
    and the others wait for it.
    """

    priority = 'ABOVE_NORMAL'  # saved before anything is evaluated, which may take long or fail

    def __init__(self, settings: Settings, train: Source):
        self.settings, self.train = settings, train
        self.path: Path | None = (
            None  # of this run's last checkpoint, None if it could not be written
        )
        self.failed = False
        self.manifest = None

    def after_optimizer_step(self, runner):
        if runner.due(self.settings.checkpoint.every):
            self.save(runner)

    def after_train(self, runner):
        self.save(runner)

    def save(self, runner) -> Path | None:
        """Write the run's state. Returns the path, or None if it could not be written. Raises NonFiniteError for weights that are not."""
        path = Path(runner.work_dir, 'checkpoints', f'step_{runner.step:08d}.pth')
        if self.path == path:  # the end of training may be due anyway
            return path
        assemble = full_state if rank() == 0 or is_sharded(runner.method) else lambda state: state
        weights = assemble(runner.method.state_dict())
        broken = next(
            (
                name
                for name, value in weights.items()
                if value.is_floating_point() and not value.isfinite().all()
            ),
            None,
        )
        if broken:
            raise NonFiniteError(
                f'not saved at step {runner.step}: {broken} holds values that are not finite',
                runner.step - 1,
            )
        optimizer = assemble(runner.optim_wrapper.optimizer.state_dict())
        written = broadcast_object(rank() == 0 and self._write(runner, path, weights, optimizer))
        self.path, self.failed = path if written else None, not written
        return self.path

    def _write(self, runner, path: Path, weights: dict, optimizer: dict) -> bool:
        self.manifest = self.manifest or self.train.manifest()
        content = dict(
            format=FORMAT,
            config=self.settings.to_builtin(),
            step=runner.step,
            images=runner.plan.images,
            pixels=VIEW_VERSION,
            manifest=self.manifest,
            seconds=runner.train_seconds,
            versions=versions(),
            processes=runner.plan.processes,
            accumulate=runner.plan.accumulate,
            method=weights,
            optimizer=optimizer,
        )
        try:
            atomic_write(path, lambda file: torch.save(add_digest(content), file))
        except (
            OSError,
            RuntimeError,
        ) as error:  # RuntimeError: torch's, when its archive cannot be finished
            runner.logger.error(
                f'could not write {path}: {error}; training goes on, older checkpoints are untouched'
            )
            return False
        for old in checkpoints_in(runner.work_dir)[self.settings.checkpoint.keep :]:
            if not self._kept_for_good(runner, int(old.stem.split('_')[1])):
                with suppress(OSError):  # another one may be removed the next time
                    old.unlink()
        return True

    def _kept_for_good(self, runner, step: int) -> bool:
        every = self.settings.checkpoint.keep_every
        return every is not None and runner.due(every, step)
