"""Alignment and uniformity of l2-normalised features.

Source: Wang and Isola, ICML 2020, arXiv 2005.10242, section 4.1, with alpha = 2 and t = 2 as in
their code. Both are losses: lower is better. One alone says nothing: features that are all equal
have the best alignment, and random directions nearly the best uniformity.
"""

import numpy as np
from scipy.spatial.distance import pdist
from scipy.special import logsumexp

ALPHA = 2.0
T = 2.0


def alignment(views: np.ndarray, alpha: float = ALPHA) -> float:
    """Mean distance between features of two views of an image, to the power ``alpha``.

    Args:
        views: (n, q, D), features of q views of each of n images; all pairs of views count.
        alpha: power of the distance.

    Returns:
        0 if all views of an image have one feature vector; with alpha = 2 about 2 if they are as
        far apart as random directions. nan if the features are not finite, or q is below 2.
    """
    n, q, _ = views.shape
    if n < 1 or q < 2 or not np.isfinite(views).all():
        return float('nan')
    normalised = _normalised(views)
    return float(np.mean([pdist(of_image) ** alpha for of_image in normalised]))


def uniformity(views: np.ndarray, t: float = T) -> float:
    """Logarithm of the mean of exp(-t distance^2) over pairs of images; mean over the views.

    Args:
        views: (n, q, D), features of q views of each of n images.
        t: factor of the squared distance.

    Returns:
        0 if all images have one feature vector; the least that a sphere of many dimensions allows
        is about -2 t. nan if the features are not finite, or n is below 2.
    """
    n, q, _ = views.shape
    if n < 2 or q < 1 or not np.isfinite(views).all():
        return float('nan')
    normalised = _normalised(views)
    pairs = n * (n - 1) / 2
    of_views = [
        logsumexp(-t * pdist(normalised[:, view], 'sqeuclidean')) - np.log(pairs)
        for view in range(q)
    ]
    return float(np.mean(of_views))


def _normalised(views: np.ndarray) -> np.ndarray:
    """Scale (n, q, D) features to unit length, in float64."""
    values = np.asarray(views, dtype=np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
