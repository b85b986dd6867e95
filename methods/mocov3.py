"""MoCo v3: An Empirical Study of Training Self-Supervised Vision Transformers.

Chen, Xie, He 2021, arXiv 2104.02057. For ViTs the backbone takes ``fixed_patches=True``.

From the official code (facebookresearch/moco-v3):
  - There is no queue. The negatives of a query are the other view's keys of the global batch.
  - The cross entropy of each direction is multiplied by 2T.
  - Heads have no biases. The BatchNorm behind the projector (and, for ViTs, behind the predictor)
    has neither scale nor offset.
  - The momentum encoder has a projector and no predictor. It starts as a copy of the base
    encoder, and follows the base encoder with a decay that rises to 1 on a cosine.

Deviation: the code updates the momentum encoder before it computes the keys of a step, with the
decay of that step. Here it is updated at the end of a step, with the decay of the step that ends.
"""

import copy
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.layers import EMA, cosine_schedule, mlp
from ssl_zoo.losses import feature_std, info_nce, l2_normalize
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive, check_unit_interval


@METHODS.register_module()
class MoCoV3(Method):
    """A prediction must find the momentum encoder's projection of the other view in the batch.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of projector and predictor (4096).
        proj_dim: width of projection and prediction (256).
        proj_layers: linear layers of the projector: 2 for ResNets, 3 for ViTs.
        predictor_norm: whether a BatchNorm without scale and offset follows the predictor: False
            for ResNets, True for ViTs.
        temperature: T (code: 1.0 for ResNet-50, 0.2 for ViTs).
        base_ema: the momentum encoder's decay at the first step (0.99); in a config also 'auto'.
    """

    n_views = 2
    batch_coupling = 'negatives'
    updated_after_step = ('momentum',)
    networks = dict(
        online=('base.backbone', 'base.projector'),
        target=('momentum.network.backbone', 'momentum.network.projector'),
    )

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int = 4096,
        proj_dim: int = 256,
        proj_layers: int = 2,
        predictor_norm: bool = False,
        temperature: float = 1.0,
        base_ema: float = 0.99,
    ):
        super().__init__()
        check_positive(temperature=temperature)
        check_unit_interval(base_ema=base_ema)
        self.temperature = temperature
        self.base_ema = base_ema
        no_bias: dict[str, Any] = dict(bias=False, last_bias=False)
        f = build_backbone(**backbone)
        widths = [f.embed_dim] + [hidden_dim] * (proj_layers - 1) + [proj_dim]
        projector = mlp(*widths, last_norm='plain', **no_bias)
        # f_q without its predictor
        self.base = nn.Sequential(OrderedDict(backbone=f, projector=projector))
        self.momentum = EMA(copy.deepcopy(self.base))  # f_k
        predictor_last_norm = 'plain' if predictor_norm else None
        self.predictor = mlp(
            proj_dim, hidden_dim, proj_dim, last_norm=predictor_last_norm, **no_bias
        )

    @property
    def backbone(self) -> nn.Module:
        return self.base.backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    @property
    def decay(self) -> float:
        return cosine_schedule(self.base_ema, 1.0, self.progress)

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        x1, x2 = views  # each (B, 3, H, W)
        q1 = l2_normalize(self.predictor(self.base(x1)))  # (B, proj_dim)
        q2 = l2_normalize(self.predictor(self.base(x2)))
        k1 = l2_normalize(self.momentum(x1))  # (B, proj_dim), no gradient
        k2 = l2_normalize(self.momentum(x2))
        contrast = info_nce(q1, k2, self.temperature) + info_nce(q2, k1, self.temperature)
        loss = 2 * self.temperature * contrast
        return dict(loss=loss, feature_std=feature_std(k1), decay=self.decay)

    def after_step(self) -> None:
        self.momentum.update(self.base, self.decay)
