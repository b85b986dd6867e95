"""The training loop, and the optimizer's wrapper with its precision."""
import time
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop

from ..data.feed import Feed
from ..data.random import mix, seed_everything
from ..distributed import norms, own_parts, rank
from ..method import Method
from .guard import NotFinite
from .settings import Settings


class ZooOptimWrapper(OptimWrapper):
    """mmengine's wrapper with bf16, frozen parameters and the limit on gradients.

    bf16 is autocast around the forward pass, on CPU and GPU: mmengine's AmpOptimWrapper needs a GPU, and bf16 needs no scaler.

    Args:
        optimizer: its groups hold ``names``.
        method: what ``frozen`` is asked of.
        settings: precision, clip_grad.
        accumulate: passes per step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, method: Method, settings: Settings, accumulate: int):
        super().__init__(optimizer, accumulative_counts=accumulate)
        self.method, self.bf16, self.clip = method, settings.precision == 'bf16', settings.clip_grad
        self.before_step = None                                        # called when the gradients are there

    def initialize_count_status(self, model, init_counts: int, max_counts: int) -> None:
        # mmengine warns of BatchNorm under accumulation; the plan says what it comes to.
        super().initialize_count_status(torch.nn.Identity(), init_counts, max_counts)

    @contextmanager
    def optim_context(self, model):
        autocast = torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled=self.bf16)
        with super().optim_context(model), autocast:
            yield

    def step(self, **kwargs) -> None:
        if self.before_step is not None:
            self.before_step()
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
        dataloader: function that gives the loader from one batch on: ``dataloader(first batch)``.
    """

    def __init__(self, runner, dataloader):
        super().__init__(runner, dataloader)
        self._iter = 0                                                 # forward passes done; with accumulation, several per step
        self.max_iters = runner.max_steps * runner.plan.accumulate
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
            if runner.watch.reported(runner):
                runner.logger.info('the run is complete, there is nothing left to do')
            else:                                                      # it was lost between its last checkpoint and its figures
                runner.logger.info('the training is complete, its figures are not')
                runner.watch.progress.before_train(runner)
                runner.watch.before_train(runner)
                runner.watch.after_train(runner)
            return runner.model
        runner.call_hook('before_train')
        runner.model.train()
        try:
            self.forward_to(self.max_iters)
            runner.call_hook('after_train')
        except NotFinite as error:
            runner.guard.explain(runner, error)
        except torch.linalg.LinAlgError as error:                      # a decomposition of what is not finite, or of what has none
            runner.guard.explain(runner, NotFinite(f'step {runner.step} failed ({str(error).splitlines()[0]})', runner.step))
        finally:
            runner.stop_hook.release()
        return runner.model

    def forward_to(self, end: int) -> None:
        """Train up to pass ``end``."""
        runner, feed = self.runner, Feed(self.dataloader, self._iter, self.runner.logger.warning)
        try:
            while self._iter < end:
                asked = time.perf_counter()
                batch = feed.next()
                runner.data_seconds += time.perf_counter() - asked
                self.one_pass(batch)
        finally:
            feed.close()

    def one_pass(self, batch: dict) -> None:
        runner = self.runner
        # Dropout and its like depend on seed, step and process alone.
        seed_everything(mix(runner.seed, self._iter) if rank() == 0 else mix(runner.seed, self._iter, rank()))
        if runner.settings.compile:
            torch.compiler.cudagraph_mark_step_begin()                 # what CUDA graphs gave in the last pass may be overwritten
        runner.call_hook('before_train_iter', batch_idx=self._iter, data_batch=batch)
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        runner.call_hook('after_train_iter', batch_idx=self._iter, data_batch=batch, outputs=outputs)
        step_end = runner.at_step_end
        self._iter += 1
        if step_end:
            runner.call_hook('after_optimizer_step')                   # the zoo's own: the step is counted, the run could stop here
            runner.end_step()
