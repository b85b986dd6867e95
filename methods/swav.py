"""SwAV: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al. 2020, arXiv 2006.09882).

From the official code (facebookresearch/swav): views of one size go through the backbone as one batch, all views through the head
as one; codes are computed for the first two views, without gradient; prototypes have unit length at every step and are not
trained at first; a queue of projections, for small batches, feeds the codes once it is full. Known deviation: BatchNorm over several
processes is over all of them; the authors' was over groups of 8 GPUs.
"""

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
    """Codes that share the prototypes out evenly (eq. 3 to 5).

    Args:
        scores: (N, K) of the global batch.
        eps: smoothness; iterations: of Sinkhorn-Knopp.
    Returns:
        (N, K), float32 or better; every row sums to 1, every column to about N / K.
    """
    scores = as_float32(scores)
    q = ((scores - scores.max()) / eps).exp()  # the maximum cancels, and small eps would overflow
    q /= q.sum()
    n, k = q.shape
    for _ in range(iterations):
        q /= q.sum(0, keepdim=True) * k  # prototypes: 1/K each
        q /= q.sum(1, keepdim=True) * n  # images: 1/N each
    return q * n


@METHODS.register_module()
class SwAV(Method):
    """Every view must predict the code, the soft cluster, of the two large views.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim, proj_dim: widths of the projector (2048, 128).
        prototypes: how many (3000).
        temperature: T (0.1).
        eps, iterations: of Sinkhorn (0.05, 3).
        frozen_epochs: how long the prototypes stay as drawn (code: 313 steps of 4096 images, or 5005 of 256: one epoch).
        queue_size: older projections of each large view that help to share out the prototypes; 0 for none (3840 at batch 256).
        queue_from_epoch: when the queue starts to fill (15).
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
        if (
            not isinstance(iterations, int)
            or iterations < 1
            or not isinstance(queue_from_epoch, (int, float))
        ):
            raise ConfigError(
                f'iterations={iterations!r} must be a whole number of at least 1, and '
                f'queue_from_epoch={queue_from_epoch!r} a number'
            )
        self.temperature, self.eps, self.iterations = temperature, eps, iterations
        self.frozen_epochs, self.queue_from_epoch = frozen_epochs, queue_from_epoch
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        self.projector = mlp(self.embed_dim, hidden_dim, proj_dim)
        self.prototypes = nn.Linear(proj_dim, prototypes, bias=False)  # C, a row each
        self._normalise_prototypes()
        self.updated_after_step = ('prototypes', 'queues') if queue_size else ('prototypes',)
        self.queues = nn.ModuleList(
            Queue(queue_size, proj_dim) for _ in range(2 if queue_size else 0)
        )

    @property
    def frozen(self) -> tuple[str, ...]:
        return ('prototypes',) if self.epoch < self.frozen_epochs else ()

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        b = len(views[0])
        z = l2_normalize(self.projector(multi_crop(self.backbone, views)))  # (views * B, proj_dim)
        scores = similarity(z, self.prototypes.weight).split(b)  # one (B, K) per view
        terms = []
        for i in range(2):
            q = self._code(i, z[i * b : (i + 1) * b].detach(), scores[i].detach())  # (B, K)
            terms += [
                soft_cross_entropy(q, scores[v] / self.temperature)
                for v in range(len(views))
                if v != i
            ]  # eq. 2
        return dict(loss=sum(terms) / len(terms), feature_std=feature_std(z[:b]))

    def _code(self, i: int, z: Tensor, scores: Tensor) -> Tensor:
        """Codes of this process's images of view i, shared out over the global batch and, once it is full, the queue."""
        scores, queue = all_gather(scores), self.queues[i] if self.queues else None
        older = 0
        if queue is not None and self.epoch >= self.queue_from_epoch:
            if queue.full:
                scores, older = (
                    torch.cat([similarity(queue.keys, self.prototypes.weight.detach()), scores]),
                    len(queue.keys),
                )
            queue.add(all_gather(z))
        return sinkhorn(scores, self.eps, self.iterations)[older + local_rows(len(z), z.device)]

    def after_step(self) -> None:
        self._normalise_prototypes()
        for queue in self.queues:
            queue.update()
