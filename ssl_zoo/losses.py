"""Pure functions on batches of projections that several methods use."""
import torch.nn.functional as F
from torch import Tensor


def spread(z: Tensor) -> Tensor:
    """Mean over dimensions of the deviation of unit vectors, times sqrt(D): 1 for directions all over the sphere, 0 when all
    are one (SimSiam, arXiv 2011.10566, fig. 2, shows it without the factor, where the bound is 1/sqrt(D)).

    Methods log it of their projections under the name ``spread``; below COLLAPSED the user is warned.

    Args:
        z: (B, D).
    Returns:
        Scalar in [0, 1], float32, without gradient.
    """
    z = F.normalize(z.detach().float(), dim=1)
    return z.std(0, correction=0).mean() * z.shape[1] ** 0.5


COLLAPSED = 0.1
