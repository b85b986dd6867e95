"""Checkpoints: written whole or not at all, read without running code, and methods rebuilt from them.

mmengine's own are not used: they hold objects that only a full unpickling can read, resuming runs the config stored in
them, a crash while saving leaves a torn file at the final path, and ``max_keep_ckpts`` deletes the old before the new is safe.
"""
import hashlib
import platform
from contextlib import suppress
from pathlib import Path

import torch
from mmengine.hooks import Hook
from timm.models.vision_transformer import VisionTransformer

from .. import __version__
from ..atomic import write_atomically
from ..data.photometric import Photometric
from ..data.sources import Source
from ..data.views import PIXELS
from ..distributed import rank
from ..launch import first_ones
from ..method import Method
from ..registry import METHODS, ConfigError
from .config import apply_option
from .guard import NotFinite
from .settings import Settings, check
from .sharding import is_sharded, whole_state

FORMAT = 'ssl_zoo checkpoint 3'
# What a run cannot change when it resumes: with these equal, it goes on as if it had never stopped.
FIXED = ('method', 'views', 'optimizer', 'epochs', 'batch_size', 'base_lr', 'weight_decay', 'decay_norm_and_bias', 'weight_decay_end',
         'norm_and_bias_lr', 'clip_grad', 'warmup_epochs', 'schedule', 'accumulate', 'sync_batchnorm', 'precision', 'channels_last',
         'compile', 'seed')


def versions() -> dict[str, str]:
    """What the run stands on."""
    import mmengine
    import timm
    import torchvision
    return dict(ssl_zoo=__version__, torch=str(torch.__version__), torchvision=str(torchvision.__version__), timm=timm.__version__,
                mmengine=mmengine.__version__, python=platform.python_version(), platform=platform.platform(),
                device=torch.cuda.get_device_name() if torch.cuda.is_available() else f'cpu, {torch.get_num_threads()} threads')


def read_checkpoint(path: str | Path) -> dict:
    """The content of a checkpoint on the CPU. Nothing in the file is executed.

    Raises:
        ConfigError: no such file, not a checkpoint of this library, torn, changed since it was written, or holding more than tensors and
            plain values.
    """
    content = read_data(path, FORMAT, 'checkpoint')
    if content.pop('sha256', None) != digest(content):
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
    except Exception as error:                                  # torch raises many types for a torn or foreign file
        raise ConfigError(f'{path} is not a readable {what}, or holds objects that would run code when loaded '
                          f'({type(error).__name__}: {(str(error) or "it is too short").splitlines()[0]})') from None
    if not isinstance(content, dict) or content.get('format') != form:
        raise ConfigError(f'{path} is not a {what} of ssl_zoo (expected format {form!r})')
    return content


def need_items(content: dict, path: str | Path, **types: type) -> None:
    """Raise ConfigError if the content of a checkpoint lacks one of these items, or has it of another type."""
    for key, wanted in types.items():
        if not isinstance(content.get(key), wanted):
            raise ConfigError(f'{path} is not a whole checkpoint: its {key!r} is {"missing" if key not in content else "of another type"}; '
                              f'give one that a run has written')


def sealed(content: dict) -> dict:
    """The content with its digest, as ``read_checkpoint`` wants it."""
    content = {key: value for key, value in content.items() if key != 'sha256'}
    return dict(content, sha256=digest(content))


def digest(content) -> str:
    """SHA-256 of nested tensors and plain values."""
    sha = hashlib.sha256()
    _feed(sha, content)
    return sha.hexdigest()


def _feed(sha, value) -> None:
    if isinstance(value, torch.Tensor):
        sha.update(f'{value.dtype}{tuple(value.shape)}'.encode())
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(value, dict):
        for key, item in value.items():
            sha.update(f'{key!r}:'.encode())
            _feed(sha, item)
    elif isinstance(value, (list, tuple)):
        sha.update(f'[{len(value)}'.encode())
        for item in value:
            _feed(sha, item)
    else:
        sha.update(repr(value).encode())


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
            except OSError:                                         # a read-only folder: nothing is lost by leaving it
                report(f'warning: {error}; the one before it is tried')
            else:
                report(f'warning: {error}; it is now {path.name}.unreadable, and the one before it is tried')
    raise ConfigError(f'nothing to resume: there is no readable checkpoint in {Path(work_dir, "checkpoints").absolute()}')


def check_resumable(content: dict, settings: Settings, train: Source) -> None:
    """Raise ConfigError if the checkpoint's run and this one would not be the same run."""
    now = settings.plain()
    for key in FIXED:
        if content['config'].get(key) != now[key]:
            raise ConfigError(f'cannot resume: {key} was {content["config"].get(key)!r} and is {now[key]!r}; set it back, or '
                              f'start a new run in another work directory')
    for key in ('mean', 'std', 'on_device'):
        if (before := content['config']['data'].get(key, False)) != now['data'][key]:
            raise ConfigError(f'cannot resume: data.{key} was {before} and is {now["data"][key]}; set it back')
    if content.get('pixels') != PIXELS:
        raise ConfigError('cannot resume: the checkpoint is of a version of ssl_zoo that made other pixels of the same views; continue '
                          'with that version, or start a new run in another work directory')
    if content['images'] != len(train):
        raise ConfigError(f'cannot resume: the training set had {content["images"]} images and has {len(train)}')
    if content['manifest'] != train.manifest():
        raise ConfigError('cannot resume: the training set has other images (their names or labels differ from the run\'s)')


class CheckpointHook(Hook):
    """Writes ``checkpoints/step_XXXXXXXX.pth`` every few epochs and at the end; keeps the newest few, and some for good.

    A checkpoint that cannot be written (full disk) is reported, and training goes on with the older ones untouched. Process 0 writes,
    and the others wait for it.
    """
    priority = 'ABOVE_NORMAL'                    # saved before anything is evaluated, which may take long or fail

    def __init__(self, settings: Settings, train: Source):
        self.settings, self.train = settings, train
        self.path: Path | None = None            # of this run's last checkpoint, None if it could not be written
        self.failed = False
        self.manifest = None

    def after_optimizer_step(self, runner):
        if runner.due(self.settings.checkpoint.every):
            self.save(runner)

    def after_train(self, runner):
        self.save(runner)

    def save(self, runner) -> Path | None:
        """Write the run's state. Returns the path, or None if it could not be written. Raises NotFinite for weights that are not."""
        path = Path(runner.work_dir, 'checkpoints', f'step_{runner.step:08d}.pth')
        if self.path == path:                                   # the end of training may be due anyway
            return path
        assemble = whole_state if rank() == 0 or is_sharded(runner.method) else lambda state: state
        weights = assemble(runner.method.state_dict())
        broken = next((name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()), None)
        if broken:
            raise NotFinite(f'not saved at step {runner.step}: {broken} holds values that are not finite', runner.step - 1)
        optimizer = assemble(runner.optim_wrapper.optimizer.state_dict())
        written = first_ones(rank() == 0 and self._write(runner, path, weights, optimizer))
        self.path, self.failed = path if written else None, not written
        return self.path

    def _write(self, runner, path: Path, weights: dict, optimizer: dict) -> bool:
        self.manifest = self.manifest or self.train.manifest()
        content = dict(format=FORMAT, config=self.settings.plain(), step=runner.step, images=runner.plan.images, pixels=PIXELS,
                       manifest=self.manifest, seconds=runner.train_seconds, versions=versions(), processes=runner.plan.processes,
                       accumulate=runner.plan.accumulate, method=weights, optimizer=optimizer)
        try:
            write_atomically(path, lambda file: torch.save(sealed(content), file))
        except (OSError, RuntimeError) as error:                # RuntimeError: torch's, when its archive cannot be finished
            runner.logger.error(f'could not write {path}: {error}; training goes on, older checkpoints are untouched')
            return False
        for old in checkpoints_in(runner.work_dir)[self.settings.checkpoint.keep:]:
            if not self._kept_for_good(runner, int(old.stem.split('_')[1])):
                with suppress(OSError):                         # another one may be removed the next time
                    old.unlink()
        return True

    def _kept_for_good(self, runner, step: int) -> bool:
        every = self.settings.checkpoint.keep_every
        return every is not None and runner.due(every, step)


def build_method(settings: Settings, pretrained: bool = True, pass_images: int | None = None) -> Method:
    """The method of a config with its photometric step, its weights drawn from the seed.

    Args:
        pretrained: False leaves out pretrained weights that the config's backbone may ask for.
        pass_images: images of a forward pass, over all processes; by default as the config says it for one process.
    """
    torch.manual_seed(settings.seed)
    cfg = settings.method
    if not pretrained and cfg.get('backbone', {}).get('pretrained'):
        cfg = {**cfg, 'backbone': {**cfg['backbone'], 'pretrained': False}}
    method, images = METHODS.create(cfg), pass_images
    if images is None and settings.accumulate != 'auto':
        images = settings.batch_size // settings.accumulate
    if images is not None and (images % method.pass_multiple or images < method.pass_minimum):
        raise ConfigError(f'{settings.method["type"]} with these arguments needs a multiple of {method.pass_multiple} images in each pass, '
                          f'at least {method.pass_minimum}, and batch_size={settings.batch_size} with accumulate={settings.accumulate} '
                          f'gives {images}')
    _check_sizes(method, settings)
    method.data_preprocessor = Photometric(settings.recipes(), settings.data.mean, settings.data.std, settings.channels_last)
    return method.to(memory_format=torch.channels_last) if settings.channels_last else method


def _check_sizes(method: Method, settings: Settings) -> None:
    """Raise ConfigError if a ViT takes images of another size than the views have."""
    sizes = {view.size for view in settings.recipes()} | {settings.eval_geometry()[0]}
    for network in method.modules():
        if isinstance(network, VisionTransformer) and network.patch_embed.strict_img_size:
            height, width = network.patch_embed.img_size
            if sizes != {height} or height != width:
                raise ConfigError(f'{settings.method["backbone"]["name"]} takes images of {height} x {width} pixels, and the views have '
                                  f'{", ".join(map(str, sorted(sizes)))}; give the backbone img_size={max(sizes)}, and '
                                  f'dynamic_img_size=True for several sizes')


EVALUATION_OPTIONS = ('data', 'workers', 'channels_last')          # what an evaluation may change of a checkpoint's config


def load_method(path: str | Path, options: list[str] = (), random_weights: bool = False) -> tuple[Method, Settings, int]:
    """The trained method of a checkpoint in eval mode, the settings it was trained with, and the optimiser steps done.

    The config stored in the checkpoint is read as data. A method that is not part of the zoo must be imported before
    (``ssl_zoo.engine.config.import_file``): a checkpoint cannot ask for code to be run.

    Args:
        options: changes to the data part of its config, such as 'data.test.root=/data/imagenet/val'.
        random_weights: the method as it was before training instead.

    Raises:
        ConfigError: an unreadable checkpoint, an unknown method, weights that do not fit, an option that would change the method.
    """
    content = read_checkpoint(path)
    config = content['config']
    for option in options:
        if option.split('=')[0].split('.')[0] not in EVALUATION_OPTIONS:
            raise ConfigError(f'the option {option!r} would change what was trained; an evaluation can change '
                              f'{", ".join(EVALUATION_OPTIONS)}')
        apply_option(config, option)
    settings = check(config)
    method = build_method(settings, pretrained=random_weights)                                    # otherwise the weights come from here
    try:
        method.load_state_dict(content['method'] if not random_weights else method.state_dict())
    except (RuntimeError, TypeError, AttributeError) as error:       # the last two: what is not a tensor
        raise ConfigError(f'{path} does not fit {settings.method["type"]}: {str(error).splitlines()[-1].strip()}') from None
    return method.eval(), settings, 0 if random_weights else content['step']
