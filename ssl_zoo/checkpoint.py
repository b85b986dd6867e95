"""Checkpoints: written whole or not at all, read without running code, and methods rebuilt from them.

mmengine's own are not used: they hold objects that only a full unpickling can read, resuming runs the config stored in
them, a crash while saving leaves a torn file at the final path, and ``max_keep_ckpts`` deletes the old before the new is safe.
"""

from pathlib import Path

import torch

from ssl_zoo.config.settings import Settings
from ssl_zoo.data.sources import Source
from ssl_zoo.data.views import VIEW_VERSION
from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.digest import sha256_of_tensors

FORMAT = 'ssl_zoo checkpoint 3'
# What a run cannot change when it resumes: with these equal, it goes on as if it had never stopped.
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


def read_checkpoint(path: str | Path) -> dict:
    """The content of a checkpoint on the CPU. Nothing in the file is executed.

    Raises:
        ConfigError: no such file, not a checkpoint of this library, torn, changed since it was written, or holding more than tensors and
            plain values.
    """
    content = read_data(path, FORMAT, 'checkpoint')
    if content.pop('sha256', None) != sha256_of_tensors(content):
        raise ConfigError(f'{path} is damaged: its content is not what was written (SHA-256)')
    need_items(content, path, config=dict, step=int, method=dict)
    return content


def read_data(path: str | Path, form: str, what: str) -> dict:
    """A file of tensors and plain values that this library wrote, on the CPU; its item ``format`` must be ``form``."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f'there is no {what} at {path.absolute()}')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises many types for a torn or foreign file
        raise ConfigError(
            f'{path} is not a readable {what}, or holds objects that would run code when loaded '
            f'({type(error).__name__}: {(str(error) or "it is too short").splitlines()[0]})'
        ) from None
    if not isinstance(content, dict) or content.get('format') != form:
        raise ConfigError(f'{path} is not a {what} of ssl_zoo (expected format {form!r})')
    return content


def need_items(content: dict, path: str | Path, **types: type) -> None:
    """Raise ConfigError if the content of a checkpoint lacks one of these items, or has it of another type."""
    for key, wanted in types.items():
        if not isinstance(content.get(key), wanted):
            raise ConfigError(
                f'{path} is not a whole checkpoint: its {key!r} is {"missing" if key not in content else "of another type"}; '
                f'give one that a run has written'
            )


def add_digest(content: dict) -> dict:
    """The content with its digest, as ``read_checkpoint`` wants it."""
    content = {key: value for key, value in content.items() if key != 'sha256'}
    return dict(content, sha256=sha256_of_tensors(content))


def checkpoints_in(work_dir: str | Path) -> list[Path]:
    """The checkpoints of a work directory, newest first."""
    return sorted(Path(work_dir, 'checkpoints').glob('step_*.pth'), reverse=True)


def newest_checkpoint(work_dir: str | Path, report=print) -> dict:
    """The newest checkpoint that can be read. One that cannot is reported, renamed to *.unreadable and passed over.

    Raises:
        ConfigError: there is none.
    """
    for path in checkpoints_in(work_dir):
        try:
            return dict(read_checkpoint(path), path=str(path))
        except ConfigError as error:
            try:
                path.rename(path.with_name(path.name + '.unreadable'))
            except OSError:  # a read-only folder: nothing is lost by leaving it
                report(f'warning: {error}; the one before it is tried')
            else:
                report(
                    f'warning: {error}; it is now {path.name}.unreadable, and the one before it is tried'
                )
    raise ConfigError(
        f'nothing to resume: there is no readable checkpoint in {Path(work_dir, "checkpoints").absolute()}'
    )


def check_resumable(content: dict, settings: Settings, train: Source) -> None:
    """Raise ConfigError if the checkpoint's run and this one would not be the same run."""
    now = settings.to_builtin()
    for key in RESUME_INVARIANTS:
        if content['config'].get(key) != now[key]:
            raise ConfigError(
                f'cannot resume: {key} was {content["config"].get(key)!r} and is {now[key]!r}; set it back, or '
                f'start a new run in another work directory'
            )
    for key in ('mean', 'std', 'on_device'):
        if (before := content['config']['data'].get(key, False)) != now['data'][key]:
            raise ConfigError(
                f'cannot resume: data.{key} was {before} and is {now["data"][key]}; set it back'
            )
    if content.get('pixels') != VIEW_VERSION:
        raise ConfigError(
            'cannot resume: the checkpoint is of a version of ssl_zoo that made other pixels of the same views; continue '
            'with that version, or start a new run in another work directory'
        )
    if content['images'] != len(train):
        raise ConfigError(
            f'cannot resume: the training set had {content["images"]} images and has {len(train)}'
        )
    if content['manifest'] != train.manifest():
        raise ConfigError(
            "cannot resume: the training set has other images (their names or labels differ from the run's)"
        )
