"""MoCo v1 and v2: Momentum Contrast (He et al. 2019, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297).

v1 has a linear projection and T = 0.07, v2 a two-layer one and T = 0.2. From the official code (facebookresearch/moco): the key
network starts as a copy of the query network and follows it with a constant decay; keys are normalised with other images than
their queries (shuffled BatchNorm, sec. 3.3 of v1): never SyncBatchNorm here, which would undo it; the queue starts with random
directions. Known deviation: a batch need not divide the queue; ours wraps anywhere.
The official order, EMA before the keys of the same step, gives the same sequence as the one here, EMA at the end of a step.
"""

import copy
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather
from ssl_zoo.distributed.batchnorm import shuffle_bn, split_batchnorm
from ssl_zoo.layers import EMA, Queue, mlp
from ssl_zoo.losses import feature_std, l2_normalize, similarity
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive, check_unit_interval


def queue_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Mean of -log( exp(q k/T) / (exp(q k/T) + sum over the queue of exp(q k_j/T)) ) (v1, eq. 1).

    Args:
        q, k: (B, D) unit vectors, k without gradient; queue: (K, D) unit vectors.
    Returns:
        Scalar, float32, of at least 0.
    """
    logits = (
        torch.cat([(q * k).sum(1, keepdim=True), similarity(q, queue)], dim=1) / temperature
    )  # (B, 1 + K)
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


@METHODS.register_module()
class MoCo(Method):
    """A query must find its key, made by a slowly moving network, among a queue of older keys.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: of the projector in v2 (as wide as the backbone's output: 2048 for ResNet-50); None for v1's linear one.
        proj_dim: width of query and key (128).
        queue_size: K (65536).
        temperature: T (v1 sec. 3.3: 0.07; v2 table 1: 0.2).
        decay: of the key network (0.999, constant).
        bn_splits: parts of the global batch that BatchNorm normalises apart, as so many GPUs would; more processes make more parts.
    """

    n_views = 2
    sync_batchnorm = False  # see above
    updated_after_step = ('key', 'queue')
    networks = dict(
        online=('query.backbone', 'query.projector'),
        target=('key.network.backbone', 'key.network.projector'),
    )

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int | None = 2048,
        proj_dim: int = 128,
        queue_size: int = 65536,
        temperature: float = 0.2,
        decay: float = 0.999,
        bn_splits: int = 1,
    ):
        super().__init__()
        check_positive(temperature=temperature)
        check_unit_interval(decay=decay)
        self.temperature, self.decay = temperature, decay
        f = build_backbone(**backbone)
        widths = (
            [f.embed_dim, proj_dim] if hidden_dim is None else [f.embed_dim, hidden_dim, proj_dim]
        )
        self.query = split_batchnorm(
            nn.Sequential(OrderedDict(backbone=f, projector=mlp(*widths, norm=False))), bn_splits
        )
        self.microbatch_multiple, self.microbatch_minimum = bn_splits, 2 * bn_splits
        self.key = EMA(copy.deepcopy(self.query))
        self.queue = Queue(queue_size, proj_dim)

    @property
    def backbone(self) -> nn.Module:
        return self.query.backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        q = l2_normalize(self.query(views[0]))  # (B, proj_dim)
        k = l2_normalize(shuffle_bn(self.key, views[1]))  # (B, proj_dim), no gradient
        self.queue.add(all_gather(k))  # in the queue from the next step on
        return dict(
            loss=queue_nce(q, k, self.queue.keys, self.temperature), feature_std=feature_std(q)
        )

    def after_step(self) -> None:
        self.queue.update()
        self.key.update(self.query, self.decay)
