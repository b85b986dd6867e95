"""Move a model to its device and wrap it for training on several processes."""

import warnings
from collections.abc import Iterable

import torch
from mmengine.model import MMDistributedDataParallel
from torch import nn

from ssl_zoo.distributed.batchnorm import convert_sync_batchnorm
from ssl_zoo.distributed.collectives import world_size
from ssl_zoo.distributed.sharding import shard
from ssl_zoo.errors import ConfigError


def wrap_model(
    model: nn.Module,
    device: torch.device,
    *,
    strategy: str,
    sync_batchnorm: bool,
    device_batch: int,
    unused_parameters: bool,
    networks: Iterable[str],
) -> nn.Module:
    """Move a model to its device and wrap it for the processes of the group.

    Args:
        model: the model, on the CPU; changed in place.
        device: device of this process.
        strategy: 'ddp' for DistributedDataParallel, 'fsdp' for ``shard``.
        sync_batchnorm: whether BatchNorm takes its statistics over all processes.
        device_batch: number of images of this process in a forward pass.
        unused_parameters: whether a step may leave a parameter without a gradient.
        networks: paths of the submodules whose blocks 'fsdp' gathers one by one, see ``shard``.

    Returns:
        The model itself with one process or with 'fsdp', else its DDP wrapper.

    Raises:
        ConfigError: BatchNorm would take its statistics over one image.
    """
    if world_size() == 1:
        return model.to(device)
    images_needed = 1 if sync_batchnorm else 2
    if device_batch < images_needed:
        raise ConfigError(
            f'{device_batch} image per process and pass, but BatchNorm over each process apart '
            f'needs two; make batch_size larger, or use fewer processes'
        )
    if strategy == 'fsdp':  # the model is not moved whole: the device holds only shards
        if sync_batchnorm:
            convert_sync_batchnorm(model, device)
        return shard(model, networks, device)
    model.to(device)
    if sync_batchnorm:
        convert_sync_batchnorm(model, device)
    with warnings.catch_warnings():
        # The new name of broadcast_buffers is unknown to older versions of torch.
        warnings.simplefilter('ignore', FutureWarning)
        return MMDistributedDataParallel(
            model,
            device_ids=[device] if device.type == 'cuda' else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=unused_parameters,
        )
