"""NNCLR: With a Little Help from My Friends (Dwibedi et al. 2021, arXiv 2104.14548).

The positive of a view is not the other view, but the nearest neighbour of the other view's
projection among older projections. There is no momentum encoder: the queue holds the network's own
projections of the first view (algorithm 1).

No official code is public. Biases and norms of the heads follow lightly's reading of the paper:
BatchNorm follows every layer of the projector, but not the predictor's last layer.
"""

from typing import Any

import torch
from torch import Tensor

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather
from ssl_zoo.layers import Queue, mlp
from ssl_zoo.losses import feature_std, info_nce, l2_normalize, similarity
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive


@torch.no_grad()
def nearest_neighbour(z: Tensor, support: Tensor) -> Tensor:
    """Find the row of the support set that is nearest to each projection.

    Args:
        z: (B, D) unit vectors.
        support: (K, D) unit vectors.

    Returns:
        (B, D) rows of ``support``, without gradient.
    """
    return support[similarity(z, support).argmax(1)]


@METHODS.register_module()
class NNCLR(Method):
    """The prediction from one view must find the other view's nearest neighbour in the batch.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        proj_hidden: hidden width of the projector, which has three layers (2048).
        proj_dim: width of projection and prediction (256).
        pred_hidden: hidden width of the predictor (4096).
        temperature: tau.
        queue_size: size of the support set Q.
    """

    n_views = 2
    batch_coupling = 'negatives'
    updated_after_step = ('queue',)

    def __init__(
        self,
        backbone: dict,
        proj_hidden: int = 2048,
        proj_dim: int = 256,
        pred_hidden: int = 4096,
        temperature: float = 0.1,
        queue_size: int = 98304,
    ):
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature
        self.backbone = build_backbone(**backbone)  # f
        self.embed_dim = self.backbone.embed_dim
        widths = [self.embed_dim, proj_hidden, proj_hidden, proj_dim]
        self.projector = mlp(*widths, bias=False, last_bias=False, last_norm='affine')  # g
        self.predictor = mlp(proj_dim, pred_hidden, proj_dim, bias=False)
        self.queue = Queue(queue_size, proj_dim)  # Q

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        x1, x2 = views  # each (B, 3, H, W)
        z1 = self.projector(self.backbone(x1))  # (B, proj_dim)
        z2 = self.projector(self.backbone(x2))
        p1 = l2_normalize(self.predictor(z1))  # (B, proj_dim)
        p2 = l2_normalize(self.predictor(z2))
        z1 = l2_normalize(z1)
        z2 = l2_normalize(z2)
        nn1 = nearest_neighbour(z1, self.queue.keys)  # (B, proj_dim), no gradient
        nn2 = nearest_neighbour(z2, self.queue.keys)
        self.queue.add(all_gather(z1.detach()))  # in the queue from the next step on
        loss = (info_nce(nn1, p2, self.temperature) + info_nce(nn2, p1, self.temperature)) / 2
        neighbour_cos = (nn1 * z1.detach()).sum(1).mean()
        return dict(loss=loss, feature_std=feature_std(z1), neighbour_cos=neighbour_cos)

    def after_step(self) -> None:
        self.queue.update()
