"""Build a method from settings, or from the config and weights of a checkpoint."""

import copy
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from ssl_zoo.architecture_keys import (
    WEIGHT_SOURCES,
    architecture,
    architecture_only,
    is_architecture_only,
)
from ssl_zoo.backbones import build_backbone, other_channels
from ssl_zoo.checkpoint import read_checkpoint
from ssl_zoo.config.options import apply_option
from ssl_zoo.config.settings import Settings, settings_from_dict
from ssl_zoo.data.data_digest import trained_on
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.errors import ConfigError
from ssl_zoo.input_size import fit_input_size, other_sizes, size_error
from ssl_zoo.method import Method
from ssl_zoo.pretrained import random_warnings
from ssl_zoo.registry import METHODS

# Keys of a checkpoint's config that an evaluation may change.
EVALUATION_OPTIONS = ('data', 'workers', 'channels_last')
# Most parameters and submodules of a method per weight in its file: a layer such as Conv2d counts
# once, its parameters once each, and timm replaces some layers.
LAYERS_PER_WEIGHT = 20
LARGEST_ARGUMENT = 2**21  # of a method of the zoo: some make lists of this length


def build_method(
    settings: Settings,
    pretrained: bool = True,
    microbatch_images: int | None = None,
    from_file: bool = False,
) -> Method:
    """Build the method of a config, with its photometric step. The seed sets the initial weights.

    Args:
        settings: from load_config.
        pretrained: False builds the backbone with random weights even if the config asks for
            pretrained ones.
        microbatch_images: images of a forward pass, over all processes, to be checked; None for
            batch_size / accumulate, or for no check with accumulate='auto'.
        from_file: whether the config comes from a checkpoint or another file of weights. Then its
            backbone may have keys of an architecture alone, its weights are random whatever the
            config says, and nothing is fetched.

    Returns:
        The method on the CPU, in training mode.

    Raises:
        ConfigError: arguments that the method does not accept, images of a size that the backbone
            does not accept, or a number of images per pass that the method does not accept.
    """
    if from_file:
        backbone = settings.method.get('backbone')
        if isinstance(backbone, dict):
            architecture(backbone)  # an export reads it too
        with architecture_only():
            return build_method(settings, False, microbatch_images)
    torch.manual_seed(settings.seed)
    cfg = settings.method
    if cfg.get('base_ema') == 'auto':
        raise ConfigError(
            "base_ema='auto' depends on the number of steps: give the settings of the plan, "
            'Plan.of(settings, images).settings'
        )
    if not pretrained:
        cfg = _with_random_backbone(cfg)
    method = METHODS.create(cfg)
    if microbatch_images is None and isinstance(settings.accumulate, int):
        microbatch_images = settings.batch_size // int(settings.accumulate)
    if microbatch_images is not None:
        _check_microbatch(method, settings, microbatch_images)
    if not is_architecture_only():  # a network from a file is made to take the images of evaluation
        _check_image_sizes(method, settings)
    method.data_preprocessor = Photometric(
        settings.build_views(), settings.data.mean, settings.data.std, settings.channels_last
    )
    if settings.channels_last:
        method = method.to(memory_format=torch.channels_last)
    return method


def _with_random_backbone(method: dict) -> dict:
    """Return the config of a method whose backbone begins with random weights."""
    backbone = method.get('backbone')
    if not isinstance(backbone, dict):
        return method
    sources = (*WEIGHT_SOURCES, 'weights')
    backbone = {key: value for key, value in backbone.items() if key not in sources}
    return {**method, 'backbone': backbone}


def _check_microbatch(method: Method, settings: Settings, images: int) -> None:
    multiple = method.microbatch_multiple
    minimum = method.microbatch_minimum
    if images % multiple or images < minimum:
        raise ConfigError(
            f'{settings.method["type"]} with these arguments needs a multiple of {multiple} images '
            f'in each pass, at least {minimum}, and batch_size={settings.batch_size} with '
            f'accumulate={settings.accumulate} gives {images}'
        )


def _check_image_sizes(method: Method, settings: Settings) -> None:
    """Find out whether the backbone takes the views and the images of evaluation.

    ``method.warnings`` gets what figures of the run must say about the size of their images.

    Raises:
        ConfigError: it does not.
    """
    sizes = sorted({view.size for view in settings.build_views()})
    for size in sizes:
        error = size_error(method.backbone, size, _network_key(method.backbone, settings))
        if error is not None:
            raise ConfigError(
                f'{_backbone_name(method, settings)} cannot take views of {size} x {size} px '
                f'({error}); {_remedy(method, settings, sizes, size)}'
            )
    eval_size = settings.eval_geometry()[0]
    warning = None
    if eval_size not in sizes:
        warning = fit_input_size(copy.deepcopy(method.backbone), eval_size, sizes)
    method.warnings = tuple(random_warnings(method)) + ((warning,) if warning else ())


def _network_key(network: nn.Module, settings: Settings) -> Hashable:
    """Return what determines the sizes that a network of a method takes."""
    shapes = tuple(tuple(parameter.shape) for parameter in network.parameters())
    return METHODS.find(settings.method['type']), repr(settings.method), type(network), shapes


def _backbone_name(method: Method, settings: Settings) -> str:
    backbone = settings.method.get('backbone')
    if isinstance(backbone, dict):
        name = backbone.get('name', backbone.get('type'))
        if isinstance(name, str):
            return name
    return type(method.backbone).__name__


def _remedy(method: Method, settings: Settings, sizes: list[int], size: int) -> str:
    """Word what makes the backbone take views of all ``sizes``. Each remedy has been tried."""
    remedies = []
    backbone = settings.method.get('backbone')
    if isinstance(backbone, dict):
        own = {key: value for key, value in backbone.items() if key not in WEIGHT_SOURCES}
        candidates: list[dict] = [
            dict(img_size=max(sizes)),
            dict(dynamic_img_size=True, dynamic_img_pad=True),
        ]
        candidates.insert(1, dict(img_size=max(sizes), dynamic_img_size=True))
        for arguments in candidates:
            if _takes({**own, **arguments}, sizes):
                words = ', '.join(f'{key}={value}' for key, value in arguments.items())
                remedies.append(f'give the backbone {words}')
                break
    others = other_sizes(method.backbone, size)
    if others:
        remedies.append(f'give the views size={" or ".join(map(str, others))}')
    return ', or '.join(remedies) or 'choose another backbone'


def _takes(backbone: dict, sizes: list[int]) -> bool:
    """Whether a backbone of these arguments can be built, and takes images of all sizes."""
    try:
        with torch.device('meta'):
            network = build_backbone(**backbone)
    except (ConfigError, TypeError):
        return False
    return all(size_error(network, size) is None for size in sizes)


def fit_to_evaluation(method: Method, settings: Settings) -> None:
    """Make the backbones of a method take the images of evaluation, in place.

    ``method.warnings`` gets what figures must say about the size of these images.

    Raises:
        ConfigError: a backbone cannot take images of this size.
    """
    trained = {view.size for view in settings.build_views()}
    size = settings.eval_geometry()[0]
    found = []
    for name, _ in method.networks.values():
        backbone = method.get_submodule(name)
        found.append(fit_input_size(backbone, size, trained, _network_key(backbone, settings)))
    method.warnings = tuple(dict.fromkeys(warning for warning in found if warning))


def build_fitting(
    settings: Settings,
    weights: dict[str, Tensor],
    path: str | Path,
    microbatch_images: int | None = None,
) -> Method:
    """Build the method of a config in a file, with random weights of the sizes in the file.

    The method is first built on the meta device, where weights take no memory, and its names and
    shapes are compared with the file's: a config of a few bytes can name a network of any size.

    Args:
        settings: from the config in the file.
        weights: the weights in the file.
        path: the file, for messages.
        microbatch_images: see build_method.

    Raises:
        ConfigError: as ``build_method``; the weights are not those of the method.
    """
    is_zoo = METHODS.find(settings.method.get('type')).__module__.startswith('ssl_zoo.')
    if is_zoo:
        _check_arguments({key: item for key, item in settings.method.items() if key != 'source'})
    try:
        with torch.device('meta'), _limited_parts(LAYERS_PER_WEIGHT * len(weights) + 2_000):
            network = build_method(settings, False, microbatch_images, from_file=True)
        load_weights(network, weights, path, assign=True)
    except ConfigError:
        # A class of the user's own may compute with its initial weights, which meta tensors forbid.
        if is_zoo:
            raise
    return build_method(settings, False, microbatch_images, from_file=True)


def _check_arguments(value: Any, key: str = 'method') -> None:
    """Raise ConfigError for a whole number that no size of a method reaches."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check_arguments(item, f'{key}.{name}')
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_arguments(item, f'{key}.{i}')
    elif isinstance(value, int) and abs(value) > LARGEST_ARGUMENT:
        raise ConfigError(f'{key} in the file is beyond {LARGEST_ARGUMENT:,}')


@contextmanager
def _limited_parts(most: int) -> Iterator[None]:
    """Raise ConfigError when more than ``most`` parameters and submodules are made in the block."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise ConfigError(
                f'the config in the file builds more than {most:,} layers, which its weights '
                f'cannot fill'
            )

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def load_weights(
    method: Method, weights: dict[str, Tensor], path: str | Path, assign: bool = False
) -> None:
    """Load the weights of a file into a method.

    Args:
        method: the method.
        weights: name -> tensor.
        path: the file, for messages.
        assign: keep the tensors of the file instead of copying their numbers.

    Raises:
        ConfigError: names or shapes differ.
    """
    shapes = {
        key: tuple(value.shape) for key, value in weights.items() if isinstance(value, Tensor)
    }
    channels = other_channels(method.state_dict(), shapes)
    if channels:
        raise ConfigError(f'{path} does not fit {type(method).__name__}: {channels}')
    try:
        method.load_state_dict(weights, assign=assign)
    except (RuntimeError, TypeError, AttributeError) as error:
        # TypeError and AttributeError: an item of the state is not a tensor.
        raise ConfigError(
            f'{path} does not fit {type(method).__name__}: {str(error).splitlines()[-1].strip()}'
        ) from None


def began_with_warning(facts: dict) -> str:
    """Return what figures of a run must say that began with the weights of another file."""
    return (
        f'the run began with weights of {facts.get("file")} (SHA-256 '
        f'{str(facts.get("sha256"))[:12]}), which may have been trained on other images'
    )


class LoadedMethod(NamedTuple):
    """The method of a checkpoint.

    Attributes:
        method: the method in eval mode.
        settings: its settings.
        step: number of optimizer steps that it was trained for, 0 with random weights.
        train_data: digest of the images that it was trained on, see ssl_zoo.data.identity; None
            with random weights, and if the checkpoint does not say.
    """

    method: Method
    settings: Settings
    step: int
    train_data: str | None


def load_method(
    path: str | Path, options: Sequence[str] = (), random_weights: bool = False
) -> tuple[Method, Settings, int]:
    """Load the method of a checkpoint, see ``load_trained``.

    Returns:
        The method in eval mode, its settings, and the number of optimizer steps that it was trained
        for (0 with ``random_weights``).
    """
    loaded = load_trained(path, options, random_weights)
    return loaded.method, loaded.settings, loaded.step


def load_trained(
    path: str | Path, options: Sequence[str] = (), random_weights: bool = False
) -> LoadedMethod:
    """Load the method of a checkpoint, and what the checkpoint says about its training.

    A backbone of another size than that of the images of evaluation is made to take them, see
    ``fit_to_evaluation``.

    The config stored in the checkpoint is read as data: it names registered classes and sizes.
    Nothing is fetched or written because a checkpoint says so. A method that is not part of the zoo
    must be imported first (``ssl_zoo.config.loading.import_file``), because reading a checkpoint
    runs no code.

    Args:
        path: the checkpoint.
        options: changes to the data of its config, such as 'data.test.root=/data/imagenet/val'.
        random_weights: True for random weights, drawn with the seed of the config. If the run began
            with pretrained weights, these are not fetched.

    Raises:
        ConfigError: a checkpoint that cannot be read, an unknown method, weights that do not fit,
            an option that would change the method, or images of evaluation of a size that the
            backbone cannot take.
    """
    content = read_checkpoint(path)
    config = dict(content['config'], data=_without_downloads(content['config']['data']))
    for option in options:
        if option.split('=')[0].split('.')[0] not in EVALUATION_OPTIONS:
            raise ConfigError(
                f'the option {option!r} would change what was trained; an evaluation can change '
                f'{", ".join(EVALUATION_OPTIONS)}'
            )
        apply_option(config, option)
    settings = settings_from_dict(config)
    method = build_fitting(settings, content['method'], path)
    if not random_weights:
        load_weights(method, content['method'], path)
    fit_to_evaluation(method, settings)
    if content.get('began_with') and not random_weights:
        method.warnings += (began_with_warning(content['began_with']),)
    if random_weights:
        return LoadedMethod(method.eval(), settings, 0, None)
    train_data = trained_on(content)
    return LoadedMethod(method.eval(), settings, content['step'], train_data)


def _without_downloads(value: Any) -> Any:
    """Return the data of a config without ``download``, which the user alone may ask for."""
    if isinstance(value, dict):
        return {key: _without_downloads(value[key]) for key in value if key != 'download'}
    if isinstance(value, list):
        return [_without_downloads(item) for item in value]
    return value
