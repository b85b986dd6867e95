"""NNCLR: With a Little Help from My Friends (Dwibedi et al. 2021, arXiv 2104.14548).

The positive of a view is not the other view but its nearest neighbour among older projections. No momentum encoder: the queue holds
projections of the network itself, of the first view (algorithm 1). Known choice: no official code is public; biases and norms of
the heads follow lightly's reading of the paper (BatchNorm behind every layer of the projector, not behind the predictor's last).
"""

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
    """The row of ``support`` (K, D) nearest to each of z (B, D), all unit vectors: (B, D), no gradient."""
    return support[similarity(z, support).argmax(1)]


@METHODS.register_module()
class NNCLR(Method):
    """The prediction of one view must find the nearest neighbour of the other among the batch.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        proj_hidden: hidden width of the three-layer projector (2048).
        proj_dim: width of projection and prediction (256).
        pred_hidden: hidden width of the predictor (4096).
        temperature: T.
        queue_size: of the support set.
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
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        self.projector = mlp(
            self.embed_dim,
            proj_hidden,
            proj_hidden,
            proj_dim,
            bias=False,
            last_bias=False,
            last_norm='affine',
        )
        self.predictor = mlp(proj_dim, pred_hidden, proj_dim, bias=False)
        self.queue = Queue(queue_size, proj_dim)  # Q

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        z1, z2 = (self.projector(self.backbone(x)) for x in views)  # (B, proj_dim)
        p1, p2 = (l2_normalize(self.predictor(z)) for z in (z1, z2))
        z1, z2 = l2_normalize(z1), l2_normalize(z2)
        nn1, nn2 = (nearest_neighbour(z, self.queue.keys) for z in (z1, z2))
        self.queue.add(all_gather(z1.detach()))  # in the queue from the next step on
        both = info_nce(nn1, p2, self.temperature) + info_nce(nn2, p1, self.temperature)
        return dict(
            loss=both / 2,
            feature_std=feature_std(z1),
            neighbour_cos=(nn1 * z1.detach()).sum(1).mean(),
        )

    def after_step(self) -> None:
        self.queue.update()
