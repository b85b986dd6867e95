"""Measures of features that need no labels: which there are, and which values are good."""

from dataclasses import dataclass

import numpy as np

from ssl_zoo.evaluation.alignment import alignment, uniformity
from ssl_zoo.evaluation.alpha_req import alpha_req
from ssl_zoo.evaluation.collapse import rankme
from ssl_zoo.evaluation.lidar import lidar

FEATURE_IMAGES = 2048  # largest number of images for feature std, RankMe and alpha-ReQ
VIEW_IMAGES = 100  # images of the other three by default, as in stable-pretraining's LiDAR


@dataclass(frozen=True)
class Measure:
    """A measure of features.

    Attributes:
        key: name in files.
        name: name for people.
        good: which values are good by its paper: 'high', 'low' or 'near 1'.
        of_views: whether it is of features of several views of each image.
    """

    key: str
    name: str
    good: str
    of_views: bool

    def score(self, value: float) -> float:
        """Return a number that is the greater, the better the value is by the measure's paper."""
        if self.good == 'near 1':
            return -abs(value - 1)
        return value if self.good == 'high' else -value


MEASURES = (
    Measure('rankme', 'RankMe', 'high', of_views=False),
    Measure('alpha_req', 'alpha-ReQ', 'near 1', of_views=False),
    Measure('lidar', 'LiDAR', 'high', of_views=True),
    Measure('alignment', 'alignment', 'low', of_views=True),
    Measure('uniformity', 'uniformity', 'low', of_views=True),
)


def measure_features(features: np.ndarray) -> dict[str, float]:
    """Return the measures of features of images by key; nan where features are not finite.

    Args:
        features: (N, D).
    """
    is_finite = bool(np.isfinite(features).all())
    return dict(
        rankme=rankme(features) if is_finite else float('nan'),
        alpha_req=alpha_req(features),
    )


def measure_views(views: np.ndarray) -> dict[str, float]:
    """Return the measures of features of views by key; nan where they do not exist.

    Args:
        views: (n, q, D), features of q views of each of n images.
    """
    return dict(lidar=lidar(views), alignment=alignment(views), uniformity=uniformity(views))
