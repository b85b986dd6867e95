"""The optimizer wrapper: bf16 autocast, frozen parameters, gradient clipping."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper

from ssl_zoo.config.settings import Settings
from ssl_zoo.distributed import global_norms, local_shards
from ssl_zoo.method import Method


class ZooOptimWrapper(OptimWrapper):
    """mmengine's wrapper with bf16, frozen parameters and the limit on gradients.

    bf16 is autocast around the forward pass, on CPU and GPU: mmengine's AmpOptimWrapper needs a GPU, and bf16 needs no scaler.

    Args:
        optimizer: its groups hold ``names``.
        method: what ``frozen`` is asked of.
        settings: precision, clip_grad.
        accumulate: passes per step.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, method: Method, settings: Settings, accumulate: int
    ):
        super().__init__(optimizer, accumulative_counts=accumulate)
        self.method, self.bf16, self.clip = method, settings.precision == 'bf16', settings.clip_grad
        self.before_step = None  # called when the gradients are there

    def initialize_count_status(self, model, init_counts: int, max_counts: int) -> None:
        # mmengine warns of BatchNorm under accumulation; the plan says what it comes to.
        super().initialize_count_status(torch.nn.Identity(), init_counts, max_counts)

    @contextmanager
    def optim_context(self, model):
        autocast = torch.autocast(
            next(model.parameters()).device.type, torch.bfloat16, enabled=self.bf16
        )
        with super().optim_context(model), autocast:
            yield

    def step(self, **kwargs) -> None:
        if self.before_step is not None:
            self.before_step()
        frozen = tuple(self.method.frozen)
        for group in self.optimizer.param_groups:
            for name, parameter in zip(group['names'], group['params'], strict=True):
                if frozen and name.startswith(frozen):
                    parameter.grad = None  # neither decay nor momentum moves it
            if self.clip is not None:
                _limit_norms([p.grad for p in group['params'] if p.grad is not None], self.clip)
        super().step(**kwargs)


def _limit_norms(gradients: list[torch.Tensor], limit: float) -> None:
    """Scale each gradient down to a norm of ``limit``, as DINO's clip_gradients does (not the norm of all together)."""
    if gradients:
        parts, shared_by = local_shards(gradients)
        torch._foreach_mul_(
            parts, [(limit / (norm + 1e-6)).clamp(max=1) for norm in global_norms(parts, shared_by)]
        )
