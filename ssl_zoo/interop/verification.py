"""Verify an exported file: the other library's features of images, beside those of the backbone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ssl_zoo.data.sources import Source
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Preprocessing, encode_batches
from ssl_zoo.interop.export_formats import Features
from ssl_zoo.printable import first_line

# The largest difference of a feature that is attributed to sums in another order.
TOLERANCE = 1e-4
# Images that are read at a time, to bound memory. The first of them is compared alone, so that two
# batch sizes are compared: a graph may be bound to one, or take a batch of 1 for a constant.
BATCH_SIZE = 16
GIVE_OTHER_IMAGES = (
    "give others with --cfg-options \"data.test={'type': 'Images', 'root': '/my/photos'}\""
)


@dataclass(frozen=True)
class Verification:
    """The comparison of the features of a file that was read back with those of the backbone.

    Attributes:
        difference: largest absolute difference of a feature.
        scale: largest absolute feature of the backbone.
        images: number of images compared.
        source: set of the images, 'test', 'val' or 'train'.
    """

    difference: float
    scale: float
    images: int
    source: str

    def __str__(self) -> str:
        return (
            f'largest difference {self.difference:.2g} over {self.images:,} {self.source} images, '
            f'where the largest feature is {self.scale:.3g}'
        )

    @property
    def tolerance(self) -> float:
        """The largest difference allowed.

        The tolerance is relative to the largest feature if that is below 1, because an absolute
        tolerance would prove little for small features.
        """
        return TOLERANCE * min(1.0, self.scale)

    @property
    def passed(self) -> bool:
        """Whether the difference is a number within the tolerance; nan is not."""
        return self.difference <= self.tolerance


def compare_features(
    encoder: nn.Module,
    read: Callable[[Path], Features],
    path: Path,
    source: Source,
    source_name: str,
    preprocessing: Preprocessing,
    further_shapes: Sequence[tuple[int, int]] = (),
) -> Verification:
    """Read a file back and compare its features with the encoder's, image by image.

    Args:
        encoder: (B, 3, H, W) float32 -> (B, D).
        read: returns the other library's encoder for a file, with the same shapes.
        path: the file.
        source: the images.
        source_name: name of the images for messages.
        preprocessing: what happens to an image before the encoder.
        further_shapes: heights and widths to which the images are also resized and compared.
    Raises:
        ConfigError: the other library cannot read or run the file, no image can be read, or all
            features are 0, so that equal features would prove nothing.
    """
    try:
        other = read(path)
    except Exception as error:  # every library raises its own types
        raise ConfigError(
            f'not exported: the file cannot be read back ({first_line(error)})'
        ) from None
    differences = []
    scales = []
    n = 0
    pairs = _both_features(encoder, other, further_shapes)
    batches = encode_batches(pairs, source, preprocessing, torch.device('cpu'), BATCH_SIZE)
    for positions, values, _ in batches:
        if values is not None:
            differences.append(np.abs(values[:, 0] - values[:, 1]).max())
            scales.append(np.abs(values[:, 0]).max())
            n += len(positions)
    if not n:
        raise ConfigError(
            f'none of the {len(source)} {source_name} images can be read, and the comparison needs '
            f'some; {GIVE_OTHER_IMAGES}'
        )
    scale = float(np.max(scales))
    if scale == 0:
        raise ConfigError(
            f'not exported: all features of {n} {source_name} images are 0, so that nothing can be '
            'verified with them'
        )
    return Verification(float(np.max(differences)), scale, n, source_name)


def _both_features(
    encoder: nn.Module, other: Features, further_shapes: Sequence[tuple[int, int]]
) -> Features:
    """Return a function (B, 3, H, W) -> (B, 2, S * D): features of the encoder and of ``other``.

    S is the number of shapes: that of the images and the further ones.
    """

    def pairs(x: Tensor) -> Tensor:
        resized = [interpolate(x, shape, mode='bilinear') for shape in further_shapes]
        return torch.cat([_pair(encoder, other, each) for each in (x, *resized)], dim=2)

    def features(x: Tensor) -> Tensor:
        parts = [part for part in (x[:1], x[1:]) if len(part)]
        return torch.cat([pairs(part) for part in parts])

    return features


def _pair(encoder: nn.Module, other: Features, x: Tensor) -> Tensor:
    """Return the features of both networks, (B, 2, D)."""
    expected = encoder(x)
    try:
        actual = other(x)
    except Exception as error:  # every library raises its own types
        raise ConfigError(
            f'not exported: the network that was read back cannot be run on images of shape '
            f'{tuple(x.shape)} ({first_line(error)})'
        ) from None
    if actual.shape != expected.shape:
        raise ConfigError(
            f'not exported: the network that was read back gives {tuple(actual.shape)} for '
            f'{len(x)} images, and the backbone {tuple(expected.shape)}'
        )
    return torch.stack([expected, actual], dim=1)
