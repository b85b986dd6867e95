"""Pure functions on batches of projections that several methods use. They compute in float32 also under bf16 autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.distributed import all_gather, local_rows


def as_float32(z: Tensor) -> Tensor:
    """In float32, or in float64 if it is that already."""
    return z if z.dtype == torch.float64 else z.float()


def l2_normalize(z: Tensor) -> Tensor:
    """(B, D) of any precision -> unit vectors, in float32 or better; a zero vector stays zero."""
    return F.normalize(as_float32(z), dim=1, eps=1e-6)  # eps: BYOL's code has max(|z|^2, 1e-12)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """All inner products, (N, D) and (M, D) -> (N, M). Divided by a temperature, bf16's 3 digits would not do."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def mask_self(similarities: Tensor) -> Tensor:
    """(B, N) of this process's images to those of all, with -inf where an image meets itself."""
    columns = torch.arange(similarities.shape[1], device=similarities.device)
    own = local_rows(len(similarities), similarities.device)
    return similarities.masked_fill(columns == own[:, None], -torch.inf)


def regression_loss(p: Tensor, z: Tensor) -> Tensor:
    """Mean squared distance of unit vectors, 2 - 2 cos(p, z) (BYOL, arXiv 2006.07733, eq. 2).

    Args:
        p, z: (B, D), of any length.
    Returns:
        Scalar in [0, 4], float32.
    """
    return (l2_normalize(p) - l2_normalize(z)).square().sum(1).mean()


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Mean over i of -log( exp(a_i b_i / T) / sum_j exp(a_i b_j / T) ), where b_j are those of all processes.

    Args:
        a, b: (B, D) unit vectors; row i of one belongs to row i of the other.
        temperature: T.
    Returns:
        Scalar, float32, of at least 0.
    """
    return F.cross_entropy(similarity(a, all_gather(b)) / temperature, local_rows(len(a), a.device))


def soft_cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Mean over the batch of -sum_k target_k log softmax(logits)_k.

    Args:
        target: (B, K) probabilities; logits: (B, K), divided by their temperature.
    """
    return -(target * F.log_softmax(logits, dim=1)).sum(1).mean()


def off_diagonal(matrix: Tensor) -> Tensor:
    """The elements of a (D, D) matrix that are not on its diagonal: (D * (D - 1),)."""
    d = len(matrix)
    return matrix.flatten()[:-1].view(d - 1, d + 1)[:, 1:].flatten()


def feature_std(z: Tensor) -> Tensor:
    """Mean over dimensions of the deviation of unit vectors, times sqrt(D): 1 for directions all over the sphere, 0 when all
    are one (SimSiam, arXiv 2011.10566, fig. 2, shows it without the factor, where the bound is 1/sqrt(D)).

    Methods log it of their projections under the name ``feature_std``; below COLLAPSE_THRESHOLD the user is warned.

    Args:
        z: (B, D).
    Returns:
        Scalar in [0, 1], float32, without gradient.
    """
    z = F.normalize(z.detach().float(), dim=1)
    return z.std(0, correction=0).mean() * z.shape[1] ** 0.5


COLLAPSE_THRESHOLD = 0.1
