"""Activation checkpointing."""

from contextlib import contextmanager, nullcontext
from functools import lru_cache

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ssl_zoo.errors import ConfigError


def recompute_activations(network: nn.Module) -> None:
    """Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): of each block of a ResNet or ViT only the input is kept, and the
    backward pass computes the block once more. Gradients are the same; BatchNorm's statistics move in the first pass alone.

    Raises:
        ConfigError: a network without such blocks.
    """
    blocks = [
        block
        for name in ('layer1', 'layer2', 'layer3', 'layer4', 'blocks')
        for block in getattr(network, name, ())
    ]
    if not blocks:
        raise ConfigError(
            f'recompute=True needs a backbone of blocks, a ResNet or a ViT, and {type(network).__name__} has none; leave it '
            f'out'
        )
    for block in blocks:
        block.__class__ = _recomputed(type(block))


@lru_cache
def _recomputed(cls: type) -> type:
    """A class of blocks whose backward pass computes them once more."""

    @contextmanager
    def again(block: nn.Module):
        before = [(layer, dict(layer._buffers)) for layer in block.modules()]
        for layer, buffers in before:
            layer._buffers.update(
                (name, value.clone()) for name, value in buffers.items() if value is not None
            )
        try:
            yield  # BatchNorm's statistics have moved in the first pass
        finally:
            for layer, buffers in before:
                layer._buffers.update(buffers)

    def forward(self, *inputs, **options):
        if not (torch.is_grad_enabled() and self.training):
            return cls.forward(self, *inputs, **options)
        return checkpoint(
            cls.forward,
            self,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), again(self)),
            **options,
        )

    return type(cls.__name__, (cls,), dict(forward=forward))
