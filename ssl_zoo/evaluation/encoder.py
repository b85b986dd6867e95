"""An encoder for programs and notebooks: images in, features out, with the right preprocessing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ssl_zoo.build import load_trained
from ssl_zoo.data.sources.objects import as_source, is_one_image, raise_if_unreadable
from ssl_zoo.evaluation.features import Features, Preprocessing, device_of
from ssl_zoo.evaluation.features import extract_features as extract


class Encoder:
    """A network and the preprocessing of its images.

    ssl_zoo.sklearn.Encoder wraps it for scikit-learn.

    Args:
        network: (B, 3, H, W) normalised float32 -> (B, D), in eval mode.
        preprocessing: what happens to an image before the network.
        batch_size: images per forward pass.
        workers: processes that read images.
        warnings: notes about the checkpoint that a result must quote.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        batch_size: int = 256,
        workers: int = 0,
        warnings: Sequence[str] = (),
    ):
        self.network = network
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.workers = workers
        self.warnings = tuple(warnings)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return device_of(self.network)

    def to(self, device: str | torch.device) -> 'Encoder':
        """Move the network to a device; returns the encoder."""
        self.network.to(device)
        return self

    def __call__(self, images: Any) -> np.ndarray:
        """Compute features.

        Args:
            images: one image (a path, a Pillow image, or (H, W) or (H, W, 3) uint8), or a list of
                images, an array (n, H, W, 3) uint8, a torch Dataset, or a source.

        Returns:
            (D,) float32 for one image, (n, D) for several.

        Raises:
            ConfigError: something is no image.
            UnreadableImage: a file cannot be read.
        """
        if is_one_image(images):
            return self([images])[0]
        source = as_source(images)
        features = self.features(source)
        raise_if_unreadable(source, features.unreadable)
        return features.values

    def features(self, images: Any, labels: Any = None) -> Features:
        """Compute features of all readable images, with labels, positions and unreadable images.

        Args:
            images: a list of images, an array, a torch Dataset or a source.
            labels: (n,) whole numbers; None for those of the dataset or source.
        """
        source = as_source(images, labels)
        return extract(self.network, source, self.preprocessing, self.batch_size, self.workers)


def load_encoder(
    checkpoint: str | Path,
    network: str | None = None,
    layer: str = 'backbone',
    precision: str = 'float32',
    device: str | torch.device | None = None,
) -> Encoder:
    """Load the encoder of a checkpoint, with the preprocessing of its config.

    Args:
        checkpoint: a checkpoint of a run, or one that ``ssl-zoo import`` has made.
        network: 'online' or 'target'; None for the network that the method evaluates.
        layer: 'backbone' or 'projector'.
        precision: 'float32' or 'bf16'.
        device: None for a GPU if there is one, else the CPU.

    Raises:
        ConfigError: the checkpoint cannot be read, or has no such network or layer.
    """
    loaded = load_trained(checkpoint)
    settings = loaded.settings
    preprocessing = Preprocessing(
        *settings.eval_geometry(),
        settings.data.mean,
        settings.data.std,
        precision,
        settings.channels_last,
    )
    encoder = loaded.method.encoder(network, layer).eval().requires_grad_(False)
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return Encoder(encoder.to(device), preprocessing, warnings=loaded.method.warnings)


def extract_features(encoder: Encoder, images: Any, labels: Any = None) -> Features:
    """Compute features of all readable images; see ``Encoder.features``."""
    return encoder.features(images, labels)
