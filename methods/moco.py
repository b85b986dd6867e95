"""MoCo v1 and v2: Momentum Contrast.

He et al. 2019, arXiv 1911.05722 (v1); Chen et al. 2020, arXiv 2003.04297 (v2). v1 has a linear
projection and T = 0.07, v2 a projection of two layers and T = 0.2.

From the official code (facebookresearch/moco):
  - The key network starts as a copy of the query network and follows it with a constant decay.
  - BatchNorm normalises a key together with other images than its query (shuffled BatchNorm,
    sec. 3.3 of v1). SyncBatchNorm would undo that, so the method does not allow it.
  - The queue starts with random directions.
  - The code updates the key network before it computes the keys of a step; here it is updated at
    the end of the step. The sequence of networks is the same.

Deviation: in the code the batch size must divide the queue's size; here the queue wraps anywhere.
"""

import copy
from collections import OrderedDict
from typing import Any

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
    """Compute the mean of -log( exp(q k/T) / (exp(q k/T) + sum_j exp(q k_j/T)) ) (v1, eq. 1).

    Args:
        q: (B, D) unit vectors, the queries.
        k: (B, D) unit vectors without gradient, the key of each query.
        queue: (K, D) unit vectors, the k_j.
        temperature: T.

    Returns:
        Scalar of at least 0, float32.
    """
    positive = (q * k).sum(1, keepdim=True)  # (B, 1)
    logits = torch.cat([positive, similarity(q, queue)], dim=1) / temperature  # (B, 1 + K)
    labels = torch.zeros(len(q), dtype=torch.int64, device=q.device)  # the positive is class 0
    return F.cross_entropy(logits, labels)


@METHODS.register_module()
class MoCo(Method):
    """A query must find its key, computed by a moving average, among a queue of older keys.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of v2's projector (as wide as the backbone's output: 2048 for
            ResNet-50); None for v1's linear projection.
        proj_dim: width of query and key (128).
        queue_size: K (65536).
        temperature: T (v1 sec. 3.3: 0.07; v2 table 1: 0.2).
        decay: m, decay of the key network (0.999, constant).
        bn_splits: number of parts of the global batch. BatchNorm normalises each part separately,
            as each of ``bn_splits`` GPUs would. With more processes than parts, the images of each
            process are a part.
    """

    n_views = 2
    sync_batchnorm = False  # it would undo shuffled BatchNorm
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
        self.temperature = temperature
        self.decay = decay
        f = build_backbone(**backbone)
        widths = [f.embed_dim, hidden_dim, proj_dim]
        if hidden_dim is None:
            widths = [f.embed_dim, proj_dim]
        projector = mlp(*widths, norm=False)
        query = nn.Sequential(OrderedDict(backbone=f, projector=projector))
        self.query = split_batchnorm(query, bn_splits)  # f_q
        self.key = EMA(copy.deepcopy(self.query))  # f_k
        self.queue = Queue(queue_size, proj_dim)
        self.microbatch_multiple = bn_splits
        self.microbatch_minimum = 2 * bn_splits  # BatchNorm needs two images in each part

    @property
    def backbone(self) -> nn.Module:
        return self.query.backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        x_q, x_k = views  # each (B, 3, H, W)
        q = l2_normalize(self.query(x_q))  # (B, proj_dim)
        k = l2_normalize(shuffle_bn(self.key, x_k))  # (B, proj_dim), no gradient
        self.queue.add(all_gather(k))  # in the queue from the next step on
        loss = queue_nce(q, k, self.queue.keys, self.temperature)
        return dict(loss=loss, feature_std=feature_std(q))

    def after_step(self) -> None:
        self.queue.update()
        self.key.update(self.query, self.decay)
