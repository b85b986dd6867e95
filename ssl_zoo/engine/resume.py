"""Resume a run: choose the checkpoint and load its state."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_zoo.checkpoint import (
    check_resumable,
    checkpoints_in,
    damaged_checkpoints_in,
    need_items,
    newest_checkpoint,
    nothing_to_resume,
    read_checkpoint,
)
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.sources import Source
from ssl_zoo.distributed.objects import on_rank0
from ssl_zoo.distributed.sharding import load_full_state
from ssl_zoo.engine.custom_hooks import load_saved_state
from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.lock import FileLock

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer

# State of torch's optimizers, and of LARS, that has the shape of its parameter. Others may have
# other shapes, such as Adafactor's.
SHAPED_LIKE_PARAMETER = (
    'momentum_buffer',
    'exp_avg',
    'exp_avg_sq',
    'max_exp_avg_sq',
    'exp_inf',
    'square_avg',
    'grad_avg',
    'acc_delta',
    'sum',
    'prev',
    'step_size',
    'ax',
)


def resolve_resume(work_dir: Path, resume: bool | str) -> bool | str:
    """Replace 'auto' by True or False, on rank 0, and check what the work directory holds.

    Args:
        work_dir: the work directory; it need not exist.
        resume: see build_trainer.

    Returns:
        True for the newest checkpoint of ``work_dir``, the path of a checkpoint, or False for a new
        run.

    Raises:
        ConfigError: there is nothing to resume, or a new run would find another run's checkpoints
            (damaged ones, too) in its folder.
    """
    checkpoints = checkpoints_in(work_dir)
    if resume == 'auto':
        resume = bool(checkpoints or damaged_checkpoints_in(work_dir))
    if resume is True and not checkpoints:
        raise ConfigError(nothing_to_resume(work_dir))
    if not resume:
        check_new(work_dir)
    return resume


def check_new(work_dir: Path) -> None:
    """Check that no run has left checkpoints, whole or damaged, in a work directory.

    Raises:
        ConfigError: a run has.
    """
    found = checkpoints_in(work_dir) + damaged_checkpoints_in(work_dir)
    if found:
        raise ConfigError(
            f'{work_dir} already holds a run ({found[0].name}); continue it with --resume, or '
            f'choose another --work-dir'
        )


def read_resumed_checkpoint(
    settings: Settings, train: Source, work_dir: Path, resume: bool | str, lock: FileLock | None
) -> dict:
    """Read the checkpoint to continue from. Rank 0 chooses it, and all ranks read it.

    Args:
        settings: settings of the run.
        train: the training images.
        work_dir: the work directory.
        resume: True for the newest checkpoint of ``work_dir``, or the path of a checkpoint.
        lock: on rank 0, the lock of the work directory, if this process holds it.

    Raises:
        ConfigError: the checkpoint cannot be read, is incomplete, or belongs to another run.
    """
    path = on_rank0(lambda: _choose_checkpoint(work_dir, resume, lock))
    content = read_checkpoint(path)
    need_items(
        content, path, images=int, manifest=str, seconds=float, accumulate=int, optimizer=dict
    )
    return dict(content, warning=check_resumable(content, settings, train))


def _choose_checkpoint(work_dir: Path, resume: bool | str, lock: FileLock | None) -> str:
    if isinstance(resume, bool):
        is_locked = lock is not None and lock.locked
        return newest_checkpoint(work_dir, rename=is_locked)['path']
    try:
        check_not_earlier(work_dir, resume)
    except ConfigError:
        read_checkpoint(resume)  # an error in the chosen file is reported first
        raise
    return resume


def check_not_earlier(work_dir: Path, chosen: str) -> None:
    """Check that a work directory holds no checkpoint that a run from ``chosen`` would replace.

    Raises:
        ConfigError: it holds a later checkpoint than ``chosen``, or one of another run.
    """
    path = Path(chosen)
    for other in checkpoints_in(work_dir):
        is_later = other.name > path.name
        if is_later or other.parent.resolve() != path.parent.resolve():
            raise ConfigError(
                f'{work_dir} holds {other.name}, which is not an earlier checkpoint of the run of '
                f'{chosen}; choose another --work-dir'
            )


def load_state(runner: 'Trainer', content: dict) -> None:
    """Load weights, optimizer state, step and seconds of a checkpoint into a run.

    Raises:
        ConfigError: the checkpoint does not fit the run.
    """
    step = content['step']
    if not 0 <= step <= runner.max_steps:
        raise ConfigError(
            f'cannot resume: the checkpoint is of step {step}, and the run has '
            f'{runner.max_steps}; give a checkpoint of this run'
        )
    optimizer = runner.optim_wrapper.optimizer
    check_optimizer_state(content['optimizer'], optimizer)
    try:
        load_full_state(runner.method, content['method'])
        load_full_state(optimizer, content['optimizer'])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(
            f'cannot resume: the weights or the optimizer state do not fit the config '
            f'({lines[-1].strip()}); give a checkpoint of this run'
        ) from None
    runner.iter = step * runner.plan.accumulate
    runner.seconds_before = content['seconds']
    load_saved_state(runner.hooks, runner, content.get('hooks', {}))
    runner.logger.info(f'resumed at step {step} of {runner.max_steps}')
    if content['warning']:
        runner.logger.warning(content['warning'])
    _warn_of_other_passes(runner, content['accumulate'])


def check_optimizer_state(state: dict, optimizer: torch.optim.Optimizer) -> None:
    """Check that a state is one of this optimizer: options of its types, tensors of its shapes.

    torch checks the number of parameters alone; a text in place of a tensor would fail at a later
    step.

    Args:
        state: the state of an optimizer, from a checkpoint.
        optimizer: the optimizer of the run, before its first step.

    Raises:
        ConfigError: the first part that this optimizer does not write.
    """
    groups = state.get('param_groups')
    n_groups = len(optimizer.param_groups)
    is_groups = isinstance(groups, list) and all(isinstance(group, dict) for group in groups)
    _require(is_groups and len(groups) == n_groups, f'param_groups must be {n_groups} groups')
    owners: dict[int, Tensor] = {}
    first = 0
    for i, (group, own) in enumerate(zip(groups, optimizer.param_groups, strict=True)):
        indices = list(range(first, first + len(own['params'])))
        first += len(indices)
        _require(group.get('params') == indices, f'the parameters of group {i} are others')
        owners.update(zip(indices, own['params'], strict=True))
        for key, value in own.items():
            if key != 'params':
                # An option that is off may be younger than the checkpoint.
                may_lack = value is False and key in optimizer.defaults
                _require(
                    _is_like(group[key], value) if key in group else may_lack,
                    f'{key} of group {i} must be like {value!r:.80}',
                )
    values = state.get('state')
    _require(isinstance(values, dict) and values.keys() <= owners.keys(), 'state is of others')
    for index, items in values.items():
        _require(isinstance(items, dict), f'the state of parameter {index} must be a dict')
        for name, value in items.items():
            _require(
                _is_state_of(name, value, owners[index]),
                f'{name!r} of parameter {index} must be numbers, of the shape of the parameter',
            )


def _require(holds: bool, requirement: str) -> None:
    if not holds:
        raise ConfigError(
            f'cannot resume: the optimizer state does not fit the config ({requirement}); give a '
            f'checkpoint of this run'
        )


def _is_like(value: object, own: object) -> bool:
    """Whether an option of an optimizer has the type of the run's own option."""
    if isinstance(own, (list, tuple)):
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(own)
            and all(_is_like(each, other) for each, other in zip(value, own, strict=True))
        )
    if isinstance(own, bool) or own is None or isinstance(own, str):
        return value == own
    if isinstance(own, (int, float, Tensor)):
        return isinstance(value, (int, float, Tensor)) and not isinstance(value, bool)
    return type(value) is type(own)


def _is_state_of(name: object, value: object, parameter: Tensor) -> bool:
    if isinstance(value, Tensor):
        return name not in SHAPED_LIKE_PARAMETER or value.shape == parameter.shape
    return name not in SHAPED_LIKE_PARAMETER and not isinstance(value, str)


def _warn_of_other_passes(runner: 'Trainer', accumulate_before: int) -> None:
    """Warn if the number of images of a forward pass has changed."""
    plan = runner.plan
    if accumulate_before != plan.accumulate:
        runner.logger.warning(
            f'forward passes have {plan.micro_batch} images from here on, and had '
            f'{plan.batch_size // accumulate_before} before: BatchNorm and loss terms that couple '
            f'the images of a pass (see the plan) change with their number'
        )
