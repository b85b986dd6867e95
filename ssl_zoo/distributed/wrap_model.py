"""The form in which a device, or several processes, train a method."""

import warnings

import torch
from mmengine.model import MMDistributedDataParallel

from ssl_zoo.config.settings import Settings
from ssl_zoo.distributed.batchnorm import convert_sync_batchnorm
from ssl_zoo.distributed.collectives import world_size
from ssl_zoo.distributed.sharding import shard
from ssl_zoo.engine.compile import compile_backbones
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.recompute import recompute_activations
from ssl_zoo.errors import ConfigError
from ssl_zoo.method import Method


def wrap_model(
    method: Method, settings: Settings, plan: Plan, device: torch.device
) -> torch.nn.Module:
    """The method on its device, in the form in which several processes train it."""
    sharded = settings.parallel.strategy == 'fsdp' and world_size() > 1
    if not sharded:
        method.to(device)  # of a sharded one the device gets its part alone
    if settings.recompute:
        recompute_activations(
            method.get_submodule(method.networks['online'][0])
        )  # not the average that a teacher is
    if settings.compile:
        compile_backbones(method, device, settings.compile)
    if world_size() == 1:
        return method
    synchronised = (
        method.sync_batchnorm if settings.sync_batchnorm is None else settings.sync_batchnorm
    )
    if plan.device_batch < (1 if synchronised else 2):
        raise ConfigError(
            f'{plan.device_batch} image per process and pass, but BatchNorm over each process apart needs two; make '
            f'batch_size larger, or use fewer processes'
        )
    if synchronised:
        convert_sync_batchnorm(method, device)
    if sharded:
        return shard(method, device)
    with warnings.catch_warnings():
        warnings.simplefilter(
            'ignore', FutureWarning
        )  # the new name of broadcast_buffers is not known to all versions
        return MMDistributedDataParallel(
            method,
            device_ids=[device] if device.type == 'cuda' else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=method.unused_parameters,
        )
