"""Recipes for training a classifier on an encoder, and presets from papers and other libraries."""

from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.layers import cosine_schedule

FLOAT32_MAX = 3e38
CHOICES = dict(
    optimizer=('SGD', 'LARC'),
    shape=('cosine', 'steps'),
    init=('zeros', 'normal', 'haiku', 'torch'),
    interpolation=('bicubic', 'bilinear'),
    test_interpolation=('bicubic', 'bilinear'),
)


@dataclass(frozen=True)
class Setting:
    """One point of a sweep.

    Attributes:
        lr: peak learning rate of the optimizer, after any scaling by the batch size.
        weight_decay: L2 coefficient.
        epochs: passes over the labelled images, possibly not a whole number.
    """

    lr: float
    weight_decay: float
    epochs: float

    def __str__(self) -> str:
        decay = f', weight decay {self.weight_decay:g}' if self.weight_decay else ''
        return f'lr {self.lr:g}{decay}, {self.epochs:g} epochs'


@dataclass(frozen=True)
class Recipe:
    """A sweep: every learning rate with every weight decay and every number of epochs.

    Attributes:
        lrs: peak learning rates; with ``per_256``, per 256 images of the batch.
        epochs: numbers of passes over the labelled images; more than one only when the whole
            network is trained.
        batch_size: images per step; fewer labelled images than this make one batch.
        weight_decays: L2 coefficients.
        per_256: whether the learning rates are per 256 images of the batch.
        optimizer: 'SGD', or 'LARC' (LARS with the denominator |g| + wd |w|, NVIDIA apex).
        momentum: momentum of the optimizer.
        nesterov: whether the momentum is Nesterov's.
        shape: learning rate schedule: 'cosine' down to ``end``, or 'steps', times 0.1 at each
            milestone.
        end: last learning rate of the cosine, as a share of the peak.
        milestones: milestones of 'steps', as shares of the epochs.
        per_epoch: whether the learning rate changes every epoch instead of every step.
        decay_over_lr: whether each weight decay is divided by its learning rate.
        init: initial weights of the linear layer: 'zeros'; 'normal' with standard deviation 0.01;
            'haiku', truncated normal with standard deviation 1 / sqrt(D); or 'torch', the default
            of nn.Linear. Biases start at 0, except with 'torch'.
        crop: smallest and largest area of the random crop, as shares of the image.
        flip_p: probability of a horizontal flip.
        interpolation: interpolation of the crop, 'bicubic' or 'bilinear' (antialiased).
        test_interpolation: interpolation of the resize in evaluation.
        source: paper and code that the numbers come from.
    """

    lrs: tuple[float, ...]
    epochs: tuple[float, ...]
    batch_size: int
    weight_decays: tuple[float, ...] = (0.0,)
    per_256: bool = True
    optimizer: str = 'SGD'
    momentum: float = 0.9
    nesterov: bool = False
    shape: str = 'cosine'
    end: float = 0.0
    milestones: tuple[float, ...] = ()
    per_epoch: bool = False
    decay_over_lr: bool = False
    init: str = 'torch'
    crop: tuple[float, float] = (0.08, 1.0)
    flip_p: float = 0.5
    interpolation: str = 'bicubic'
    test_interpolation: str = 'bicubic'
    source: str = ''

    def __post_init__(self):
        self._check_numbers('lrs', 'above 0')
        self._check_numbers('epochs', 'above 0')
        self._check_numbers('weight_decays', 'at least 0')
        self._check(self.batch_size >= 1, 'batch_size', 'a whole number of at least 1')
        for name, allowed in CHOICES.items():
            self._check(getattr(self, name) in allowed, name, f'one of {", ".join(allowed)}')

    def _check_numbers(self, name: str, least: str) -> None:
        values = getattr(self, name)
        zero_allowed = least == 'at least 0'
        are_allowed = all(0 < v < FLOAT32_MAX or (v == 0 and zero_allowed) for v in values)
        # float32 overflows just above 3e38.
        self._check(values and are_allowed, name, f'one or more numbers {least}, below 3e38')

    def _check(self, holds: bool, name: str, requirement: str) -> None:
        if not holds:
            raise ConfigError(f'{name} is {getattr(self, name)!r}, but it must be {requirement}')

    def settings(self, images: int) -> list[Setting]:
        """Return all settings of the sweep for a number of labelled images."""
        scale = min(self.batch_size, images) / 256 if self.per_256 else 1
        settings = []
        for epochs, lr, decay in product(self.epochs, self.lrs, self.weight_decays):
            peak = lr * scale
            settings.append(Setting(peak, decay / peak if self.decay_over_lr else decay, epochs))
        return settings

    def steps(self, epochs: float, images: int) -> int:
        """Return the optimizer steps, as in pretraining: epochs * images // batch size."""
        return max(int(epochs * images) // min(self.batch_size, images), 1)

    def factor(self, step: int, epochs: float, images: int) -> float:
        """Return the learning rate of a step, as a share of the peak."""
        epochs_done = step * min(self.batch_size, images) / images
        if self.shape == 'steps':
            if self.per_epoch:
                epochs_done = int(epochs_done)
            return 0.1 ** sum(epochs_done >= share * epochs for share in self.milestones)
        if self.per_epoch:
            progress = int(epochs_done) / epochs
        else:
            progress = step / self.steps(epochs, images)
        return cosine_schedule(1.0, self.end, progress)

    def with_changes(self, **changes: Any) -> 'Recipe':
        """Return a copy with the given fields replaced; a field given as None is kept."""
        given = {name: value for name, value in changes.items() if value is not None}
        for name, value in given.items():
            if isinstance(value, list):
                given[name] = tuple(value)
        return replace(self, **given)

    def to_builtin(self) -> dict:
        """Return the fields as a dict."""
        return asdict(self)


# Linear evaluation of the frozen encoder. Optimizers, schedules and inits are those of the code
# that ``source`` names, unless ``source`` says otherwise.
_FACEBOOK: dict[str, Any] = dict(
    per_epoch=True, init='normal', interpolation='bilinear', test_interpolation='bilinear'
)
LINEAR = {
    'byol': Recipe(
        lrs=(0.4, 0.3, 0.2, 0.1, 0.05),
        epochs=(80,),
        batch_size=1024,
        nesterov=True,
        init='haiku',
        source=(
            'BYOL (2006.07733), C.1; schedule, start and lr * batch size / 256 from its code, '
            'byol/eval_experiment.py'
        ),
    ),
    'simclr': Recipe(
        lrs=(0.1,),
        epochs=(90,),
        batch_size=4096,
        nesterov=True,
        init='zeros',
        source=(
            'SimCLR (2002.05709), B.6; schedule and start from google-research/simclr, whose '
            'README has weight decay 1e-6'
        ),
    ),
    'moco': Recipe(
        lrs=(30,),
        epochs=(100,),
        batch_size=256,
        per_256=False,
        shape='steps',
        milestones=(0.6, 0.8),
        **_FACEBOOK,
        source='facebookresearch/moco main_lincls.py: MoCo v1 and v2',
    ),
    'mocov3': Recipe(
        lrs=(0.1,),
        epochs=(90,),
        batch_size=1024,
        **_FACEBOOK,
        source='facebookresearch/moco-v3 main_lincls.py: ResNet-50; for ViTs --lrs 3 (CONFIG.md)',
    ),
    'simsiam': Recipe(
        lrs=(0.02, 0.1),
        epochs=(90,),
        batch_size=4096,
        optimizer='LARC',
        **_FACEBOOK,
        source=(
            'SimSiam (2011.10566), appendix A: 0.02; facebookresearch/simsiam main_lincls.py and '
            'README: 0.1'
        ),
    ),
    'barlow_twins': Recipe(
        lrs=(0.3,),
        epochs=(100,),
        batch_size=256,
        per_256=False,
        weight_decays=(1e-6,),
        **_FACEBOOK,
        source='facebookresearch/barlowtwins evaluate.py',
    ),
    'vicreg': Recipe(
        lrs=(0.02,),
        epochs=(100,),
        batch_size=256,
        per_256=False,
        weight_decays=(1e-6,),
        **_FACEBOOK,
        source=(
            "facebookresearch/vicreg evaluate.py with its README's --lr-head 0.02; the paper (C.2) "
            'crops from 0.2'
        ),
    ),
    'swav': Recipe(
        lrs=(0.3,),
        epochs=(100,),
        batch_size=256,
        per_256=False,
        weight_decays=(1e-6,),
        **_FACEBOOK,
        source=(
            'facebookresearch/swav eval_linear.py; for its own weights data.std=(0.228, 0.224, '
            '0.225)'
        ),
    ),
    'dino': Recipe(
        lrs=(0.001,),
        epochs=(100,),
        batch_size=1024,
        per_epoch=True,
        init='normal',
        interpolation='bilinear',
        source=(
            'DINO (2104.14294), F.2, which sweeps the learning rate for each model; '
            'facebookresearch/dino eval_linear.py'
        ),
    ),
    'solo_learn': Recipe(
        lrs=(0.1,),
        epochs=(100,),
        batch_size=256,
        shape='steps',
        milestones=(0.6, 0.8),
        per_epoch=True,
        source='vturrisi/solo-learn scripts/linear/imagenet/byol.yaml',
    ),
    'lightly': Recipe(
        lrs=(0.1,),
        epochs=(90,),
        batch_size=256,
        end=0.001,
        interpolation='bilinear',
        test_interpolation='bilinear',
        source=(
            'lightly-ai/lightly benchmarks/imagenet/resnet50, '
            'lightly/utils/benchmarking/linear_classifier.py'
        ),
    ),
    'dinov2': Recipe(
        lrs=(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1),
        epochs=(10,),
        batch_size=1024,
        init='normal',
        source=(
            'facebookresearch/dinov2 dinov2/eval/linear.py: its 13 learning rates, on the last '
            'output alone (not 1 and 4 blocks, with and without the mean of patches); epochs for '
            'its 10 x 1250 steps'
        ),
    ),
}
# The whole network on few labels: 30 or 50 epochs.
FINETUNE = Recipe(
    lrs=(0.005, 0.01, 0.02, 0.05, 0.1),
    epochs=(30, 50),
    batch_size=1024,
    nesterov=True,
    init='haiku',
    source=(
        'BYOL (2006.07733), C.1; schedule, start and lr * batch size / 256 as in its code for '
        'linear evaluation'
    ),
)


def logspace(first: float, last: float, n: int) -> tuple[float, ...]:
    """Return n numbers from first to last, evenly spaced on a logarithmic scale."""
    return tuple(first * (last / first) ** (i / (n - 1)) for i in range(n))


# Fine-tuning on another data set: steps instead of epochs; no weight decay or one of 7.
TRANSFER_STEPS = 20_000
TRANSFER = Recipe(
    lrs=logspace(1e-4, 1e-1, 7),
    epochs=(1,),
    batch_size=256,
    weight_decays=(0.0, *logspace(1e-6, 1e-3, 7)),
    per_256=False,
    decay_over_lr=True,
    nesterov=True,
    init='zeros',
    source=(
        'BYOL (2006.07733), D.3; SimCLR (2002.05709), B.8.1; they name neither schedule nor start'
    ),
)


def linear_preset(name: str) -> Recipe:
    """Return the recipe of this name in LINEAR. Raises ConfigError if there is none."""
    if name not in LINEAR:
        raise ConfigError(f'the preset is {name!r}: {nearest(name, LINEAR)}')
    return LINEAR[name]
