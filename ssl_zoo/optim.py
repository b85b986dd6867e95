"""LARS, and the parameter groups of a method."""

import math

import torch
from torch import Tensor, nn

from ssl_zoo.distributed import global_norms, local_shards
from ssl_zoo.registry import OPTIMIZERS
from ssl_zoo.validation import check_positive, check_unit_interval

for _optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
    OPTIMIZERS.register_module(module=_optimizer, force=True)


def parameter_groups(
    method: nn.Module,
    weight_decay: float,
    decay_norm_and_bias: bool = False,
    norm_and_bias_lr: float = 1.0,
) -> list[dict]:
    """The trainable parameters in groups, by decay, schedule and factor on the learning rate.

    Norm parameters and biases are those of at most one dimension (moco-v3 and Barlow Twins select them so too); they get
    no weight decay and no LARS adaptation unless ``decay_norm_and_bias``. Parameters whose names start with one of
    ``method.fixed_lr`` keep the peak learning rate; those whose names start with a key of ``method.lr_scale`` have theirs
    multiplied.

    Args:
        method: its parameters that require a gradient are taken.
        weight_decay: L2 coefficient.
        decay_norm_and_bias: decay and adapt everything.
        norm_and_bias_lr: factor on the learning rate of norm parameters and biases.

    Returns:
        Groups with the keys params, names, weight_decay, adapt (for LARS), scheduled and lr_scale (for the schedule).
    """
    groups: dict[tuple, dict] = {}
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = decay_norm_and_bias or parameter.ndim > 1
        scheduled = not name.startswith(tuple(method.fixed_lr))
        scale = math.prod(
            factor for prefix, factor in method.lr_scale.items() if name.startswith(prefix)
        )
        scale *= norm_and_bias_lr if parameter.ndim <= 1 else 1.0
        group = groups.setdefault(
            (decays, scheduled, scale),
            dict(
                params=[],
                names=[],
                weight_decay=weight_decay if decays else 0.0,
                adapt=decays,
                scheduled=scheduled,
                lr_scale=scale,
            ),
        )
        group['params'].append(parameter)
        group['names'].append(name)
    return list(groups.values())


LARC_EPS = 1e-8


@OPTIMIZERS.register_module()
class LARS(torch.optim.Optimizer):
    """LARS as the official code of BYOL has it (deepmind-research byol/utils/optimizers.py), and moco-v3, Barlow Twins, VICReg:

        g <- g + weight_decay p;   mu <- momentum mu + trust g;   p <- p - lr mu
        trust = trust_coefficient |p| / |g|, or 1 where |p| or |g| is 0; no epsilon, no clipping

    |g| is that of the gradient with decay in it; the learning rate is outside the momentum buffer; no Nesterov. Groups
    with ``adapt=False`` (norm parameters and biases) have trust = 1: plain SGD with momentum. Two relatives by option:
    classic_momentum, SimCLR's (google-research/simclr lars_optimizer.py), and larc, SwAV's (NVIDIA apex, clip=False).

    Args:
        params: parameters or groups; a group may carry its own lr, weight_decay, momentum, adapt.
        lr: learning rate.
        momentum: decay of the momentum buffer.
        weight_decay: L2 coefficient.
        trust_coefficient: eta.
        adapt: whether to scale by the trust ratio.
        classic_momentum: the learning rate goes into the buffer, mu <- momentum mu + lr trust g; p <- p - mu. The same as long
            as the learning rate is constant; during warm-up and cosine the buffer remembers older ones.
        larc: the norm below is |gradient| + weight_decay |p| + 1e-8 instead of |gradient + weight_decay p|.
    """

    def __init__(
        self,
        params,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        adapt: bool = True,
        classic_momentum: bool = False,
        larc: bool = False,
    ):
        check_unit_interval(momentum=momentum)
        check_positive(trust_coefficient=trust_coefficient)
        super().__init__(
            params,
            dict(
                lr=lr,
                momentum=momentum,
                weight_decay=weight_decay,
                trust_coefficient=trust_coefficient,
                adapt=adapt,
                classic_momentum=classic_momentum,
                larc=larc,
            ),
        )

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group['params'] if p.grad is not None]
            if params:
                for p in params:
                    if 'momentum_buffer' not in self.state[p]:
                        self.state[p]['momentum_buffer'] = torch.zeros_like(p)
                buffers = [self.state[p]['momentum_buffer'] for p in params]
                parts = [
                    local_shards(tensors) for tensors in (params, [p.grad for p in params], buffers)
                ]
                tensors, shared_by = [own for own, _ in parts], parts[0][1]
                if params[0].device.type == 'cpu' and shared_by is None:
                    _step_in_cache(*tensors, group)
                else:
                    _step_foreach(*tensors, group, shared_by)
        return loss


def _step_in_cache(
    params: list[Tensor], grads: list[Tensor], buffers: list[Tensor], group: dict
) -> None:
    """On a CPU one tensor after the other: it stays in cache from the norms to the update, and reading a norm costs nothing."""
    inside, outside = (group['lr'], 1.0) if group['classic_momentum'] else (1.0, group['lr'])
    for p, gradient, mu in zip(params, grads, buffers, strict=True):
        g = gradient.add(p, alpha=group['weight_decay']) if group['weight_decay'] else gradient
        trust = 1.0
        if group['adapt']:
            p_norm, g_norm = p.norm().item(), (gradient if group['larc'] else g).norm().item()
            if p_norm > 0 and g_norm > 0:
                if group['larc']:
                    g_norm += group['weight_decay'] * p_norm + LARC_EPS
                trust = group['trust_coefficient'] * p_norm / g_norm
        mu.mul_(group['momentum']).add_(g, alpha=trust * inside)
        p.add_(mu, alpha=-outside)


def _step_foreach(
    params: list[Tensor], grads: list[Tensor], buffers: list[Tensor], group: dict, shared_by=None
) -> None:
    """On a GPU all tensors at once, and no value is read back to the host. Of sharded ones this process's parts, see local_shards."""
    inside, outside = (group['lr'], 1.0) if group['classic_momentum'] else (1.0, group['lr'])
    gradients = grads
    if group['weight_decay']:
        grads = torch._foreach_add(grads, params, alpha=group['weight_decay'])
    torch._foreach_mul_(buffers, group['momentum'])
    if group['adapt']:
        p_norm, g_norm = (
            torch.stack(global_norms(tensors, shared_by))
            for tensors in (params, gradients if group['larc'] else grads)
        )
        below = g_norm + group['weight_decay'] * p_norm + LARC_EPS if group['larc'] else g_norm
        trust = torch.where(
            (p_norm > 0) & (g_norm > 0), group['trust_coefficient'] * p_norm / below, 1.0
        )
        grads = torch._foreach_mul(grads, list(trust.unbind()))
    torch._foreach_add_(buffers, grads, alpha=inside)
    torch._foreach_add_(params, buffers, alpha=-outside)
