"""Values that are not finite: found at the next progress line, traced to the step and the tensor where they began, and kept for a replay.

Looking at every step would make the host wait for the device at every step. So the state of the last good progress line is kept; when
a loss is not finite, the run goes back to it and does the steps since then once more under a magnifying glass.
"""
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..atomic import write_atomically
from ..distributed import gather, rank
from ..launch import everyones
from ..method import MethodHook
from .hooks import ScheduleHook
from .settings import Settings
from .sharding import is_sharded, whole_state

FORMAT = 'ssl_zoo step 1'


class NotFinite(FloatingPointError):
    """A loss or weights that are not finite. ``step`` is where they were met."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class Glass:
    """Notes the first tensor of a pass that is not finite: weights, views, what a layer gives, terms of the loss, gradients.

    Args:
        network: what is looked at, until ``close``.
    """

    def __init__(self, network: nn.Module):
        self.network, self.first, self.noted = network, None, 0       # first: (how many were noted before, what)
        self.handles = [layer.register_forward_hook(self._output(name)) for name, layer in network.named_modules()]
        self.handles += [p.register_hook(lambda gradient, name=name: self.note(f'the gradient of {name}', gradient))
                         for name, p in network.named_parameters() if p.requires_grad]

    def note(self, name: str, value) -> None:
        self.noted += 1
        if self.first is None and isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
            self.first = self.noted, f'{name}, {tuple(value.shape)}: {describe(value)}'

    def _output(self, name: str):
        def look(layer, inputs, output):
            if isinstance(output, dict):                             # what the method's forward, or its preprocessor, gives
                if name == '' and isinstance(output.get('loss'), Tensor) and output['loss'].isfinite().all():
                    return                                           # a figure to log may be anything
                for key, value in output.items():
                    for i, item in enumerate(value if isinstance(value, list) else [value]):
                        self.note(f'view {i + 1}' if key == 'views' else f'the term {key!r} of the loss' if name == '' else key, item)
            else:
                for item in output if isinstance(output, (list, tuple)) else [output]:
                    self.note(f'the output of {name} ({type(layer).__name__})', item)
        return look

    def weights(self, when: str = 'before') -> None:
        for name, value in self.network.state_dict().items():
            self.note(f'{name} {when} the step', value)

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


def describe(x: Tensor) -> str:
    nan, infinite = x.isnan().sum().item(), x.isinf().sum().item()
    return f'{nan} NaN and {infinite} infinite of {x.numel()} values'


class GuardHook(Hook):
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
        if runner.step % self.every == 0:                            # ProgressHook has just found the losses finite and waited for them
            broken = next((name for name in everyones(_broken(runner.method.state_dict())) if name), None)
            if broken:
                raise NotFinite(f'{broken} is not finite after step {runner.step - 1}', runner.step - 1)
            self.keep(runner)

    def keep(self, runner) -> None:
        self.kept = None                                             # or for a moment there would be two of them
        self.kept = dict(iter=runner.iter, method=_copy(runner.method.state_dict()),
                         optimizer=_copy(runner.optim_wrapper.optimizer.state_dict()))

    def explain(self, runner, error: NotFinite) -> None:
        """Go back, find the first tensor that is not finite, write a dump, raise NotFinite with what was found."""
        start, loop = self.kept['iter'] // runner.plan.accumulate, runner.train_loop
        runner.logger.error(f'{error}; going back to step {start} to find where that began')
        runner.method.load_state_dict(self.kept['method'])
        runner.optim_wrapper.optimizer.load_state_dict(self.kept['optimizer'])
        loop._iter, end = self.kept['iter'], min(error.step + 1, runner.max_steps) * runner.plan.accumulate
        glass = Glass(runner.method)
        watched = _Watched(runner, glass)
        runner._hooks = [hook for hook in runner.hooks if isinstance(hook, (MethodHook, ScheduleHook))] + [watched]
        try:
            # Inside a compiled network there is nothing to look at.
            with torch.compiler.set_stance('force_eager') if runner.settings.compile else nullcontext():
                loop.forward_to(end)
            glass.weights('after')
            watched.look()
        except (RuntimeError, ValueError):                           # of a method that cannot go on with what is not finite
            watched.look()
            raise
        finally:
            glass.close()
        raise NotFinite(f'{error}, but not when the steps since {start} were done again (a GPU may add in another order); lower base_lr, '
                        f'lengthen warmup_epochs or use precision=float32', error.step)


class _Watched(Hook):
    """Stops a run under a glass before the first update that something not finite would go into."""

    def __init__(self, runner, glass: Glass):
        self.runner, self.glass, self.batch = runner, glass, None
        runner.optim_wrapper.before_step = self.look

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.glass.first is None:
            self.batch, self.iter = data_batch, runner.iter
            self.glass.weights()
            self.state = _copy(runner.method.state_dict())           # BatchNorm's statistics move in the pass

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if not runner.at_step_end:
            self.look()

    def look(self) -> None:
        runner = self.runner
        if runner.at_step_end:                                       # the hooks above do not see gradients of sharded parameters
            for name, p in runner.method.named_parameters():
                self.glass.note(f'the gradient of {name}', p.grad)
        found = everyones(self.glass.first)
        if any(found):
            # A process that has it from another one notes it later: all note the same tensors in the same order.
            who = min((i for i, first in enumerate(found) if first), key=lambda i: found[i][0])
            what = found[who][1]
            step = self.iter // runner.plan.accumulate
            where = f' on process {who}' if len(found) > 1 else ''
            images = gather(self.batch['index']).tolist()
            shown = ', '.join(map(str, images[:8])) + (f' and {len(images) - 8} more' if len(images) > 8 else '')
            dump = self._dump(step, what)
            raise NotFinite(f'not finite at step {step}: {what}{where}. Images of the batch: {shown}. '
                            + (f'python tools/replay.py {dump} does the pass again. ' if dump else '')
                            + 'Lower base_lr, lengthen warmup_epochs or use precision=float32', step)

    def _dump(self, step: int, found: str) -> Path | None:
        """The state before the step and the batch, that of all processes."""
        runner, path = self.runner, Path(self.runner.work_dir, f'not_finite_step_{step:08d}.pth')
        batch = {key: [gather(x) for x in self.batch[key]] for key in ('views', 'params')} | dict(index=gather(self.batch['index']))
        assemble = whole_state if rank() == 0 or is_sharded(runner.method) else lambda state: state
        weights, optimizer = assemble(self.state), assemble(runner.optim_wrapper.optimizer.state_dict())
        if rank() > 0:
            return path
        content = dict(format=FORMAT, config=runner.settings.plain(), step=step, iter=self.iter, found=found, batch=batch,
                       progress=runner.method.progress, epoch=runner.method.epoch, seed=runner.seed, method=weights,
                       optimizer=optimizer)
        try:
            write_atomically(path, lambda file: torch.save(content, file))
        except (OSError, RuntimeError) as error:
            runner.logger.error(f'could not write {path}: {error}')
            return None
        return path


def _broken(state: dict) -> str | None:
    """The first tensor of a state dict that is not finite, of a sharded one in this process's part. One wait for the device."""
    parts = {name: getattr(value, '_local_tensor', value) for name, value in state.items() if value.is_floating_point()}
    finite = torch.stack([part.isfinite().all() for part in parts.values()]).tolist() if parts else []
    return next((name for name, fine in zip(parts, finite, strict=True) if not fine), None)


def _copy(state):
    """A nested state with every tensor cloned."""
    if isinstance(state, dict):
        return type(state)((key, _copy(value)) for key, value in state.items())
    if isinstance(state, (list, tuple)):
        return type(state)(_copy(value) for value in state)
    return state.detach().clone() if isinstance(state, Tensor) else state
