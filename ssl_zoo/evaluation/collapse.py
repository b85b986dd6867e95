"""Signs of collapse: the effective rank of the features, and warnings when it is low or falls."""

import numpy as np

from ssl_zoo.losses import COLLAPSE_THRESHOLD

# RankMe below which the images look alike to a network with random weights. Of 128 photographs,
# digits or noise it is 7 or more for ResNet-18, ResNet-50, ViT-Tiny and ConvNeXt-Tiny, and below
# 1.15 if they are normalised by the mean and std of bytes.
LEAST_UNTRAINED_RANK = 1.5
FEWEST_IMAGES = 8  # number of images from which that limit means something


def rankme(features: np.ndarray) -> float:
    """Effective rank of a feature matrix: exp of the entropy of its normalised singular values.

    Source: RankMe, arXiv 2210.02885, eq. 1.

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
    """Return a warning if the features collapse or are not finite, else None.

    The features of a backbone with random weights already lie in a narrow cone, so the criterion
    is the change. Successful training spreads the features. A collapse (all images mapped to one
    vector, or onto one line) takes RankMe below its value at the start.

    Args:
        feature_std_now: standard deviation of the l2-normalised features.
        rank_now: RankMe of the features.
        feature_std_at_start: standard deviation with random weights.
        rank_at_start: RankMe with random weights.
    """
    if not np.isfinite([feature_std_now, rank_now]).all():
        return (
            'the embeddings are not finite: the training has diverged; lower base_lr or check the '
            'images'
        )
    least_std = min(COLLAPSE_THRESHOLD, feature_std_at_start / 2)
    if rank_now < rank_at_start / 2 or feature_std_now < least_std:
        return (
            f'the embeddings are collapsing: they use fewer directions than with random weights '
            f'(RankMe {rank_now:.1f}, was {rank_at_start:.1f}; feature std {feature_std_now:.3f}, '
            f"was {feature_std_at_start:.3f}); check the predictor, the target's decay, batch size "
            f'and learning rate'
        )
    return None


def alike_warning(rank_at_start: float, images: int) -> str | None:
    """Return a warning if all images look alike to the network with random weights, else None.

    Args:
        rank_at_start: RankMe of the features with random weights.
        images: number of images that the features are of.
    """
    if images < FEWEST_IMAGES or not rank_at_start < LEAST_UNTRAINED_RANK:
        return None
    return (
        f'the images look alike to the network with random weights (RankMe {rank_at_start:.1f}), '
        f'and no training can tell them apart; check that the images differ, and data.mean and '
        f'data.std, which tools/show_views.py shows the effect of'
    )
