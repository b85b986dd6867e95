"""DCL and DCLW: Decoupled Contrastive Learning (Yeh et al. 2021, arXiv 2110.06848).

DCL is SimCLR without the positive pair in the denominator: the gradient of a pair no longer
vanishes when its negatives are easy, so small batches suffice. DCLW also weighs the positive term,
more where the pair is far apart. Head and BatchNorm statistics are SimCLR's (methods/simclr.py).

Choices that the paper leaves open:
  - Both directions are added, as in the paper's sum over views.
  - No gradient flows through the weights (as in lightly; in raminnakhli's code it does).
"""

from typing import Any

import torch
from torch import Tensor

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather, local_rows
from ssl_zoo.layers import mlp
from ssl_zoo.losses import feature_std, l2_normalize, mask_self, similarity
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive


def dcl_loss(z1: Tensor, z2: Tensor, temperature: float, sigma: float | None = None) -> Tensor:
    """Compute -w_i <z1_i, z2_i>/T + log sum exp of the negatives, mean over i, both directions.

    The negatives of an image are both views of all other images of the global batch, 2(N - 1).

    Args:
        z1: (B, D) projections of the first view, of any length.
        z2: (B, D) projections of the second view, of any length.
        temperature: T.
        sigma: None for w_i = 1 (DCL). A number for
            w_i = 2 - exp(<z1_i, z2_i>/sigma) / mean_j exp(<z1_j, z2_j>/sigma) (DCLW).

    Returns:
        Scalar, float32; it may be negative.
    """
    z1 = l2_normalize(z1)
    z2 = l2_normalize(z2)
    all1 = all_gather(z1)  # (N, D)
    all2 = all_gather(z2)
    weight = 1.0
    if sigma is not None:
        agreement = (all1 * all2).sum(1).detach() / sigma  # (N,)
        weights = 2 - len(agreement) * agreement.softmax(0)  # (N,), mean 1
        weight = weights[local_rows(len(z1), z1.device)]  # (B,)
    positive = weight * (z1 * z2).sum(1) / temperature  # (B,)

    def negatives(z: Tensor) -> Tensor:
        """Compute log sum exp over both views of the other images: (B, D) -> (B,)."""
        to_view1 = mask_self(similarity(z, all1))  # (B, N)
        to_view2 = mask_self(similarity(z, all2))
        logits = torch.cat([to_view1, to_view2], dim=1)  # (B, 2N)
        return (logits / temperature).logsumexp(1)

    return (negatives(z1) - positive).mean() + (negatives(z2) - positive).mean()


@METHODS.register_module()
class DCL(Method):
    """SimCLR's attraction and repulsion, decoupled.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        proj_dim: width of the projection.
        temperature: T (0.1).
        sigma: None for DCL; 0.5 for DCLW.
    """

    n_views = 2
    batch_coupling = 'negatives'

    def __init__(
        self,
        backbone: dict,
        proj_dim: int = 128,
        temperature: float = 0.1,
        sigma: float | None = None,
    ):
        super().__init__()
        check_positive(temperature=temperature)
        if sigma is not None:
            check_positive(sigma=sigma)
        self.temperature = temperature
        self.sigma = sigma
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        widths = [self.embed_dim, self.embed_dim, proj_dim]
        self.projector = mlp(*widths, bias=False, last_bias=False, last_norm='scale')

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        # One forward pass: BatchNorm takes its statistics over both views.
        z = self.projector(self.backbone(torch.cat(views)))  # (2B, proj_dim)
        z1, z2 = z.chunk(2)  # (B, proj_dim)
        loss = dcl_loss(z1, z2, self.temperature, self.sigma)
        return dict(loss=loss, feature_std=feature_std(z))
