"""TiCo: Transformation Invariance and Covariance Contrast (Zhu et al. 2022, arXiv 2206.10698).

A moving average C of the projections' second moments takes the place of negatives: a projection
must avoid directions that earlier projections often had.

No official code is public. Choices that the paper leaves open:
  - No gradient flows into C (as in lightly; in sayannag's reimplementation it does).
  - The loss is the mean of both directions.
  - C gets the mean of both views' moments, once per step.
"""

import copy
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather
from ssl_zoo.layers import EMA, MovingAverage, cosine_schedule, mlp
from ssl_zoo.losses import feature_std, l2_normalize, similarity
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_unit_interval


def tico_loss(z1: Tensor, z2: Tensor, c: Tensor, rho: float) -> Tensor:
    """Compute 1 - mean <z1, z2> + rho mean z1^T C z1. The least invariance term is 0.

    Args:
        z1: (B, D) unit vectors.
        z2: (B, D) unit vectors without gradient.
        c: (D, D), symmetric, without gradient.
        rho: weight of the covariance term.

    Returns:
        Scalar, float32.
    """
    invariance = 1 - (z1 * z2).sum(1).mean()
    contrast = (similarity(z1, c) * z1).sum(1).mean()  # similarity is z1 C^T = z1 C
    return invariance + rho * contrast


@METHODS.register_module()
class TiCo(Method):
    """Projections match those of a moving average network and avoid frequent directions.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of the projector (4096).
        proj_dim: width of the projection (256).
        beta: decay of C (0.9).
        rho: weight of the covariance term (8).
        base_ema: the momentum network's decay at the first step (0.99); in a config also 'auto'.
    """

    n_views = 2
    batch_coupling = 'the covariance'
    updated_after_step = ('target', 'c')
    networks = dict(
        online=('online.backbone', 'online.projector'),
        target=('target.network.backbone', 'target.network.projector'),
    )

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int = 4096,
        proj_dim: int = 256,
        beta: float = 0.9,
        rho: float = 8.0,
        base_ema: float = 0.99,
    ):
        super().__init__()
        check_unit_interval(beta=beta, base_ema=base_ema)
        self.rho = rho
        self.base_ema = base_ema
        f = build_backbone(**backbone)
        g = mlp(f.embed_dim, hidden_dim, proj_dim)
        self.online = nn.Sequential(OrderedDict(backbone=f, projector=g))
        self.target = EMA(copy.deepcopy(self.online))
        self.c = MovingAverage(proj_dim, proj_dim, decay=beta)  # C

    @property
    def backbone(self) -> nn.Module:
        return self.online.backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    @property
    def decay(self) -> float:
        return cosine_schedule(self.base_ema, 1.0, self.progress)

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        x1, x2 = views  # each (B, 3, H, W)
        z1 = l2_normalize(self.online(x1))  # (B, proj_dim)
        z2 = l2_normalize(self.online(x2))
        t1 = l2_normalize(self.target(x1))  # (B, proj_dim), no gradient
        t2 = l2_normalize(self.target(x2))
        moments = (second_moments(z1) + second_moments(z2)) / 2  # (proj_dim, proj_dim)
        self.c.add(moments)
        c = self.c.value.lerp(moments, 1 - self.c.decay)  # C_t = beta C_t-1 + (1 - beta) moments
        directions = tico_loss(z1, t2, c, self.rho) + tico_loss(z2, t1, c, self.rho)
        return dict(loss=directions / 2, feature_std=feature_std(z1), decay=self.decay)

    def after_step(self) -> None:
        self.c.update()
        self.target.update(self.online, self.decay)


def second_moments(z: Tensor) -> Tensor:
    """Compute the mean of z z^T over the images of all processes, (B, D) -> (D, D), no gradient."""
    z = all_gather(z.detach())  # (N, D)
    return similarity(z.T, z.T) / len(z)
