"""Settings: everything a config may say, with its type, default and meaning, and the check of all of it."""

import inspect
import math
from dataclasses import MISSING, asdict, dataclass, field, fields

from ssl_zoo.data.views import LARGEST_SIZE, View, build_views
from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_arguments

LARGEST = (
    10**30
)  # a whole number in a config: above it sums and products no longer fit into a float
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Data:
    """Where the images come from.

    Attributes:
        train: the source to pretrain on, dict(type=..., ...); its labels, if any, serve evaluation alone.
        val: images for choices and for the online evaluation: a source, or a number (int) or share (float) to cut from train.
        train_on_val: pretrain on the cut images too, without their labels, as the papers do.
        test: labelled source for the figures at the end of training; without it they are those of val.
        expected_images: how many training images the recipe assumes.
        on_device: hold all training images, of one size, in the device's memory and crop them there, without loader workers: for
            small ones, such as CIFAR's.
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
    on_device: bool = False
    max_unreadable: float = 0.01
    mean: tuple = IMAGENET_MEAN
    std: tuple = IMAGENET_STD
    eval_size: int | None = None
    eval_resize: int | None = None


@dataclass
class OnlineEvaluation:
    """k-NN accuracy and feature std of the embeddings during training.

    Attributes:
        every: epochs between looks, 0 for none; k, temperature: of the k-NN.
        bank, queries: at most so many training and val images (balanced over classes), None for all.
        probe: also a linear probe: logistic regression on the bank's features.
    """

    every: float = 1
    probe: bool = False
    k: int = 20
    temperature: float = 0.07
    bank: int | None = None
    queries: int | None = None


@dataclass
class Checkpoints:
    """Attributes: every: epochs between checkpoints; keep: how many of the newest stay; keep_every: epochs between those that stay for
    good, None for none."""

    every: float = 1
    keep: int = 2
    keep_every: float | None = None


@dataclass
class Parallel:
    """How several processes share a run. A resumed run may change it.

    Attributes:
        strategy: 'ddp', a whole network on each process; 'fsdp', parameters and optimiser state shared out (PyTorch's FSDP2).
        timeout: seconds that a process waits for another, or for a batch, before it gives up.
    """

    strategy: str = 'ddp'
    timeout: float = 1800


@dataclass
class Schedule:
    """Shape of the learning rate; its peak is base_lr * batch_size / 256.

    Attributes:
        shape: 'cosine' to ``end``, or 'steps': times ``gamma`` at every one of ``milestones``.
        start, end: learning rate at the first step of the warm-up and at the end of the cosine, as shares of the peak.
        per_epoch: what the first step of an epoch gets holds for all of it (MoCo v2, SimSiam); the warm-up is by steps always.
        milestones: epochs, rising; gamma: factor at each.
    """

    shape: str = 'cosine'
    start: float = 0.0
    end: float = 0.0
    per_epoch: bool = False
    milestones: tuple = ()
    gamma: float = 0.1


@dataclass
class Settings:
    """Everything a config may say. ``load_config`` makes one from a file; the run's work directory holds it resolved.

    Attributes:
        method: dict(type=..., backbone=dict(name=...), ...).
        data, schedule, online_eval, checkpoint, parallel: see Data, Schedule, OnlineEvaluation, Checkpoints, Parallel.
        views: one dict per view, see ssl_zoo.data.views.View.
        optimizer: dict(type='LARS' | 'SGD' | 'Adam' | 'AdamW', ...); learning rate and weight decay come from below.
        epochs: passes over the training images; training takes epochs * images // batch_size steps.
        batch_size: images per optimiser step, over all processes; the learning rate does not depend on their number.
        base_lr: peak learning rate per 256 images of batch_size.
        weight_decay: L2 coefficient; norm parameters and biases are left out unless decay_norm_and_bias.
        weight_decay_end: where a half cosine takes the weight decay until the end (DINO); None to keep it.
        norm_and_bias_lr: factor on the learning rate of norm parameters and biases (Barlow Twins).
        clip_grad: largest norm of each parameter's gradient, which is scaled down to it (DINO); None for no limit.
        warmup_epochs: linear warm-up from ``schedule.start`` to the peak.
        accumulate: forward and backward passes per optimiser step; 'auto' for the fewest with max_device_batch.
        max_device_batch: the most images that a process can take in one pass, for accumulate='auto'.
        sync_batchnorm: whether BatchNorm's statistics are those of all processes; None for the method's own choice (MoCo: no, others: yes).
        compile: torch.compile the backbones and the photometric step; torch's modes 'reduce-overhead' (CUDA graphs) and 'max-autotune'
            are for GPUs.
        recompute: activation checkpointing: the backward pass computes each block of the trained backbone once more, for less memory.
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
    weight_decay_end: float | None = None
    norm_and_bias_lr: float = 1.0
    clip_grad: float | None = None
    warmup_epochs: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)
    accumulate: int | str = 1
    max_device_batch: int | None = None
    sync_batchnorm: bool | None = None
    compile: bool | str = False
    recompute: bool = False
    precision: str = 'float32'
    channels_last: bool = False
    workers: int | None = None
    seed: int = 0
    log_every: int = 50
    online_eval: OnlineEvaluation = field(default_factory=OnlineEvaluation)
    checkpoint: Checkpoints = field(default_factory=Checkpoints)
    parallel: Parallel = field(default_factory=Parallel)
    imports: list = field(default_factory=list)

    def build_views(self) -> list[View]:
        return build_views(self.views)

    def eval_geometry(self) -> tuple[int, int]:
        """(size, resize) of evaluation."""
        size = self.data.eval_size or self.build_views()[0].size
        return size, self.data.eval_resize or (round(size * 256 / 224) if size >= 96 else size)

    def to_builtin(self) -> dict:
        """As nested dicts of plain values, for checkpoints and for the work directory."""
        return to_builtin(asdict(self))


def settings_from_dict(cfg: dict) -> Settings:
    """Settings from nested dicts. Raises ConfigError for the first mistake."""
    cfg = dict(cfg)
    infinite = next(_infinite(cfg, ''), None)
    if infinite:
        raise ConfigError(infinite)
    for key, cls in (
        ('data', Data),
        ('schedule', Schedule),
        ('online_eval', OnlineEvaluation),
        ('checkpoint', Checkpoints),
        ('parallel', Parallel),
    ):
        if key in cfg:
            cfg[key] = _fill(cls, cfg[key], f'{key}.')
    settings = _fill(Settings, cfg, '')
    settings.build_views()

    def need(holds, key, value, what):
        if not holds:
            raise ConfigError(f'{key}={value!r}, but it must be {what}')

    automatic = settings.accumulate == 'auto'
    need(
        automatic or isinstance(settings.accumulate, int),
        'accumulate',
        settings.accumulate,
        "a whole number of at least 1, or 'auto'",
    )
    need(
        automatic or settings.accumulate >= 1,
        'accumulate',
        settings.accumulate,
        "a whole number of at least 1, or 'auto'",
    )
    for key, minimum, what in (
        ('epochs', 0, 'a number above 0'),
        ('batch_size', 1, 'a whole number of at least 2'),
        ('base_lr', 0, 'a number above 0'),
        ('log_every', 0, 'a whole number of at least 1'),
    ):
        need(getattr(settings, key) > minimum, key, getattr(settings, key), what)
    need(
        settings.base_lr * settings.batch_size < 1e30,
        'base_lr',
        settings.base_lr,
        'small enough to train with',
    )  # float32 ends at 3e38
    for key in ('weight_decay', 'warmup_epochs', 'seed'):
        need(getattr(settings, key) >= 0, key, getattr(settings, key), 'a number of at least 0')
    need(
        settings.warmup_epochs < settings.epochs,
        'warmup_epochs',
        settings.warmup_epochs,
        f'less than epochs={settings.epochs:g}; shorten it with the run',
    )
    need(
        settings.weight_decay_end is None or settings.weight_decay_end >= 0,
        'weight_decay_end',
        settings.weight_decay_end,
        'a number of at least 0, or None',
    )
    need(
        settings.clip_grad is None or settings.clip_grad > 0,
        'clip_grad',
        settings.clip_grad,
        'a number above 0, or None',
    )
    need(
        settings.norm_and_bias_lr >= 0,
        'norm_and_bias_lr',
        settings.norm_and_bias_lr,
        'a factor of at least 0',
    )
    schedule = settings.schedule
    need(
        schedule.shape in ('cosine', 'steps'),
        'schedule.shape',
        schedule.shape,
        "'cosine' or 'steps'",
    )
    for key in ('start', 'end', 'gamma'):
        need(
            0 <= getattr(schedule, key) <= 1,
            f'schedule.{key}',
            getattr(schedule, key),
            'a share in [0, 1]',
        )
    need(
        all(isinstance(m, (int, float)) and 0 < m for m in schedule.milestones)
        and list(schedule.milestones) == sorted(set(schedule.milestones)),
        'schedule.milestones',
        schedule.milestones,
        'epochs above 0, rising',
    )
    need(
        bool(schedule.milestones) == (schedule.shape == 'steps'),
        'schedule.milestones',
        schedule.milestones,
        "epochs for shape='steps', and empty for shape='cosine'",
    )
    need(
        max(schedule.milestones, default=0) < settings.epochs,
        'schedule.milestones',
        schedule.milestones,
        f'before epochs={settings.epochs:g}; move them with the run',
    )
    need(
        settings.compile in (False, True, 'reduce-overhead', 'max-autotune'),
        'compile',
        settings.compile,
        "False, True, 'reduce-overhead' or 'max-autotune'",
    )
    need(
        settings.accumulate == 1 or not isinstance(settings.compile, str),
        'compile',
        settings.compile,
        f'True or False with accumulate={settings.accumulate!r}: CUDA graphs would write over the gradients of the first pass',
    )
    need(
        not (settings.compile and settings.recompute),
        'recompute',
        settings.recompute,
        f'False with compile={settings.compile!r}: the compiler plans the memory itself',
    )
    need(
        settings.precision in ('float32', 'bf16'),
        'precision',
        settings.precision,
        "'float32' or 'bf16'",
    )
    limit = settings.max_device_batch
    need(
        automatic == (limit is not None),
        'max_device_batch',
        limit,
        f'{"a number of images" if automatic else "None"} with accumulate={settings.accumulate!r}',
    )
    need(limit is None or limit >= 1, 'max_device_batch', limit, 'at least 1')
    need(
        automatic or settings.batch_size % settings.accumulate == 0,
        'accumulate',
        settings.accumulate,
        f'a divisor of batch_size={settings.batch_size}',
    )
    need(
        settings.workers is None or settings.workers >= 0,
        'workers',
        settings.workers,
        'a number of at least 0, or None',
    )
    need(settings.checkpoint.keep >= 1, 'checkpoint.keep', settings.checkpoint.keep, 'at least 1')
    need(settings.checkpoint.every > 0, 'checkpoint.every', settings.checkpoint.every, 'above 0')
    need(
        settings.checkpoint.keep_every is None or settings.checkpoint.keep_every > 0,
        'checkpoint.keep_every',
        settings.checkpoint.keep_every,
        'above 0, or None',
    )
    need(
        settings.parallel.strategy in ('ddp', 'fsdp'),
        'parallel.strategy',
        settings.parallel.strategy,
        "'ddp' or 'fsdp'",
    )
    need(
        0 < settings.parallel.timeout <= 1e7,
        'parallel.timeout',
        settings.parallel.timeout,
        'seconds above 0, at most 10 million',
    )
    need(
        settings.online_eval.every >= 0,
        'online_eval.every',
        settings.online_eval.every,
        'at least 0',
    )
    for key in ('bank', 'queries'):
        value = getattr(settings.online_eval, key)
        need(
            value is None or value >= 1, f'online_eval.{key}', value, 'at least 1, or None for all'
        )
    need(
        settings.online_eval.temperature > 0,
        'online_eval.temperature',
        settings.online_eval.temperature,
        'above 0',
    )
    need(
        automatic or settings.batch_size // settings.accumulate > 1,
        'accumulate',
        settings.accumulate,
        f'small enough for two images per pass (batch_size={settings.batch_size}): BatchNorm needs them',
    )
    need(settings.online_eval.k >= 1, 'online_eval.k', settings.online_eval.k, 'at least 1')
    need(
        0 <= settings.data.max_unreadable <= 1,
        'data.max_unreadable',
        settings.data.max_unreadable,
        'a share in [0, 1]',
    )
    for key in ('mean', 'std'):
        value = getattr(settings.data, key)
        need(
            len(value) == 3 and all(isinstance(v, (int, float)) for v in value),
            f'data.{key}',
            value,
            'three numbers',
        )
    need(min(settings.data.std) > 0, 'data.std', settings.data.std, 'three numbers above 0')
    need(settings.seed < 2**63, 'seed', settings.seed, 'below 2**63')
    for key, stated in (
        ('lr', 'base_lr'),
        ('weight_decay', 'weight_decay'),
        ('params', None),
        ('adapt', None),
    ):
        if key in settings.optimizer:
            raise ConfigError(
                f'optimizer.{key} is set by the run{f", from {stated}" if stated else ""}; leave it out of optimizer'
            )
    for key in ('eval_size', 'eval_resize'):
        value = getattr(settings.data, key)
        need(
            value is None or 1 <= value <= LARGEST_SIZE,
            f'data.{key}',
            value,
            f'pixels above 0, at most {LARGEST_SIZE}, or None',
        )
    size = settings.eval_geometry()
    need(
        0 < size[0] <= size[1],
        'data.eval_size',
        size[0],
        f'above 0 and at most eval_resize={size[1]}',
    )
    if not isinstance(settings.method.get('backbone', {}), dict):
        raise ConfigError(
            f'method.backbone={settings.method["backbone"]!r}, but it must be dict(name=...)'
        )
    if 'type' in settings.method:  # so that a misspelt argument fails before data is read
        cls = METHODS.find(settings.method['type'])
        check_arguments(
            cls, [k for k in settings.method if k != 'type'], f'method {settings.method["type"]!r}'
        )
        need(
            cls.n_views in (None, len(settings.views)),
            'views',
            f'{len(settings.views)} views',
            f'{cls.n_views} views for {settings.method["type"]}',
        )
        need(
            len(settings.views) >= cls.min_views,
            'views',
            f'{len(settings.views)} views',
            f'at least {cls.min_views} views for {settings.method["type"]}',
        )
    return settings


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
        if (
            wanted in (float, float | None)
            and isinstance(value, int)
            and not isinstance(value, bool)
        ):
            continue
        if wanted is tuple and isinstance(value, list):
            continue
        if not isinstance(value, wanted) or (
            isinstance(value, bool) and wanted not in (bool, bool | None, bool | str)
        ):
            raise ConfigError(
                f'{prefix}{key}={value!r} is of type {type(value).__name__}, but it must be '
                f'{getattr(wanted, "__name__", wanted)}'
            )
    missing = [
        f.name
        for f in known.values()
        if f.default is MISSING and f.default_factory is MISSING and f.name not in values
    ]
    if missing:
        raise ConfigError(f'the config lacks {", ".join(prefix + name for name in missing)}')
    return cls(
        **{
            k: tuple(v) if inspect.get_annotations(cls)[k] is tuple else v
            for k, v in values.items()
        }
    )


def _infinite(value, key: str):
    """A sentence for every number that is infinite, not a number, or a whole number so large that no float holds it."""
    if isinstance(value, (dict, list, tuple)):
        for k, v in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _infinite(v, f'{key}.{k}' if key else str(k))
    elif isinstance(value, float) and not math.isfinite(value):
        yield f'{key}={value} is not a finite number'
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield f'{key} is a whole number beyond {LARGEST:.0e}; give a smaller one'


def to_builtin(value):
    """Nested dicts, lists and plain values, free of mmengine's and numpy's classes."""
    if isinstance(value, dict):
        return {str(k): to_builtin(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_builtin(v) for v in value]
    return value
