"""BYOL: Bootstrap Your Own Latent (Grill et al. 2020, arXiv 2006.07733v3).

Where the paper and the official code (google-deepmind/deepmind-research, byol/) differ, this file follows the code:
  - no bias in the last linear layer of projector and predictor (the paper's appendix J has one);
  - the loss keeps its constant, 2 - 2 cos per direction, and sums both directions: range [0, 8];
  - the target network starts from weights of its own, not from a copy of the online network's;
  - the target network runs in train mode, and its BatchNorm statistics are its own, never averaged.
Known deviations, all of them usual in PyTorch: convolutions pad symmetrically where the code has TensorFlow's SAME; they are
drawn as timm draws them (Kaiming normal, fan-out); ResNet-18 and 34 have no 1x1 shortcut in their first stage; BatchNorm's
running variance is the unbiased one and starts at 1 where haiku's average is debiased. Of the views: brightness, contrast and
saturation are torchvision's (the code adds brightness, pivots contrast on each channel's mean, scales HSV saturation), blur
reflects the borders (the code pads with zeros), and resizing antialiases. The code's linear classifier, trained on the side, is
left to evaluation.
"""

from collections import OrderedDict

from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.layers import EMA, batchnorm_to_groupnorm, cosine_schedule, mlp
from ssl_zoo.losses import feature_std, regression_loss
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_unit_interval


@METHODS.register_module()
class BYOL(Method):
    """An online network predicts a slowly moving average of itself, seen through another view.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of projector and predictor (sec. 3.2).
        proj_dim: width of projection and prediction (sec. 3.2).
        base_ema: the target's decay at the first step (sec. 3.2: 0.996 for 1000 epochs).
        groups: None for BatchNorm. A number: GroupNorm of so many groups in its place and weight standardisation, in backbone
            and heads, so that images never meet (BYOL works even without batch statistics, arXiv 2010.10241).
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
        self.online, target = (self._network(backbone, hidden_dim, proj_dim) for _ in range(2))
        self.target = EMA(target)  # xi, moves only in after_step
        self.predictor = mlp(
            proj_dim, hidden_dim, proj_dim, last_bias=False, init='haiku'
        )  # q_theta
        if groups is not None:
            batchnorm_to_groupnorm(self, groups)

    @staticmethod
    def _network(backbone: dict, hidden_dim: int, proj_dim: int) -> nn.Sequential:
        f = build_backbone(**backbone)
        g = mlp(f.embed_dim, hidden_dim, proj_dim, last_bias=False, init='haiku')
        return nn.Sequential(OrderedDict(backbone=f, projector=g))

    @property
    def backbone(self) -> nn.Module:
        return self.online.backbone  # f_theta, kept after pretraining

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    @property
    def decay(self) -> float:
        return cosine_schedule(
            self.base_ema, 1.0, self.progress
        )  # tau_k = 1 - (1 - tau)(cos(pi k/K) + 1)/2

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        x1, x2 = views  # each (B, 3, H, W)
        # Views are forwarded apart: BatchNorm's statistics are those of one view.
        p1, p2 = (self.predictor(self.online(x)) for x in (x1, x2))  # (B, proj_dim)
        z1, z2 = self.target(x1), self.target(x2)  # (B, proj_dim), no gradient
        return dict(
            loss=regression_loss(p1, z2) + regression_loss(p2, z1),
            feature_std=feature_std(z1),
            decay=self.decay,
        )

    def after_step(self) -> None:
        self.target.update(self.online, self.decay)  # with the new online weights
