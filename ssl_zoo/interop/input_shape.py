"""The images that an exported file takes: which of batch size, height and width are fixed."""

import torch
from timm.layers import Conv2dSame, ScaledStdConv2dSame, StdConv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import nn

from ssl_zoo.errors import ConfigError
from ssl_zoo.printable import first_line

# Layers whose padding is computed from the size of their input, which torch's exporter cannot
# express for a size that is not known: it does not return.
PADDED_BY_SIZE = (Conv2dSame, StdConv2dSame, ScaledStdConv2dSame, AvgPool2dSame, MaxPool2dSame)
WITHOUT_DYNAMIC_SIZE = 'leave out --dynamic-size, which fixes height and width at {size} px'


def other_shape(size: int) -> tuple[int, int]:
    """Return a height and a width for comparisons: not equal, one odd, both above ``size``."""
    return size * 5 // 4 | 1, size * 3 // 2


def sizes_taken(encoder: nn.Module, size: int) -> str:
    """Return 'any', 'some' (such as multiples of a patch) or 'one': the image sizes it takes."""
    if _refusal(encoder, *other_shape(size)) is None:
        return 'any'
    return 'some' if _refusal(encoder, 2 * size, 3 * size) is None else 'one'


def check_dynamic_size(encoder: nn.Module, size: int) -> None:
    """Raise ConfigError if height and width of a graph of the encoder cannot be left open.

    Args:
        encoder: float32 on the CPU, in eval mode, (B, 3, H, W) -> (B, D).
        size: side of the images of evaluation, in pixels.
    """
    advice = WITHOUT_DYNAMIC_SIZE.format(size=size)
    height, width = other_shape(size)
    refusal = _refusal(encoder, height, width)
    if refusal is not None:
        raise ConfigError(
            f'--dynamic-size is for networks that take images of any size, and this '
            f'{type(encoder).__name__} does not take {height} x {width} px ({refusal}); {advice}'
        )
    padded = [layer for layer in encoder.modules() if isinstance(layer, PADDED_BY_SIZE)]
    if padded:
        raise ConfigError(
            f'--dynamic-size is for networks whose padding does not depend on the size of the '
            f"image, and this one has {type(padded[0]).__name__}, TensorFlow's padding SAME; "
            f'{advice}'
        )


def describe_input(size: int, sizes: str) -> str:
    """Say which dimensions of the input are fixed, and which are dynamic.

    Args:
        size: side of the images of evaluation, in pixels.
        sizes: 'any', 'some' or 'one', see ``sizes_taken``.
    """
    if sizes == 'one':
        return (
            f'float32 (B, 3, {size}, {size}); dynamic: number of images B; fixed: height and '
            f'width, {size} px, and 3 channels'
        )
    such = ' that the network takes' if sizes == 'some' else ''
    return (
        f'float32 (B, 3, H, W); dynamic: number of images B, height H and width W{such}; fixed: 3 '
        'channels'
    )


@torch.no_grad()
def _refusal(encoder: nn.Module, height: int, width: int) -> str | None:
    """Return why an encoder does not take images of a shape; None if it takes them."""
    try:
        encoder(torch.zeros(1, 3, height, width))
    except Exception as error:  # networks raise errors of many types
        return first_line(error)
    return None
