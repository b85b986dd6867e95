"""VICReg: Variance-Invariance-Covariance Regularization (Bardes, Ponce, LeCun 2021, arXiv 2105.04906).

Where the paper and the official code (facebookresearch/vicreg) differ, this file follows the code: the invariance term is the mean
over batch and dimensions (eq. 5 of the paper divides by the batch alone), the variance terms of the two views are averaged (eq. 6
adds them). Variance and covariance are of the global batch.
"""

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
    """Mean over dimensions of max(0, 1 - sqrt(var + 1e-4)), var unbiased (eq. 1 and 2): (N, D) -> scalar."""
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """Sum of squared off-diagonal elements of the covariance matrix, over D (eq. 3 and 4): (N, D) -> scalar."""
    z = z - z.mean(0)
    return off_diagonal(z.T @ z / (len(z) - 1)).square().sum() / z.shape[1]


@METHODS.register_module()
class VICReg(Method):
    """Two views' projections must agree, vary in every dimension, and not repeat themselves.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        proj_dim: width of the expander's three layers (8192).
        invariance_weight, variance_weight, covariance_weight: lambda, mu, nu of eq. 6 (25, 25, 1).
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
        self.weights = invariance_weight, variance_weight, covariance_weight
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        self.expander = mlp(self.embed_dim, proj_dim, proj_dim, proj_dim, last_bias=False)

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        za, zb = (as_float32(self.expander(self.backbone(x))) for x in views)  # (B, proj_dim)
        with torch.autocast(za.device.type, enabled=False):  # sums over the batch in float32
            s = F.mse_loss(za, zb)
            za, zb = all_gather(za), all_gather(zb)  # (N, proj_dim)
            v = variance(za) / 2 + variance(zb) / 2
            c = covariance(za) + covariance(zb)
        weighted = [weight * term for weight, term in zip(self.weights, (s, v, c), strict=True)]
        return dict(
            loss=sum(weighted), feature_std=feature_std(za), invariance=s, variance=v, covariance=c
        )
