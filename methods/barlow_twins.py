"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction.

Zbontar et al. 2021, arXiv 2103.03230.

From the official code (facebookresearch/barlowtwins):
  - The correlation is taken over the global batch.
  - A BatchNorm without scale and offset standardises the projections.
  - The projector has no biases.
  - The residual branches of ResNet-50 start at 0.

Deviation: the official code sums the matrix over its W processes outside of autograd, so that after
DDP's average the gradient is 1/W of the gradient of the loss. Here it is the gradient of the loss.
LARS removes the factor 1/W for weights, but not for norm parameters and biases: on W processes
scale=1/W gives norm parameters and biases the authors' step.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_reduce_sum, world_size
from ssl_zoo.layers import mlp
from ssl_zoo.losses import as_float32, feature_std, off_diagonal
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive


def redundancy(c: Tensor, lambd: float) -> Tensor:
    """Compute sum_i (1 - C_ii)^2 + lambda sum_i sum_j!=i C_ij^2 (eq. 1).

    Args:
        c: (D, D) cross-correlation matrix.
        lambd: lambda.

    Returns:
        Scalar.
    """
    invariance = (1 - c.diagonal()).square().sum()
    return invariance + lambd * off_diagonal(c).square().sum()


@METHODS.register_module()
class BarlowTwins(Method):
    """The cross-correlation of two views' projections must be the identity.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        proj_dim: width of the projector's three layers (8192).
        lambd: lambda, weight of the redundancy term (paper 5e-3, code 0.0051).
        scale: factor on the loss (1). With LARS it matters for norm parameters and biases alone.
    """

    n_views = 2
    batch_coupling = 'the cross-correlation'

    def __init__(
        self, backbone: dict, proj_dim: int = 8192, lambd: float = 0.0051, scale: float = 1.0
    ):
        super().__init__()
        check_positive(lambd=lambd, scale=scale)
        self.lambd = lambd
        self.scale = scale
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        widths = [self.embed_dim, proj_dim, proj_dim, proj_dim]
        self.projector = mlp(*widths, bias=False, last_bias=False)
        self.norm = nn.BatchNorm1d(proj_dim, affine=False)

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        x1, x2 = views  # each (B, 3, H, W)
        z1 = self.projector(self.backbone(x1))  # (B, proj_dim)
        z2 = self.projector(self.backbone(x2))
        with torch.autocast(z1.device.type, enabled=False):  # sums over the batch in float32
            c = self.norm(as_float32(z1)).T @ self.norm(as_float32(z2))  # (proj_dim, proj_dim)
            c = all_reduce_sum(c) / (len(z1) * world_size())  # C
            loss = self.scale * redundancy(c, self.lambd)
            correlation = c.diagonal().mean()
        return dict(loss=loss, feature_std=feature_std(z1), correlation=correlation)
