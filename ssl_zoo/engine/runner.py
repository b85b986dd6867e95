"""build_runner: from settings to a run."""
import itertools
import json
import logging
import math
import os
import shlex
import sys
import time
import uuid
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ..data.loader import ViewDataset, train_loader
from ..data.splits import data_sources
from ..method import Method, MethodHook
from ..optim import parameter_groups
from ..registry import OPTIMIZERS, ConfigError
from .checkpoint import CheckpointHook, build_method, check_resumable, checkpoints_in, newest_checkpoint, read_checkpoint, versions
from .hooks import ScheduleHook, StopHook, UnreadableHook
from .loop import TrainLoop, ZooOptimWrapper
from .plan import Plan, describe_plan
from .progress import ProgressHook, ViewsPictureHook
from .settings import Settings
from .watch import WatchHook


class ZooRunner(Runner):
    """mmengine's Runner with the zoo's loop, logger and checkpoints.

    Attributes:
        settings, plan: what the run does; method: the method.
        step, max_steps: optimiser steps done and in all; at_step_end: whether this forward pass ends one.
        data_seconds: time spent waiting for data; train_seconds: time spent on the run, earlier legs included.
    """

    def __init__(self, settings: Settings, plan: Plan, resume_from: dict | None, stop_hook: StopHook,
                 checkpoint_hook: CheckpointHook, **arguments):
        self.settings, self.plan, self.resume_from = settings, plan, resume_from
        self.stop_hook, self.checkpoint_hook = stop_hook, checkpoint_hook
        self.accumulate, self.max_steps = settings.accumulate, plan.steps
        self.data_seconds, self.seconds_before, self.started = 0.0, 0.0, time.perf_counter()
        # The name keys mmengine's global instances; two runs of one second would share them.
        super().__init__(train_cfg=dict(type=TrainLoop), randomness=dict(seed=settings.seed), experiment_name=uuid.uuid4().hex,
                         default_hooks=dict.fromkeys(('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
                                                      'checkpoint')), **arguments)
        os.rmdir(self._log_dir)                                        # mmengine makes it; the log lies in the work directory
        self.logger.setLevel(logging.INFO)

    @property
    def method(self) -> Method:
        return self.model

    @property
    def device(self) -> torch.device:
        return self.method.data_preprocessor.mean.device

    @property
    def step(self) -> int:
        return self.iter // self.accumulate

    @property
    def train_seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def at_step_end(self) -> bool:
        return (self.iter + 1) % self.accumulate == 0

    def due(self, every: float) -> bool:
        """Whether the step just done reached a multiple of ``every`` epochs."""
        now, before = (math.floor(self.plan.epoch(step) / every + 1e-9) for step in (self.step, self.step - 1))
        return now > before

    def build_logger(self, **_):
        logger = logging.getLogger(f'ssl_zoo.{self.experiment_name}')
        logger.setLevel(logging.WARNING)                               # while mmengine sets itself up, and tells of it
        logger.propagate = False
        file = logging.FileHandler(Path(self.work_dir, 'train.log'))
        for handler, date in ((logging.StreamHandler(sys.stdout), ''), (file, '%Y-%m-%d ')):
            handler.setFormatter(logging.Formatter('%(asctime)s  %(message)s', datefmt=f'{date}%H:%M:%S'))
            logger.addHandler(handler)
        return logger

    def build_visualizer(self, visualizer=None):
        """None: ProgressHook writes the scalars."""

    def _log_env(self, env_cfg) -> None:
        """Nothing: versions.json holds it; mmengine's version runs the compiler to ask for its version."""

    def dump_config(self) -> None:
        """What it takes to run this again: config.py, command.txt, versions.json."""
        Config(self.settings.plain()).dump(str(Path(self.work_dir, 'config.py')))
        with open(Path(self.work_dir, 'command.txt'), 'a') as file:
            file.write(shlex.join([sys.executable, *sys.argv]) + '\n')
        Path(self.work_dir, 'versions.json').write_text(json.dumps(versions(), indent=2) + '\n')

    def load_or_resume(self) -> None:
        if self.resume_from is None:
            return
        content = self.resume_from
        self.method.load_state_dict(content['method'])
        self.optim_wrapper.optimizer.load_state_dict(content['optimizer'])
        self.train_loop._iter = content['step'] * self.accumulate
        self.seconds_before = content['seconds']
        self.resume_from = None
        self.logger.info(f'resumed at step {content["step"]} of {self.max_steps}')


def build_optimizer(settings: Settings, plan: Plan, method: Method) -> torch.optim.Optimizer:
    groups = parameter_groups(method, settings.weight_decay, settings.decay_norm_and_bias, settings.norm_and_bias_lr)
    return OPTIMIZERS.create(settings.optimizer, params=groups, lr=plan.peak_lr)


def _make_work_dir(path: Path, unique: bool) -> Path:
    """Make the directory. If it must be ``unique``, making it is what claims it: two runs started at once get two of them."""
    try:
        if not unique:
            path.mkdir(parents=True, exist_ok=True)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        for n in itertools.count(1):
            claimed = path if n == 1 else path.with_name(f'{path.name}-{n}')
            try:
                claimed.mkdir()
                return claimed
            except FileExistsError:
                continue
    except OSError as error:
        raise ConfigError(f'cannot make the work directory {path}: {error}') from None


def build_runner(settings: Settings, work_dir: str | Path, resume: bool | str = False, unique: bool = False) -> ZooRunner:
    """A run that ``runner.train()`` starts.

    Args:
        settings: from load_config.
        work_dir: where everything the run writes goes.
        resume: continue from the newest checkpoint of work_dir (True) or from a given one (its path).
        unique: if work_dir exists, take the first of work_dir-2, work_dir-3 ... that does not.

    Raises:
        ConfigError: a mistake in the settings, missing data, a work directory that holds another run.
    """
    if int(os.environ.get('WORLD_SIZE', 1)) > 1:
        raise ConfigError('this version trains on one process; start it without torchrun, with accumulate= for large batches')
    work_dir = Path(work_dir)
    if checkpoints_in(work_dir) and not resume:
        raise ConfigError(f'{work_dir} already holds a run ({checkpoints_in(work_dir)[0].name}); continue it with --resume, or '
                          f'choose another --work-dir')
    sources = data_sources(settings.data)
    plan = Plan.of(settings, len(sources['train']))
    content = newest_checkpoint(work_dir) if resume is True else read_checkpoint(resume) if resume else None
    if content:
        check_resumable(content, settings, sources['train'])
        other = [p for p in checkpoints_in(work_dir) if resume is not True and (
            p.parent.resolve() != Path(resume).parent.resolve() or p.name > Path(resume).name)]
        if other:
            raise ConfigError(f'{work_dir} holds {other[0].name}, which does not lead to {resume}; choose another --work-dir')
    method = build_method(settings)
    optimizer = build_optimizer(settings, plan, method)
    dataset = ViewDataset(sources['train'], settings.recipes(), settings.seed)
    workers = min(max((os.cpu_count() or 2) - 1, 0), 8) if settings.workers is None else settings.workers
    checkpoint, progress = CheckpointHook(settings, sources['train']), ProgressHook(settings)
    stop = StopHook(checkpoint.save)
    work_dir = _make_work_dir(work_dir, unique)
    runner = ZooRunner(
        settings, plan, content, stop, checkpoint, model=method, work_dir=str(work_dir),
        train_dataloader=lambda start, end: train_loader(dataset, plan.micro_batch, workers, start, end),
        optim_wrapper=ZooOptimWrapper(optimizer, method, settings),
        custom_hooks=[MethodHook(), ScheduleHook(), UnreadableHook(sources['train'], settings.data.max_unreadable),
                      ViewsPictureHook(sources['train']), WatchHook(settings, sources, progress), progress, checkpoint, stop])
    runner.logger.info('plan\n' + describe_plan(settings, plan, method, optimizer.param_groups))
    return runner
