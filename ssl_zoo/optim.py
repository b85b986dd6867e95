"""The LARS optimizer, and the parameter groups of a method."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssl_zoo.distributed import global_norms, local_shards
from ssl_zoo.registry import OPTIMIZERS
from ssl_zoo.validation import check_positive, check_unit_interval

for _optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
    OPTIMIZERS.register_module(module=_optimizer, force=True)

# Added to the norm in the trust ratio of LARC (NVIDIA apex, parallel/LARC.py).
LARC_EPS = 1e-8


def parameter_groups(
    method: nn.Module,
    weight_decay: float,
    decay_norm_and_bias: bool = False,
    norm_and_bias_lr: float = 1.0,
) -> list[dict[str, Any]]:
    """Group the trained parameters by weight decay, schedule and factor on the learning rate.

    Norm parameters and biases are the parameters of at most one dimension, as in moco-v3 and Barlow
    Twins. They get no weight decay and no LARS adaptation, unless ``decay_norm_and_bias``.

    Args:
        method: module with the attributes ``fixed_lr`` and ``lr_scale`` of Method. Parameters whose
            names start with a prefix in ``fixed_lr`` keep the peak learning rate. ``lr_scale`` maps
            a prefix to a factor on the learning rate of the parameters with that prefix.
        weight_decay: L2 coefficient.
        decay_norm_and_bias: whether norm parameters and biases are decayed and adapted too.
        norm_and_bias_lr: factor on the learning rate of norm parameters and biases.

    Returns:
        Groups with the keys params, names, weight_decay, adapt (for LARS), scheduled and lr_scale
        (for the schedule).
    """
    groups: dict[tuple, dict[str, Any]] = {}
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        norm_or_bias = parameter.ndim <= 1
        decays = decay_norm_and_bias or not norm_or_bias
        scheduled = not name.startswith(tuple(method.fixed_lr))
        factors = [factor for prefix, factor in method.lr_scale.items() if name.startswith(prefix)]
        lr_scale = math.prod(factors, start=1.0)
        if norm_or_bias:
            lr_scale *= norm_and_bias_lr
        key = (decays, scheduled, lr_scale)
        if key not in groups:
            groups[key] = dict(
                params=[],
                names=[],
                weight_decay=weight_decay if decays else 0.0,
                adapt=decays,
                scheduled=scheduled,
                lr_scale=lr_scale,
            )
        groups[key]['params'].append(parameter)
        groups[key]['names'].append(name)
    return list(groups.values())


@OPTIMIZERS.register_module()
class LARS(torch.optim.Optimizer):
    """LARS as in the official code of BYOL (deepmind-research byol/utils/optimizers.py).

        g <- g + weight_decay p;   mu <- momentum mu + trust g;   p <- p - lr mu
        trust = trust_coefficient |p| / |g|, or 1 where |p| or |g| is 0; no epsilon, no clipping

    moco-v3, Barlow Twins and VICReg use the same rule. |g| is the norm of the gradient plus weight
    decay. The learning rate is not part of the momentum buffer. There is no Nesterov momentum.
    Groups with ``adapt=False`` (norm parameters and biases) have trust = 1, which is plain SGD with
    momentum. Three options give variants: ``classic_momentum`` is SimCLR's (google-research/simclr
    lars_optimizer.py), ``larc`` is SwAV's (NVIDIA apex, clip=False), ``larc`` and ``clip_lr`` are
    solo-learn's (solo/utils/lars.py).

    Args:
        params: parameters or groups; a group may have its own lr, weight_decay, momentum, adapt.
        lr: learning rate.
        momentum: decay of the momentum buffer.
        weight_decay: L2 coefficient.
        trust_coefficient: eta.
        adapt: whether the trust ratio scales the gradient.
        classic_momentum: whether the learning rate is part of the momentum buffer:
            mu <- momentum mu + lr trust g; p <- p - mu. The result is the same while the learning
            rate is constant; during warm-up and cosine the buffer holds gradients that were scaled
            by older learning rates.
        larc: whether the denominator of trust is |gradient| + weight_decay |p| + 1e-8 instead of
            |gradient + weight_decay p|.
        clip_lr: whether trust is replaced by min(trust / lr, 1), so that the step of a tensor is
            the smaller of trust |g| and lr |g|. With lr = 0 it is 1, the limit. Where |p| or |g|
            is 0, trust stays 1.

    Raises:
        ConfigError: ``momentum`` is not in [0, 1] or ``trust_coefficient`` not above 0.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        adapt: bool = True,
        classic_momentum: bool = False,
        larc: bool = False,
        clip_lr: bool = False,
    ):
        check_unit_interval(momentum=momentum)
        check_positive(trust_coefficient=trust_coefficient)
        defaults = dict(
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            trust_coefficient=trust_coefficient,
            adapt=adapt,
            classic_momentum=classic_momentum,
            larc=larc,
            clip_lr=clip_lr,
        )
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state, which may be older than an option."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault('clip_lr', False)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient; gradients are left as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group['params'] if p.grad is not None]
            if params:
                self._step_group(params, group)
        return loss

    def _step_group(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            if 'momentum_buffer' not in self.state[p]:
                self.state[p]['momentum_buffer'] = torch.zeros_like(p)
        local_params, process_group = local_shards(params)
        local_grads, _ = local_shards([p.grad for p in params])
        local_buffers, _ = local_shards([self.state[p]['momentum_buffer'] for p in params])
        if params[0].device.type == 'cpu' and process_group is None:
            _step_in_cache(local_params, local_grads, local_buffers, group)
        else:
            _step_foreach(local_params, local_grads, local_buffers, group, process_group)


def _lr_factors(group: dict[str, Any]) -> tuple[float, float]:
    """Return the factors on a gradient that enters the buffer, and on the buffer in the update."""
    if group['classic_momentum']:
        return group['lr'], 1.0
    return 1.0, group['lr']


def _step_in_cache(
    params: list[Tensor], grads: list[Tensor], buffers: list[Tensor], group: dict[str, Any]
) -> None:
    """Update one tensor after the other. For CPUs.

    A tensor stays in the cache from its norm to its update, and reading the norm needs no wait.
    """
    lr_into_buffer, lr_of_buffer = _lr_factors(group)
    weight_decay = group['weight_decay']
    for p, gradient, mu in zip(params, grads, buffers, strict=True):
        g = gradient
        if weight_decay:
            g = gradient.add(p, alpha=weight_decay)
        trust = 1.0
        if group['adapt']:
            trust = _trust(p, gradient, g, group)
        mu.mul_(group['momentum']).add_(g, alpha=trust * lr_into_buffer)
        p.add_(mu, alpha=-lr_of_buffer)


def _trust(p: Tensor, gradient: Tensor, g: Tensor, group: dict[str, Any]) -> float:
    """Compute the trust ratio of one tensor; ``g`` is ``gradient`` plus weight decay."""
    p_norm = p.norm().item()
    g_norm = (gradient if group['larc'] else g).norm().item()
    if not (p_norm > 0 and g_norm > 0):  # also where a norm is NaN
        return 1.0
    if group['larc']:
        g_norm += group['weight_decay'] * p_norm + LARC_EPS
    trust = group['trust_coefficient'] * p_norm / g_norm
    if group['clip_lr']:
        lr = group['lr']
        return min(trust / lr, 1.0) if lr > 0 else 1.0
    return trust


def _step_foreach(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    group: dict[str, Any],
    process_group: dist.ProcessGroup | None = None,
) -> None:
    """Update all tensors at once. For GPUs: no value is read back to the host.

    Args:
        params: parameters, or this process's shards of them (see ``local_shards``).
        grads: their gradients.
        buffers: their momentum buffers, updated in place.
        group: the options of the parameter group.
        process_group: processes that hold the other shards; None for whole tensors.
    """
    lr_into_buffer, lr_of_buffer = _lr_factors(group)
    gradients = grads
    if group['weight_decay']:
        grads = torch._foreach_add(grads, params, alpha=group['weight_decay'])
    torch._foreach_mul_(buffers, group['momentum'])
    if group['adapt']:
        p_norm = torch.stack(global_norms(params, process_group))  # (tensors,)
        g_norm = torch.stack(global_norms(gradients if group['larc'] else grads, process_group))
        denominator = g_norm
        if group['larc']:
            denominator = g_norm + group['weight_decay'] * p_norm + LARC_EPS
        ratio = group['trust_coefficient'] * p_norm / denominator
        if group['clip_lr']:
            lr = group['lr']
            ratio = (ratio / lr).clamp(max=1.0) if lr > 0 else torch.ones_like(ratio)
        trust = torch.where((p_norm > 0) & (g_norm > 0), ratio, 1.0)
        grads = torch._foreach_mul(grads, list(trust.unbind()))
    torch._foreach_add_(buffers, grads, alpha=lr_into_buffer)
    torch._foreach_add_(params, buffers, alpha=-lr_of_buffer)
