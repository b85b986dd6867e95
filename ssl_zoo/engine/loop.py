"""The training loop, and the optimizer's wrapper with its precision."""
import time
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop

from ..data.random import mix, seed_everything
from ..distributed import norms, own_parts
from ..method import Method
from .settings import Settings


class ZooOptimWrapper(OptimWrapper):
    """mmengine's wrapper with bf16, frozen parameters and the limit on gradients.

    bf16 is autocast around the forward pass, on CPU and GPU: mmengine's AmpOptimWrapper needs a GPU, and bf16 needs no scaler.

    Args:
        optimizer: its groups hold ``names``.
        method: what ``frozen`` is asked of.
        settings: precision, accumulate, clip_grad.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, method: Method, settings: Settings):
        super().__init__(optimizer, accumulative_counts=settings.accumulate)
        self.method, self.bf16, self.clip = method, settings.precision == 'bf16', settings.clip_grad

    @contextmanager
    def optim_context(self, model):
        autocast = torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled=self.bf16)
        with super().optim_context(model), autocast:
            yield

    def step(self, **kwargs) -> None:
        frozen = tuple(self.method.frozen)
        for group in self.optimizer.param_groups:
            for name, parameter in zip(group['names'], group['params'], strict=True):
                if frozen and name.startswith(frozen):
                    parameter.grad = None                              # neither decay nor momentum moves it
            if self.clip is not None:
                _limit_norms([p.grad for p in group['params'] if p.grad is not None], self.clip)
        super().step(**kwargs)


def _limit_norms(gradients: list[torch.Tensor], limit: float) -> None:
    """Scale each gradient down to a norm of ``limit``, as DINO's clip_gradients does (not the norm of all together)."""
    if gradients:
        parts, shared_by = own_parts(gradients)
        torch._foreach_mul_(parts, [(limit / (norm + 1e-6)).clamp(max=1) for norm in norms(parts, shared_by)])


class TrainLoop(BaseLoop):
    """Forward, backward and update from the step where the run stands to the last.

    mmengine's loops start an epoch afresh when a run resumes inside one; this one starts at any batch.

    Args:
        runner: the runner.
        dataloader: function that gives the batches from one on: ``dataloader(first batch, last batch + 1)``.
    """

    def __init__(self, runner, dataloader):
        super().__init__(runner, dataloader)
        self._iter = 0                                                 # forward passes done; with accumulation, several per step
        self.max_iters = runner.max_steps * runner.accumulate
        self.max_epochs = int(np.ceil(runner.plan.epoch(runner.max_steps)))

    @property
    def iter(self) -> int:
        return self._iter

    @property
    def epoch(self) -> int:
        return int(self.runner.plan.epoch(self.runner.step))

    def run(self) -> torch.nn.Module:
        runner = self.runner
        if self._iter >= self.max_iters:
            runner.logger.info('the run is complete, there is nothing left to do')
            return runner.model
        runner.call_hook('before_train')
        runner.model.train()
        try:
            batches = iter(self.dataloader(self._iter, self.max_iters))
            while self._iter < self.max_iters:
                asked = time.perf_counter()
                batch = next(batches)
                runner.data_seconds += time.perf_counter() - asked
                seed_everything(mix(runner.seed, self._iter))         # dropout and its like depend on the step alone
                runner.call_hook('before_train_iter', batch_idx=self._iter, data_batch=batch)
                outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
                runner.call_hook('after_train_iter', batch_idx=self._iter, data_batch=batch, outputs=outputs)
                step_end = runner.at_step_end
                self._iter += 1
                if step_end:
                    runner.call_hook('after_optimizer_step')           # the zoo's own: the step is counted, the run could stop here
                    runner.stop_hook.stop_if_asked(runner)
            runner.call_hook('after_train')
        finally:
            batches = None                                             # ends the workers now, not when a traceback is forgotten
            runner.stop_hook.release()
        return runner.model
