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


def build_method(
    settings: Settings, pretrained: bool = True, microbatch_images: int | None = None
) -> Method:
    """The method of a config with its photometric step, its weights drawn from the seed.

    Args:
        pretrained: False leaves out pretrained weights that the config's backbone may ask for.
        microbatch_images: images of a forward pass, over all processes; by default as the config says it for one process.
    """
    torch.manual_seed(settings.seed)
    cfg = settings.method
    if not pretrained and cfg.get('backbone', {}).get('pretrained'):
        cfg = {**cfg, 'backbone': {**cfg['backbone'], 'pretrained': False}}
    method, images = METHODS.create(cfg), microbatch_images
    if images is None and settings.accumulate != 'auto':
        images = settings.batch_size // settings.accumulate
    if images is not None and (
        images % method.microbatch_multiple or images < method.microbatch_minimum
    ):
        raise ConfigError(
            f'{settings.method["type"]} with these arguments needs a multiple of {method.microbatch_multiple} images in each pass, '
            f'at least {method.microbatch_minimum}, and batch_size={settings.batch_size} with accumulate={settings.accumulate} '
            f'gives {images}'
        )
    _check_sizes(method, settings)
    method.data_preprocessor = Photometric(
        settings.build_views(), settings.data.mean, settings.data.std, settings.channels_last
    )
    return method.to(memory_format=torch.channels_last) if settings.channels_last else method


def _check_sizes(method: Method, settings: Settings) -> None:
    """Raise ConfigError if a ViT takes images of another size than the views have."""
    sizes = {view.size for view in settings.build_views()} | {settings.eval_geometry()[0]}
    for network in method.modules():
        if isinstance(network, VisionTransformer) and network.patch_embed.strict_img_size:
            height, width = network.patch_embed.img_size
            if sizes != {height} or height != width:
                raise ConfigError(
                    f'{settings.method["backbone"]["name"]} takes images of {height} x {width} pixels, and the views have '
                    f'{", ".join(map(str, sorted(sizes)))}; give the backbone img_size={max(sizes)}, and '
                    f'dynamic_img_size=True for several sizes'
                )


EVALUATION_OPTIONS = (
    'data',
    'workers',
    'channels_last',
)  # what an evaluation may change of a checkpoint's config


def load_method(
    path: str | Path, options: Sequence[str] = (), random_weights: bool = False
) -> tuple[Method, Settings, int]:
    """The trained method of a checkpoint in eval mode, the settings it was trained with, and the optimiser steps done.

    The config stored in the checkpoint is read as data. A method that is not part of the zoo must be imported before
    (``ssl_zoo.config.loading.import_file``): a checkpoint cannot ask for code to be run.

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
            raise ConfigError(
                f'the option {option!r} would change what was trained; an evaluation can change '
                f'{", ".join(EVALUATION_OPTIONS)}'
            )
        apply_option(config, option)
    settings = settings_from_dict(config)
    method = build_method(
        settings, pretrained=random_weights
    )  # otherwise the weights come from here
    try:
        method.load_state_dict(content['method'] if not random_weights else method.state_dict())
    except (RuntimeError, TypeError, AttributeError) as error:  # the last two: what is not a tensor
        raise ConfigError(
            f'{path} does not fit {settings.method["type"]}: {str(error).splitlines()[-1].strip()}'
        ) from None
    return method.eval(), settings, 0 if random_weights else content['step']
