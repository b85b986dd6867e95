"""Build a method from settings, or from the config and weights of a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer

from ssl_zoo.checkpoint import read_checkpoint
from ssl_zoo.config.options import apply_option
from ssl_zoo.config.settings import Settings, settings_from_dict
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.errors import ConfigError
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS

# Keys of a checkpoint's config that an evaluation may change.
EVALUATION_OPTIONS = ('data', 'workers', 'channels_last')


def build_method(
    settings: Settings, pretrained: bool = True, microbatch_images: int | None = None
) -> Method:
    """Build the method of a config, with its photometric step. The seed sets the initial weights.

    Args:
        settings: from load_config.
        pretrained: False builds the backbone with random weights even if the config asks for
            pretrained ones.
        microbatch_images: images of a forward pass, over all processes, to be checked; None for
            batch_size / accumulate, or for no check with accumulate='auto'.

    Returns:
        The method on the CPU, in training mode.

    Raises:
        ConfigError: arguments that the method does not accept, images of a size that a ViT does not
            accept, or a number of images per pass that the method does not accept.
    """
    torch.manual_seed(settings.seed)
    cfg = settings.method
    if not pretrained and cfg.get('backbone', {}).get('pretrained'):
        cfg = {**cfg, 'backbone': {**cfg['backbone'], 'pretrained': False}}
    method = METHODS.create(cfg)
    if microbatch_images is None and isinstance(settings.accumulate, int):
        microbatch_images = settings.batch_size // int(settings.accumulate)
    if microbatch_images is not None:
        _check_microbatch(method, settings, microbatch_images)
    _check_image_sizes(method, settings)
    method.data_preprocessor = Photometric(
        settings.build_views(), settings.data.mean, settings.data.std, settings.channels_last
    )
    if settings.channels_last:
        method = method.to(memory_format=torch.channels_last)
    return method


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
    """Raise ConfigError if views or evaluation have images of a size that a ViT refuses."""
    sizes = {view.size for view in settings.build_views()} | {settings.eval_geometry()[0]}
    for network in method.modules():
        if isinstance(network, VisionTransformer) and network.patch_embed.strict_img_size:
            height, width = network.patch_embed.img_size
            if sizes != {height} or height != width:
                raise ConfigError(
                    f'{settings.method["backbone"]["name"]} takes images of {height} x {width} '
                    f'pixels, and the views have {", ".join(map(str, sorted(sizes)))}; give the '
                    f'backbone img_size={max(sizes)}, and dynamic_img_size=True for several sizes'
                )


def load_method(
    path: str | Path, options: Sequence[str] = (), random_weights: bool = False
) -> tuple[Method, Settings, int]:
    """Load the method of a checkpoint.

    The config stored in the checkpoint is read as data. A method that is not part of the zoo must
    be imported first (``ssl_zoo.config.loading.import_file``), because reading a checkpoint runs no
    code.

    Args:
        path: the checkpoint.
        options: changes to the data of its config, such as 'data.test.root=/data/imagenet/val'.
        random_weights: True for the weights that the method had before training.

    Returns:
        The method in eval mode, its settings, and the number of optimizer steps that it was trained
        for (0 with ``random_weights``).

    Raises:
        ConfigError: a checkpoint that cannot be read, an unknown method, weights that do not fit,
            or an option that would change the method.
    """
    content = read_checkpoint(path)
    config = content['config']
    for option in options:
        if option.split('=')[0].split('.')[0] not in EVALUATION_OPTIONS:
            raise ConfigError(
                f'the option {option!r} would change what was trained; an evaluation can change '
                f'{", ".join(EVALUATION_OPTIONS)}'
            )
        apply_option(config, option)
    settings = settings_from_dict(config)
    # Pretrained weights are part of the weights before training; trained weights replace them.
    method = build_method(settings, pretrained=random_weights)
    if random_weights:
        return method.eval(), settings, 0
    try:
        method.load_state_dict(content['method'])
    except (RuntimeError, TypeError, AttributeError) as error:
        # TypeError and AttributeError: an item of the state is not a tensor.
        raise ConfigError(
            f'{path} does not fit {settings.method["type"]}: {str(error).splitlines()[-1].strip()}'
        ) from None
    return method.eval(), settings, content['step']
