"""Train a method: build a run from settings, then forward, backward, update, to the last step.

``build_trainer`` builds the parts of a run in the order in which they depend on each other, and
``Trainer.fit`` runs them. Hooks do everything else (log, checkpoints, evaluations). The trainer
calls them at these points:

    before_run
        after_load_checkpoint                               a resumed run
        before_train
            before_train_epoch
                before_train_iter, after_train_iter         each forward and backward pass
            after_train_epoch
            after_optimizer_step                            each optimizer step
        after_train
    after_run
    on_wait_stopped                                         a signal while no batch arrives
    on_non_finite                                           a loss or weight that is not finite
    on_exit                                                 always, the last one

A run that ends by a signal or an error has no ``after_train`` and no ``after_run``. A pass
(``iter``) is one forward and backward pass of one micro-batch; a step is one update of the weights,
after ``accumulate`` passes. A reader of the training itself begins at ``one_pass``.

Names and arguments are those of mmengine's Hook; ``after_optimizer_step`` and those that begin with
``on_`` are ours. ``before_save_checkpoint`` is called before each checkpoint is written.
"""

import json
import logging
import math
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import get_priority
from mmengine.visualization.vis_backend import BaseVisBackend
from torch import nn

from ssl_zoo.build import began_with_warning, build_method
from ssl_zoo.config.settings import Settings
from ssl_zoo.config.writing import config_text
from ssl_zoo.data.loader import default_workers, train_loader
from ssl_zoo.data.on_device import DeviceDataset
from ssl_zoo.data.overlap import warn_of_overlap
from ssl_zoo.data.random import mix, seed_everything
from ssl_zoo.data.resilient_loader import ResilientLoader, WaitStopped
from ssl_zoo.data.sources import Source
from ssl_zoo.data.sources.folder import check_work_dir
from ssl_zoo.data.splits import data_notes, data_sources, data_warnings
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.batchnorm import RunningStatistics
from ssl_zoo.distributed.objects import on_rank0, raise_together
from ssl_zoo.distributed.sharding import full_state, is_sharded
from ssl_zoo.engine.checkpoint_writer import CheckpointWriter
from ssl_zoo.engine.describe_plan import describe_plan
from ssl_zoo.engine.initial_weights import read_initial_weights
from ssl_zoo.engine.logger import make_logger
from ssl_zoo.engine.model import build_model
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.resume import (
    check_new,
    check_not_earlier,
    load_state,
    read_resumed_checkpoint,
    resolve_resume,
)
from ssl_zoo.engine.run_hooks import build_hooks
from ssl_zoo.engine.scalar_log import ScalarLog
from ssl_zoo.engine.summed_counts import SummedCounts
from ssl_zoo.engine.work_dir import claim, make_work_dir
from ssl_zoo.engine.writers import TENSORBOARD, Writers, build_writers
from ssl_zoo.errors import ConfigError, NonFiniteError
from ssl_zoo.method import Method
from ssl_zoo.storage.atomic import append_lines, atomic_write
from ssl_zoo.storage.lock import FileLock
from ssl_zoo.versions import versions


def build_trainer(
    settings: Settings, work_dir: str | Path, resume: bool | str = False, unique: bool = False
) -> 'Trainer':
    """Build the trainer of a run; its ``fit()`` starts the run.

    Every process calls this function, inside ``ssl_zoo.distributed.process_group.process_group``.

    Args:
        settings: from load_config.
        work_dir: folder of all files that the run writes.
        resume: True continues from the newest checkpoint of ``work_dir``; 'auto' does so if there
            is a checkpoint, and otherwise starts a new run; a path continues from that checkpoint.
        unique: if ``work_dir`` exists, use the first of work_dir-2, work_dir-3 ... that does not
            exist.

    Raises:
        ConfigError: a mistake in the settings, missing data, or a work directory that holds another
            run or is in use.
    """
    requested_dir = Path(work_dir)
    resume = on_rank0(lambda: resolve_resume(requested_dir, resume))

    # Data, and what follows from the number of images: steps, batches, learning rates.
    sources = raise_together(lambda: data_sources(settings.data))
    for name in ('train', 'val', 'test'):
        on_rank0(partial(check_work_dir, sources[name], requested_dir, name))
    warn_of_overlap(sources, settings.data)
    plan = Plan.of(settings, len(sources['train']), world_size())
    settings = plan.settings

    # The checkpoint to continue from.
    run_dir = None
    lock = None
    checkpoint = None
    if resume is True:  # a checkpoint that is damaged is renamed, which needs the lock
        run_dir, lock = _claim(requested_dir)
    if resume:
        checkpoint = raise_together(
            lambda: read_resumed_checkpoint(settings, sources['train'], requested_dir, resume, lock)
        )

    # Method, optimizer, loader. A resumed run has its weights from the checkpoint.
    hooks = build_hooks(settings, sources)
    build_writers(settings.writers, '.')  # raises for a mistake
    device = _select_device()
    initial = None if resume else raise_together(lambda: read_initial_weights(settings))
    method, model = build_model(settings, plan, device, initial)
    optimizer = build_optimizer(settings, plan, method)
    make_loader = _prepare_loader(settings, plan, sources['train'], device)

    # The work directory comes last: a mistake in the config leaves no folder behind.
    if run_dir is None:
        run_dir, lock = _claim(requested_dir, unique)
        # Another run may have used the folder between the first check and the lock.
        on_rank0(lambda: check_not_earlier(run_dir, str(resume)) if resume else check_new(run_dir))
    began_with = initial.facts() if initial is not None else None
    if checkpoint is not None:
        began_with = checkpoint.get('began_with')
    if began_with is not None:
        method.warnings += (began_with_warning(began_with),)
    writers = raise_together(
        lambda: build_writers(settings.writers, run_dir) if rank() == 0 else {}
    )
    trainer = Trainer(
        settings=settings,
        plan=plan,
        method=method,
        model=model,
        optim_wrapper=ZooOptimWrapper(optimizer, method, settings, plan.accumulate),
        make_loader=make_loader,
        sources=sources,
        hooks=hooks,
        checkpoints=CheckpointWriter(settings, sources['train'], began_with),
        work_dir=run_dir,
        lock=lock,
        checkpoint=checkpoint,
        writers=writers,
    )
    trainer.logger.info('plan\n' + describe_plan(settings, plan, method, optimizer.param_groups))
    if initial is not None:
        trainer.logger.info(f'begins with {initial.describe()}')
    for note in data_notes(sources):
        trainer.logger.info(f'note: {note}')
    for warning in (*data_warnings(sources), *method.warnings):
        trainer.logger.warning(f'warning: {warning}')
    return trainer


def _claim(work_dir: Path, unique: bool = False) -> tuple[Path, FileLock | None]:
    """Make and lock the work directory on rank 0; return its path and, on rank 0, its lock."""
    run_dir = Path(on_rank0(lambda: str(make_work_dir(work_dir, unique))))
    return run_dir, raise_together(lambda: claim(run_dir) if rank() == 0 else None)


def _select_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device('cuda', torch.cuda.current_device())
    return torch.device('cpu')


def _prepare_loader(
    settings: Settings, plan: Plan, train: Source, device: torch.device
) -> Callable[[int], Iterable[dict]]:
    """Return ``make_loader(start)``, which makes this rank's loader from batch ``start`` on."""
    views = settings.build_views()
    if settings.data.on_device:
        workers = None
        dataset = raise_together(
            lambda: DeviceDataset(train, views, settings.seed, device, bool(settings.compile))
        )
    else:
        workers = default_workers() if settings.workers is None else settings.workers
        dataset = ViewDataset(train, views, settings.seed)

    def make_loader(start: int) -> Iterable[dict]:
        return train_loader(
            dataset,
            plan.micro_batch,
            workers,
            start,
            plan.steps * plan.accumulate,
            (rank(), world_size()),
            settings.parallel.timeout,
        )

    return make_loader


def set_schedule(optimizer: torch.optim.Optimizer, plan: Plan, step: int) -> None:
    """Set learning rate and weight decay of a step. They depend on the step alone."""
    for group in optimizer.param_groups:
        lr = plan.lr(step) if group['scheduled'] else plan.peak_lr
        group['lr'] = group['lr_scale'] * lr
        if group['adapt']:
            group['weight_decay'] = plan.weight_decay(step)


class Trainer:
    """The training of a run.

    Hooks get the trainer as ``runner``. It has the attributes of mmengine's Runner that mmengine's
    own hooks use in training: model, optim_wrapper, iter, epoch, max_iters, max_epochs, logger,
    message_hub, visualizer, work_dir, log_dir, hooks, rank, world_size, seed, experiment_name,
    timestamp.

    Args:
        settings: settings of the run.
        plan: plan of the run.
        method: the method.
        model: the method, or its wrapper for several processes.
        optim_wrapper: wrapper of the optimizer.
        make_loader: function that makes the loader of the batches from number ``start`` on.
        sources: images by part, from ssl_zoo.data.splits.data_sources.
        hooks: hooks of the run; the trainer orders them by their priorities.
        checkpoints: writes the checkpoints.
        work_dir: the work directory.
        lock: lock of the work directory, released at the end of the run; None on ranks above 0.
        checkpoint: content of the checkpoint to resume from, or None.
        writers: writers of the config, by name, on rank 0.

    Attributes:
        iter: forward passes done; with accumulation, several per optimizer step.
        max_iters: forward passes of the run.
        max_steps: optimizer steps of the run.
        max_epochs: epochs of the run, rounded up.
        summed_counts: counters that hooks register, summed over ranks at each step.
        data_seconds: seconds that this process has waited for data.
        paused_seconds: seconds of evaluations, which images per second leave out.
        paused_once_seconds: those of evaluations that happen once.
        seconds_before: seconds of the run before it was resumed.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        method: Method,
        model: nn.Module,
        optim_wrapper: ZooOptimWrapper,
        make_loader: Callable[[int], Iterable[dict]],
        sources: dict[str, Source | None],
        hooks: Sequence[Hook],
        checkpoints: CheckpointWriter,
        work_dir: Path,
        lock: FileLock | None = None,
        checkpoint: dict | None = None,
        writers: dict[str, BaseVisBackend] | None = None,
    ):
        self.settings = settings
        self.plan = plan
        self.method = method
        self.model = model
        self.optim_wrapper = optim_wrapper
        self.make_loader = make_loader
        self.sources = sources
        self.checkpoints = checkpoints
        self.work_dir = str(Path(work_dir).absolute())
        self.lock = lock
        self.checkpoint_to_resume = checkpoint

        self.iter = 0
        self.max_steps = plan.steps
        self.max_iters = plan.steps * plan.accumulate
        self.max_epochs = math.ceil(plan.epoch(plan.steps))
        self._begins_epoch = True
        self._ends_epoch = False
        self.data_seconds = 0.0
        self.paused_seconds = 0.0
        self.paused_once_seconds = 0.0
        self.seconds_before = 0.0
        self._started = time.perf_counter()
        self._ended: float | None = None

        self.seed = settings.seed
        self.rank = rank()
        self.world_size = world_size()
        self.log_dir = self.work_dir
        self.timestamp = time.strftime('%Y%m%d_%H%M%S')
        self.experiment_name = uuid.uuid4().hex
        self.logger = make_logger(f'ssl_zoo.{self.experiment_name}', self.work_dir)
        self.logger.setLevel(logging.INFO if rank() == 0 else logging.WARNING)
        self.message_hub = MessageHub.get_instance(self.experiment_name)
        types = [config.get('type') for config in settings.writers if isinstance(config, dict)]
        has_tensorboard = rank() == 0 and TENSORBOARD in types
        self.scalar_log = ScalarLog(self.work_dir, self.logger, has_tensorboard)
        self.visualizer = Writers(self.scalar_log, writers or {}, self.logger)

        self.summed_counts = SummedCounts()
        self.running_statistics = RunningStatistics(method)
        self.hooks: list[Hook] = []
        for hook in hooks:
            self.register_hook(hook)
        self._called_hooks: Sequence[Hook] | None = None  # in place of all hooks
        self._write_run_files()

    # --- The run.

    def fit(self) -> nn.Module:
        """Train to the end, then release the work directory. Returns the trained model.

        Raises:
            NonFiniteError: a loss or weights are not finite.
            Stopped: a signal asked the run to stop.
        """
        try:
            self.call_hook('before_run')
            self.load_or_resume()
            self.optim_wrapper.initialize_count_status(self.model, self.iter, self.max_iters)
            if self.iter < self.max_iters:
                self._train()
            else:
                self._measure_what_is_missing()
            self.call_hook('after_run')
        finally:
            self._ended = time.perf_counter()
            try:
                self.visualizer.close()
            finally:
                try:
                    self.call_hook('on_exit')
                finally:
                    if self.lock is not None:
                        self.lock.release()
        return self.model

    def load_or_resume(self) -> None:
        """Load the checkpoint to resume from, if there is one."""
        if self.checkpoint_to_resume is not None:
            load_state(self, self.checkpoint_to_resume)
            self.checkpoint_to_resume = None

    def _train(self) -> None:
        """Train from the current pass to the last."""
        self._begin_logs()
        self.call_hook('before_train')
        self.model.train()
        try:
            self.forward_to(self.max_iters)
            self.call_hook('after_train')
        except WaitStopped:
            self.call_hook('on_wait_stopped')
            raise
        except NonFiniteError as error:
            self.call_hook('on_non_finite', error=error)
            raise
        except torch.linalg.LinAlgError as error:
            # A matrix is not finite, or has no decomposition.
            reason = str(error).splitlines()[0]
            failure = NonFiniteError(f'step {self.step} failed ({reason})', self.step)
            self.call_hook('on_non_finite', error=failure)
            raise failure from error

    def forward_to(self, end: int, hooks: Sequence[Hook] | None = None) -> None:
        """Train up to pass ``end``.

        Args:
            end: number of passes done at the end.
            hooks: the hooks to call; None for those of the run.
        """
        self._called_hooks = hooks
        loader = ResilientLoader(
            self.make_loader,
            self.iter,
            self.logger.warning,
            'use fewer with workers=, and continue with --resume',
            self.settings.parallel.timeout,
        )
        try:
            while self.iter < end:
                started = time.perf_counter()
                batch = loader.next()
                self.data_seconds += time.perf_counter() - started
                self.one_pass(batch)
        finally:
            loader.close()
            self._called_hooks = None

    def one_pass(self, batch: dict) -> None:
        """Do one forward and backward pass; after the last pass of a step, end the step."""
        # Random operations such as dropout depend only on seed, pass and rank.
        key = (self.seed, self.iter) if rank() == 0 else (self.seed, self.iter, rank())
        seed_everything(mix(*key))
        if self.settings.compile:
            # CUDA graphs may overwrite the outputs of the last pass.
            torch.compiler.cudagraph_mark_step_begin()
        if self._begins_epoch:
            self.call_hook('before_train_epoch')
            self._begins_epoch = False
        self.method.progress = self.step / self.max_steps
        self.method.epoch = self.plan.epoch(self.step)
        set_schedule(self.optim_wrapper.optimizer, self.plan, self.step)
        self.call_hook('before_train_iter', batch_idx=self.iter, data_batch=batch)

        # mmengine's train_step: data_preprocessor makes the views, Method.loss the loss;
        # optim_wrapper.update_params (engine/optim_wrapper.py) does backward and, on the last pass
        # of a step, optimizer.step() and zero_grad().
        outputs = self.model.train_step(batch, optim_wrapper=self.optim_wrapper)
        is_step_end = self.at_step_end
        if is_step_end:
            self.method.after_step()
            self.running_statistics.average()

        self.call_hook('after_train_iter', batch_idx=self.iter, data_batch=batch, outputs=outputs)
        self.iter += 1
        if is_step_end:
            self._end_step()

    def _end_step(self) -> None:
        """Call the hooks of the end of a step, and of an epoch. The step is counted already."""
        ends_epoch = self.due(1)
        if ends_epoch or self.iter == self.max_iters:
            self._ends_epoch = ends_epoch
            self.call_hook('after_train_epoch')
            self._ends_epoch = False
            self._begins_epoch = True
        # Checkpoints are written here.
        self.call_hook('after_optimizer_step')
        # StopHook may raise Stopped here, on all ranks at the same step.
        self.summed_counts.exchange()

    def _measure_what_is_missing(self) -> None:
        """After the last step, let hooks write results that a crash has prevented."""
        incomplete = [hook for hook in self.hooks if not self._is_complete(hook)]
        if not incomplete:
            self.logger.info('the run is complete, there is nothing left to do')
            return
        # The run was killed between its last checkpoint and its results.
        self.logger.info('the training is complete; measuring its missing results')
        self._begin_logs()
        for hook in incomplete:
            hook.before_train(self)
            hook.after_train(self)

    def _begin_logs(self) -> None:
        if rank() == 0:
            self.scalar_log.remove_lines_after(self.step)
            self.visualizer.add_config(self.settings.to_builtin(), self.work_dir)

    def _is_complete(self, hook: Hook) -> bool:
        """Whether a hook has written its results; a hook without ``is_complete`` has none."""
        is_complete = getattr(hook, 'is_complete', None)
        return is_complete is None or is_complete(self)

    # --- For the hooks.

    def register_hook(self, hook: Hook, priority: str | int | None = None) -> None:
        """Add a hook. Hooks are called by priority, and in the order of their addition."""
        if priority is not None:
            hook.priority = priority
        self.hooks.append(hook)
        self.hooks.sort(key=lambda each: get_priority(each.priority))

    def call_hook(self, fn_name: str, **arguments: Any) -> None:
        """Call a function of each hook that has it, in the order of their priorities."""
        for hook in self.hooks if self._called_hooks is None else self._called_hooks:
            function = getattr(hook, fn_name, None)
            if function is not None:
                function(self, **arguments)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.iter // self.plan.accumulate

    @property
    def epoch(self) -> int:
        """Epochs done, rounded down; an epoch counts once ``after_train_epoch`` was called."""
        done = int(self.plan.epoch(self.step))
        return done - 1 if self._ends_epoch else done

    @property
    def at_step_end(self) -> bool:
        """Whether the current forward pass is the last one of its optimizer step."""
        return (self.iter + 1) % self.plan.accumulate == 0

    @property
    def device(self) -> torch.device:
        """Device of the method."""
        return self.method.data_preprocessor.mean.device

    @property
    def train_seconds(self) -> float:
        """Seconds of the run, including those before it was resumed."""
        now = time.perf_counter() if self._ended is None else self._ended
        return self.seconds_before + now - self._started

    def due(self, every: float, step: int | None = None) -> bool:
        """Whether a step is the first one to reach a multiple of ``every`` epochs.

        Args:
            every: number of epochs.
            step: number of steps done; None for the steps that the run has done.
        """
        if step is None:
            step = self.step
        multiple = math.floor(self.plan.epoch(step) / every + 1e-9)
        multiple_before = math.floor(self.plan.epoch(step - 1) / every + 1e-9)
        return multiple > multiple_before

    def log_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Write scalars of a step, such as {'train/loss': 1.0}, to log.jsonl and all writers.

        Rank 0 calls it.
        """
        epoch = self.plan.epoch(step)
        self.scalar_log.write(step, epoch, scalars)
        self.visualizer.to_background({'epoch': epoch, **scalars}, step)

    def pause(self, seconds: float, once: bool = False) -> None:
        """Leave seconds that are over out of images per second.

        Args:
            seconds: time that an evaluation took.
            once: whether to leave it out of the time left too, because it does not happen again.
        """
        self.paused_seconds += seconds
        if once:
            self.paused_once_seconds += seconds

    def save_checkpoint(self) -> Path | None:
        """Write the state of the run. All ranks call it; see CheckpointWriter.save."""
        return self.checkpoints.save(self)

    def whole_method(self) -> Method:
        """Return the method, or a whole copy of a sharded method. All ranks call it."""
        if not is_sharded(self.method):
            return self.method
        method = build_method(
            self.settings, pretrained=False, microbatch_images=self.plan.micro_batch
        ).to(self.device)
        method.load_state_dict(full_state(self.method.state_dict()))
        return method

    def _write_run_files(self) -> None:
        """Write the files that document the run: config.py, command.txt, versions.json."""
        if rank() > 0:
            return
        try:
            folder = Path(self.work_dir)
            _write_text(folder / 'config.py', config_text(self.settings.to_builtin()))
            append_lines(folder / 'command.txt', shlex.join([sys.executable, *sys.argv]) + '\n')
            _write_text(folder / 'versions.json', json.dumps(versions(), indent=2) + '\n')
        except OSError as error:
            raise ConfigError(
                f'cannot write to the work directory {self.work_dir}: {error}; free some space, or '
                f'choose another --work-dir'
            ) from None


def _write_text(path: Path, text: str) -> None:
    content = text.encode(errors='backslashreplace')  # undecodable bytes in names of files
    atomic_write(path, lambda file: file.write(content))
