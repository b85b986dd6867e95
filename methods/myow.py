"""MYOW: Mine Your Own vieW, self-supervised learning through across-sample prediction.

Azabou et al. 2021, arXiv 2102.10106. MYOW is BYOL with a second prediction: from a weakly augmented
image the network predicts the representation of another image, one of the nearest neighbours in a
pool. There are four views: two for BYOL, one to find neighbours of the image, one for the pool.

From the official code (nerdslab/myow):
  - The second projector works on the output of the first one (cascaded).
  - Neighbours are found by the cosine between encoder outputs: the online network's for the image,
    the target network's for the pool.
  - Both terms are means of 2 - 2 cos, so BYOL's loss is halved.
  - The mined term is weighted w/(1 + w), BYOL's 1/(1 + w); w rises from 0 to 1 over some epochs.

Deviation: the pool is the fourth view of the other images of the same global batch. The code takes
the pool from a second loader and does not leave out the image itself.

Shapes: B images of this process, N images of all processes.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather, broadcast, local_rows, world_size
from ssl_zoo.errors import ConfigError
from ssl_zoo.layers import EMA, cosine_schedule, mlp
from ssl_zoo.losses import feature_std, l2_normalize, mask_self, regression_loss, similarity
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_unit_interval


@torch.no_grad()
def mine(y: Tensor, pool: Tensor, k: int) -> Tensor:
    """Choose for each image, at random, one of the k nearest other images of the pool.

    Args:
        y: (B, D) representations of this process's images.
        pool: (N, D) representations of the images of all processes.
        k: number of neighbours to choose from.

    Returns:
        (B,) int64, rows of the pool.

    Raises:
        ConfigError: the pool has fewer than k other images.
    """
    if k >= len(pool):
        raise ConfigError(
            f'k={k} neighbours, but a pool of {len(pool)} images has {len(pool) - 1} others; '
            f'choose a smaller k'
        )
    cos = mask_self(similarity(l2_normalize(y), l2_normalize(pool)))  # (B, N)
    neighbours = cos.topk(k, dim=1).indices  # (B, k)
    # Drawn for the global batch, so that the choice does not depend on the number of processes.
    choices = broadcast(torch.randint(k, (len(y) * world_size(), 1)).to(y.device))  # (N, 1)
    own_choices = choices[local_rows(len(y), y.device)]  # (B, 1)
    return neighbours.gather(1, own_choices)[:, 0]


@METHODS.register_module()
class MYOW(Method):
    """BYOL that also predicts a neighbour.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of the first projector and predictor (4096).
        proj_dim: output width of the first projector and predictor (256).
        mined_hidden: hidden width of the second projector and predictor (1024).
        mined_dim: output width of the second projector and predictor (64).
        base_ema: the target's decay at the first step (code: 0.98 on CIFAR-10); in a config also
            'auto'.
        k: neighbours to choose from (1).
        max_weight: w from ``full_epoch`` on (1).
        from_epoch: epoch until which w is 0 (100 of 800).
        full_epoch: epoch from which w is ``max_weight`` (110 of 800).
    """

    n_views = 4
    batch_coupling = 'the pool of neighbours'
    unused_parameters = True  # the second heads, while w = 0
    updated_after_step = ('target',)
    networks = dict(
        online=('online.f', 'online.g'), target=('target.network.f', 'target.network.g')
    )

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int = 4096,
        proj_dim: int = 256,
        mined_hidden: int = 1024,
        mined_dim: int = 64,
        base_ema: float = 0.98,
        k: int = 1,
        max_weight: float = 1.0,
        from_epoch: float = 100,
        full_epoch: float = 110,
    ):
        super().__init__()
        if not isinstance(k, int) or k < 1:
            raise ConfigError(f'k={k!r}, but it must be a whole number of at least 1')
        check_unit_interval(base_ema=base_ema)
        if not from_epoch < full_epoch:
            raise ConfigError(
                f'full_epoch={full_epoch}, but it must be after from_epoch={from_epoch}'
            )
        self.base_ema = base_ema
        self.k = k
        self.max_weight = max_weight
        self.from_epoch = from_epoch
        self.full_epoch = full_epoch
        self.microbatch_minimum = k + 1  # each image needs k others
        f = build_backbone(**backbone)
        g = mlp(f.embed_dim, hidden_dim, proj_dim)
        g_mined = mlp(proj_dim, mined_hidden, mined_dim)
        self.online = nn.ModuleDict(dict(f=f, g=g, g_mined=g_mined))  # theta
        self.target = EMA(copy.deepcopy(self.online))  # xi
        self.predictor = mlp(proj_dim, hidden_dim, proj_dim)  # q
        self.predictor_mined = mlp(mined_dim, mined_hidden, mined_dim)  # q_m

    @property
    def backbone(self) -> nn.Module:
        return self.online['f']

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    @property
    def decay(self) -> float:
        return cosine_schedule(self.base_ema, 1.0, self.progress)

    @property
    def weight(self) -> float:
        ramp = (self.epoch - self.from_epoch) / (self.full_epoch - self.from_epoch)
        return self.max_weight * min(max(ramp, 0.0), 1.0)  # w

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        x1, x2, x, pool = views  # each (B, 3, H, W)
        online = self.online
        target = self.target.network
        q1 = self.predictor(online['g'](online['f'](x1)))  # (B, proj_dim)
        q2 = self.predictor(online['g'](online['f'](x2)))
        with torch.no_grad():
            z1 = target['g'](target['f'](x1))  # (B, proj_dim)
            z2 = target['g'](target['f'](x2))
        byol = (regression_loss(q1, z2) + regression_loss(q2, z1)) / 2
        w = self.weight
        terms = dict(loss=byol, feature_std=feature_std(z1), decay=self.decay, mined_weight=w)
        if w == 0:
            return terms
        mined = self._mined_loss(x, pool)
        terms['loss'] = byol / (1 + w) + mined * w / (1 + w)
        return {**terms, 'byol': byol, 'mined': mined}

    def _mined_loss(self, x: Tensor, pool: Tensor) -> Tensor:
        """Compute the loss of predicting, from ``x``, the mined image of ``pool``."""
        online = self.online
        target = self.target.network
        y = online['f'](x)  # (B, embed_dim)
        with torch.no_grad():
            candidates = all_gather(target['f'](pool))  # (N, embed_dim)
            y_mined = candidates[mine(y, candidates, self.k)]  # (B, embed_dim)
            v = target['g_mined'](target['g'](y_mined))  # (B, mined_dim)
        prediction = self.predictor_mined(online['g_mined'](online['g'](y)))  # (B, mined_dim)
        return regression_loss(prediction, v)

    def after_step(self) -> None:
        self.target.update(self.online, self.decay)
