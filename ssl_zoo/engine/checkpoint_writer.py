"""Write the checkpoints of a run."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_zoo.architecture_keys import without_weight_sources
from ssl_zoo.checkpoint import FORMAT, add_digest, checkpoints_in
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.identity import content_identity
from ssl_zoo.data.sources import Source
from ssl_zoo.data.views import VIEW_VERSION
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import broadcast_object
from ssl_zoo.distributed.sharding import full_state, is_sharded
from ssl_zoo.engine.custom_hooks import state_to_save
from ssl_zoo.errors import NonFiniteError
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.versions import versions

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer


class CheckpointWriter:
    """Writes checkpoints/step_XXXXXXXX.pth and removes old files.

    A checkpoint that cannot be written (full disk) is reported; training continues, and the older
    checkpoints stay. Rank 0 writes, and the other ranks wait for it.

    Args:
        settings: settings of the run.
        train: the training images, whose manifest goes into the checkpoint.
        began_with: facts of InitialWeights, None for a run that began with its own weights.

    Attributes:
        path: the last checkpoint that this process wrote; None before the first, or if the last
            one could not be written.
        failed: whether the last checkpoint could not be written.
    """

    def __init__(self, settings: Settings, train: Source, began_with: dict | None = None):
        self.settings = settings
        self.train = train
        self.began_with = began_with
        self.path: Path | None = None
        self.failed = False
        self._images: dict | None = None

    def save(self, trainer: 'Trainer') -> Path | None:
        """Write the state of the run. All ranks call it.

        Returns:
            The path of the checkpoint, or None if it could not be written.

        Raises:
            NonFiniteError: a weight or buffer is not finite; nothing is written.
        """
        path = Path(trainer.work_dir, 'checkpoints', f'step_{trainer.step:08d}.pth')
        if self.path == path:  # saved already: the last step is a multiple of checkpoint.every
            return path
        weights = gather_state(trainer, trainer.method.state_dict())
        broken = _first_non_finite(weights)
        if broken:
            raise NonFiniteError(
                f'not saved at step {trainer.step}: {broken} holds values that are not finite',
                trainer.step - 1,
            )
        optimizer = gather_state(trainer, trainer.optim_wrapper.optimizer.state_dict())
        hooks = state_to_save(trainer.hooks, trainer)
        written = broadcast_object(
            rank() == 0 and self._write(trainer, path, weights, optimizer, hooks)
        )
        self.path = path if written else None
        self.failed = not written
        return self.path

    def _write(
        self,
        trainer: 'Trainer',
        path: Path,
        weights: dict,
        optimizer: dict,
        hooks: dict,
    ) -> bool:
        """Write the checkpoint and remove old ones; return False if it cannot be written."""
        if self._images is None:
            self._images = dict(
                images=trainer.plan.images,
                manifest=self.train.manifest(),
                data_identity=content_identity(self.train),
            )
        content = dict(
            format=FORMAT,
            config=without_weight_sources(self.settings.to_builtin()),
            step=trainer.step,
            pixels=VIEW_VERSION,
            **self._images,
            seconds=trainer.train_seconds,
            versions=versions(),
            processes=trainer.plan.processes,
            accumulate=trainer.plan.accumulate,
            method=weights,
            optimizer=optimizer,
            hooks=hooks,
        )
        if self.began_with is not None:
            content['began_with'] = self.began_with
        try:
            atomic_write(path, lambda file: torch.save(add_digest(content), file))
        except (OSError, RuntimeError) as error:
            # torch raises RuntimeError when it cannot finish its archive.
            trainer.logger.error(
                f'could not write {path}: {error}; training goes on, older checkpoints are '
                f'untouched'
            )
            return False
        self._remove_old(trainer)
        return True

    def _remove_old(self, trainer: 'Trainer') -> None:
        for path in checkpoints_in(trainer.work_dir)[self.settings.checkpoint.keep :]:
            step = int(path.stem.split('_')[1])
            if not self._is_permanent(trainer, step):
                with suppress(OSError):  # a later call may remove the file
                    path.unlink()

    def _is_permanent(self, trainer: 'Trainer', step: int) -> bool:
        every = self.settings.checkpoint.keep_every
        return every is not None and trainer.due(every, step)


def gather_state(trainer: 'Trainer', state: dict) -> dict:
    """Return a state_dict with whole tensors on the CPU, at least on rank 0, which writes files.

    All ranks call it. They gather a sharded state together. If the state is not sharded, rank 0
    copies its state to the CPU, and the other ranks return theirs unchanged.
    """
    if rank() == 0 or is_sharded(trainer.method):
        return full_state(state)
    return state


def _first_non_finite(state: dict[str, Tensor]) -> str | None:
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            return name
    return None
