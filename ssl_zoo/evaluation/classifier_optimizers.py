"""SGD for classifiers: for many heads with their own settings at once, or for a whole network."""

import torch
from torch import nn

from ssl_zoo.evaluation.classifiers import Classifier, Heads
from ssl_zoo.evaluation.recipes import Recipe, Setting
from ssl_zoo.optim import LARC_EPS

LARC_TRUST = 1e-3  # NVIDIA apex's trust_coefficient, as facebookresearch/simsiam sets it


class HeadsSGD:
    """SGD for many heads, each with its own learning rate and weight decay, in the time of one.

    SGD is linear in the gradient as long as the peak learning rate is constant. So the peak
    learning rate and the weight decay of a head go into its gradient, and torch's SGD over all
    heads has the factor of the schedule as its learning rate.

    Args:
        heads: H heads.
        settings: one setting for each head.
        recipe: gives the momentum, and whether the optimizer is LARC. The trust ratio of LARC is
            0.001 |w| / (|g| + weight decay |w|), separately for the weights and the biases of each
            head, and 1 where a norm is 0 (NVIDIA apex, clip=False).
    """

    def __init__(self, heads: Heads, settings: list[Setting], recipe: Recipe):
        self.larc = recipe.optimizer == 'LARC'
        self.parameters = list(heads.parameters())
        device = heads.weight.device
        self.lr = torch.tensor([s.lr for s in settings], device=device)  # (H,)
        self.weight_decay = torch.tensor([s.weight_decay for s in settings], device=device)  # (H,)
        self.sgd = torch.optim.SGD(
            self.parameters, lr=0, momentum=recipe.momentum, nesterov=recipe.nesterov
        )

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Make one step at ``factor`` times the peak learning rates."""
        for p in self.parameters:
            per_head = (-1, *[1] * (p.ndim - 1))
            scale = self.lr.view(per_head)
            decay = self.weight_decay.view(per_head)
            if self.larc:
                w = torch.linalg.vector_norm(p.flatten(1), dim=1).view_as(scale)
                g = torch.linalg.vector_norm(p.grad.flatten(1), dim=1).view_as(scale)
                trust = LARC_TRUST * w / (g + decay * w + LARC_EPS)
                scale = scale * torch.where((w > 0) & (g > 0), trust, 1.0)
            p.grad.addcmul_(p, decay).mul_(scale)
        self.sgd.param_groups[0]['lr'] = factor
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)


class NetworkSGD:
    """SGD for encoder and head with one setting; norms and biases have no weight decay.

    Args:
        network: all its parameters with ``requires_grad`` are trained.
        setting: learning rate and weight decay.
        recipe: gives the momentum.
    """

    def __init__(self, network: Classifier, setting: Setting, recipe: Recipe):
        decayed: list[nn.Parameter] = []
        not_decayed: list[nn.Parameter] = []
        for p in network.parameters():
            if p.requires_grad:
                is_weight = p.ndim > 1 and p is not network.heads.bias
                (decayed if is_weight else not_decayed).append(p)
        groups = [
            dict(params=decayed, weight_decay=setting.weight_decay),
            dict(params=not_decayed, weight_decay=0.0),
        ]
        self.peak = setting.lr
        self.sgd = torch.optim.SGD(groups, lr=0, momentum=recipe.momentum, nesterov=recipe.nesterov)

    def step(self, factor: float) -> None:
        """Make one step at ``factor`` times the peak learning rate."""
        for group in self.sgd.param_groups:
            group['lr'] = self.peak * factor
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)
