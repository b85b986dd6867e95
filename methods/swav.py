"""SwAV: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments.

Caron et al. 2020, arXiv 2006.09882.

From the official code (facebookresearch/swav):
  - Views of one size go through the backbone as one batch, all views through the head as one batch.
  - Codes are computed for the first two views, without gradient.
  - Prototypes have unit length at every step and are frozen at first.
  - For small batches, a queue of projections takes part in computing the codes once it is full.

Deviation: BatchNorm takes its statistics over all processes; the authors' took them over groups of
8 GPUs. Shapes: B images of this process, N images of all processes, V views, K prototypes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather, local_rows
from ssl_zoo.errors import ConfigError
from ssl_zoo.layers import Queue, mlp, multi_crop
from ssl_zoo.losses import as_float32, feature_std, l2_normalize, similarity, soft_cross_entropy
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive


@torch.no_grad()
def sinkhorn(scores: Tensor, eps: float, iterations: int) -> Tensor:
    """Compute codes that use all prototypes equally (eq. 3 to 5, Sinkhorn-Knopp).

    Args:
        scores: (N, K).
        eps: epsilon, smoothness of the codes.
        iterations: number of iterations.

    Returns:
        (N, K) float32 or float64; each row sums to 1, each column to about N / K.
    """
    scores = as_float32(scores)
    q = ((scores - scores.max()) / eps).exp()  # the maximum cancels; without it exp overflows
    q /= q.sum()
    n, k = q.shape
    for _ in range(iterations):
        q /= q.sum(0, keepdim=True) * k  # each prototype has the share 1/K
        q /= q.sum(1, keepdim=True) * n  # each image has the share 1/N
    return q * n


@METHODS.register_module()
class SwAV(Method):
    """Every view must predict the code (soft cluster assignment) of the other large views.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of the projector (2048).
        proj_dim: width of the projection (128).
        prototypes: K (3000).
        temperature: tau (0.1).
        eps: epsilon of Sinkhorn (0.05).
        iterations: iterations of Sinkhorn (3).
        frozen_epochs: epochs in which the prototypes are frozen (code: 313 steps of 4096 images, or
            5005 of 256: one epoch).
        queue_size: number of older projections of each large view that take part in computing the
            codes; 0 for none (3840 at batch 256).
        queue_from_epoch: epoch from which the queue is filled (15).
    """

    min_views = 2
    batch_coupling = 'codes'

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int = 2048,
        proj_dim: int = 128,
        prototypes: int = 3000,
        temperature: float = 0.1,
        eps: float = 0.05,
        iterations: int = 3,
        frozen_epochs: float = 1.0,
        queue_size: int = 0,
        queue_from_epoch: float = 15,
    ):
        super().__init__()
        check_positive(prototypes=prototypes, temperature=temperature, eps=eps)
        if not isinstance(iterations, int) or iterations < 1:
            raise ConfigError(
                f'iterations={iterations!r}, but it must be a whole number of at least 1'
            )
        if not isinstance(queue_from_epoch, (int, float)):
            raise ConfigError(f'queue_from_epoch={queue_from_epoch!r}, but it must be a number')
        self.temperature = temperature
        self.eps = eps
        self.iterations = iterations
        self.frozen_epochs = frozen_epochs
        self.queue_from_epoch = queue_from_epoch
        self.backbone = build_backbone(**backbone)  # f_theta
        self.embed_dim = self.backbone.embed_dim
        self.projector = mlp(self.embed_dim, hidden_dim, proj_dim)
        self.prototypes = nn.Linear(proj_dim, prototypes, bias=False)  # C, one prototype per row
        self._normalise_prototypes()
        self.queues = nn.ModuleList()  # one for each large view
        self.updated_after_step = ('prototypes',)
        if queue_size:
            self.queues.extend(Queue(queue_size, proj_dim) for _ in range(2))
            self.updated_after_step = ('prototypes', 'queues')

    @property
    def frozen(self) -> tuple[str, ...]:
        if self.epoch < self.frozen_epochs:
            return ('prototypes',)
        return ()

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        b = len(views[0])
        z = l2_normalize(self.projector(multi_crop(self.backbone, views)))  # (V * B, proj_dim)
        scores = similarity(z, self.prototypes.weight).split(b)  # (B, K) per view
        z_of_view = z.split(b)  # (B, proj_dim) per view
        terms = []  # eq. 2
        for i in range(2):
            q = self._codes(i, z_of_view[i].detach(), scores[i].detach())  # (B, K)
            for v in range(len(views)):
                if v != i:
                    terms.append(soft_cross_entropy(q, scores[v] / self.temperature))
        return dict(loss=sum(terms) / len(terms), feature_std=feature_std(z_of_view[0]))

    def _codes(self, i: int, z: Tensor, scores: Tensor) -> Tensor:
        """Compute the codes of large view i from the global batch and, once full, its queue.

        Args:
            i: 0 or 1.
            z: (B, proj_dim) projections of the view; they go into the queue.
            scores: (B, K) scores of these projections.

        Returns:
            (B, K), the codes of this process's images.
        """
        scores = all_gather(scores)  # (N, K)
        older = 0
        if self.queues and self.epoch >= self.queue_from_epoch:
            queue = self.queues[i]
            if queue.full:
                older = len(queue.keys)
                older_scores = similarity(queue.keys, self.prototypes.weight.detach())
                scores = torch.cat([older_scores, scores])  # (queue_size + N, K)
            queue.add(all_gather(z))
        codes = sinkhorn(scores, self.eps, self.iterations)
        return codes[older + local_rows(len(z), z.device)]

    def after_step(self) -> None:
        self._normalise_prototypes()
        for queue in self.queues:
            queue.update()
