"""Resume a run: choose the checkpoint and load its state."""

from pathlib import Path
from typing import TYPE_CHECKING

from ssl_zoo.checkpoint import (
    check_resumable,
    checkpoints_in,
    need_items,
    newest_checkpoint,
    read_checkpoint,
)
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.sources import Source
from ssl_zoo.distributed.objects import on_rank0
from ssl_zoo.distributed.sharding import load_full_state
from ssl_zoo.errors import ConfigError

if TYPE_CHECKING:
    from ssl_zoo.engine.runner import ZooRunner


def read_resumed_checkpoint(
    settings: Settings, train: Source, work_dir: Path, resume: bool | str
) -> dict:
    """Read the checkpoint to continue from. Rank 0 chooses it, and all ranks read it.

    Args:
        settings: settings of the run.
        train: the training images.
        work_dir: the work directory.
        resume: True for the newest checkpoint of ``work_dir``, or the path of a checkpoint.

    Raises:
        ConfigError: the checkpoint cannot be read, is incomplete, or belongs to another run.
    """
    path = on_rank0(lambda: _choose_checkpoint(work_dir, resume))
    content = read_checkpoint(path)
    need_items(
        content, path, images=int, manifest=str, seconds=float, accumulate=int, optimizer=dict
    )
    check_resumable(content, settings, train)
    return content


def _choose_checkpoint(work_dir: Path, resume: bool | str) -> str:
    if isinstance(resume, bool):
        return newest_checkpoint(work_dir)['path']
    chosen = Path(resume)
    for other in checkpoints_in(work_dir):
        is_later = other.name > chosen.name
        if is_later or other.parent.resolve() != chosen.parent.resolve():
            read_checkpoint(chosen)  # an error in the chosen file is reported first
            raise ConfigError(
                f'{work_dir} holds {other.name}, which is not an earlier checkpoint of the run of '
                f'{resume}; choose another --work-dir'
            )
    return str(resume)


def load_state(runner: 'ZooRunner', content: dict) -> None:
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
    try:
        load_full_state(runner.method, content['method'])
        load_full_state(runner.optim_wrapper.optimizer, content['optimizer'])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(
            f'cannot resume: the weights or the optimizer state do not fit the config '
            f'({lines[-1].strip()}); give a checkpoint of this run'
        ) from None
    runner.train_loop._iter = step * runner.plan.accumulate
    runner.seconds_before = content['seconds']
    runner.logger.info(f'resumed at step {step} of {runner.max_steps}')
    _warn_of_other_passes(runner, content['accumulate'])


def _warn_of_other_passes(runner: 'ZooRunner', accumulate_before: int) -> None:
    """Warn if the number of images of a forward pass has changed."""
    plan = runner.plan
    if accumulate_before != plan.accumulate:
        runner.logger.warning(
            f'forward passes have {plan.micro_batch} images from here on, and had '
            f'{plan.batch_size // accumulate_before} before: BatchNorm and loss terms that couple '
            f'the images of a pass (see the plan) change with their number'
        )
