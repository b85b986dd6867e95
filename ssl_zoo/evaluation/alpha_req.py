"""alpha-ReQ: how fast the eigenvalues of the features' covariance fall."""

import numpy as np

# The ranks that the line is fitted to, first and last: those of the authors' analysis of their
# runs. Stringer et al. 2019, whose fit it is, leave out the first ten, too.
FIRST_RANK = 11
LAST_RANK = 100
LEFT_OUT_TAIL = 10  # the smallest eigenvalues of a covariance are noise; the authors leave out ten
FEWEST_RANKS = 10  # points of a fit that means something
ROUNDING = 1e-10  # share of the largest eigenvalue below which float32 features have only noise


def alpha_req(features: np.ndarray) -> float:
    """Exponent alpha of the power law that the eigenvalues of the covariance follow.

    The i-th largest eigenvalue is about i ** -alpha, so alpha is minus the slope of a line in the
    plot of log eigenvalue over log i. As in the authors' code, points are weighted by 1 / i.

    Source: alpha-ReQ (Agrawal, Mondal, Ghosh, Richards, NeurIPS 2022); the fit is that of Stringer
    et al., Nature 571, 2019.

    Args:
        features: (N, D).

    Returns:
        0 for equal eigenvalues, greater for eigenvalues that fall faster; the paper finds good
        features near 1. nan if the features are not finite, or vary in fewer than 30 directions,
        which leaves too few eigenvalues for a fit.
    """
    values = np.asarray(features, dtype=np.float64)
    if not np.isfinite(values).all() or len(values) < 2:
        return float('nan')
    centred = values - values.mean(0)
    n, d = centred.shape
    # The smaller of two matrices with the same eigenvalues, those of the covariance up to a factor,
    # which does not change the slope.
    gram = centred.T @ centred if d <= n else centred @ centred.T
    eigenvalues = np.linalg.eigvalsh(gram)[::-1].clip(min=0)  # descending
    usable = int((eigenvalues > ROUNDING * max(eigenvalues[0], 1e-300)).sum())
    last = min(LAST_RANK, usable - LEFT_OUT_TAIL)
    if last - FIRST_RANK + 1 < FEWEST_RANKS:
        return float('nan')
    ranks = np.arange(FIRST_RANK, last + 1)
    # polyfit squares its weights.
    slope, _ = np.polyfit(np.log(ranks), np.log(eigenvalues[ranks - 1]), 1, w=ranks**-0.5)
    return float(-slope)
