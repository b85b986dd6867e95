"""The training loop: forward, backward and update, from any step to the last."""

import time
from collections.abc import Callable, Iterable
from math import ceil
from typing import TYPE_CHECKING

import torch
from mmengine.runner import BaseLoop
from torch import nn

from ssl_zoo.data.random import mix, seed_everything
from ssl_zoo.data.resilient_loader import ResilientLoader, WaitStopped
from ssl_zoo.distributed import rank
from ssl_zoo.errors import NonFiniteError

if TYPE_CHECKING:
    from ssl_zoo.engine.runner import ZooRunner


class TrainLoop(BaseLoop):
    """Trains from the next pass of the run to the last.

    When a run resumes within an epoch, mmengine's loops begin the epoch again; this loop continues
    at any batch.

    Args:
        runner: the run.
        dataloader: ``dataloader(start)`` makes a loader of the batches from number ``start`` on.

    Attributes:
        iter: forward passes done; with accumulation, several per optimizer step.
        max_iters: forward passes of the run.
        max_epochs: epochs of the run, rounded up.
    """

    def __init__(self, runner: 'ZooRunner', dataloader: Callable[[int], Iterable]):
        super().__init__(runner, dataloader)
        self._iter = 0
        self._begins_epoch = True
        self._ends_epoch = False
        self.max_iters = runner.max_steps * runner.plan.accumulate
        self.max_epochs = ceil(runner.plan.epoch(runner.max_steps))

    @property
    def iter(self) -> int:
        return self._iter

    @property
    def epoch(self) -> int:
        """Epochs done, rounded down; an epoch counts once ``after_train_epoch`` was called."""
        done = int(self.runner.plan.epoch(self.runner.step))
        return done - 1 if self._ends_epoch else done

    def run(self) -> nn.Module:
        """Train to the end and return the trained model.

        Raises:
            NonFiniteError: a loss or weights are not finite.
            Stopped: a signal asked the run to stop.
        """
        runner = self.runner
        if self._iter >= self.max_iters:
            self._finish_report()
            return runner.model
        runner.call_hook('before_train')
        runner.model.train()
        try:
            self.forward_to(self.max_iters)
            runner.call_hook('after_train')
        except WaitStopped:
            runner.stop_hook.stop_waiting(runner)
        except NonFiniteError as error:
            runner.non_finite_hook.trace_and_raise(runner, error)
        except torch.linalg.LinAlgError as error:
            # A matrix is not finite, or has no decomposition.
            reason = str(error).splitlines()[0]
            failure = NonFiniteError(f'step {runner.step} failed ({reason})', runner.step)
            runner.non_finite_hook.trace_and_raise(runner, failure)
        finally:
            runner.stop_hook.release()
        return runner.model

    def _finish_report(self) -> None:
        """Write the results of a run whose training is complete, unless they are written."""
        runner = self.runner
        hook = runner.online_evaluation_hook
        if hook.has_reported(runner):
            runner.logger.info('the run is complete, there is nothing left to do')
            return
        # The run was killed between its last checkpoint and its results.
        runner.logger.info('the training is complete; measuring its missing results')
        hook.progress.before_train(runner)
        hook.before_train(runner)
        hook.after_train(runner)

    def forward_to(self, end: int) -> None:
        """Train up to pass ``end``."""
        runner = self.runner
        loader = ResilientLoader(
            self.dataloader,
            self._iter,
            runner.logger.warning,
            'use fewer with workers=, and continue with --resume',
            runner.settings.parallel.timeout,
        )
        try:
            while self._iter < end:
                started = time.perf_counter()
                batch = loader.next()
                runner.data_seconds += time.perf_counter() - started
                self.one_pass(batch)
        finally:
            loader.close()

    def one_pass(self, batch: dict) -> None:
        """Do one forward and backward pass; after the last pass of a step, update the weights."""
        runner = self.runner
        # Random operations such as dropout depend only on seed, pass and rank.
        key = (runner.seed, self._iter) if rank() == 0 else (runner.seed, self._iter, rank())
        seed_everything(mix(*key))
        if runner.settings.compile:
            # CUDA graphs may overwrite the outputs of the last pass.
            torch.compiler.cudagraph_mark_step_begin()
        if self._begins_epoch:
            runner.call_hook('before_train_epoch')
            self._begins_epoch = False
        runner.call_hook('before_train_iter', batch_idx=self._iter, data_batch=batch)
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        runner.call_hook(
            'after_train_iter', batch_idx=self._iter, data_batch=batch, outputs=outputs
        )
        is_step_end = runner.at_step_end
        self._iter += 1
        if is_step_end:
            self._end_step()

    def _end_step(self) -> None:
        """Call the hooks of the end of a step, and of an epoch. The step is counted already."""
        runner = self.runner
        ends_epoch = runner.due(1)
        if ends_epoch or self._iter == self.max_iters:
            self._ends_epoch = ends_epoch
            runner.call_hook('after_train_epoch')
            self._ends_epoch = False
            self._begins_epoch = True
        # mmengine has no such hook point. Checkpoints are written here, and the run can stop here.
        runner.call_hook('after_optimizer_step')
        runner.end_step()
