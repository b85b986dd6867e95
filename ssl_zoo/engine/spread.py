"""The form in which a device, or several processes, train a method."""
import os
import shutil
import warnings
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path

import torch
from mmengine.model import MMDistributedDataParallel
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..batchnorm import synchronise
from ..distributed import world_size
from ..method import Method
from ..registry import ConfigError
from .plan import Plan
from .settings import Settings
from .sharding import shard


def compile_backbones(method: Method, device: torch.device, mode: bool | str = True) -> None:
    """torch.compile the method's backbones and its photometric step; names and values of their weights stay.

    What is compiled is kept in ~/.cache/ssl_zoo/inductor for the next run, unless TORCHINDUCTOR_CACHE_DIR names another place: torch's
    own default, in /tmp, does not survive a restart of the machine.

    Args:
        mode: True, or torch.compile's mode for the backbones.
    Raises:
        ConfigError: on a CPU without a C++ compiler.
    """
    with suppress(OSError, RuntimeError):                              # no home, or one that cannot be written: torch's default
        kept = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'ssl_zoo', 'inductor')
        kept.mkdir(parents=True, exist_ok=True)
        if os.access(kept, os.W_OK):
            os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(kept))
    compiler = os.environ.get('CXX') or 'g++'
    if device.type == 'cpu' and not shutil.which(compiler):
        raise ConfigError(f'compile=True needs a C++ compiler, and there is no {compiler}; install one, name it in CXX, or leave compile '
                          f'out')
    for backbone, _ in method.networks.values():
        method.get_submodule(backbone).compile(mode=None if mode is True else mode)
    method.data_preprocessor.compiled = True


def recompute_activations(network: nn.Module) -> None:
    """Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): of each block of a ResNet or ViT only the input is kept, and the
    backward pass computes the block once more. Gradients are the same; BatchNorm's statistics move in the first pass alone.

    Raises:
        ConfigError: a network without such blocks.
    """
    blocks = [block for name in ('layer1', 'layer2', 'layer3', 'layer4', 'blocks') for block in getattr(network, name, ())]
    if not blocks:
        raise ConfigError(f'recompute=True needs a backbone of blocks, a ResNet or a ViT, and {type(network).__name__} has none; leave it '
                          f'out')
    for block in blocks:
        block.__class__ = _recomputed(type(block))


@lru_cache
def _recomputed(cls: type) -> type:
    """A class of blocks whose backward pass computes them once more."""
    @contextmanager
    def again(block: nn.Module):
        before = [(layer, dict(layer._buffers)) for layer in block.modules()]
        for layer, buffers in before:
            layer._buffers.update((name, value.clone()) for name, value in buffers.items() if value is not None)
        try:
            yield                                                      # BatchNorm's statistics have moved in the first pass
        finally:
            for layer, buffers in before:
                layer._buffers.update(buffers)

    def forward(self, *inputs, **options):
        if not (torch.is_grad_enabled() and self.training):
            return cls.forward(self, *inputs, **options)
        return checkpoint(cls.forward, self, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), again(self)), **options)
    return type(cls.__name__, (cls,), dict(forward=forward))


def spread(method: Method, settings: Settings, plan: Plan, device: torch.device) -> torch.nn.Module:
    """The method on its device, in the form in which several processes train it."""
    sharded = settings.parallel.strategy == 'fsdp' and world_size() > 1
    if not sharded:
        method.to(device)                                              # of a sharded one the device gets its part alone
    if settings.recompute:
        recompute_activations(method.get_submodule(method.networks['online'][0]))             # not the average that a teacher is
    if settings.compile:
        compile_backbones(method, device, settings.compile)
    if world_size() == 1:
        return method
    synchronised = method.sync_batchnorm if settings.sync_batchnorm is None else settings.sync_batchnorm
    if plan.device_batch < (1 if synchronised else 2):
        raise ConfigError(f'{plan.device_batch} image per process and pass, but BatchNorm over each process apart needs two; make '
                          f'batch_size larger, or use fewer processes')
    if synchronised:
        synchronise(method, device)
    if sharded:
        return shard(method, device)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)                 # the new name of broadcast_buffers is not known to all versions
        return MMDistributedDataParallel(method, device_ids=[device] if device.type == 'cuda' else None, broadcast_buffers=False,
                                         gradient_as_bucket_view=True, find_unused_parameters=method.unused_parameters)
