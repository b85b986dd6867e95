"""Configs: what a config may say, read and checked before anything is built."""
import ast
import importlib.util
import inspect
import math
import sys
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path

from mmengine.config import Config

from ..data.views import View, build_views
from ..registry import METHODS, ConfigError, check_arguments, nearest

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Data:
    """Where the images come from.

    Attributes:
        train: the source to pretrain on, dict(type=..., ...); its labels, if any, serve evaluation alone.
        val: images for choices and for the k-NN watch: a source, or a number (int) or share (float) to cut from train.
        train_on_val: pretrain on the cut images too, without their labels, as the papers do.
        test: labelled source for the figures at the end of training; without it they are those of val.
        expected_images: how many training images the recipe assumes.
        max_unreadable: share of unreadable training images above which the run stops.
        mean, std: for normalisation, of values in [0, 1].
        eval_size, eval_resize: evaluation resizes the short side to eval_resize and cuts eval_size from the centre. By
            default the first view's size, and 256/224 of it from 96 px upwards.
    """
    train: dict
    val: dict | int | float | None = None
    train_on_val: bool = False
    test: dict | None = None
    expected_images: int | None = None
    max_unreadable: float = 0.01
    mean: tuple = IMAGENET_MEAN
    std: tuple = IMAGENET_STD
    eval_size: int | None = None
    eval_resize: int | None = None


@dataclass
class Watch:
    """k-NN accuracy and spread of the embeddings during training.

    Attributes:
        every: epochs between looks, 0 for none; k, temperature: of the k-NN.
        bank, queries: at most so many training and val images (balanced over classes), None for all.
    """
    every: float = 1
    k: int = 20
    temperature: float = 0.07
    bank: int | None = None
    queries: int | None = None


@dataclass
class Checkpoints:
    """Attributes: every: epochs between checkpoints; keep: how many of the newest stay."""
    every: float = 1
    keep: int = 2


@dataclass
class Settings:
    """Everything a config may say. ``load_config`` makes one from a file; the run's work directory holds it resolved.

    Attributes:
        method: dict(type=..., backbone=dict(name=...), ...).
        data, watch, checkpoint: see Data, Watch, Checkpoints.
        views: one dict per view, see ssl_zoo.data.views.View.
        optimizer: dict(type='LARS' | 'SGD' | 'Adam' | 'AdamW', ...); learning rate and weight decay come from below.
        epochs: passes over the training images; training takes epochs * images // batch_size steps.
        batch_size: images per optimiser step, over all devices.
        base_lr: peak learning rate per 256 images of batch_size.
        weight_decay: L2 coefficient; norm parameters and biases are left out unless decay_norm_and_bias.
        warmup_epochs: linear warm-up from 0 before the cosine to 0.
        accumulate: forward and backward passes per optimiser step.
        presets: partial configs with an ``epochs`` each; the one nearest to ``epochs`` (in ratio) fills what is not stated.
        precision: 'float32', or 'bf16' for autocast.
        channels_last: memory format of network and views.
        workers: loader processes, None for one less than there are cores, at most 8.
        seed: of weights, order and views.
        log_every: steps between progress lines.
        imports: Python files to import first, relative to the config: methods and data sets of your own.
    """
    method: dict
    data: Data
    views: list
    optimizer: dict
    epochs: float
    batch_size: int
    base_lr: float
    weight_decay: float = 0.0
    decay_norm_and_bias: bool = False
    warmup_epochs: float = 0.0
    accumulate: int = 1
    precision: str = 'float32'
    channels_last: bool = False
    workers: int | None = None
    seed: int = 0
    log_every: int = 50
    watch: Watch = field(default_factory=Watch)
    checkpoint: Checkpoints = field(default_factory=Checkpoints)
    imports: list = field(default_factory=list)

    def recipes(self) -> list[View]:
        return build_views(self.views)

    def eval_geometry(self) -> tuple[int, int]:
        """(size, resize) of evaluation."""
        size = self.data.eval_size or self.recipes()[0].size
        return size, self.data.eval_resize or (round(size * 256 / 224) if size >= 96 else size)

    def plain(self) -> dict:
        """As nested dicts of plain values, for checkpoints and for the work directory."""
        return _plain(asdict(self))


def load_config(path: str | Path, options: list[str] | None = None) -> Settings:
    """Read a config file, apply ``key=value`` options, fill in presets, check every key and value.

    A config is a Python program: reading it runs it. Names in it that begin with _ are its own variables.

    Args:
        path: the file.
        options: such as 'epochs=300' or 'method.backbone.name=resnet18'; values are Python literals or strings.

    Raises:
        ConfigError: a missing file, a key or a value that does not exist or does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f'there is no config at {path.absolute()}; give the path of a .py file, such as configs/byol/digits.py')
    try:
        cfg = _plain(Config.fromfile(str(path), import_custom_modules=False).to_dict())
    except Exception as error:                                   # a config may raise anything
        raise ConfigError(f'the config {path} cannot be read: {type(error).__name__}: {error}') from error
    cfg = {key: value for key, value in cfg.items() if not key.startswith('_')}          # the config's own variables
    for option in options or []:
        _apply(cfg, option)
    cfg['imports'] = [str((path.parent / file).absolute()) for file in cfg.get('imports', [])]
    for file in cfg['imports']:
        import_file(file)
    return check(_with_preset(cfg))


def check(cfg: dict) -> Settings:
    """Settings from nested dicts. Raises ConfigError for the first mistake."""
    cfg = dict(cfg)
    for key, cls in (('data', Data), ('watch', Watch), ('checkpoint', Checkpoints)):
        if key in cfg:
            cfg[key] = _fill(cls, cfg[key], f'{key}.')
    settings = _fill(Settings, cfg, '')
    settings.recipes()

    def need(holds, key, value, what):
        if not holds:
            raise ConfigError(f'{key}={value!r}, but it must be {what}')
    for key, minimum, what in (('epochs', 0, 'a number above 0'), ('batch_size', 1, 'a whole number of at least 2'),
                               ('base_lr', 0, 'a number above 0'), ('accumulate', 0, 'a whole number of at least 1'),
                               ('log_every', 0, 'a whole number of at least 1')):
        need(getattr(settings, key) > minimum, key, getattr(settings, key), what)
    for key in ('weight_decay', 'warmup_epochs', 'seed'):
        need(getattr(settings, key) >= 0, key, getattr(settings, key), 'a number of at least 0')
    need(settings.warmup_epochs < settings.epochs, 'warmup_epochs', settings.warmup_epochs,
         f'less than epochs={settings.epochs:g}; shorten it with the run')
    need(settings.precision in ('float32', 'bf16'), 'precision', settings.precision, "'float32' or 'bf16'")
    need(settings.batch_size % settings.accumulate == 0, 'accumulate', settings.accumulate,
         f'a divisor of batch_size={settings.batch_size}')
    need(settings.workers is None or settings.workers >= 0, 'workers', settings.workers, 'a number of at least 0, or None')
    need(settings.checkpoint.keep >= 1, 'checkpoint.keep', settings.checkpoint.keep, 'at least 1')
    need(settings.checkpoint.every > 0, 'checkpoint.every', settings.checkpoint.every, 'above 0')
    need(settings.watch.every >= 0, 'watch.every', settings.watch.every, 'at least 0')
    need(settings.watch.k >= 1, 'watch.k', settings.watch.k, 'at least 1')
    need(0 <= settings.data.max_unreadable <= 1, 'data.max_unreadable', settings.data.max_unreadable, 'a share in [0, 1]')
    for key in ('mean', 'std'):
        value = getattr(settings.data, key)
        need(len(value) == 3 and all(isinstance(v, (int, float)) for v in value), f'data.{key}', value, 'three numbers')
    size = settings.eval_geometry()
    need(size[0] <= size[1], 'data.eval_size', size[0], f'at most eval_resize={size[1]}')
    if not isinstance(settings.method.get('backbone', {}), dict):
        raise ConfigError(f'method.backbone={settings.method["backbone"]!r}, but it must be dict(name=...)')
    if 'type' in settings.method:                                # so that a misspelt argument fails before data is read
        cls = METHODS.find(settings.method['type'])
        check_arguments(cls.__init__, ['self', *(k for k in settings.method if k != 'type')], f'method {settings.method["type"]!r}')
    return settings


def import_file(file: str) -> None:
    """Import a Python file by its path, once; it registers its classes."""
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f'imports names {file}, but there is no such file; paths are relative to the config')
    name = f'ssl_zoo_user.{path.absolute().as_posix()}'
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _fill(cls, values: dict, prefix: str):
    """A dataclass from a dict: unknown and missing keys and wrong types are errors."""
    if isinstance(values, cls):
        return values
    if not isinstance(values, dict):
        raise ConfigError(f'{prefix.rstrip(".")}={values!r}, but it must be dict(...)')
    known = {f.name: f for f in fields(cls)}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f'{prefix}{key} is not a config key: {nearest(key, known)}')
        wanted = inspect.get_annotations(cls)[key]
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            continue
        if wanted is tuple and isinstance(value, list):
            continue
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(f'{prefix}{key}={value!r} is of type {type(value).__name__}, but it must be '
                              f'{getattr(wanted, "__name__", wanted)}')
    missing = [f.name for f in known.values() if f.default is MISSING and f.default_factory is MISSING and f.name not in values]
    if missing:
        raise ConfigError(f'the config lacks {", ".join(prefix + name for name in missing)}')
    return cls(**{k: tuple(v) if inspect.get_annotations(cls)[k] is tuple else v for k, v in values.items()})


def _with_preset(cfg: dict) -> dict:
    """Fill what the config does not state from the preset whose epochs are nearest in ratio.

    So SimSiam's authors chose BYOL's recipe for other budgets (arXiv 2011.10566, footnote 6): 200 and 400 epochs take the
    one for 300, 800 the one for 1000.
    """
    presets = cfg.pop('presets', None)
    if not presets:
        return cfg
    epochs = cfg.get('epochs')
    if not isinstance(epochs, (int, float)) or epochs <= 0:
        return _merge(presets[0], cfg)                           # what is wrong with epochs is said when all is checked
    return _merge(min(presets, key=lambda p: abs(math.log(p['epochs'] / epochs))), cfg)


def _merge(below: dict, above: dict) -> dict:
    """Both dicts, nested ones merged, ``above`` winning."""
    out = dict(below)
    for key, value in above.items():
        out[key] = _merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def _apply(cfg: dict, option: str) -> None:
    """Set one ``a.b.0.c=value``; the last key may be new (it is checked later), the ones before must exist."""
    key, equals, text = option.partition('=')
    if not equals or not key:
        raise ConfigError(f'the option {option!r} is not of the form key=value, such as epochs=300')
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {'true': True, 'false': False, 'none': None}.get(text.lower(), text)
    *parents, last = key.split('.')
    place, walked = cfg, []
    for name in parents:
        place = _step_into(place, name, walked, option)
        walked.append(name)
    if isinstance(place, list):
        _step_into(place, last, walked, option)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ConfigError(f'the option {option!r} reaches into {".".join(walked)}={place!r}, which holds no keys')


def _step_into(place, name: str, walked: list[str], option: str):
    where = '.'.join(walked) or 'the config'
    if isinstance(place, list):
        if not name.isdigit() or int(name) >= len(place):
            raise ConfigError(f'the option {option!r} names item {name!r} of {where}, which has items 0 to {len(place) - 1}')
        return place[int(name)]
    if not isinstance(place, dict):
        raise ConfigError(f'the option {option!r} reaches into {where}={place!r}, which holds no keys')
    if name not in place:
        known = set(place) | ({f.name for f in fields(Settings)} if not walked else set())
        if name in ('watch', 'checkpoint') and not walked:
            return place.setdefault(name, {})
        raise ConfigError(f'the option {option!r} names {name!r}, which {where} does not have: {nearest(name, known)}')
    return place[name]


def _plain(value):
    """Nested dicts, lists and plain values, free of mmengine's and numpy's classes."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
