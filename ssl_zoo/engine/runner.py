"""build_runner: from settings to a run."""

import json
import logging
import math
import os
import shlex
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from ssl_zoo.build import build_method
from ssl_zoo.checkpoint import (
    check_resumable,
    checkpoints_in,
    need_items,
    newest_checkpoint,
    read_checkpoint,
)
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.loader import default_workers, train_loader
from ssl_zoo.data.on_device import DeviceDataset
from ssl_zoo.data.sources import Source
from ssl_zoo.data.splits import data_sources
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.counter import AsyncCounter
from ssl_zoo.distributed.objects import on_rank0, raise_together
from ssl_zoo.distributed.sharding import full_state, is_sharded, load_full_state
from ssl_zoo.distributed.signals import StopSignals
from ssl_zoo.distributed.wrap_model import wrap_model
from ssl_zoo.engine.hooks.checkpoint import CheckpointHook
from ssl_zoo.engine.hooks.method import MethodHook
from ssl_zoo.engine.hooks.non_finite import NonFiniteHook
from ssl_zoo.engine.hooks.online_evaluation import OnlineEvaluationHook
from ssl_zoo.engine.hooks.progress import ProgressHook
from ssl_zoo.engine.hooks.schedule import ScheduleHook
from ssl_zoo.engine.hooks.stop import StopHook
from ssl_zoo.engine.hooks.unreadable_images import UnreadableImagesHook
from ssl_zoo.engine.hooks.views_picture import ViewsPictureHook
from ssl_zoo.engine.loop import TrainLoop
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper
from ssl_zoo.engine.plan import Plan, describe_plan
from ssl_zoo.engine.work_dir import LogFile, claim, make_work_dir
from ssl_zoo.errors import CollectiveConfigError, ConfigError
from ssl_zoo.method import Method
from ssl_zoo.optim import parameter_groups
from ssl_zoo.registry import OPTIMIZERS
from ssl_zoo.versions import versions


class ZooRunner(Runner):
    """mmengine's Runner with the zoo's loop, logger and checkpoints.

    Attributes:
        settings, plan: what the run does; method: the method.
        step, max_steps: optimiser steps done and in all; at_step_end: whether this forward pass ends one.
        data_seconds: time spent waiting for data; train_seconds: time spent on the run, earlier legs included.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        resume_from: dict | None,
        unreadable: UnreadableImagesHook,
        online_evaluation: OnlineEvaluationHook,
        guard: NonFiniteHook,
        checkpoint_hook: CheckpointHook,
        stop_hook: StopHook,
        **arguments,
    ):
        self.settings, self.plan, self.resume_from = settings, plan, resume_from
        (
            self.unreadable,
            self.online_evaluation,
            self.guard,
            self.checkpoint_hook,
            self.stop_hook,
        ) = unreadable, online_evaluation, guard, checkpoint_hook, stop_hook
        self.max_steps, self.told, self.counts = (
            plan.steps,
            0,
            AsyncCounter(len(StopSignals.CAUGHT) + 1),
        )
        self.data_seconds, self.seconds_before, self.started = 0.0, 0.0, time.perf_counter()
        # The name keys mmengine's global instances; two runs of one second would share them.
        super().__init__(
            train_cfg=dict(type=TrainLoop),
            randomness=dict(seed=settings.seed),
            experiment_name=uuid.uuid4().hex,
            default_hooks=dict.fromkeys(
                ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
            ),
            **arguments,
        )
        with suppress(OSError):
            os.rmdir(self._log_dir)  # mmengine makes it; the log lies in the work directory
        self.logger.setLevel(logging.INFO if rank() == 0 else logging.WARNING)

    @property
    def method(self) -> Method:
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    @property
    def device(self) -> torch.device:
        return self.method.data_preprocessor.mean.device

    @property
    def step(self) -> int:
        return self.iter // self.plan.accumulate

    @property
    def train_seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def at_step_end(self) -> bool:
        return (self.iter + 1) % self.plan.accumulate == 0

    def whole_method(self) -> Method:
        """The method, of which parts can be called: where it is sharded a whole copy. All processes call it."""
        if not is_sharded(self.method):
            return self.method
        method = build_method(
            self.settings, pretrained=False, microbatch_images=self.plan.micro_batch
        ).to(self.device)
        method.load_state_dict(full_state(self.method.state_dict()))
        return method

    def due(self, every: float, step: int | None = None) -> bool:
        """Whether the step just done, or step number ``step``, reached a multiple of ``every`` epochs."""
        step = self.step if step is None else step
        now, before = (math.floor(self.plan.epoch(s) / every + 1e-9) for s in (step, step - 1))
        return now > before

    def end_step(self) -> None:
        """Tell the other processes of signals and unreadable images, and do what follows from theirs."""
        *asked, unreadable = self.counts.add(
            *self.stop_hook.signals.asked(), self.unreadable.news()
        )
        if unreadable > self.told:
            self.told = unreadable
            self.unreadable.exchange(self)
        if any(asked):
            self.stop_hook.stop(self, asked)

    def train(self):
        try:
            return super().train()
        finally:
            if self.lock is not None:
                self.lock.release()

    def _init_model_weights(self) -> None:
        """Nothing: the method draws its weights, and mmengine's version would draw timm's again."""

    def build_logger(self, **_):
        logger = logging.getLogger(f'ssl_zoo.{self.experiment_name}')
        logger.setLevel(logging.WARNING)  # while mmengine sets itself up, and tells of it
        logger.propagate = False
        who = f'[process {rank()}] ' if rank() > 0 else ''  # all but the first say warnings alone
        for handler, date in (
            (logging.StreamHandler(sys.stdout), ''),
            (LogFile(Path(self.work_dir, 'train.log')), '%Y-%m-%d '),
        ):
            handler.setFormatter(
                logging.Formatter(f'%(asctime)s  {who}%(message)s', datefmt=f'{date}%H:%M:%S')
            )
            logger.addHandler(handler)
        return logger

    def build_visualizer(self, visualizer=None):
        """None: ProgressHook writes the scalars."""

    def _log_env(self, env_cfg) -> None:
        """Nothing: versions.json holds it; mmengine's version runs the compiler to ask for its version."""

    def dump_config(self) -> None:
        """What it takes to run this again: config.py, command.txt, versions.json."""
        if rank() > 0:
            return
        try:
            Config(self.settings.to_builtin()).dump(str(Path(self.work_dir, 'config.py')))
            with open(Path(self.work_dir, 'command.txt'), 'a') as file:
                file.write(shlex.join([sys.executable, *sys.argv]) + '\n')
            Path(self.work_dir, 'versions.json').write_text(json.dumps(versions(), indent=2) + '\n')
        except OSError as error:
            raise ConfigError(
                f'cannot write to the work directory {self.work_dir}: {error}; free some space, or choose another '
                f'--work-dir'
            ) from None

    def load_or_resume(self) -> None:
        if self.resume_from is None:
            return
        content = self.resume_from
        if not 0 <= content['step'] <= self.max_steps:
            raise ConfigError(
                f'cannot resume: the checkpoint is of step {content["step"]}, and the run has {self.max_steps}; give a '
                f'checkpoint of this run'
            )
        try:
            load_full_state(self.method, content['method'])
            load_full_state(self.optim_wrapper.optimizer, content['optimizer'])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
            raise ConfigError(
                f'cannot resume: the weights or the optimizer state do not fit the config ({reason}); give a checkpoint of '
                f'this run'
            ) from None
        self.train_loop._iter = content['step'] * self.plan.accumulate
        self.seconds_before = content['seconds']
        self.resume_from = None
        self.logger.info(f'resumed at step {content["step"]} of {self.max_steps}')
        if content['accumulate'] != self.plan.accumulate:
            before = self.plan.batch_size // content['accumulate']
            self.logger.warning(
                f'passes of {self.plan.micro_batch} images from here on, of {before} before: what looks at other '
                f'images of a pass (see the plan) sees so many'
            )


def build_optimizer(settings: Settings, plan: Plan, method: Method) -> torch.optim.Optimizer:
    groups = parameter_groups(
        method, settings.weight_decay, settings.decay_norm_and_bias, settings.norm_and_bias_lr
    )
    return OPTIMIZERS.create(settings.optimizer, params=groups, lr=plan.peak_lr)


def build_runner(
    settings: Settings, work_dir: str | Path, resume: bool | str = False, unique: bool = False
) -> ZooRunner:
    """A run that ``runner.train()`` starts. Called on every process, after ``ssl_zoo.distributed.process_group.joined``.

    Args:
        settings: from load_config.
        work_dir: where everything the run writes goes.
        resume: continue from the newest checkpoint of work_dir (True, or 'auto' for a new run if there is none yet), or from a given
            one (its path).
        unique: if work_dir exists, take the first of work_dir-2, work_dir-3 ... that does not.

    Raises:
        ConfigError: a mistake in the settings, missing data, a work directory that holds another run or is in use.
    """
    work_dir = Path(work_dir)
    if resume == 'auto':
        resume = on_rank0(lambda: bool(checkpoints_in(work_dir)))
    if not resume and on_rank0(lambda: bool(checkpoints_in(work_dir))):
        raise CollectiveConfigError(
            f'{work_dir} already holds a run ({checkpoints_in(work_dir)[0].name}); continue it with --resume, or '
            f'choose another --work-dir'
        )
    sources = raise_together(lambda: data_sources(settings.data))
    plan = Plan.of(settings, len(sources['train']), world_size())
    content = (
        raise_together(lambda: _resumed(settings, sources['train'], work_dir, resume))
        if resume
        else None
    )
    device = (
        torch.device('cuda', torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device('cpu')
    )
    method = build_method(settings, microbatch_images=plan.micro_batch)
    model = wrap_model(method, settings, plan, device)
    optimizer = build_optimizer(settings, plan, method)
    if settings.data.on_device:
        dataset, workers = (
            raise_together(
                lambda: DeviceDataset(
                    sources['train'],
                    settings.build_views(),
                    settings.seed,
                    device,
                    bool(settings.compile),
                )
            ),
            None,
        )
    else:
        dataset = ViewDataset(sources['train'], settings.build_views(), settings.seed)
        workers = default_workers() if settings.workers is None else settings.workers
    work_dir = Path(on_rank0(lambda: str(make_work_dir(work_dir, unique))))
    lock = raise_together(lambda: claim(work_dir) if rank() == 0 else None)
    checkpoint, progress, guard = (
        CheckpointHook(settings, sources['train']),
        ProgressHook(settings),
        NonFiniteHook(settings),
    )
    unreadable, online_evaluation = (
        UnreadableImagesHook(sources['train'], settings.data.max_unreadable),
        OnlineEvaluationHook(settings, sources, progress),
    )
    stop = StopHook(checkpoint.save)
    runner = ZooRunner(
        settings,
        plan,
        content,
        unreadable,
        online_evaluation,
        guard,
        checkpoint,
        stop,
        model=model,
        work_dir=str(work_dir),
        train_dataloader=lambda start: train_loader(
            dataset,
            plan.micro_batch,
            workers,
            start,
            plan.steps * plan.accumulate,
            (rank(), world_size()),
            settings.parallel.timeout,
        ),
        optim_wrapper=ZooOptimWrapper(optimizer, method, settings, plan.accumulate),
        custom_hooks=[
            MethodHook(),
            ScheduleHook(),
            unreadable,
            ViewsPictureHook(sources['train']),
            online_evaluation,
            progress,
            checkpoint,
            guard,
            stop,
        ],
    )
    runner.lock = lock
    runner.logger.info('plan\n' + describe_plan(settings, plan, method, optimizer.param_groups))
    return runner


def _resumed(settings: Settings, train: Source, work_dir: Path, resume: bool | str) -> dict:
    """The content of the checkpoint to continue from: process 0 chooses it, all read it."""

    def choose() -> str:
        path = newest_checkpoint(work_dir)['path'] if resume is True else str(resume)
        other = [
            p
            for p in checkpoints_in(work_dir)
            if resume is not True
            and (p.parent.resolve() != Path(path).parent.resolve() or p.name > Path(path).name)
        ]
        if other:
            read_checkpoint(path)  # says what is wrong with it first
            raise ConfigError(
                f'{work_dir} holds {other[0].name}, which does not lead to {resume}; choose another --work-dir'
            )
        return path

    path = on_rank0(choose)
    content = read_checkpoint(path)
    need_items(
        content, path, images=int, manifest=str, seconds=float, accumulate=int, optimizer=dict
    )
    check_resumable(content, settings, train)
    return content
