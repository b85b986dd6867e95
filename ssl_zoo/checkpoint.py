"""Checkpoints: read them without running code, find the newest, check that a run can resume.

mmengine's checkpoints are not used, for three reasons: they hold objects that only a full
unpickling can read, and resuming executes the config stored in them; a crash while saving leaves an
incomplete file at the final path; ``max_keep_ckpts`` removes the old file before the new file is
complete.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_zoo.architecture_keys import without_weight_sources
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.sources import Source
from ssl_zoo.data.views import VIEW_VERSION
from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.digest import sha256_of_tensors
from ssl_zoo.storage.tensor_file import read_tensor_file

FORMAT = 'ssl_zoo checkpoint 3'
# Keys of a config that a resumed run cannot change. With the same values the run continues as if it
# had never stopped.
RESUME_INVARIANTS = (
    'method',
    'views',
    'optimizer',
    'epochs',
    'batch_size',
    'base_lr',
    'weight_decay',
    'decay_norm_and_bias',
    'weight_decay_end',
    'norm_and_bias_lr',
    'clip_grad',
    'warmup_epochs',
    'schedule',
    'accumulate',
    'sync_batchnorm',
    'precision',
    'channels_last',
    'compile',
    'seed',
)
DATA_INVARIANTS = ('mean', 'std', 'on_device')  # such keys in the section data


def _are_named_tensors(state: dict) -> bool:
    return all(isinstance(key, str) and isinstance(state[key], Tensor) for key in state)


def _are_texts(versions: dict) -> bool:
    return all(isinstance(text, str) for item in versions.items() for text in item)


def _is_log(log: dict) -> bool:
    names, values = log.get('names'), log.get('values')
    return (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(values, Tensor)
        and values.dtype == torch.float32
        and values.ndim == 2
        and values.shape[1] == len(names)
    )


def _has_sections(config: dict) -> bool:
    return all(isinstance(config.get(key), dict) for key in ('method', 'data'))


# Items of a checkpoint: type, condition, and the condition in words.
ITEMS: dict[str, tuple[type, Callable[[Any], bool], str]] = dict(
    config=(dict, _has_sections, "a config with 'method' and 'data'"),
    step=(int, lambda step: 0 <= step < 2**53, 'a number of steps'),
    method=(dict, _are_named_tensors, 'tensors by name'),
    optimizer=(dict, lambda state: True, 'the state of an optimizer'),
    images=(int, lambda images: 0 < images < 2**53, 'a number of images'),
    manifest=(str, lambda manifest: True, 'a text'),
    seconds=(float, lambda seconds: 0 <= seconds < 1e12, 'a number of seconds'),
    versions=(dict, _are_texts, 'texts by name'),
    processes=(int, lambda processes: processes > 0, 'above 0'),
    accumulate=(int, lambda passes: passes > 0, 'above 0'),
    log=(dict, _is_log, 'the scalars since the last progress line'),
)


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint to the CPU and check its digest. Nothing in the file is executed.

    Raises:
        ConfigError: the file is missing, is not a checkpoint of this library, is cut short, was
            changed since it was written, or holds more than tensors and plain values.
    """
    content = read_data(path, FORMAT, 'checkpoint')
    if content.pop('sha256', None) != sha256_of_tensors(content):
        raise ConfigError(f'{path} is damaged: its content is not what was written (SHA-256)')
    need_items(content, path, config=dict, step=int, method=dict)
    check_items(content, path)
    return content


def read_data(path: str | Path, file_format: str, kind: str) -> dict:
    """Read a file of tensors and plain values that this library wrote, to the CPU.

    Args:
        path: the file.
        file_format: required value of the item 'format'.
        kind: name of this kind of file in messages, such as 'checkpoint'.

    Raises:
        ConfigError: the file is missing, cannot be read, or has another format.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f'there is no {kind} at {path.absolute()}')
    try:
        content = read_tensor_file(path)
    except Exception as error:  # torch raises many types for an incomplete or foreign file
        reason = (str(error) or 'it is too short').splitlines()[0]
        raise ConfigError(
            f'{path} is not a readable {kind}, or holds objects that would run code when loaded '
            f'({type(error).__name__}: {reason})'
        ) from None
    if not isinstance(content, dict) or content.get('format') != file_format:
        raise ConfigError(f'{path} is not a {kind} of ssl_zoo (expected format {file_format!r})')
    return content


def need_items(content: dict, path: str | Path, **types: type) -> None:
    """Check that the content of a checkpoint has these items.

    Args:
        content: the content.
        path: the file, for messages.
        types: key -> type.

    Raises:
        ConfigError: an item is missing or has another type.
    """
    for key, expected in types.items():
        value = content.get(key)
        # isinstance counts True as a whole number
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            fault = 'of another type' if key in content else 'missing'
            raise ConfigError(
                f'{path} is not a whole checkpoint: its {key!r} is {fault}; '
                f'give a checkpoint that a run has written'
            )


def check_items(content: dict, path: str | Path) -> None:
    """Check types and ranges of the items that a checkpoint has, as far as ``ITEMS`` names them.

    Raises:
        ConfigError: the first item that no run writes.
    """
    types = {key: kind for key, (kind, _, _) in ITEMS.items() if key in content}
    need_items(content, path, **types)
    for key in types:
        _, holds, allowed = ITEMS[key]
        if not holds(content[key]):
            raise ConfigError(
                f'{path} is not a whole checkpoint: its {key!r} must be {allowed}; '
                f'give a checkpoint that a run has written'
            )


def add_digest(content: dict) -> dict:
    """Return the content of a checkpoint with its digest, which ``read_checkpoint`` checks."""
    content = {key: value for key, value in content.items() if key != 'sha256'}
    return dict(content, sha256=sha256_of_tensors(content))


def checkpoints_in(work_dir: str | Path) -> list[Path]:
    """Return the checkpoints of a work directory, newest first."""
    return sorted(Path(work_dir, 'checkpoints').glob('step_*.pth'), reverse=True)


def newest_checkpoint(work_dir: str | Path, report: Callable[[str], object] = print) -> dict:
    """Read the newest checkpoint that can be read.

    A newer checkpoint that cannot be read is reported and renamed to *.unreadable.

    Returns:
        The content of the checkpoint, with its path under 'path'.

    Raises:
        ConfigError: no checkpoint can be read.
    """
    for path in checkpoints_in(work_dir):
        try:
            return dict(read_checkpoint(path), path=str(path))
        except ConfigError as error:
            try:
                path.rename(path.with_name(path.name + '.unreadable'))
            except OSError:  # a read-only folder: the file keeps its name
                report(f'warning: {error}; the one before it is tried')
            else:
                report(
                    f'warning: {error}; it is now {path.name}.unreadable, and the one before it '
                    f'is tried'
                )
    folder = Path(work_dir, 'checkpoints').absolute()
    raise ConfigError(f'nothing to resume: there is no readable checkpoint in {folder}')


def check_resumable(content: dict, settings: Settings, train: Source) -> None:
    """Check that a run can continue from a checkpoint as if it had never stopped.

    Args:
        content: from read_checkpoint.
        settings: settings of the run.
        train: training images of the run.

    Raises:
        ConfigError: settings, views or images differ.
    """
    before = without_weight_sources(content['config'])
    now = without_weight_sources(settings.to_builtin())
    for key in RESUME_INVARIANTS:
        if before.get(key) != now[key]:
            raise ConfigError(
                f'cannot resume: {key} was {before.get(key)!r} and is {now[key]!r}; set it back, '
                f'or start a new run in another work directory'
            )
    for key in DATA_INVARIANTS:
        value_before = before['data'].get(key, False)
        if value_before != now['data'][key]:
            raise ConfigError(
                f'cannot resume: data.{key} was {value_before} and is {now["data"][key]}; '
                f'set it back'
            )
    if content.get('pixels') != VIEW_VERSION:
        raise ConfigError(
            'cannot resume: the checkpoint was written by a version of ssl_zoo whose views have '
            'other pixels; continue with that version, or start a new run in another work '
            'directory'
        )
    if content['images'] != len(train):
        raise ConfigError(
            f'cannot resume: the training set had {content["images"]} images and has {len(train)}'
        )
    if content['manifest'] != train.manifest():
        raise ConfigError(
            'cannot resume: the training set has other images (their names or labels differ from '
            "the run's)"
        )
