"""From BYOL to SimCLR: the ablations of BYOL's paper (Grill et al. 2020, arXiv 2006.07733v3, sec. 5 and appendix F).

One loss holds both methods (the InfoNCE of sec. 5 with the weight beta on its negatives; here to be minimised, with BYOL's constant):

    L(v, v') = 2 - 2 mean_i S(v_i, v'_i) + beta 2 alpha mean_i log( sum_j!=i exp(S(v_i, v_j)/alpha) + sum_j exp(S(v_i, v'_j)/alpha) )

with S(u, u') the cosine of phi(u) and psi(u'). BYOL: phi predicts, psi is the target network, beta = 0. SimCLR: phi and psi are the
online projection, beta = 1. The loss here is L(v, v') + L(v', v): at beta = 0 it is BYOL's own (methods/byol.py), which see for
everything that is not said here. Removed parts are not built. Rows of the paper's tables: configs/byol/README.md.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather
from ssl_zoo.distributed.batchnorm import standardize
from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.layers import EMA, cosine_schedule, mlp
from ssl_zoo.losses import as_float32, feature_std, l2_normalize, mask_self, similarity
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive, check_unit_interval

TARGETS = ('ema', 'stop_gradient', 'gradient')
NORMALISERS = {  # 1/sqrt(D): to the scale of 'l2' [recall]
    'l2': l2_normalize,
    'layer': lambda z: F.layer_norm(as_float32(z), z.shape[1:]) / z.shape[1] ** 0.5,
    'batch': lambda z: standardize(as_float32(z)) / z.shape[1] ** 0.5,
    'raw': as_float32,
}


def attraction(p: Tensor, z: Tensor, normalise: str = 'l2') -> Tensor:
    """Mean squared distance after ``normalise``, for 'l2' 2 - 2 cos (eq. 2): (B, D), (B, D) -> scalar."""
    return (NORMALISERS[normalise](p) - NORMALISERS[normalise](z)).square().sum(1).mean()


def repulsion(p: Tensor, same: Tensor, other: Tensor, alpha: float) -> Tensor:
    """2 alpha times the mean of the logarithm above.

    Args:
        p: (B, D) phi of a view; same, other: (B, D) psi of the same and of the other view; gathered here.
    """
    p, same, other = (
        l2_normalize(p),
        all_gather(l2_normalize(same)),
        all_gather(l2_normalize(other)),
    )
    logits = torch.cat([mask_self(similarity(p, same)), similarity(p, other)], dim=1)  # (B, 2N)
    return 2 * alpha * (logits / alpha).logsumexp(1).mean()


@METHODS.register_module()
class BYOLAblation(Method):
    """BYOL with parts removed and negatives added.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim, proj_dim: as in BYOL.
        proj_layers, pred_layers: depth of the heads; pred_layers=0 removes the predictor (table 5b).
        target: psi: 'ema', the target network; 'stop_gradient', the online projection without gradient (tau = 0); 'gradient', with.
        base_ema: the target's decay at the first step.
        negatives: beta, weight of the negatives.
        temperature: alpha (0.1 in table 5b).
        normalise: 'l2', 'layer', 'batch' or 'raw' (none); negatives need 'l2'.
        predictor_lr: factor on the predictor's learning rate (1 to 20 without a target network).
    """

    n_views = 2

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int = 4096,
        proj_dim: int = 256,
        proj_layers: int = 2,
        pred_layers: int = 2,
        target: str = 'ema',
        base_ema: float = 0.99,
        negatives: float = 0.0,
        temperature: float = 0.1,
        normalise: str = 'l2',
        predictor_lr: float = 1.0,
    ):
        super().__init__()
        check_positive(temperature=temperature, predictor_lr=predictor_lr)
        check_unit_interval(base_ema=base_ema)
        for name, value, allowed in (
            ('target', target, TARGETS),
            ('normalise', normalise, NORMALISERS),
        ):
            if value not in allowed:
                raise ConfigError(f'{name}={value!r}: {nearest(value, allowed)}')
        if negatives and normalise != 'l2':
            raise ConfigError(
                f"negatives={negatives} are weighed by cosines, so normalise must be 'l2', not {normalise!r}"
            )
        if proj_layers < 1 or pred_layers < 0:
            raise ConfigError(
                f'proj_layers={proj_layers}, pred_layers={pred_layers}, but they must be at least 1 and 0'
            )
        self.base_ema, self.negatives, self.temperature, self.normalise = (
            base_ema,
            negatives,
            temperature,
            normalise,
        )
        self.target_kind, self.lr_scale = target, {'predictor': predictor_lr} if pred_layers else {}
        self.updated_after_step = ('target',) if target == 'ema' else ()
        self.networks = dict(online=('online.backbone', 'online.projector'))
        if target == 'ema':
            self.networks['target'] = 'target.network.backbone', 'target.network.projector'
        heads = dict(last_bias=False, init='haiku')

        def network():
            f = build_backbone(**backbone)
            g = mlp(f.embed_dim, *[hidden_dim] * (proj_layers - 1), proj_dim, **heads)
            return nn.Sequential(OrderedDict(backbone=f, projector=g))

        self.online = network()
        self.target = EMA(network()) if target == 'ema' else None
        self.predictor = (
            mlp(proj_dim, *[hidden_dim] * (pred_layers - 1), proj_dim, **heads)
            if pred_layers
            else nn.Identity()
        )

    @property
    def backbone(self) -> nn.Module:
        return self.online.backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    @property
    def batch_coupling(self) -> str:
        return (
            'negatives'
            if self.negatives
            else 'batch statistics'
            if self.normalise == 'batch'
            else ''
        )

    @property
    def decay(self) -> float:
        return cosine_schedule(self.base_ema, 1.0, self.progress)

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        z = [self.online(x) for x in views]  # (B, proj_dim) per view
        phi = [self.predictor(v) for v in z]
        psi = (
            [self.target(x) for x in views]
            if self.target
            else z
            if self.target_kind == 'gradient'
            else [v.detach() for v in z]
        )
        attract = attraction(phi[0], psi[1], self.normalise) + attraction(
            phi[1], psi[0], self.normalise
        )
        terms = dict(loss=attract, feature_std=feature_std(z[0]))
        if self.negatives:
            repel = sum(repulsion(phi[i], psi[i], psi[1 - i], self.temperature) for i in (0, 1))
            terms.update(loss=attract + self.negatives * repel, attraction=attract, repulsion=repel)
        return {**terms, 'decay': self.decay} if self.target else terms

    def after_step(self) -> None:
        if self.target:
            self.target.update(self.online, self.decay)
