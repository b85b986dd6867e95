"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning.

Bardes, Ponce, LeCun 2021, arXiv 2105.04906.

Where the paper and the official code (facebookresearch/vicreg) differ, this file follows the code:
  - The invariance term is the mean over batch and dimensions (eq. 5 divides by the batch alone).
  - The variance terms of the two views are averaged (eq. 6 adds them).

Variance and covariance are those of the global batch. Shapes: B images of this process, N images of
all processes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather
from ssl_zoo.layers import mlp
from ssl_zoo.losses import as_float32, feature_std, off_diagonal
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS


def variance(z: Tensor) -> Tensor:
    """Compute the mean over dimensions of max(0, 1 - sqrt(var + 1e-4)) (eq. 1 and 2).

    Args:
        z: (N, D); its variance is the unbiased one.

    Returns:
        Scalar.
    """
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """Compute the sum of squared off-diagonal covariances, divided by D (eq. 3 and 4).

    Args:
        z: (N, D).

    Returns:
        Scalar.
    """
    z = z - z.mean(0)
    matrix = z.T @ z / (len(z) - 1)  # (D, D)
    return off_diagonal(matrix).square().sum() / z.shape[1]


@METHODS.register_module()
class VICReg(Method):
    """Two views' projections must agree, vary in every dimension, and be uncorrelated.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        proj_dim: width of the expander's three layers (8192).
        invariance_weight: lambda of eq. 6 (25).
        variance_weight: mu of eq. 6 (25).
        covariance_weight: nu of eq. 6 (1).
    """

    n_views = 2
    batch_coupling = 'variance and covariance'
    networks = dict(online=('backbone', 'expander'))

    def __init__(
        self,
        backbone: dict,
        proj_dim: int = 8192,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
    ):
        super().__init__()
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.backbone = build_backbone(**backbone)  # f
        self.embed_dim = self.backbone.embed_dim
        self.expander = mlp(self.embed_dim, proj_dim, proj_dim, proj_dim, last_bias=False)  # h

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        xa, xb = views  # each (B, 3, H, W)
        za = as_float32(self.expander(self.backbone(xa)))  # (B, proj_dim)
        zb = as_float32(self.expander(self.backbone(xb)))
        with torch.autocast(za.device.type, enabled=False):  # sums over the batch in float32
            s = F.mse_loss(za, zb)
            za = all_gather(za)  # (N, proj_dim)
            zb = all_gather(zb)
            v = variance(za) / 2 + variance(zb) / 2
            c = covariance(za) + covariance(zb)
        # eq. 6
        loss = self.invariance_weight * s + self.variance_weight * v + self.covariance_weight * c
        terms = dict(invariance=s, variance=v, covariance=c)
        return dict(loss=loss, feature_std=feature_std(za), **terms)
