"""The training loop, and the optimizer's wrapper with its precision."""
import random
import time
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop

from ..data.random import mix
from .settings import Settings


class Bf16OptimWrapper(OptimWrapper):
    """bf16 autocast around the forward pass, on CPU and GPU. mmengine's AmpOptimWrapper needs a GPU; bf16 needs no scaler."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast(next(model.parameters()).device.type, torch.bfloat16):
            yield


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
                _seed_everything(mix(runner.seed, self._iter))         # dropout and its like depend on the step alone
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


def _seed_everything(seed: int) -> None:
    torch.default_generator.manual_seed(seed)       # torch.manual_seed costs 100 times as much
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


def make_optim_wrapper(settings: Settings, optimizer: torch.optim.Optimizer) -> OptimWrapper:
    wrapper = Bf16OptimWrapper if settings.precision == 'bf16' else OptimWrapper
    return wrapper(optimizer, accumulative_counts=settings.accumulate)
