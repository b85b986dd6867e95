"""An encoder as a scikit-learn transformer, for pipelines."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ssl_zoo.data.sources.objects import as_source, raise_if_unreadable
from ssl_zoo.evaluation.encoder import load_encoder


class Encoder(TransformerMixin, BaseEstimator):
    """Turns images into features of a checkpoint; ``fit`` learns nothing.

    Args:
        checkpoint: see ssl_zoo.load_encoder.
        network: see ssl_zoo.load_encoder.
        layer: see ssl_zoo.load_encoder.
    """

    def __init__(self, checkpoint: str | Path, network: str | None = None, layer: str = 'backbone'):
        self.checkpoint = checkpoint
        self.network = network
        self.layer = layer

    def fit(self, images: Any, labels: Any = None) -> 'Encoder':
        """Load the checkpoint."""
        self.encoder_ = load_encoder(self.checkpoint, self.network, self.layer)
        return self

    def transform(self, images: Any) -> np.ndarray:
        """Compute features: n images (see ssl_zoo.evaluation.encoder.Encoder) -> (n, D) float32."""
        if not hasattr(self, 'encoder_'):
            self.fit(images)
        source = as_source(images)
        features = self.encoder_.features(source)
        raise_if_unreadable(source, features.unreadable)
        return features.values
