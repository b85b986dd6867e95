"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (Chen et al. 2020, arXiv 2002.05709).

Where the paper and the official code (google-research/simclr) differ, this file follows the code:
  - the loss is the sum of both directions' means, twice the 1/(2N) mean of eq. 1 and algorithm 1;
  - BatchNorm follows every layer of the projection head, the last one included, which has no offset; no layer has a bias.
Both views go through the network as one batch, so BatchNorm's statistics are those of both. Over several processes they must be
those of all (SyncBatchNorm): with local statistics a network can tell the positives by them (sec. 2.2).
SimCLR v2's head (arXiv 2006.10029) is ``proj_layers=3``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather, local_rows
from ssl_zoo.layers import mlp
from ssl_zoo.losses import feature_std, l2_normalize, mask_self, similarity
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy (eq. 1), both directions added.

    Each of the 2N vectors must find its partner among the 2N - 1 others of the global batch.

    Args:
        z1, z2: (B, D) projections of the two views, of any length.
    Returns:
        Scalar, float32.
    """
    z1, z2 = l2_normalize(z1), l2_normalize(z2)
    all1, all2 = all_gather(z1), all_gather(z2)  # (N, D)

    def direction(z, partners, same):
        logits = torch.cat(
            [similarity(z, partners), mask_self(similarity(z, same))], dim=1
        )  # (B, 2N)
        return F.cross_entropy(logits / temperature, local_rows(len(z), z.device))

    return direction(z1, all2, all1) + direction(z2, all1, all2)


@METHODS.register_module()
class SimCLR(Method):
    """Views of one image attract each other, all other views of the batch repel them.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        proj_dim: width of the projection (sec. 4.2: 128).
        proj_layers: of the head: 2 in v1, 3 in v2; hidden layers are as wide as the backbone's output.
        temperature: T (sec. 5.1: 0.1 on ImageNet; appendix B.9: 0.5 on CIFAR-10).
    """

    n_views = 2
    batch_coupling = 'negatives'

    def __init__(
        self, backbone: dict, proj_dim: int = 128, proj_layers: int = 2, temperature: float = 0.1
    ):
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature
        self.backbone = build_backbone(**backbone)  # f
        self.embed_dim = self.backbone.embed_dim
        widths = [self.embed_dim] * proj_layers + [proj_dim]
        self.projector = mlp(*widths, bias=False, last_bias=False, last_norm='scale')  # g

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        z = self.projector(
            self.backbone(torch.cat(views))
        )  # (2B, proj_dim): statistics of both views
        z1, z2 = z.chunk(2)
        return dict(loss=nt_xent(z1, z2, self.temperature), feature_std=feature_std(z))
