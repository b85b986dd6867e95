"""Signs of collapse: how much of its space a set of embeddings uses."""

import numpy as np

from ssl_zoo.losses import COLLAPSE_THRESHOLD


def rankme(features: np.ndarray) -> float:
    """Effective rank of the feature matrix: exp of the entropy of its singular values (RankMe, arXiv 2210.02885, eq. 1).

    Args:
        features: (N, D).
    Returns:
        A number from 1 (one direction) to min(N, D).
    """
    singular = np.linalg.svd(np.asarray(features, dtype=np.float64), compute_uv=False)
    p = singular / max(singular.sum(), 1e-300) + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


def collapse_warning(
    feature_std_now: float, rank_now: float, feature_std_at_start: float, rank_at_start: float
) -> str | None:
    """What to tell the user, or None while all is well.

    Backbone features of random weights lie in a narrow cone already, so what counts is the change: training that learns
    widens them, and a collapse (every image to one vector, or all on one line) takes RankMe below what it started from.
    """
    if not np.isfinite([feature_std_now, rank_now]).all():
        return 'the embeddings are not finite: the training has diverged; lower base_lr or check the images'
    if rank_now < rank_at_start / 2 or feature_std_now < min(
        COLLAPSE_THRESHOLD, feature_std_at_start / 2
    ):
        return (
            f'the embeddings are collapsing: they use fewer directions than with random weights (RankMe {rank_now:.1f}, was '
            f"{rank_at_start:.1f}; feature std {feature_std_now:.3f}, was {feature_std_at_start:.3f}); check the predictor, the target's "
            f'decay, batch size and learning rate'
        )
    return None
