"""W-MSE: Whitening for Self-Supervised Representation Learning.

Ermolov et al. 2020, arXiv 2007.06346. W-MSE 2 has two views, W-MSE 4 has four.

From the official code (htdt/self-supervised):
  - Projections are whitened in random parts of the batch, the same parts for all views.
  - The gradient goes through both views and through the whitening.
  - The loss is 2 - 2 cos of whitened vectors, mean over all pairs of views.
  - The backbone's BatchNorm takes its statistics per view; the head forwards all views as one
    batch.

On several processes the parts are drawn from the global batch, as on one process. Shapes: B
images of this process, N images of all processes, V views.
"""

from itertools import combinations
from typing import Any

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
    """Compute W (v - mean), where W is the inverse of the covariance's Cholesky factor.

    The covariance of the result is the identity.

    Args:
        v: (N, D), N > D.
        eps: share of the identity that is mixed into the covariance.

    Returns:
        (N, D); NaN if ``v`` is not finite, so that the run's non-finite check reports the step.

    Raises:
        FloatingPointError: the covariance does not have full rank.
    """
    centred = v - v.mean(0)
    covariance = centred.T @ centred / (len(v) - 1)  # (D, D)
    identity = torch.eye(v.shape[1], dtype=v.dtype, device=v.device)
    covariance = (1 - eps) * covariance + eps * identity
    try:
        factor = torch.linalg.cholesky(covariance)  # (D, D)
    except torch.linalg.LinAlgError:
        if not v.isfinite().all():
            return v * torch.nan
        raise FloatingPointError(
            f'whitening failed: {len(v)} projections do not span {v.shape[1]} dimensions. Raise '
            f'method.eps (such as 1e-3) or method.whiten_size, or lower method.proj_dim or base_lr'
        ) from None
    return torch.linalg.solve_triangular(factor, centred.T, upper=False).T


@METHODS.register_module()
class WMSE(Method):
    """Whitened projections of an image's views must agree; whitening prevents collapse.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of the projector (1024).
        proj_dim: width of the projection (64; 128 on ImageNet).
        whiten_size: number of images that are whitened together (128; the paper takes at least
            twice proj_dim). It must be more than proj_dim and divide the batch.
        eps: see ``whiten``; 0 in the paper.
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
                f'whiten_size={whiten_size}, but a covariance of {proj_dim} dimensions needs more '
                f'images; the paper takes twice as many'
            )
        self.whiten_size = whiten_size
        self.eps = eps
        self.microbatch_multiple = whiten_size
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        self.projector = mlp(self.embed_dim, hidden_dim, proj_dim)

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        features = torch.cat([self.backbone(x) for x in views])  # (V * B, embed_dim)
        v = as_float32(self.projector(features))  # (V * B, proj_dim)
        v = v.view(len(views), len(views[0]), -1)  # (V, B, proj_dim)
        v = all_gather(v.transpose(0, 1)).transpose(0, 1)  # (V, N, proj_dim)
        order = broadcast(torch.randperm(v.shape[1]).to(v.device))  # (N,), shared by processes
        parts = order.view(-1, self.whiten_size)  # rows of the images that are whitened together
        with torch.autocast(v.device.type, enabled=False):
            z = [torch.cat([whiten(view[rows], self.eps) for rows in parts]) for view in v]
        distances = [regression_loss(zi, zj) for zi, zj in combinations(z, 2)]  # all pairs of views
        return dict(loss=sum(distances) / len(distances), feature_std=feature_std(v[0]))
