"""LiDAR: the effective rank of the directions that tell images apart from each other's views."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

# The paper names no values. DELTA and EPSILON are those of stable-pretraining's LiDAR
# (stable_pretraining/callbacks/lidar.py, github.com/galilai-group/stable-pretraining).
DELTA = 1e-4
EPSILON = 1e-8


def lidar(views: np.ndarray, delta: float = DELTA, epsilon: float = EPSILON) -> float:
    """Effective rank of the matrix of linear discriminant analysis with an image as a class.

    S_b is the covariance of the class means, S_w the mean covariance of the views around the mean
    of their image, plus ``delta`` times the identity. LiDAR is exp of the entropy of the
    eigenvalues of S_w^-1/2 S_b S_w^-1/2, which are divided by their sum.

    Source: LiDAR (Thilak et al., ICLR 2024), arXiv 2312.04000.

    ``delta`` is absolute, so that features scaled by a factor have another LiDAR. Values compare
    for equal n, q and D alone.

    Args:
        views: (n, q, D), features of q views of each of n images; n and q of at least 2.
        delta: added to the diagonal of S_w, which is singular otherwise if D > n (q - 1).
        epsilon: added to each eigenvalue's share.

    Returns:
        From 1 to min(n - 1, D); nan if the features are not finite or so large that delta
        is lost in rounding, or n or q is below 2.
    """
    values = np.asarray(views, dtype=np.float64)
    n, q, d = values.shape
    if n < 2 or q < 2 or not np.isfinite(values).all():
        return float('nan')
    means = values.mean(1)  # (n, D)
    between = (means - means.mean(0)) / (n - 1) ** 0.5  # S_b = between^T between
    around = (values - means[:, None]).reshape(n * q, d) / (n * (q - 1)) ** 0.5
    within = around.T @ around + delta * np.eye(d)
    # The n x n matrix has the same eigenvalues as the D x D one, except for zeros.
    try:
        dual = between @ cho_solve(cho_factor(within), between.T)
        eigenvalues = np.linalg.eigvalsh(dual)
    except np.linalg.LinAlgError:  # features so large that delta is lost in rounding
        return float('nan')
    shares = np.zeros(max(n, d))
    shares[:n] = eigenvalues.clip(min=0)
    shares = np.sort(shares)[-d:]
    p = shares / max(shares.sum(), 1e-300) + epsilon
    return float(np.exp(-(p * np.log(p)).sum()))
