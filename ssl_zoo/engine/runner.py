"""Build the runner of a run from settings."""

import json
import logging
import math
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssl_zoo.build import build_method
from ssl_zoo.config.settings import Settings
from ssl_zoo.config.writing import config_text
from ssl_zoo.data.loader import default_workers, start_method, train_loader
from ssl_zoo.data.on_device import DeviceDataset
from ssl_zoo.data.overlap import warn_of_overlap
from ssl_zoo.data.sources import Source
from ssl_zoo.data.sources.folder import check_work_dir
from ssl_zoo.data.splits import data_notes, data_sources, data_warnings
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.counter import AsyncCounter
from ssl_zoo.distributed.objects import on_rank0, raise_together
from ssl_zoo.distributed.sharding import full_state, is_sharded
from ssl_zoo.distributed.signals import StopSignals
from ssl_zoo.engine.describe_plan import describe_plan
from ssl_zoo.engine.logger import make_logger
from ssl_zoo.engine.loop import TrainLoop
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
from ssl_zoo.engine.run_hooks import RunHooks
from ssl_zoo.engine.work_dir import claim, make_work_dir
from ssl_zoo.errors import ConfigError
from ssl_zoo.method import Method
from ssl_zoo.storage.atomic import append_lines, atomic_write
from ssl_zoo.storage.lock import FileLock
from ssl_zoo.versions import versions

# mmengine's hooks that the zoo's hooks replace.
MMENGINE_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)


def build_runner(
    settings: Settings, work_dir: str | Path, resume: bool | str = False, unique: bool = False
) -> 'ZooRunner':
    """Build the runner of a run; its ``train()`` starts the run.

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
    sources = raise_together(lambda: data_sources(settings.data))
    for name in ('train', 'val', 'test'):
        on_rank0(partial(check_work_dir, sources[name], requested_dir, name))
    warn_of_overlap(sources, settings.data)
    plan = Plan.of(settings, len(sources['train']), world_size())
    settings = plan.settings
    run_dir = None
    lock = None
    checkpoint = None
    if resume is True:  # a checkpoint that is damaged is renamed, which needs the lock
        run_dir, lock = _claim(requested_dir)
    if resume:
        checkpoint = raise_together(
            lambda: read_resumed_checkpoint(settings, sources['train'], requested_dir, resume, lock)
        )
    device = _select_device()
    method, model = build_model(settings, plan, device)
    optimizer = build_optimizer(settings, plan, method)
    make_loader = _prepare_loader(settings, plan, sources['train'], device)
    if run_dir is None:
        run_dir, lock = _claim(requested_dir, unique)
        # Another run may have used the folder between the first check and the lock.
        on_rank0(lambda: check_not_earlier(run_dir, str(resume)) if resume else check_new(run_dir))
    runner = ZooRunner(
        settings=settings,
        plan=plan,
        checkpoint=checkpoint,
        lock=lock,
        hooks=RunHooks.build(settings, sources),
        work_dir=run_dir,
        model=model,
        optim_wrapper=ZooOptimWrapper(optimizer, method, settings, plan.accumulate),
        make_loader=make_loader,
    )
    runner.logger.info('plan\n' + describe_plan(settings, plan, method, optimizer.param_groups))
    for note in data_notes(sources):
        runner.logger.info(f'note: {note}')
    for warning in (*data_warnings(sources), *method.warnings):
        runner.logger.warning(f'warning: {warning}')
    return runner


def _claim(work_dir: Path, unique: bool = False) -> tuple[Path, FileLock | None]:
    """Make and lock the work directory on rank 0; return its path and, on rank 0, its lock."""
    run_dir = Path(on_rank0(lambda: str(make_work_dir(work_dir, unique))))
    return run_dir, raise_together(lambda: claim(run_dir) if rank() == 0 else None)


def _write_text(path: Path, text: str) -> None:
    content = text.encode(errors='backslashreplace')  # undecodable bytes in names of files
    atomic_write(path, lambda file: file.write(content))


def _select_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device('cuda', torch.cuda.current_device())
    return torch.device('cpu')


def _prepare_loader(
    settings: Settings, plan: Plan, train: Source, device: torch.device
) -> Callable[[int], Iterable[dict]]:
    """Return a function that makes the loader of this rank's batches from ``start`` on."""
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


class ZooRunner(Runner):
    """mmengine's Runner with the zoo's loop, logger and checkpoints.

    Args:
        settings: settings of the run.
        plan: plan of the run.
        checkpoint: content of the checkpoint to resume from, or None.
        lock: lock of the work directory, released at the end of the run; None on ranks above 0.
        hooks: hooks of the run.
        work_dir: the work directory.
        model: model to train.
        optim_wrapper: wrapper of its optimizer.
        make_loader: function that makes the loader of the batches from number ``start`` on.

    Attributes:
        max_steps: optimizer steps of the run.
        data_seconds: seconds that this process has waited for data.
        seconds_before: seconds of the run before it was resumed.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        checkpoint: dict | None,
        lock: FileLock | None,
        hooks: RunHooks,
        work_dir: Path,
        model: nn.Module,
        optim_wrapper: ZooOptimWrapper,
        make_loader: Callable[[int], Iterable[dict]],
    ):
        self.settings = settings
        self.plan = plan
        self.checkpoint_to_resume = checkpoint
        self.lock = lock
        self.unreadable_images_hook = hooks.unreadable_images
        self.online_evaluation_hook = hooks.online_evaluation
        self.progress_hook = hooks.progress
        self.checkpoint_hook = hooks.checkpoint
        self.non_finite_hook = hooks.non_finite
        self.stop_hook = hooks.stop
        self.custom_hooks = hooks.custom
        self.called_hooks: list[Hook] | None = None  # in place of all hooks, to repeat steps
        self.max_steps = plan.steps
        self.data_seconds = 0.0
        self.seconds_before = 0.0
        self._started = time.perf_counter()
        # One counter for each signal, and one for unreadable images.
        self._counter = AsyncCounter(len(StopSignals.CAUGHT) + 1)
        self._unreadable_exchanged = 0
        super().__init__(
            model=model,
            work_dir=str(work_dir),
            train_dataloader=make_loader,
            optim_wrapper=optim_wrapper,
            custom_hooks=hooks.in_order(),
            train_cfg=dict(type=TrainLoop),
            # mmengine would set 'fork', whatever the user has set.
            env_cfg=dict(mp_cfg=dict(mp_start_method=start_method())),
            randomness=dict(seed=settings.seed),
            # mmengine's global instances have this key; by default two runs that start in the same
            # second share them.
            experiment_name=uuid.uuid4().hex,
            default_hooks=dict.fromkeys(MMENGINE_HOOKS),
        )
        with suppress(OSError):
            os.rmdir(self._log_dir)  # mmengine makes this folder; the log is in the work directory
        self.logger.setLevel(logging.INFO if rank() == 0 else logging.WARNING)

    # --- The state of the run.

    @property
    def method(self) -> Method:
        """The method, without its DDP wrapper."""
        if isinstance(self.model, DistributedDataParallel):
            return self.model.module
        return self.model

    @property
    def device(self) -> torch.device:
        """Device of the method."""
        return self.method.data_preprocessor.mean.device

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.iter // self.plan.accumulate

    @property
    def at_step_end(self) -> bool:
        """Whether the current forward pass is the last one of its optimizer step."""
        return (self.iter + 1) % self.plan.accumulate == 0

    @property
    def train_seconds(self) -> float:
        """Seconds of the run, including those before it was resumed."""
        return self.seconds_before + time.perf_counter() - self._started

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

    def whole_method(self) -> Method:
        """Return the method, or a whole copy of a sharded method. All ranks call it."""
        if not is_sharded(self.method):
            return self.method
        method = build_method(
            self.settings, pretrained=False, microbatch_images=self.plan.micro_batch
        ).to(self.device)
        method.load_state_dict(full_state(self.method.state_dict()))
        return method

    # --- Actions of the run.

    def train(self) -> nn.Module:
        """Train to the end, then release the work directory."""
        try:
            return super().train()
        finally:
            if self.lock is not None:
                self.lock.release()

    def end_step(self) -> None:
        """Sum signals and counts of unreadable images over ranks, and act on the sums."""
        *signal_flags, unreadable = self._counter.add(
            *self.stop_hook.signals.received_flags(), self.unreadable_images_hook.count_new()
        )
        if unreadable > self._unreadable_exchanged:
            self._unreadable_exchanged = unreadable
            self.unreadable_images_hook.exchange(self)
        if any(signal_flags):
            self.stop_hook.stop(self, signal_flags)

    def load_or_resume(self) -> None:
        """Load the checkpoint to resume from, if there is one."""
        if self.checkpoint_to_resume is not None:
            load_state(self, self.checkpoint_to_resume)
            self.checkpoint_to_resume = None

    def dump_config(self) -> None:
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

    # --- Functions that replace mmengine's.

    def call_hook(self, fn_name: str, **arguments: Any) -> None:
        """Call a function of each hook that has it, in the order of their priorities.

        mmengine's function raises a TypeError of a hook again without saying where it occurred.
        """
        for hook in self.hooks if self.called_hooks is None else self.called_hooks:
            function = getattr(hook, fn_name, None)
            if function is not None:
                function(self, **arguments)

    def build_logger(self, **_: Any) -> logging.Logger:
        """Make the logger; mmengine's messages about its set-up are not shown."""
        logger = make_logger(f'ssl_zoo.{self.experiment_name}', self.work_dir)
        logger.setLevel(logging.WARNING)
        return logger

    def build_visualizer(self, visualizer: dict | None = None) -> None:
        """Build no visualizer: ProgressHook writes the scalars."""

    def _init_model_weights(self) -> None:
        """Do nothing: the method has its initial weights, and mmengine would redraw timm's."""

    def _log_env(self, env_cfg: dict) -> None:
        """Do nothing: versions.json has the versions, and mmengine would run a compiler."""
