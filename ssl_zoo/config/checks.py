"""Relations between the fields of a config. Each function raises ConfigError if one is violated."""

from typing import TYPE_CHECKING

from ssl_zoo.config.constraints import require
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_arguments

if TYPE_CHECKING:
    from ssl_zoo.config.settings import Settings

# Arguments of an optimizer that the run sets -> config key that the value comes from, or None.
SET_BY_RUN = dict(lr='base_lr', weight_decay='weight_decay', params=None, adapt=None)


def check_relations(settings: 'Settings') -> None:
    """Check the fields of a config against each other; raise ConfigError for the first mistake."""
    check_peak_lr(settings)
    check_warmup(settings)
    check_milestones(settings)
    check_compile(settings)
    check_accumulation(settings)
    check_optimizer(settings)
    check_normalisation(settings)
    check_eval_geometry(settings)
    check_backbone(settings)
    check_base_ema(settings)
    if 'type' in settings.method:
        check_method_arguments(settings)
        check_number_of_views(settings)


def check_peak_lr(settings: 'Settings') -> None:
    """The peak learning rate fits into float32."""
    require(
        settings.base_lr * settings.batch_size < 1e30,  # float32 ends at 3e38
        'base_lr',
        settings.base_lr,
        'small enough to train with',
    )


def check_warmup(settings: 'Settings') -> None:
    """The warm-up is shorter than the training."""
    require(
        settings.warmup_epochs < settings.epochs,
        'warmup_epochs',
        settings.warmup_epochs,
        f'less than epochs={settings.epochs:g}; shorten it with the run',
    )


def check_milestones(settings: 'Settings') -> None:
    """Milestones belong to shape='steps', and are before the end of the training."""
    milestones = settings.schedule.milestones
    require(
        bool(milestones) == (settings.schedule.shape == 'steps'),
        'schedule.milestones',
        milestones,
        "epochs for shape='steps', and empty for shape='cosine'",
    )
    require(
        max(milestones, default=0) < settings.epochs,
        'schedule.milestones',
        milestones,
        f'before epochs={settings.epochs:g}; move them with the run',
    )


def check_compile(settings: 'Settings') -> None:
    """Compilation fits accumulation and activation checkpointing."""
    uses_cuda_graphs = isinstance(settings.compile, str)
    require(
        settings.accumulate == 1 or not uses_cuda_graphs,
        'compile',
        settings.compile,
        f'True or False with accumulate={settings.accumulate!r}: CUDA graphs would write over the '
        f'gradients of the first pass',
    )
    require(
        not (settings.compile and settings.recompute),
        'recompute',
        settings.recompute,
        f'False with compile={settings.compile!r}: the compiler plans the memory itself',
    )


def check_accumulation(settings: 'Settings') -> None:
    """The batch divides into passes of at least two images."""
    batch_size = settings.batch_size
    limit = settings.max_device_batch
    if settings.accumulate == 'auto':
        allowed = "a number of images with accumulate='auto'"
        require(limit is not None, 'max_device_batch', limit, allowed)
        return
    passes = int(settings.accumulate)
    require(limit is None, 'max_device_batch', limit, f'None with accumulate={passes}')
    require(batch_size % passes == 0, 'accumulate', passes, f'a divisor of batch_size={batch_size}')
    require(
        batch_size // passes > 1,
        'accumulate',
        passes,
        f'small enough for two images per pass (batch_size={batch_size}): BatchNorm needs them',
    )


def check_optimizer(settings: 'Settings') -> None:
    """The config gives the optimizer no argument that the run sets."""
    for key, stated_in in SET_BY_RUN.items():
        if key in settings.optimizer:
            origin = f', from {stated_in}' if stated_in else ''
            raise ConfigError(
                f'optimizer.{key} is set by the run{origin}; leave it out of optimizer'
            )


def check_normalisation(settings: 'Settings') -> None:
    """Mean and standard deviation are those of values in [0, 1], not of bytes.

    With those of bytes all images become almost the same constant.
    """
    for key, least in (('mean', 'from 0'), ('std', 'above 0')):
        values = getattr(settings.data, key)
        remedy = ''
        if all(0 <= value <= 255 for value in values):
            divided = tuple(round(value / 255, 4) for value in values)
            remedy = f'; of values from 0 to 255 divide them by 255: data.{key}={divided}'
        require(
            all(0 <= value <= 1 for value in values),
            f'data.{key}',
            values,
            f'three numbers {least} to 1, as of pixels in [0, 1]{remedy}',
        )


def check_eval_geometry(settings: 'Settings') -> None:
    """The crop of evaluation fits into the resized image."""
    size, resize = settings.eval_geometry()
    require(0 < size <= resize, 'data.eval_size', size, f'above 0 and at most eval_resize={resize}')


def check_backbone(settings: 'Settings') -> None:
    """The backbone is a dict."""
    backbone = settings.method.get('backbone', {})
    require(
        isinstance(backbone, dict), 'method.backbone', backbone, 'dict(name=...) or dict(type=...)'
    )


def check_base_ema(settings: 'Settings') -> None:
    """The decay of a target network, if it is no number, is 'auto'; Plan replaces that."""
    base_ema = settings.method.get('base_ema')
    if isinstance(base_ema, str):
        allowed = "a number from 0 to 1, or 'auto'"
        require(base_ema == 'auto', 'method.base_ema', base_ema, allowed)


def check_method_arguments(settings: 'Settings') -> None:
    """The method has the arguments that the config gives. Checked before any data is read."""
    name = settings.method['type']
    arguments = [key for key in settings.method if key != 'type']
    check_arguments(METHODS.find(name), arguments, f'method {name!r}')


def check_number_of_views(settings: 'Settings') -> None:
    """The method takes as many views as the config has."""
    name = settings.method['type']
    method = METHODS.find(name)
    n_views = len(settings.views)
    require(
        method.n_views in (None, n_views),
        'views',
        f'{n_views} views',
        f'{method.n_views} views for {name}',
    )
    require(
        n_views >= method.min_views,
        'views',
        f'{n_views} views',
        f'at least {method.min_views} views for {name}',
    )
