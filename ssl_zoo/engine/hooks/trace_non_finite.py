"""Stop a traced run at the first tensor that is not finite, and write a replay file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ssl_zoo.architecture_keys import without_weight_sources
from ssl_zoo.distributed import all_gather, rank
from ssl_zoo.distributed.objects import all_gather_object
from ssl_zoo.engine.checkpoint_writer import gather_state
from ssl_zoo.engine.non_finite_tracer import NonFiniteTracer
from ssl_zoo.errors import NonFiniteError
from ssl_zoo.storage.atomic import atomic_write

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer

FORMAT = 'ssl_zoo step 1'  # of replay files
SHOWN_IMAGES = 8


class TraceHook(Hook):
    """Stops a run with a tracer before the first update that would use a tensor that is not finite.

    Args:
        runner: the run; its optimizer wrapper calls ``raise_if_found`` before each update.
        tracer: checks the tensors of the run's method.
    """

    def __init__(self, runner: 'Trainer', tracer: NonFiniteTracer):
        self.runner = runner
        self.tracer = tracer
        self.batch: dict | None = None
        self.iter = 0
        self.state: dict = {}
        runner.optim_wrapper.before_step = self.raise_if_found

    def before_train_iter(
        self, runner: 'Trainer', batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if self.tracer.first is None:
            self.batch = data_batch
            self.iter = runner.iter
            self.tracer.check_state('before')
            # A copy: the pass updates BatchNorm's statistics.
            self.state = copy_state(runner.method.state_dict())

    def after_train_iter(
        self,
        runner: 'Trainer',
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        if not runner.at_step_end:
            self.raise_if_found()

    def raise_if_found(self) -> None:
        """Raise NonFiniteError if the tracer of any rank has found a tensor. All ranks call it."""
        if self.runner.at_step_end:
            # The tracer's hooks do not see the gradients of sharded parameters.
            for name, p in self.runner.method.named_parameters():
                self.tracer.check(f'the gradient of {name}', p.grad)
        firsts = all_gather_object(self.tracer.first)
        ranks = [r for r, first in enumerate(firsts) if first]
        if not ranks:
            return
        # The rank of origin is the rank that found the tensor first: all ranks check the same
        # tensors in the same order, and a rank that got the tensor through a collective finds it
        # later.
        origin = min(ranks, key=lambda r: firsts[r][0])
        _, description = firsts[origin]
        on_process = f' on process {origin}' if len(firsts) > 1 else ''
        step = self.iter // self.runner.plan.accumulate
        images = self._list_images()
        file = self._write_replay_file(step, description)
        replay = f'ssl-zoo replay {file} does the pass again. ' if file else ''
        raise NonFiniteError(
            f'not finite at step {step}: {description}{on_process}. Images of the batch: {images}. '
            f'{replay}Lower base_lr, lengthen warmup_epochs or use precision=float32',
            step,
        )

    def _list_images(self) -> str:
        """List the positions of the first images of the batch of all ranks."""
        images = all_gather(self.batch['index']).tolist()
        text = ', '.join(map(str, images[:SHOWN_IMAGES]))
        if len(images) > SHOWN_IMAGES:
            text += f' and {len(images) - SHOWN_IMAGES} more'
        return text

    def _write_replay_file(self, step: int, description: str) -> Path | None:
        """Write the state before the pass and the batch of all ranks; return None on failure."""
        runner = self.runner
        path = Path(runner.work_dir, f'not_finite_step_{step:08d}.pth')
        batch = dict(
            views=[all_gather(view) for view in self.batch['views']],
            params=[all_gather(params) for params in self.batch['params']],
            index=all_gather(self.batch['index']),
        )
        weights = gather_state(runner, self.state)
        optimizer = gather_state(runner, runner.optim_wrapper.optimizer.state_dict())
        if rank() > 0:
            return path
        content = dict(
            format=FORMAT,
            config=without_weight_sources(runner.settings.to_builtin()),
            step=step,
            iter=self.iter,
            found=description,
            batch=batch,
            progress=runner.method.progress,
            epoch=runner.method.epoch,
            seed=runner.seed,
            method=weights,
            optimizer=optimizer,
        )
        try:
            atomic_write(path, lambda file: torch.save(content, file))
        except (OSError, RuntimeError) as error:
            runner.logger.error(f'could not write {path}: {error}')
            return None
        return path


def copy_state(state: Any) -> Any:
    """Copy a nested state; tensors are cloned on their device."""
    if isinstance(state, dict):
        return type(state)((key, copy_state(value)) for key, value in state.items())
    if isinstance(state, (list, tuple)):
        return type(state)(copy_state(value) for value in state)
    if isinstance(state, Tensor):
        return state.detach().clone()
    return state
