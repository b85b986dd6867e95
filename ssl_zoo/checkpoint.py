"""Checkpoints: read them without running code, find the newest, check that a run can resume.

mmengine's checkpoints are not used, for three reasons: they hold objects that only a full
unpickling can read, and resuming executes the config stored in them; a crash while saving leaves an
incomplete file at the final path; ``max_keep_ckpts`` removes the old file before the new file is
complete.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_zoo.architecture_keys import without_weight_sources
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.identity import content_identity
from ssl_zoo.data.sources import Source
from ssl_zoo.data.views import VIEW_VERSION
from ssl_zoo.distributed.process_group import rank_info
from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.digest import sha256_of_tensors
from ssl_zoo.storage.tensor_file import read_tensor_file
from ssl_zoo.storage.zip_damage import is_damaged_zip

FORMAT = 'ssl_zoo checkpoint 3'
NAME = re.compile(r'step_[0-9]{8}\.pth')  # file names of checkpoints
DAMAGED_NAME = re.compile(NAME.pattern + r'\.unreadable(-[0-9]+)?')
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
# Arguments of a source that say where the files are, and not which images they hold.
LOCATIONS = ('root', 'path', 'shards', 'classes', 'download')
DATA_INVARIANTS = ('mean', 'std', 'on_device')  # such keys in the section data


class DamagedCheckpoint(ConfigError):
    """The bytes of a checkpoint are not those that were written."""


def _are_named_tensors(state: dict) -> bool:
    return all(isinstance(key, str) and isinstance(state[key], Tensor) for key in state)


def _are_texts(versions: dict) -> bool:
    return all(isinstance(text, str) for item in versions.items() for text in item)


def _is_origin(facts: dict) -> bool:
    return all(isinstance(key, str) for key in facts) and all(
        value is None or isinstance(value, (str, int, dict)) for value in facts.values()
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
    hooks=(dict, lambda state: True, 'the state of hooks'),
    began_with=(dict, _is_origin, 'facts of the weights that the run began with'),
)


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint to the CPU and check its digest. Nothing in the file is executed.

    Raises:
        DamagedCheckpoint: the file is cut short, or was changed since it was written.
        ConfigError: the file is missing, cannot be read, is not a checkpoint of this library, or
            holds more than tensors and plain values.
    """
    content = read_data(path, FORMAT, 'checkpoint')
    if content.pop('sha256', None) != sha256_of_tensors(content):
        raise DamagedCheckpoint(f'{path} is damaged: its content is not what was written (SHA-256)')
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
        DamagedCheckpoint: the file is a zip archive that was cut short or changed.
        ConfigError: the file is missing, cannot be read, or has another format.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f'there is no {kind} at {path.absolute()}')
    try:
        content = read_tensor_file(path)
    except Exception as error:  # torch raises many types for an incomplete or foreign file
        reason = (str(error) or 'it is too short').splitlines()[0]
        kind_of_error = DamagedCheckpoint if is_damaged_zip(path) else ConfigError
        raise kind_of_error(
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
    """Return the checkpoints of a work directory, newest first: step_ and eight digits, .pth.

    Raises:
        ConfigError: the folder of checkpoints exists and cannot be read.
    """
    return _matching(work_dir, NAME)


def damaged_checkpoints_in(work_dir: str | Path) -> list[Path]:
    """Return the files that ``newest_checkpoint`` has renamed, newest first.

    Raises:
        ConfigError: the folder of checkpoints exists and cannot be read.
    """
    return _matching(work_dir, DAMAGED_NAME)


def _matching(work_dir: str | Path, pattern: re.Pattern) -> list[Path]:
    folder = Path(work_dir, 'checkpoints')
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(
            f'cannot read {folder.absolute()}, where checkpoints may be: {error}; make it '
            f'readable, or choose another work directory'
        ) from None
    return [folder / name for name in sorted(names, reverse=True) if pattern.fullmatch(name)]


def newest_checkpoint(
    work_dir: str | Path, report: Callable[[str], object] = print, rename: bool = False
) -> dict:
    """Read the newest checkpoint that is not damaged.

    Args:
        work_dir: the work directory.
        report: called with a sentence about each newer checkpoint that is damaged.
        rename: rename damaged checkpoints to *.unreadable. The caller holds the lock of the work
            directory: a run may be writing there.

    Returns:
        The content of the checkpoint, with its path under 'path'.

    Raises:
        ConfigError: there is no checkpoint, all are damaged, or one cannot be read without a proof
            of damage. It may be whole, and an earlier step would in time write over it.
    """
    for path in checkpoints_in(work_dir):
        try:
            return dict(read_checkpoint(path), path=str(path))
        except DamagedCheckpoint as error:
            new_name = _rename_damaged(path) if rename else None
            change = f'it is now {new_name}, and ' if new_name else ''
            report(f'warning: {error}; {change}the one before it is tried')
        except ConfigError as error:
            raise ConfigError(
                f'cannot resume: {error}; it may be whole: make it readable, or move it out of '
                f'the folder to continue from the one before it'
            ) from None
    raise ConfigError(nothing_to_resume(work_dir))


def nothing_to_resume(work_dir: str | Path) -> str:
    """Return the message for a work directory without a checkpoint that can be read."""
    folder = Path(work_dir, 'checkpoints').absolute()
    message = f'nothing to resume: there is no readable checkpoint in {folder}'
    damaged = [path.name for path in damaged_checkpoints_in(work_dir) + checkpoints_in(work_dir)]
    if damaged:
        message += f', only {damaged[0]}; restore a copy, or choose another work directory'
    return message


def _rename_damaged(path: Path) -> str | None:
    """Rename a file to *.unreadable; return its new name, or None if that cannot be done."""
    new_path = path.with_name(f'{path.name}.unreadable')
    number = 1
    while os.path.lexists(new_path):
        number += 1
        new_path = path.with_name(f'{path.name}.unreadable-{number}')
    try:
        path.rename(new_path)
    except OSError:  # a read-only folder: the file keeps its name
        return None
    return new_path.name


def check_resumable(content: dict, settings: Settings, train: Source) -> str | None:
    """Check that a run can continue from a checkpoint as if it had never stopped.

    Args:
        content: from read_checkpoint.
        settings: settings of the run.
        train: training images of the run.

    Returns:
        A warning if the files of the images seem to be a copy.

    Raises:
        ConfigError: settings, views, source or images differ.
    """
    before = without_weight_sources(content['config'])
    now = without_weight_sources(settings.to_builtin())
    for key in RESUME_INVARIANTS:
        if before.get(key) != now[key]:
            raise ConfigError(
                f'cannot resume: {key} was {before.get(key)!r} and is {now[key]!r}; set it back, '
                f'or start a new run in another work directory{_more_epochs(key)}'
            )
    if before.get('init_from') != now['init_from']:
        raise ConfigError(
            f'cannot resume: init_from was {before.get("init_from")!r} and is '
            f'{now["init_from"]!r}; set it back (the file is not read again)'
        )
    for key in DATA_INVARIANTS:
        value_before = before['data'].get(key, False)
        if value_before != now['data'][key]:
            raise ConfigError(
                f'cannot resume: data.{key} was {value_before} and is {now["data"][key]}; '
                f'set it back'
            )
    _check_source(before['data'].get('train'), now['data']['train'])
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
    return _check_content(content.get('data_identity'), train)


def _more_epochs(key: str) -> str:
    if key != 'epochs':
        return ''
    return ", which may begin with these weights: init_from=dict(file='...', part='method')"


def _check_source(before: Any, now: dict) -> None:
    """Compare the arguments of the source, except those that say where the files are."""
    if not isinstance(before, dict):
        before = {}
    for key in sorted({*before, *now} - set(LOCATIONS)):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f'cannot resume: data.train.{key} was {before.get(key)!r} and is {now.get(key)!r}; '
                f'set it back, or start a new run in another work directory'
            )


def _check_content(before: dict | None, train: Source) -> str | None:
    """Compare the content of the images; return a warning if the files seem to be a copy.

    The first process of each machine compares, because every machine may have files of its own.
    """
    if not isinstance(before, dict) or rank_info().local_rank > 0:  # an older checkpoint has none
        return None
    now = content_identity(train)
    if before == now:
        return None
    if before.get('sizes') != now['sizes']:
        difference = 'sizes of their files differ'
    elif now['times'] is not None and before.get('times') == now['times']:
        return None  # the sample may hold an image that could not be read before
    elif before.get('pixels') != now['pixels']:
        difference = 'pixels differ'
    else:
        return (
            'the training images have other modification times than before, and the same names, '
            'labels and sizes; those compared have the same pixels, so they are taken for a copy'
        )
    raise ConfigError(
        f'cannot resume: the training set has other images of the same names (the {difference}); '
        f"give the run's images, or start a new run in another work directory"
    )
