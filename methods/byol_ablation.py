"""From BYOL to SimCLR: the ablations of BYOL's paper (Grill et al. 2020, arXiv 2006.07733v3).

Section 5 and appendix F write BYOL and SimCLR as one InfoNCE objective, in which beta weighs the
negatives. As a loss to minimise, and with BYOL's constant, the objective is

    L(v, v') = 2 - 2 mean_i S(v_i, v'_i)
               + beta 2 alpha mean_i log( sum_j!=i exp(S(v_i, v_j)/alpha)
                                          + sum_j exp(S(v_i, v'_j)/alpha) )

S(u, u') is the cosine of phi(u) and psi(u'). In BYOL phi is the prediction, psi is the projection
of the target network, and beta = 0. In SimCLR phi and psi are the online projection, and beta = 1.
The loss here is L(v, v') + L(v', v). At beta = 0 it equals the loss of methods/byol.py, and what
the docstring of that file says about networks and initial weights holds here too. A removed part is
not built. configs/byol/README.md has the rows of the paper's tables.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

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


def layer_normalize(z: Tensor) -> Tensor:
    """LayerNorm without parameters, divided by sqrt(D) to the scale of unit vectors.

    The factor is not confirmed in a source.
    """
    return F.layer_norm(as_float32(z), z.shape[1:]) / z.shape[1] ** 0.5


def batch_normalize(z: Tensor) -> Tensor:
    """BatchNorm without parameters, divided by sqrt(D) to the scale of unit vectors.

    The factor is not confirmed in a source.
    """
    return standardize(as_float32(z)) / z.shape[1] ** 0.5


NORMALISERS: dict[str, Callable[[Tensor], Tensor]] = {
    'l2': l2_normalize,
    'layer': layer_normalize,
    'batch': batch_normalize,
    'raw': as_float32,
}


def attraction(p: Tensor, z: Tensor, normalise: str = 'l2') -> Tensor:
    """Compute the mean squared distance of normalised vectors; for 'l2' it is 2 - 2 cos (eq. 2).

    Args:
        p: (B, D) phi of one view.
        z: (B, D) psi of the other view.
        normalise: key of NORMALISERS.

    Returns:
        Scalar, float32.
    """
    normaliser = NORMALISERS[normalise]
    return (normaliser(p) - normaliser(z)).square().sum(1).mean()


def repulsion(p: Tensor, same: Tensor, other: Tensor, alpha: float) -> Tensor:
    """Compute 2 alpha times the mean of the logarithm in the module's formula.

    Args:
        p: (B, D) phi of a view.
        same: (B, D) psi of the same view, of this process.
        other: (B, D) psi of the other view, of this process.
        alpha: temperature.

    Returns:
        Scalar, float32.
    """
    p = l2_normalize(p)
    same = all_gather(l2_normalize(same))  # (N, D), N images of all processes
    other = all_gather(l2_normalize(other))  # (N, D)
    logits = torch.cat([mask_self(similarity(p, same)), similarity(p, other)], dim=1)  # (B, 2N)
    return 2 * alpha * (logits / alpha).logsumexp(1).mean()


@METHODS.register_module()
class BYOLAblation(Method):
    """BYOL with parts removed and negatives added.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: as in BYOL.
        proj_dim: as in BYOL.
        proj_layers: number of linear layers of the projector.
        pred_layers: number of linear layers of the predictor; 0 removes the predictor (table 5b).
        target: psi. 'ema': the target network. 'stop_gradient': the online projection without
            gradient (tau = 0). 'gradient': the online projection with gradient.
        base_ema: tau_base, the target's decay at the first step; in a config also 'auto'.
        negatives: beta, weight of the negatives.
        temperature: alpha (table 5b: 0.1).
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
        _check_options(target, normalise, negatives, proj_layers, pred_layers)
        self.base_ema = base_ema
        self.negatives = negatives
        self.temperature = temperature
        self.normalise = normalise
        self.target_kind = target
        self.networks = dict(online=('online.backbone', 'online.projector'))
        self.updated_after_step = ()
        self.lr_scale = {}

        proj_widths = [hidden_dim] * (proj_layers - 1) + [proj_dim]
        self.online = encoder_and_projector(backbone, proj_widths)
        self.target = None
        if target == 'ema':
            self.target = EMA(encoder_and_projector(backbone, proj_widths))
            self.networks['target'] = ('target.network.backbone', 'target.network.projector')
            self.updated_after_step = ('target',)
        self.predictor = nn.Identity()
        if pred_layers:
            pred_widths = [hidden_dim] * (pred_layers - 1) + [proj_dim]
            self.predictor = mlp(proj_dim, *pred_widths, last_bias=False, init='haiku')
            self.lr_scale = {'predictor': predictor_lr}

    @property
    def backbone(self) -> nn.Module:
        return self.online.backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    @property
    def batch_coupling(self) -> str:
        if self.negatives:
            return 'negatives'
        if self.normalise == 'batch':
            return 'batch statistics'
        return ''

    @property
    def decay(self) -> float | None:
        if self.target is None:
            return None
        return cosine_schedule(self.base_ema, 1.0, self.progress)  # tau, as in BYOL

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        z = [self.online(x) for x in views]  # (B, proj_dim) per view
        phi1, phi2 = [self.predictor(v) for v in z]  # (B, proj_dim)
        psi1, psi2 = self._psi(views, z)  # (B, proj_dim)
        attract = attraction(phi1, psi2, self.normalise) + attraction(phi2, psi1, self.normalise)
        terms = dict(loss=attract, feature_std=feature_std(z[0]))
        if self.negatives:
            repel = repulsion(phi1, psi1, psi2, self.temperature)
            repel = repel + repulsion(phi2, psi2, psi1, self.temperature)
            terms['loss'] = attract + self.negatives * repel
            terms['attraction'] = attract
            terms['repulsion'] = repel
        if self.target:
            terms['decay'] = self.decay
        return terms

    def _psi(self, views: list[Tensor], z: list[Tensor]) -> list[Tensor]:
        """Compute psi of each view from the images or from the online projections ``z``."""
        if self.target:
            return [self.target(x) for x in views]
        if self.target_kind == 'gradient':
            return z
        return [v.detach() for v in z]

    def after_step(self) -> None:
        if self.target:
            self.target.update(self.online, self.decay)


def encoder_and_projector(backbone: dict, proj_widths: list[int]) -> nn.Sequential:
    """Build f and g with new weights: (B, 3, H, W) -> (B, proj_widths[-1])."""
    f = build_backbone(**backbone)
    g = mlp(f.embed_dim, *proj_widths, last_bias=False, init='haiku')
    return nn.Sequential(OrderedDict(backbone=f, projector=g))


def _check_options(
    target: str, normalise: str, negatives: float, proj_layers: int, pred_layers: int
) -> None:
    if target not in TARGETS:
        raise ConfigError(f'target={target!r}: {nearest(target, TARGETS)}')
    if normalise not in NORMALISERS:
        raise ConfigError(f'normalise={normalise!r}: {nearest(normalise, NORMALISERS)}')
    if negatives and normalise != 'l2':
        raise ConfigError(
            f"negatives={negatives} needs cosines, so normalise must be 'l2', not {normalise!r}"
        )
    if proj_layers < 1 or pred_layers < 0:
        raise ConfigError(
            f'proj_layers={proj_layers}, pred_layers={pred_layers}, but proj_layers must be at '
            f'least 1 and pred_layers at least 0'
        )
