"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations.

Chen et al. 2020, arXiv 2002.05709. SimCLR v2's head (arXiv 2006.10029) is ``proj_layers=3``.

Where the paper and the official code (google-research/simclr) differ, this file follows the code:
  - The loss is the sum of both directions' means: twice the 1/(2N) mean of eq. 1 and algorithm 1.
  - BatchNorm follows every layer of the projection head. The last one has no offset. No layer has a
    bias.

Both views go through the network as one batch, so BatchNorm takes its statistics over both. On
several processes the statistics are those of all processes (SyncBatchNorm): with statistics per
process a network can recognise positive pairs by their statistics (sec. 2.2).
"""

from typing import Any

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
    """Compute the normalised temperature-scaled cross entropy (eq. 1), both directions added.

    Each of the 2N vectors must find its partner among the 2N - 1 others of the N images of all
    processes.

    Args:
        z1: (B, D) projections of the first view, of any length.
        z2: (B, D) projections of the second view, of any length.
        temperature: tau.

    Returns:
        Scalar, float32.
    """
    z1 = l2_normalize(z1)
    z2 = l2_normalize(z2)
    all1 = all_gather(z1)  # (N, D)
    all2 = all_gather(z2)

    def direction(z: Tensor, partners: Tensor, same_view: Tensor) -> Tensor:
        similarities = [similarity(z, partners), mask_self(similarity(z, same_view))]
        logits = torch.cat(similarities, dim=1) / temperature  # (B, 2N)
        return F.cross_entropy(logits, local_rows(len(z), z.device))

    return direction(z1, all2, all1) + direction(z2, all1, all2)


@METHODS.register_module()
class SimCLR(Method):
    """Views of one image attract each other; all other views of the batch repel them.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        proj_dim: width of the projection (sec. 4.2: 128).
        proj_layers: linear layers of the head, 2 in v1 and 3 in v2; hidden layers are as wide as
            the backbone's output.
        temperature: tau (sec. 5.1: 0.1 on ImageNet; appendix B.9: 0.5 on CIFAR-10).
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

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        # One forward pass: BatchNorm takes its statistics over both views.
        z = self.projector(self.backbone(torch.cat(views)))  # (2B, proj_dim)
        z1, z2 = z.chunk(2)  # (B, proj_dim)
        return dict(loss=nt_xent(z1, z2, self.temperature), feature_std=feature_std(z))
