"""The form in which a device, or several processes, train a method."""
import os
import shutil
import warnings

import torch
from mmengine.model import MMDistributedDataParallel

from ..batchnorm import synchronise
from ..distributed import world_size
from ..method import Method
from ..registry import ConfigError
from .plan import Plan
from .settings import Settings
from .sharding import shard


def compile_backbones(method: Method, device: torch.device) -> None:
    """torch.compile the method's backbones; names and values of their weights stay.

    Raises:
        ConfigError: on a CPU without a C++ compiler.
    """
    compiler = os.environ.get('CXX') or 'g++'
    if device.type == 'cpu' and not shutil.which(compiler):
        raise ConfigError(f'compile=True needs a C++ compiler, and there is no {compiler}; install one, name it in CXX, or leave compile '
                          f'out')
    for backbone, _ in method.networks.values():
        method.get_submodule(backbone).compile()


def spread(method: Method, settings: Settings, plan: Plan, device: torch.device) -> torch.nn.Module:
    """The method on its device, in the form in which several processes train it."""
    sharded = settings.parallel.strategy == 'fsdp' and world_size() > 1
    if not sharded:
        method.to(device)                                              # of a sharded one the device gets its part alone
    if settings.compile:
        compile_backbones(method, device)
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
                                         find_unused_parameters=method.unused_parameters)
