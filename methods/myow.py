"""MYOW: Mine Your Own vieW, self-supervised learning through across-sample prediction (Azabou et al. 2021, arXiv 2102.10106).

BYOL, and beside it a second prediction: from a weakly augmented image the representation of another image, mined as one of its
nearest neighbours in a pool. From the official code (nerdslab/myow): the second projector works on the first one's output
(cascaded); neighbours are found by cosine between encoder outputs, online for the image, target for the pool; both terms are means
of 2 - 2 cos, BYOL's halved; the mined term is weighted w/(1 + w), BYOL's 1/(1 + w), and w rises from 0 to 1 over some epochs.
Views: two for BYOL, one of the image for mining, one for the pool. Known deviation: the pool is the fourth view of the other
images of the same global batch (the code takes it from a second loader and does not leave out the image itself).
"""

import copy

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
    """For each image one of the k nearest others of the pool, at random.

    Args:
        y: (B, D) representations; pool: (N, D) those of all processes' images.
    Returns:
        (B,) rows of the pool.
    """
    if k >= len(pool):
        raise ConfigError(
            f'k={k} neighbours, but a pool of {len(pool)} images has {len(pool) - 1} others; choose a smaller k'
        )
    cos = mask_self(similarity(l2_normalize(y), l2_normalize(pool)))  # (B, N)
    nearest = cos.topk(k, dim=1).indices  # (B, k)
    chosen = broadcast(torch.randint(k, (len(y) * world_size(), 1)).to(y.device))[
        local_rows(len(y), y.device)
    ]
    return nearest.gather(1, chosen)[:, 0]


@METHODS.register_module()
class MYOW(Method):
    """BYOL that also predicts a neighbour.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim, proj_dim: widths of the first projector and predictor (4096, 256).
        mined_hidden, mined_dim: widths of the second ones (1024, 64).
        base_ema: the target's decay at the first step (code: 0.98 on CIFAR-10).
        k: neighbours to choose from (1).
        max_weight: w at the end (1).
        from_epoch, full_epoch: w is 0 until the one and ``max_weight`` from the other on (100, 110 of 800).
    """

    n_views = 4
    batch_coupling = 'the pool of neighbours'
    unused_parameters = True  # the mined heads, while w = 0
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
        self.microbatch_minimum = k + 1  # k others
        self.base_ema, self.k, self.max_weight, self.from_epoch, self.full_epoch = (
            base_ema,
            k,
            max_weight,
            from_epoch,
            full_epoch,
        )
        f = build_backbone(**backbone)
        self.online = nn.ModuleDict(
            dict(
                f=f,
                g=mlp(f.embed_dim, hidden_dim, proj_dim),
                g_mined=mlp(proj_dim, mined_hidden, mined_dim),
            )
        )
        self.target = EMA(copy.deepcopy(self.online))
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

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        x1, x2, x, pool = views
        online, target = self.online, self.target.network
        p1, p2 = (self.predictor(online['g'](online['f'](v))) for v in (x1, x2))  # (B, proj_dim)
        with torch.no_grad():
            z1, z2 = (target['g'](target['f'](v)) for v in (x1, x2))
        byol = (regression_loss(p1, z2) + regression_loss(p2, z1)) / 2
        terms = dict(
            loss=byol, feature_std=feature_std(z1), decay=self.decay, mined_weight=self.weight
        )
        if self.weight == 0:
            return terms
        y = online['f'](x)  # (B, embed_dim)
        with torch.no_grad():
            candidates = all_gather(target['f'](pool))  # (N, embed_dim)
            mined = candidates[mine(y, candidates, self.k)]
            v = target['g_mined'](target['g'](mined))  # (B, mined_dim)
        across = regression_loss(self.predictor_mined(online['g_mined'](online['g'](y))), v)
        w = self.weight
        return {
            **terms,
            'loss': byol / (1 + w) + across * w / (1 + w),
            'byol': byol,
            'mined': across,
        }

    def after_step(self) -> None:
        self.target.update(self.online, self.decay)
