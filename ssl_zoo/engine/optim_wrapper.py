"""The optimizer of a run and its wrapper: bf16 autocast, frozen parameters, gradient clipping."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from ssl_zoo.config.settings import Settings
from ssl_zoo.distributed import global_norms, local_shards
from ssl_zoo.engine.plan import Plan
from ssl_zoo.method import Method
from ssl_zoo.optim import parameter_groups
from ssl_zoo.registry import OPTIMIZERS


def build_optimizer(settings: Settings, plan: Plan, method: Method) -> torch.optim.Optimizer:
    """Build the optimizer of a config over the parameter groups of a method.

    Raises:
        ConfigError: a mistake in ``settings.optimizer``.
    """
    groups = parameter_groups(
        method, settings.weight_decay, settings.decay_norm_and_bias, settings.norm_and_bias_lr
    )
    return OPTIMIZERS.create(settings.optimizer, params=groups, lr=plan.peak_lr)


class ZooOptimWrapper(OptimWrapper):
    """mmengine's wrapper, with bf16, frozen parameters and gradient clipping.

    bf16 is autocast around the forward pass, on CPU and GPU. mmengine's AmpOptimWrapper needs
    a GPU and uses a gradient scaler, which bf16 does not need.

    Args:
        optimizer: the optimizer; each group has 'names', the names of its parameters.
        method: the method; ``method.frozen`` names parameters that the step does not update.
        settings: settings with precision and clip_grad.
        accumulate: forward passes per optimizer step.

    Attributes:
        before_step: called after the last backward pass of a step, before the update; or None.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, method: Method, settings: Settings, accumulate: int
    ):
        super().__init__(optimizer, accumulative_counts=accumulate)
        self.method = method
        self.bf16 = settings.precision == 'bf16'
        self.max_norm = settings.clip_grad
        self.before_step: Callable[[], None] | None = None

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Initialise mmengine's counts without its warning about BatchNorm under accumulation.

        The printed plan says what accumulation changes.
        """
        super().initialize_count_status(nn.Identity(), init_counts, max_counts)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Make the context of a forward pass."""
        device_type = next(model.parameters()).device.type
        autocast = torch.autocast(device_type, torch.bfloat16, enabled=self.bf16)
        with super().optim_context(model), autocast:
            yield

    def step(self, **kwargs: Any) -> None:
        """Drop the gradients of frozen parameters, clip the others, update the parameters."""
        if self.before_step is not None:
            self.before_step()
        frozen = tuple(self.method.frozen)
        for group in self.optimizer.param_groups:
            for name, parameter in zip(group['names'], group['params'], strict=True):
                if frozen and name.startswith(frozen):
                    # Without a gradient neither weight decay nor momentum changes the parameter.
                    parameter.grad = None
            if self.max_norm is not None:
                gradients = [p.grad for p in group['params'] if p.grad is not None]
                _limit_norms(gradients, self.max_norm)
        super().step(**kwargs)


def _limit_norms(gradients: list[torch.Tensor], limit: float) -> None:
    """Scale each gradient with a larger norm down to a norm of ``limit``, in place.

    As in DINO's clip_gradients, the norm is that of one parameter's gradient, not of all.
    """
    if gradients:
        shards, group = local_shards(gradients)
        norms = global_norms(shards, group)
        torch._foreach_mul_(shards, [(limit / (norm + 1e-6)).clamp(max=1) for norm in norms])
