"""Settings: every key of a config, with its type, default, unit and constraint."""

from dataclasses import asdict, dataclass, field

from ssl_zoo.config.builtin_values import check_finite, to_builtin
from ssl_zoo.config.checks import check_relations
from ssl_zoo.config.constraints import (
    Constraint,
    check_fields,
    constrained,
    non_negative,
    one_of,
    optional,
    positive,
    unit_interval,
    whole_number,
)
from ssl_zoo.config.fill import fill_dataclass
from ssl_zoo.data.decode import MAX_PIXELS
from ssl_zoo.data.views import LARGEST_SIZE, View, build_views

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _are_three_numbers(values: tuple) -> bool:
    return len(values) == 3 and all(isinstance(value, (int, float)) for value in values)


def _are_rising_epochs(values: tuple) -> bool:
    if not all(isinstance(value, (int, float)) and value > 0 for value in values):
        return False
    return list(values) == sorted(set(values))


three_numbers = Constraint(_are_three_numbers, 'three numbers')
three_positive_numbers = Constraint(
    lambda values: _are_three_numbers(values) and min(values) > 0, 'three numbers above 0'
)
rising_epochs = Constraint(_are_rising_epochs, 'epochs above 0, rising')
image_size = Constraint(
    lambda pixels: 1 <= pixels <= LARGEST_SIZE, f'pixels above 0, at most {LARGEST_SIZE}'
)
images_per_step = Constraint(
    lambda images: 2 <= images <= 2**24, 'a whole number of at least 2 and at most 2**24'
)
waiting_time = Constraint(lambda seconds: 0 < seconds <= 1e7, 'seconds above 0, at most 10 million')
passes_per_step = Constraint(
    lambda passes: passes == 'auto' or isinstance(passes, int) and passes >= 1,
    "a whole number of at least 1, or 'auto'",
)
random_seed = Constraint(
    lambda seed: 0 <= seed < 2**32,
    'a whole number of at least 0 and below 2**32',  # numpy's limit
)


@dataclass
class Data:
    """The images, and how they are normalised and cropped for evaluation.

    Attributes:
        train: source of the training images, dict(type=..., ...). Labels, if it has any, serve
            evaluation alone.
        val: images for choosing hyperparameters and for online evaluation: a source; or the number
            (int) or fraction (float) of training images to hold out.
        train_on_val: train on the held-out images too, without their labels, as the papers do.
        test: labelled source for the results at the end of training; None takes the labelled images
            of val.
        expected_images: number of training images that the config was made for; the plan uses it if
            the data is missing.
        on_device: hold all training images, which have one size, in device memory and crop them
            there, without loader workers. For small images, such as CIFAR's.
        max_unreadable: fraction of training images that may be unreadable before the run stops.
        max_pixels: number of pixels above which an image counts as unreadable, so that a damaged or
            malicious file cannot fill the memory of the workers.
        mean: mean of each channel, for normalisation of values in [0, 1]; from 0 to 1.
        std: standard deviation of each channel, for normalisation of values in [0, 1]; above 0 and
            at most 1.
        eval_size: side in pixels of the centre crop in evaluation; None takes the size of the first
            view.
        eval_resize: length in pixels to which evaluation resizes the short side before the crop;
            None takes 256/224 of eval_size from 96 pixels upwards, and eval_size below.
    """

    train: dict
    val: dict | int | float | None = None
    train_on_val: bool = False
    test: dict | None = None
    expected_images: int | None = None
    on_device: bool = False
    max_unreadable: float = constrained(unit_interval, default=0.01)
    max_pixels: int = constrained(whole_number(at_least=1), default=MAX_PIXELS)
    mean: tuple = constrained(three_numbers, default=IMAGENET_MEAN)
    std: tuple = constrained(three_positive_numbers, default=IMAGENET_STD)
    eval_size: int | None = constrained(optional(image_size), default=None)
    eval_resize: int | None = constrained(optional(image_size), default=None)


@dataclass
class OnlineEvaluation:
    """k-NN accuracy and measures without labels of the backbone's features during training.

    Attributes:
        every: epochs between evaluations; 0 for none.
        probe: also train a linear probe: logistic regression on the features of the bank.
        k: number of neighbours of the k-NN classifier.
        temperature: temperature of the k-NN classifier's weights.
        bank: largest number of labelled training images, balanced over classes; None for all.
        queries: largest number of val images, balanced over classes; None for all.
        view_images: largest number of val images whose training views, ten of each, give LiDAR,
            alignment and uniformity; 0 for none.
    """

    every: float = constrained(non_negative, default=1)
    probe: bool = False
    k: int = constrained(whole_number(at_least=1), default=20)
    temperature: float = constrained(positive, default=0.07)
    bank: int | None = constrained(
        optional(whole_number(at_least=1), none='None for all'), default=None
    )
    queries: int | None = constrained(
        optional(whole_number(at_least=1), none='None for all'), default=None
    )
    view_images: int = constrained(whole_number(at_least=0), default=100)


@dataclass
class Checkpoints:
    """When checkpoints are written and removed.

    Attributes:
        every: epochs between checkpoints.
        keep: number of newest checkpoints that stay.
        keep_every: epochs between checkpoints that are never removed; None for none.
    """

    every: float = constrained(positive, default=1)
    keep: int = constrained(whole_number(at_least=1), default=2)
    keep_every: float | None = constrained(optional(positive), default=None)


@dataclass
class Parallel:
    """How several processes train one method. A resumed run may change these keys.

    Attributes:
        strategy: 'ddp' keeps the whole method on each process; 'fsdp' shards parameters and
            optimizer state over the processes (PyTorch's FSDP2).
        timeout: seconds that a process waits for another process, or for a batch, before it fails.
    """

    strategy: str = constrained(one_of('ddp', 'fsdp'), default='ddp')
    timeout: float = constrained(waiting_time, default=1800)


@dataclass
class Schedule:
    """Shape of the learning rate. Its peak is base_lr * batch_size / 256.

    Attributes:
        shape: 'cosine' falls to ``end``; 'steps' multiplies by ``gamma`` at each of ``milestones``.
        start: learning rate at the first step of the warm-up, as a fraction of the peak.
        end: learning rate at the end of the cosine, as a fraction of the peak.
        per_epoch: hold the value of an epoch's first step for the whole epoch (MoCo v2, SimSiam).
            The warm-up changes at every step.
        milestones: epochs of shape 'steps', rising.
        gamma: factor on the learning rate at each milestone.
    """

    shape: str = constrained(one_of('cosine', 'steps'), default='cosine')
    start: float = constrained(unit_interval, default=0.0)
    end: float = constrained(unit_interval, default=0.0)
    per_epoch: bool = False
    milestones: tuple = constrained(rising_epochs, default=())
    gamma: float = constrained(unit_interval, default=0.1)


@dataclass
class Settings:
    """All keys of a config.

    ``load_config`` makes Settings from a file. A run writes the final values to config.py in its
    work directory.

    Attributes:
        method: dict(type=..., backbone=dict(name=...), ...).
        data: see Data.
        views: one dict per view, see ssl_zoo.data.views.View.
        optimizer: dict(type='LARS' | 'SGD' | 'Adam' | 'AdamW', ...), without learning rate and
            weight decay.
        epochs: passes over the training images; training takes epochs * images // batch_size steps.
        batch_size: images per optimizer step, summed over processes; the learning rate does not
            depend on the number of processes.
        base_lr: peak learning rate per 256 images of batch_size.
        weight_decay: L2 coefficient of the weights.
        decay_norm_and_bias: apply weight_decay to norm parameters and biases too.
        weight_decay_end: final weight decay, reached on a half cosine from weight_decay (DINO);
            None for a constant weight_decay.
        norm_and_bias_lr: factor on the learning rate of norm parameters and biases (Barlow Twins).
        clip_grad: largest norm of a parameter's gradient; a larger gradient is scaled down to it
            (DINO). None for no limit.
        warmup_epochs: epochs of linear warm-up from ``schedule.start`` to the peak.
        schedule: see Schedule.
        accumulate: forward and backward passes per optimizer step; 'auto' takes the fewest that
            max_device_batch allows.
        max_device_batch: largest number of images of one process in one pass, for
            accumulate='auto'.
        sync_batchnorm: compute the statistics of BatchNorm over all processes; None leaves the
            choice to the method (MoCo: False, others: True).
        compile: torch.compile the backbones and the photometric step; the modes 'reduce-overhead'
            (CUDA graphs) and 'max-autotune' of torch are for GPUs.
        recompute: activation checkpointing: the backward pass computes each block of the trained
            backbone again, which takes less memory.
        precision: 'float32', or 'bf16' for autocast to bfloat16.
        channels_last: memory format of networks and views.
        workers: loader processes of each training process; None for its share of the machine's
            cores minus one, at most 8.
        seed: seed of the initial weights, the order of images and the views.
        log_every: steps between progress lines.
        online_eval: see OnlineEvaluation.
        checkpoint: see Checkpoints.
        parallel: see Parallel.
        init_from: checkpoint whose weights the run begins with: its path for the backbone, or
            dict(file=..., part='method') for the whole method. The optimizer begins anew.
        hooks: hooks of your own or of mmengine, as dict(type=...); called beside those of the run.
        writers: TensorBoard, and mmengine's visualization backends such as W&B and MLflow, as
            dict(type=...). log.jsonl is always written.
        imports: Python files to import first, relative to the config, which register methods,
            sources, optimizers, hooks or writers.

    A config file may also hold ``presets``, a list of partial configs with an ``epochs`` each.
    ``load_config`` fills missing keys from the preset whose epochs are nearest in ratio.
    """

    method: dict
    data: Data
    views: list
    optimizer: dict
    epochs: float = constrained(positive)
    batch_size: int = constrained(images_per_step)
    base_lr: float = constrained(positive)
    weight_decay: float = constrained(non_negative, default=0.0)
    decay_norm_and_bias: bool = False
    weight_decay_end: float | None = constrained(optional(non_negative), default=None)
    norm_and_bias_lr: float = constrained(non_negative, default=1.0)
    clip_grad: float | None = constrained(optional(positive), default=None)
    warmup_epochs: float = constrained(non_negative, default=0.0)
    schedule: Schedule = field(default_factory=Schedule)
    accumulate: int | str = constrained(passes_per_step, default=1)
    max_device_batch: int | None = constrained(optional(whole_number(at_least=1)), default=None)
    sync_batchnorm: bool | None = None
    compile: bool | str = constrained(
        one_of(False, True, 'reduce-overhead', 'max-autotune'), default=False
    )
    recompute: bool = False
    precision: str = constrained(one_of('float32', 'bf16'), default='float32')
    channels_last: bool = False
    workers: int | None = constrained(optional(whole_number(at_least=0)), default=None)
    seed: int = constrained(random_seed, default=0)
    log_every: int = constrained(whole_number(at_least=1), default=50)
    online_eval: OnlineEvaluation = field(default_factory=OnlineEvaluation)
    checkpoint: Checkpoints = field(default_factory=Checkpoints)
    parallel: Parallel = field(default_factory=Parallel)
    init_from: str | dict | None = None
    hooks: list = field(default_factory=list)
    writers: list = field(default_factory=lambda: [dict(type='TensorboardVisBackend')])
    imports: list = field(default_factory=list)

    def build_views(self) -> list[View]:
        """Build and check the views. Raises ConfigError for a mistake in a view."""
        return build_views(self.views)

    def eval_geometry(self) -> tuple[int, int]:
        """Return side of the centre crop and short side before the crop, in pixels."""
        size = self.data.eval_size or self.build_views()[0].size
        default_resize = round(size * 256 / 224) if size >= 96 else size
        return size, self.data.eval_resize or default_resize

    def to_builtin(self) -> dict:
        """Return nested dicts, lists and plain values, for checkpoints and the work directory."""
        return to_builtin(asdict(self))


SECTIONS = dict(
    data=Data,
    schedule=Schedule,
    online_eval=OnlineEvaluation,
    checkpoint=Checkpoints,
    parallel=Parallel,
)


def settings_from_dict(cfg: dict) -> Settings:
    """Make settings from nested dicts and check types, constraints and relations.

    Raises:
        ConfigError: the first mistake, with key, value and allowed values.
    """
    check_finite(cfg)
    cfg = dict(cfg)
    for name, cls in SECTIONS.items():
        if name in cfg:
            cfg[name] = fill_dataclass(cls, cfg[name], f'{name}.')
    settings = fill_dataclass(Settings, cfg, '')
    settings.build_views()  # raises for a mistake in a view
    check_fields(settings, '')
    for name in SECTIONS:
        check_fields(getattr(settings, name), f'{name}.')
    check_relations(settings)
    return settings
