"""TiCo: Transformation Invariance and Covariance Contrast (Zhu et al. 2022, arXiv 2206.10698).

A moving average C of the projections' second moments takes the place of negatives: a projection must keep away from directions
that were often taken. Known choices, since no official code is public: no gradient flows into C (as in lightly and the public
reimplementations); both directions are averaged, and C gets the mean of both views' moments once per step.
"""

import copy
from collections import OrderedDict

from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather
from ssl_zoo.layers import EMA, MovingAverage, cosine_schedule, mlp
from ssl_zoo.losses import feature_std, l2_normalize, similarity
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_unit_interval


def tico_loss(z1: Tensor, z2: Tensor, c: Tensor, rho: float) -> Tensor:
    """1 - mean <z1, z2> + rho mean z1^T C z1; the constant makes the first terms 0 at best.

    Args:
        z1, z2: (B, D) unit vectors, z2 without gradient; c: (D, D) without gradient.
    """
    return (
        1 - (z1 * z2).sum(1).mean() + rho * (similarity(z1, c) * z1).sum(1).mean()
    )  # C is symmetric


@METHODS.register_module()
class TiCo(Method):
    """Projections agree with a slowly moving network's and avoid crowded directions.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim, proj_dim: widths of the projector (4096, 256).
        beta: share of C that stays at a step (0.9).
        rho: weight of the covariance term (8).
        base_ema: the momentum network's decay at the first step (0.99).
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
        self.rho, self.base_ema = rho, base_ema
        f = build_backbone(**backbone)
        self.online = nn.Sequential(
            OrderedDict(backbone=f, projector=mlp(f.embed_dim, hidden_dim, proj_dim))
        )
        self.target = EMA(copy.deepcopy(self.online))
        self.c = MovingAverage(proj_dim, proj_dim, decay=beta)

    @property
    def backbone(self) -> nn.Module:
        return self.online.backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    @property
    def decay(self) -> float:
        return cosine_schedule(self.base_ema, 1.0, self.progress)

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        z1, z2 = (l2_normalize(self.online(x)) for x in views)  # (B, proj_dim)
        t1, t2 = (l2_normalize(self.target(x)) for x in views)  # no gradient
        both = all_gather(z1.detach()), all_gather(z2.detach())  # (N, proj_dim)
        moments = sum(similarity(z.T, z.T) / len(z) for z in both) / 2  # B
        self.c.add(moments)
        c = self.c.value.lerp(moments, 1 - self.c.decay)  # C_t = beta C_t-1 + (1 - beta) B
        directions = tico_loss(z1, t2, c, self.rho) + tico_loss(z2, t1, c, self.rho)
        return dict(loss=directions / 2, feature_std=feature_std(z1), decay=self.decay)

    def after_step(self) -> None:
        self.c.update()
        self.target.update(self.online, self.decay)
