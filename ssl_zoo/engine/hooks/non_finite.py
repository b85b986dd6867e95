"""Find a loss or weights that are not finite, and trace them to the step and tensor of origin.

A check at every step would make the host wait for the device at every step. So values are checked
only when a progress line is printed, and the state at the last progress line with finite values is
kept in memory. When a loss is not finite, the run goes back to that state and repeats the steps
since then with a tracer that checks every tensor.
"""

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from mmengine.hooks import Hook
from torch import Tensor
from torch.distributed.tensor import DTensor

from ssl_zoo.config.settings import Settings
from ssl_zoo.distributed.objects import all_gather_object
from ssl_zoo.engine.hooks.trace_non_finite import TraceHook, copy_state
from ssl_zoo.engine.non_finite_tracer import NonFiniteTracer
from ssl_zoo.errors import NonFiniteError

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer


class NonFiniteHook(Hook):
    """Keeps the state at the last progress line, and traces values that are not finite.

    The copy takes as much memory as the weights and the optimizer state.

    Attributes:
        last_good_state: number of passes done, state of the method, state of the optimizer; tensors
            stay on their devices.
    """

    priority = 'LOWEST'

    def __init__(self, settings: Settings):
        self.every = settings.log_every
        self.last_good_state: dict | None = None

    def before_train(self, runner: 'Trainer') -> None:
        self.save_good_state(runner)

    def after_optimizer_step(self, runner: 'Trainer') -> None:
        if runner.step % self.every != 0:
            return
        # ProgressHook has just waited for the device and found the losses finite.
        names = all_gather_object(_first_non_finite(runner.method.state_dict()))
        broken = next((name for name in names if name), None)
        if broken:
            last_step = runner.step - 1
            raise NonFiniteError(f'{broken} is not finite after step {last_step}', last_step)
        self.save_good_state(runner)

    def save_good_state(self, runner: 'Trainer') -> None:
        """Copy the state of the run."""
        self.last_good_state = None  # frees the memory of the old copy before the new copy is made
        self.last_good_state = dict(
            iter=runner.iter,
            method=copy_state(runner.method.state_dict()),
            optimizer=copy_state(runner.optim_wrapper.optimizer.state_dict()),
        )

    def on_non_finite(self, runner: 'Trainer', error: NonFiniteError) -> None:
        """Repeat the steps since the last good state with a tracer. All ranks call it.

        Args:
            runner: the run.
            error: error that names the step at which values were not finite.

        Raises:
            NonFiniteError: names the first tensor that is not finite, its step, its images and the
                replay file; or says that the repeated steps were finite.
        """
        start = self.last_good_state['iter'] // runner.plan.accumulate
        end = min(error.step + 1, runner.max_steps) * runner.plan.accumulate
        runner.logger.error(f'{error}; going back to step {start} to find the first such value')
        runner.method.load_state_dict(self.last_good_state['method'])
        runner.optim_wrapper.optimizer.load_state_dict(self.last_good_state['optimizer'])
        runner.iter = self.last_good_state['iter']
        self._repeat_with_tracer(runner, end)
        raise NonFiniteError(
            f'{error}, but not when the steps since {start} were done again (a GPU may add in '
            f'another order); lower base_lr, lengthen warmup_epochs or use precision=float32',
            error.step,
        )

    def _repeat_with_tracer(self, runner: 'Trainer', end: int) -> None:
        """Train up to pass ``end``; raise NonFiniteError at the first tensor that is not finite."""
        tracer = NonFiniteTracer(runner.method)
        trace_hook = TraceHook(runner, tracer)
        # The hooks of the tracer are not called inside a compiled network.
        is_compiled = runner.settings.compile
        eager = torch.compiler.set_stance('force_eager') if is_compiled else nullcontext()
        try:
            with eager:
                runner.forward_to(end, hooks=[trace_hook])
            tracer.check_state('after')
            trace_hook.raise_if_found()
        except (RuntimeError, ValueError):  # a method may fail on values that are not finite
            trace_hook.raise_if_found()
            raise
        finally:
            tracer.close()


def _first_non_finite(state: dict[str, Tensor]) -> str | None:
    """Name the first tensor that is not finite; of a sharded tensor only this rank's shard counts.

    The host waits for the device once.
    """
    shards = {
        name: value.to_local() if isinstance(value, DTensor) else value
        for name, value in state.items()
        if value.is_floating_point()
    }
    if not shards:
        return None
    are_finite = torch.stack([shard.isfinite().all() for shard in shards.values()]).tolist()
    for name, is_finite in zip(shards, are_finite, strict=True):
        if not is_finite:
            return name
    return None
