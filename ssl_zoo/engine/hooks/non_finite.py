"""Values that are not finite: found at the next progress line, traced to the step and the tensor where they began, and kept for a replay.

Looking at every step would make the host wait for the device at every step. So the state of the last good progress line is kept; when
a loss is not finite, the run goes back to it and does the steps since then once more under a magnifying glass.
"""

from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ssl_zoo.config.settings import Settings
from ssl_zoo.distributed import all_gather, rank
from ssl_zoo.distributed.objects import all_gather_object
from ssl_zoo.distributed.sharding import full_state, is_sharded
from ssl_zoo.engine.hooks.method import MethodHook
from ssl_zoo.engine.hooks.schedule import ScheduleHook
from ssl_zoo.engine.non_finite_tracer import NonFiniteTracer
from ssl_zoo.errors import NonFiniteError
from ssl_zoo.storage.atomic import atomic_write

FORMAT = 'ssl_zoo step 1'


class NonFiniteHook(Hook):
    """Keeps the state of the last good progress line, and explains a loss that is not finite.

    Costs the memory of weights and optimiser state once more.
    """

    priority = 'LOWEST'

    def __init__(self, settings: Settings):
        self.settings, self.every = settings, settings.log_every
        self.kept = None

    def before_train(self, runner):
        self.keep(runner)

    def after_optimizer_step(self, runner):
        if (
            runner.step % self.every == 0
        ):  # ProgressHook has just found the losses finite and waited for them
            broken = next(
                (name for name in all_gather_object(_broken(runner.method.state_dict())) if name),
                None,
            )
            if broken:
                raise NonFiniteError(
                    f'{broken} is not finite after step {runner.step - 1}', runner.step - 1
                )
            self.keep(runner)

    def keep(self, runner) -> None:
        self.kept = None  # or for a moment there would be two of them
        self.kept = dict(
            iter=runner.iter,
            method=_copy(runner.method.state_dict()),
            optimizer=_copy(runner.optim_wrapper.optimizer.state_dict()),
        )

    def explain(self, runner, error: NonFiniteError) -> None:
        """Go back, find the first tensor that is not finite, write a dump, raise NonFiniteError with what was found."""
        start, loop = self.kept['iter'] // runner.plan.accumulate, runner.train_loop
        runner.logger.error(f'{error}; going back to step {start} to find where that began')
        runner.method.load_state_dict(self.kept['method'])
        runner.optim_wrapper.optimizer.load_state_dict(self.kept['optimizer'])
        loop._iter, end = (
            self.kept['iter'],
            min(error.step + 1, runner.max_steps) * runner.plan.accumulate,
        )
        glass = NonFiniteTracer(runner.method)
        watched = _Watched(runner, glass)
        runner._hooks = [
            hook for hook in runner.hooks if isinstance(hook, (MethodHook, ScheduleHook))
        ] + [watched]
        try:
            # Inside a compiled network there is nothing to look at.
            with (
                torch.compiler.set_stance('force_eager')
                if runner.settings.compile
                else nullcontext()
            ):
                loop.forward_to(end)
            glass.weights('after')
            watched.look()
        except (RuntimeError, ValueError):  # of a method that cannot go on with what is not finite
            watched.look()
            raise
        finally:
            glass.close()
        raise NonFiniteError(
            f'{error}, but not when the steps since {start} were done again (a GPU may add in another order); lower base_lr, '
            f'lengthen warmup_epochs or use precision=float32',
            error.step,
        )


class _Watched(Hook):
    """Stops a run under a glass before the first update that something not finite would go into."""

    def __init__(self, runner, glass: NonFiniteTracer):
        self.runner, self.glass, self.batch = runner, glass, None
        runner.optim_wrapper.before_step = self.look

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.glass.first is None:
            self.batch, self.iter = data_batch, runner.iter
            self.glass.weights()
            self.state = _copy(
                runner.method.state_dict()
            )  # BatchNorm's statistics move in the pass

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if not runner.at_step_end:
            self.look()

    def look(self) -> None:
        runner = self.runner
        if runner.at_step_end:  # the hooks above do not see gradients of sharded parameters
            for name, p in runner.method.named_parameters():
                self.glass.note(f'the gradient of {name}', p.grad)
        found = all_gather_object(self.glass.first)
        if any(found):
            # A process that has it from another one notes it later: all note the same tensors in the same order.
            who = min((i for i, first in enumerate(found) if first), key=lambda i: found[i][0])
            what = found[who][1]
            step = self.iter // runner.plan.accumulate
            where = f' on process {who}' if len(found) > 1 else ''
            images = all_gather(self.batch['index']).tolist()
            shown = ', '.join(map(str, images[:8])) + (
                f' and {len(images) - 8} more' if len(images) > 8 else ''
            )
            dump = self._dump(step, what)
            raise NonFiniteError(
                f'not finite at step {step}: {what}{where}. Images of the batch: {shown}. '
                + (f'python tools/replay.py {dump} does the pass again. ' if dump else '')
                + 'Lower base_lr, lengthen warmup_epochs or use precision=float32',
                step,
            )

    def _dump(self, step: int, found: str) -> Path | None:
        """The state before the step and the batch, that of all processes."""
        runner, path = self.runner, Path(self.runner.work_dir, f'not_finite_step_{step:08d}.pth')
        batch = {
            key: [all_gather(x) for x in self.batch[key]] for key in ('views', 'params')
        } | dict(index=all_gather(self.batch['index']))
        assemble = full_state if rank() == 0 or is_sharded(runner.method) else lambda state: state
        weights, optimizer = (
            assemble(self.state),
            assemble(runner.optim_wrapper.optimizer.state_dict()),
        )
        if rank() > 0:
            return path
        content = dict(
            format=FORMAT,
            config=runner.settings.to_builtin(),
            step=step,
            iter=self.iter,
            found=found,
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


def _broken(state: dict) -> str | None:
    """The first tensor of a state dict that is not finite, of a sharded one in this process's part. One wait for the device."""
    parts = {
        name: getattr(value, '_local_tensor', value)
        for name, value in state.items()
        if value.is_floating_point()
    }
    finite = (
        torch.stack([part.isfinite().all() for part in parts.values()]).tolist() if parts else []
    )
    return next((name for name, fine in zip(parts, finite, strict=True) if not fine), None)


def _copy(state):
    """A nested state with every tensor cloned."""
    if isinstance(state, dict):
        return type(state)((key, _copy(value)) for key, value in state.items())
    if isinstance(state, (list, tuple)):
        return type(state)(_copy(value) for value in state)
    return state.detach().clone() if isinstance(state, Tensor) else state
