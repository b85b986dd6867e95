"""DCL and DCLW: Decoupled Contrastive Learning (Yeh et al. 2021, arXiv 2110.06848).

SimCLR without the positive pair in the denominator: the gradient of a pair no longer fades when its negatives are easy, so small
batches suffice. DCLW also weights the positive term, more where the pair is far apart. Known choices: both directions are added, as
in the paper's sum over views; no gradient flows through the weights. Head and batch statistics are SimCLR's (methods/simclr.py).
"""

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
    """-w_i <z1_i, z2_i>/T + log of the sum of exp over negatives, mean over i, both directions added.

    The negatives of an anchor are both views of all other images of the global batch, 2(N - 1).

    Args:
        z1, z2: (B, D) projections of the two views, of any length.
        sigma: None for w = 1 (DCL); a number for w_i = 2 - exp(<z1_i, z2_i>/sigma) / mean_j exp(<z1_j, z2_j>/sigma) (DCLW).
    Returns:
        Scalar, float32; it may be negative.
    """
    z1, z2 = l2_normalize(z1), l2_normalize(z2)
    all1, all2 = all_gather(z1), all_gather(z2)  # (N, D)
    weight = 1.0
    if sigma is not None:
        agreement = (all1 * all2).sum(1).detach() / sigma  # (N,)
        weight = (2 - len(agreement) * agreement.softmax(0))[
            local_rows(len(z1), z1.device)
        ]  # (B,), mean 1 over the global batch
    positive = weight * (z1 * z2).sum(1) / temperature  # (B,)

    def negatives(z):  # log sum exp over other images, (B,)
        logits = torch.cat(
            [mask_self(similarity(z, others)) for others in (all1, all2)], dim=1
        )  # (B, 2N)
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
        check_positive(temperature=temperature, sigma=1 if sigma is None else sigma)
        self.temperature, self.sigma = temperature, sigma
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        self.projector = mlp(
            self.embed_dim, self.embed_dim, proj_dim, bias=False, last_bias=False, last_norm='scale'
        )

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        z = self.projector(
            self.backbone(torch.cat(views))
        )  # (2B, proj_dim): statistics of both views
        z1, z2 = z.chunk(2)
        return dict(loss=dcl_loss(z1, z2, self.temperature, self.sigma), feature_std=feature_std(z))
