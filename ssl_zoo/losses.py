"""Functions on batches of projections that several methods use.

Shapes: B images of this process, N images of all processes, D dimensions, K classes. All functions
compute in float32, also under bf16 autocast.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.distributed import all_gather, local_rows

# A run warns of collapse when ``feature_std`` of its projections is below this threshold.
COLLAPSE_THRESHOLD = 0.1


def as_float32(z: Tensor) -> Tensor:
    """Convert to float32; a float64 tensor stays as it is."""
    if z.dtype == torch.float64:
        return z
    return z.float()


def l2_normalize(z: Tensor) -> Tensor:
    """Divide each row by its Euclidean norm: (B, D) -> (B, D), float32 or float64.

    A zero row stays zero.
    """
    return F.normalize(as_float32(z), dim=1, eps=1e-6)  # eps: BYOL's code has max(|z|^2, 1e-12)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Compute all inner products: (N, D), (M, D) -> (N, M).

    Autocast is off: bf16 has 3 digits, too few for a similarity that is divided by a temperature.
    """
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def mask_self(similarities: Tensor) -> Tensor:
    """Set the similarity of each image with itself to -inf: (B, N) -> (B, N).

    Args:
        similarities: (B, N), row i for image i of this process, columns for all images.
    """
    columns = torch.arange(similarities.shape[1], device=similarities.device)  # (N,)
    own_columns = local_rows(len(similarities), similarities.device)  # (B,)
    return similarities.masked_fill(columns == own_columns[:, None], -torch.inf)


def regression_loss(p: Tensor, z: Tensor) -> Tensor:
    """Compute the mean squared distance of unit vectors, 2 - 2 cos(p, z).

    BYOL, arXiv 2006.07733, eq. 2.

    Args:
        p: (B, D), rows of any length.
        z: (B, D), rows of any length.

    Returns:
        Scalar in [0, 4], float32.
    """
    return (l2_normalize(p) - l2_normalize(z)).square().sum(1).mean()


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Compute the mean over i of -log( exp(a_i b_i / T) / sum_j exp(a_i b_j / T) ).

    Args:
        a: (B, D) unit vectors of this process.
        b: (B, D) unit vectors; row i belongs to row i of ``a``. The sum over j runs over the rows
            of all processes.
        temperature: T.

    Returns:
        Scalar of at least 0, float32.
    """
    logits = similarity(a, all_gather(b)) / temperature  # (B, N)
    return F.cross_entropy(logits, local_rows(len(a), a.device))


def soft_cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Compute the mean over the batch of -sum_k target_k log softmax(logits)_k.

    Args:
        target: (B, K) probabilities.
        logits: (B, K), already divided by their temperature.

    Returns:
        Scalar.
    """
    return -(target * F.log_softmax(logits, dim=1)).sum(1).mean()


def off_diagonal(matrix: Tensor) -> Tensor:
    """Return the elements that are not on the diagonal: (D, D) -> (D * (D - 1),)."""
    d = len(matrix)
    # The flat matrix without its last element is d - 1 rows: a diagonal element, then d others.
    return matrix.flatten()[:-1].view(d - 1, d + 1)[:, 1:].flatten()


def feature_std(z: Tensor) -> Tensor:
    """Measure the spread of the directions of vectors; 0 means collapse.

    The standard deviation over the batch of each dimension of the unit vectors, averaged over
    dimensions, times sqrt(D). It is 1 for directions all over the sphere, 0 when all are equal.
    SimSiam (arXiv 2011.10566, fig. 2) plots it without the factor sqrt(D), so with the upper bound
    1/sqrt(D). Methods log the value for their projections under the name ``feature_std``.

    Args:
        z: (B, D), rows of any length.

    Returns:
        Scalar in [0, 1], float32, without gradient.
    """
    z = F.normalize(z.detach().float(), dim=1)
    return z.std(0, correction=0).mean() * z.shape[1] ** 0.5
