"""LARS, and the parameter groups of a method."""
import torch
from torch import Tensor, nn

from .registry import OPTIMIZERS

for _optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
    OPTIMIZERS.register_module(module=_optimizer, force=True)


def parameter_groups(method: nn.Module, weight_decay: float, decay_norm_and_bias: bool = False) -> list[dict]:
    """The trainable parameters in at most four groups, by decay and by schedule.

    Norm parameters and biases are those of at most one dimension (moco-v3 and Barlow Twins select them so too); they get
    no weight decay and no LARS adaptation unless ``decay_norm_and_bias``. Parameters whose names start with one of
    ``method.fixed_lr`` keep the peak learning rate.

    Returns:
        Groups with the keys params, names, weight_decay, adapt (for LARS) and scheduled (for the schedule).
    """
    groups: dict[tuple[bool, bool], dict] = {}
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = decay_norm_and_bias or parameter.ndim > 1
        scheduled = not name.startswith(tuple(method.fixed_lr))
        group = groups.setdefault((decays, scheduled), dict(
            params=[], names=[], weight_decay=weight_decay if decays else 0.0, adapt=decays, scheduled=scheduled))
        group['params'].append(parameter)
        group['names'].append(name)
    return list(groups.values())


@OPTIMIZERS.register_module()
class LARS(torch.optim.Optimizer):
    """LARS as the official code of BYOL has it (deepmind-research byol/utils/optimizers.py), and moco-v3, Barlow Twins, VICReg:

        g <- g + weight_decay p;   mu <- momentum mu + trust g;   p <- p - lr mu
        trust = trust_coefficient |p| / |g|, or 1 where |p| or |g| is 0; no epsilon, no clipping

    |g| is that of the gradient with decay in it; the learning rate is outside the momentum buffer; no Nesterov. Groups
    with ``adapt=False`` (norm parameters and biases) have trust = 1: plain SGD with momentum.

    Args:
        params: parameters or groups; a group may carry its own lr, weight_decay, momentum, adapt.
        lr: learning rate.
        momentum: decay of the momentum buffer.
        weight_decay: L2 coefficient.
        trust_coefficient: eta.
        adapt: whether to scale by the trust ratio.
    """

    def __init__(self, params, lr: float, momentum: float = 0.9, weight_decay: float = 0.0,
                 trust_coefficient: float = 1e-3, adapt: bool = True):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay,
                                      trust_coefficient=trust_coefficient, adapt=adapt))

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
                update = _step_in_cache if params[0].device.type == 'cpu' else _step_foreach
                update(params, [p.grad for p in params], buffers, group)
        return loss


def _step_in_cache(params: list[Tensor], grads: list[Tensor], buffers: list[Tensor], group: dict) -> None:
    """On a CPU one tensor after the other: it stays in cache from the norms to the update, and reading a norm costs nothing."""
    for p, g, mu in zip(params, grads, buffers, strict=True):
        if group['weight_decay']:
            g = g.add(p, alpha=group['weight_decay'])
        trust = 1.0
        if group['adapt']:
            p_norm, g_norm = p.norm().item(), g.norm().item()
            if p_norm > 0 and g_norm > 0:
                trust = group['trust_coefficient'] * p_norm / g_norm
        mu.mul_(group['momentum']).add_(g, alpha=trust)
        p.add_(mu, alpha=-group['lr'])


def _step_foreach(params: list[Tensor], grads: list[Tensor], buffers: list[Tensor], group: dict) -> None:
    """On a GPU all tensors at once, and no value is read back to the host."""
    if group['weight_decay']:
        grads = torch._foreach_add(grads, params, alpha=group['weight_decay'])
    torch._foreach_mul_(buffers, group['momentum'])
    if group['adapt']:
        p_norm, g_norm = (torch.stack(torch._foreach_norm(tensors)) for tensors in (params, grads))
        trust = torch.where((p_norm > 0) & (g_norm > 0), group['trust_coefficient'] * p_norm / g_norm, 1.0)
        grads = torch._foreach_mul(grads, list(trust.unbind()))
    torch._foreach_add_(buffers, grads)
    torch._foreach_add_(params, buffers, alpha=-group['lr'])
