"""SimSiam: Exploring Simple Siamese Representation Learning (Chen, He 2020, arXiv 2011.10566).

From the paper and the official code (facebookresearch/simsiam):
  - The predictor keeps its peak learning rate.
  - Weight decay applies to all parameters.
  - The projector's last BatchNorm has neither scale nor offset. (In the official
    code the Linear before this BatchNorm has a frozen bias, which BatchNorm removes. Here that
    Linear has no bias.)
  - The residual branches of ResNet-50 start at 0.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones import build_backbone
from ssl_zoo.layers import mlp
from ssl_zoo.losses import as_float32, feature_std
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Compute D(p, stopgrad(z)) = -cos(p, z), mean over the batch (eq. 1 and 3).

    Args:
        p: (B, D) predictions.
        z: (B, D) projections, which get no gradient.

    Returns:
        Scalar in [-1, 1], float32.
    """
    return -F.cosine_similarity(as_float32(p), as_float32(z.detach()), dim=1).mean()


@METHODS.register_module()
class SimSiam(Method):
    """A network predicts its own projection of the other view; stop-gradient prevents collapse.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        proj_dim: width of the projector's layers and of the prediction (2048).
        pred_hidden: hidden width of the predictor, a bottleneck (512).
        proj_layers: linear layers of the projector: 3 (sec. 3), 2 on CIFAR-10 (appendix D).
    """

    n_views = 2
    fixed_lr = ('predictor',)  # sec. 4.2

    def __init__(
        self, backbone: dict, proj_dim: int = 2048, pred_hidden: int = 512, proj_layers: int = 3
    ):
        super().__init__()
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        widths = [self.embed_dim] + [proj_dim] * proj_layers
        self.projector = mlp(*widths, bias=False, last_bias=False, last_norm='plain')
        self.predictor = mlp(proj_dim, pred_hidden, proj_dim, bias=False)  # h

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        x1, x2 = views  # each (B, 3, H, W)
        z1 = self.projector(self.backbone(x1))  # (B, proj_dim)
        z2 = self.projector(self.backbone(x2))
        p1 = self.predictor(z1)  # (B, proj_dim)
        p2 = self.predictor(z2)
        loss = negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2  # eq. 4
        return dict(loss=loss, feature_std=feature_std(z1))
