"""Activation checkpointing."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ssl_zoo.errors import ConfigError

# Attributes of ResNets and of ViTs that hold the blocks.
STAGES = ('layer1', 'layer2', 'layer3', 'layer4', 'blocks')


def recompute_activations(network: nn.Module) -> None:
    """Keep only the input of each block, and compute the block again in the backward pass.

    Activation checkpointing (Chen et al. 2016, arXiv 1604.06174). Gradients are the same, and
    BatchNorm's running statistics are updated once, in the forward pass.

    Args:
        network: a ResNet or a ViT; its blocks are changed in place.

    Raises:
        ConfigError: the network has no blocks.
    """
    blocks = [block for stage in STAGES for block in getattr(network, stage, ())]
    if not blocks:
        raise ConfigError(
            f'recompute=True needs a backbone of blocks, a ResNet or a ViT, and '
            f'{type(network).__name__} has none; leave it out'
        )
    for block in blocks:
        block.__class__ = _with_recomputation(type(block))  # type: ignore[arg-type]


@lru_cache
def _with_recomputation(cls: Any) -> type[nn.Module]:
    """Make a subclass of a block's class that recomputes activations in the backward pass."""

    def forward(self: nn.Module, *inputs: Any, **options: Any) -> Any:
        if not (torch.is_grad_enabled() and self.training):
            return cls.forward(self, *inputs, **options)
        return checkpoint(
            cls.forward,
            self,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _preserved_buffers(self)),
            **options,
        )

    return type(cls.__name__, (cls,), dict(forward=forward))


@contextmanager
def _preserved_buffers(block: nn.Module) -> Iterator[None]:
    """Let the second forward pass update copies of BatchNorm's statistics, not the originals."""
    originals = [(layer, dict(layer._buffers)) for layer in block.modules()]
    for layer, buffers in originals:
        copies = {name: value.clone() for name, value in buffers.items() if value is not None}
        layer._buffers.update(copies)
    try:
        yield
    finally:
        for layer, buffers in originals:
            layer._buffers.update(buffers)
