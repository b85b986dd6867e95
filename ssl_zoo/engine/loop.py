"""The training loop, and the optimizer's wrapper with its precision."""

import time

import numpy as np
import torch
from mmengine.runner import BaseLoop

from ssl_zoo.data.random import mix, seed_everything
from ssl_zoo.data.resilient_loader import ResilientLoader
from ssl_zoo.distributed import rank
from ssl_zoo.errors import NonFiniteError


class TrainLoop(BaseLoop):
    """Forward, backward and update from the step where the run stands to the last.

    mmengine's loops start an epoch afresh when a run resumes inside one; this one starts at any batch.

    Args:
        runner: the runner.
        dataloader: function that gives the loader from one batch on: ``dataloader(first batch)``.
    """

    def __init__(self, runner, dataloader):
        super().__init__(runner, dataloader)
        self._iter = 0  # forward passes done; with accumulation, several per step
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
            if runner.online_evaluation.has_reported(runner):
                runner.logger.info('the run is complete, there is nothing left to do')
            else:  # it was lost between its last checkpoint and its figures
                runner.logger.info('the training is complete, its figures are not')
                runner.online_evaluation.progress.before_train(runner)
                runner.online_evaluation.before_train(runner)
                runner.online_evaluation.after_train(runner)
            return runner.model
        runner.call_hook('before_train')
        runner.model.train()
        try:
            self.forward_to(self.max_iters)
            runner.call_hook('after_train')
        except NonFiniteError as error:
            runner.guard.explain(runner, error)
        except (
            torch.linalg.LinAlgError
        ) as error:  # a decomposition of what is not finite, or of what has none
            runner.guard.explain(
                runner,
                NonFiniteError(
                    f'step {runner.step} failed ({str(error).splitlines()[0]})', runner.step
                ),
            )
        finally:
            runner.stop_hook.release()
        return runner.model

    def forward_to(self, end: int) -> None:
        """Train up to pass ``end``."""
        runner, feed = (
            self.runner,
            ResilientLoader(self.dataloader, self._iter, self.runner.logger.warning),
        )
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
        seed_everything(
            mix(runner.seed, self._iter) if rank() == 0 else mix(runner.seed, self._iter, rank())
        )
        if runner.settings.compile:
            torch.compiler.cudagraph_mark_step_begin()  # what CUDA graphs gave in the last pass may be overwritten
        runner.call_hook('before_train_iter', batch_idx=self._iter, data_batch=batch)
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        runner.call_hook(
            'after_train_iter', batch_idx=self._iter, data_batch=batch, outputs=outputs
        )
        step_end = runner.at_step_end
        self._iter += 1
        if step_end:
            runner.call_hook(
                'after_optimizer_step'
            )  # the zoo's own: the step is counted, the run could stop here
            runner.end_step()
