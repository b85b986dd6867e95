"""BYOL: Bootstrap Your Own Latent (Grill et al. 2020, arXiv 2006.07733v3).

The online network (weights theta) consists of encoder f, projector g and predictor q. The target
network (weights xi) has an encoder and a projector; xi is a moving average of theta. The online
network predicts the target network's projection of the other view.

Where the paper and the official code (google-deepmind/deepmind-research, byol/) differ, this file
follows the code:
  - The last linear layers of projector and predictor have no bias (appendix J has one).
  - The loss keeps its constant, 2 - 2 cos per direction, and adds both directions: range [0, 8].
  - The target network starts from its own random weights, not from a copy of the online network's.
  - The target network runs in train mode. Its BatchNorm statistics are its own, never averaged.

Deviations from the code, all of them usual in PyTorch:
  - Convolutions pad symmetrically; the code has TensorFlow's SAME.
  - Convolutions start with timm's initial weights (Kaiming normal, fan-out).
  - ResNet-18 and 34 have no 1x1 shortcut in their first stage.
  - BatchNorm's running variance is unbiased and starts at 1; haiku debiases its average instead.
  - Brightness, contrast and saturation are torchvision's. The code adds brightness, pivots contrast
    on each channel's mean and scales HSV saturation.
  - Blur reflects the borders; the code pads with zeros. Resizing antialiases.
  - The code trains a linear classifier during pretraining; here evaluation trains it.
"""

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.layers import EMA, batchnorm_to_groupnorm, cosine_schedule, mlp
from ssl_zoo.losses import feature_std, regression_loss
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_unit_interval


@METHODS.register_module()
class BYOL(Method):
    """The online network predicts its moving average's projection of the other view.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of projector and predictor (sec. 3.2: 4096).
        proj_dim: width of projection and prediction (sec. 3.2: 256).
        base_ema: tau_base, the target's decay at the first step (sec. 3.2: 0.996 for 1000 epochs).
            In a config also 'auto', which sets it from the number of steps.
        groups: None for BatchNorm. A number replaces BatchNorm by GroupNorm with ``groups`` groups
            and standardises the weights, in backbone and heads, so that images do not influence
            each other (BYOL works even without batch statistics, arXiv 2010.10241).
    """

    n_views = 2
    updated_after_step = ('target',)
    networks = dict(
        online=('online.backbone', 'online.projector'),
        target=('target.network.backbone', 'target.network.projector'),
    )

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int = 4096,
        proj_dim: int = 256,
        base_ema: float = 0.996,
        groups: int | None = None,
    ):
        super().__init__()
        check_unit_interval(base_ema=base_ema)
        self.base_ema = base_ema
        # f_theta, g_theta
        self.online = encoder_and_projector(backbone, hidden_dim, proj_dim)
        # f_xi, g_xi: random weights of its own, updated in after_step alone
        self.target = EMA(encoder_and_projector(backbone, hidden_dim, proj_dim))
        # q_theta
        self.predictor = mlp(proj_dim, hidden_dim, proj_dim, last_bias=False, init='haiku')
        if groups is not None:
            batchnorm_to_groupnorm(self, groups)

    @property
    def backbone(self) -> nn.Module:
        return self.online.backbone  # f_theta, kept after pretraining

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    @property
    def decay(self) -> float:
        # tau = 1 - (1 - tau_base)(cos(pi k/K) + 1)/2 at step k of K (sec. 3.2)
        return cosine_schedule(self.base_ema, 1.0, self.progress)

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        x1, x2 = views  # each (B, 3, H, W)
        # Each view has its own forward pass: BatchNorm takes its statistics over one view.
        q1 = self.predictor(self.online(x1))  # (B, proj_dim)
        q2 = self.predictor(self.online(x2))
        z1 = self.target(x1)  # (B, proj_dim), no gradient
        z2 = self.target(x2)
        loss = regression_loss(q1, z2) + regression_loss(q2, z1)  # eq. 2, both directions
        return dict(loss=loss, feature_std=feature_std(z1), decay=self.decay)

    def after_step(self) -> None:
        self.target.update(self.online, self.decay)  # xi <- tau xi + (1 - tau) theta


def encoder_and_projector(backbone: dict, hidden_dim: int, proj_dim: int) -> nn.Sequential:
    """Build f and g with new weights: (B, 3, H, W) -> (B, proj_dim)."""
    f = build_backbone(**backbone)
    g = mlp(f.embed_dim, hidden_dim, proj_dim, last_bias=False, init='haiku')
    return nn.Sequential(OrderedDict(backbone=f, projector=g))
