"""W-MSE: Whitening for Self-Supervised Representation Learning (Ermolov et al. 2020, arXiv 2007.06346).

From the official code (htdt/self-supervised): projections are whitened in random parts of the batch, the same parts for all views;
the gradient goes through both views and through the whitening; the loss is 2 - 2 cos of whitened vectors, mean over all pairs of
views (W-MSE 2 has two views, W-MSE 4 four). Backbone statistics are per view, the head sees all views as one batch. On several
processes the parts are of the batch of all, as on one.
"""

import torch
from torch import Tensor

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather, broadcast
from ssl_zoo.errors import ConfigError
from ssl_zoo.layers import mlp
from ssl_zoo.losses import as_float32, feature_std, regression_loss
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_unit_interval


def whiten(v: Tensor, eps: float = 0.0) -> Tensor:
    """W (v - mean) with W the inverse of the Cholesky factor of the covariance: the result has covariance I.

    Args:
        v: (N, D), N > D.
        eps: share of the identity mixed into the covariance.
    Raises:
        FloatingPointError: the covariance has no full rank.
    """
    centred = v - v.mean(0)
    covariance = centred.T @ centred / (len(v) - 1)
    covariance = (1 - eps) * covariance + eps * torch.eye(
        v.shape[1], dtype=v.dtype, device=v.device
    )
    try:
        factor = torch.linalg.cholesky(covariance)
    except torch.linalg.LinAlgError:
        if not v.isfinite().all():
            return v * torch.nan  # the run says what a loss that is not finite means
        raise FloatingPointError(
            f'whitening failed: {len(v)} projections do not span {v.shape[1]} dimensions. Raise method.eps '
            f'(such as 1e-3) or method.whiten_size, or lower method.proj_dim or base_lr'
        ) from None
    return torch.linalg.solve_triangular(factor, centred.T, upper=False).T


@METHODS.register_module()
class WMSE(Method):
    """Whitened projections of an image's views must agree; whitening keeps them from collapse.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: of the projector (1024); proj_dim: width of the projection (64; 128 on ImageNet).
        whiten_size: images that are whitened together, at least twice proj_dim (128); a divisor of the batch.
        eps: see whiten; 0 in the paper.
    """

    min_views = 2
    batch_coupling = 'the images that are whitened together'

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int = 1024,
        proj_dim: int = 64,
        whiten_size: int = 128,
        eps: float = 0.0,
    ):
        super().__init__()
        check_unit_interval(eps=eps)
        if whiten_size <= proj_dim:
            raise ConfigError(
                f'whiten_size={whiten_size}, but a covariance of {proj_dim} dimensions needs more images; the paper takes '
                f'twice as many'
            )
        self.whiten_size, self.eps, self.microbatch_multiple = whiten_size, eps, whiten_size
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        self.projector = mlp(self.embed_dim, hidden_dim, proj_dim)

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        n = len(views[0])
        v = as_float32(
            self.projector(torch.cat([self.backbone(x) for x in views]))
        )  # (views * B, proj_dim)
        v = all_gather(v.view(len(views), n, -1).transpose(0, 1)).transpose(
            0, 1
        )  # (views, N, proj_dim)
        order = broadcast(torch.randperm(v.shape[1]).to(v.device))
        parts = order.view(-1, self.whiten_size)  # parts of the global batch
        with torch.autocast(v.device.type, enabled=False):
            z = torch.stack(
                [torch.cat([whiten(view[part], self.eps) for part in parts]) for view in v]
            )
        pairs = [(i, j) for i in range(len(views)) for j in range(i + 1, len(views))]
        return dict(
            loss=sum(regression_loss(z[i], z[j]) for i, j in pairs) / len(pairs),
            feature_std=feature_std(v[0]),
        )
