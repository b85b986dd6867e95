"""BatchNorm with statistics over all processes, and over parts of a batch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.distributed.collectives import (
    all_gather,
    all_reduce_mean,
    all_reduce_sum,
    broadcast,
    local_rows,
    world_size,
)
from ssl_zoo.errors import ConfigError


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute moments of the channels over the batches of all ranks, with gradient.

    Args:
        x: (B, C, ...), this rank's batch.

    Returns:
        Mean (C,), biased variance (C,), and number of values per channel (scalar).
    """
    dims = (0, *range(2, x.ndim))
    local_count = x.new_tensor([x.numel() / x.shape[1]])
    sums = all_reduce_sum(torch.cat([x.sum(dims), local_count]))
    n = sums[-1].detach()
    mean = sums[:-1] / n
    deviations = x - mean.view(_channel_shape(x))
    var = all_reduce_sum(deviations.square().sum(dims)) / n
    return mean, var, n


def _channel_shape(x: Tensor) -> tuple[int, ...]:
    """Return the shape that broadcasts (C,) over (B, C, ...)."""
    return (1, -1, *[1] * (x.ndim - 2))


def standardize(z: Tensor, eps: float = 1e-5) -> Tensor:
    """Apply BatchNorm without parameters over the global batch: (B, D) -> (B, D)."""
    if world_size() == 1:
        return F.batch_norm(z, None, None, training=True, eps=eps)
    mean, var, _ = _moments(z)
    return (z - mean) * torch.rsqrt(var + eps)


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm with statistics over the batches of all ranks, also on CPUs.

    torch's SyncBatchNorm works on GPUs only.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        """Accept any (B, C, ...)."""

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(x)
        wide = x if x.dtype == torch.float64 else x.float()
        with torch.autocast(x.device.type, enabled=False):
            mean, var, n = _moments(wide)
            if self.training and self.running_mean is not None:
                self._update_running_statistics(mean, var, n)
            shape = _channel_shape(x)
            out = (wide - mean.view(shape)) * torch.rsqrt(var + self.eps).view(shape)
            if self.affine:
                out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, var: Tensor, n: Tensor) -> None:
        self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:  # a cumulative average
            momentum = 1 / self.num_batches_tracked.item()
        unbiased_var = var * n / (n - 1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased_var.to(self.running_var.dtype), momentum)


def convert_sync_batchnorm(network: nn.Module, device: torch.device) -> nn.Module:
    """Make every BatchNorm of a network take its statistics over all ranks.

    Parameters, buffers and their names do not change.

    Args:
        network: changed in place.
        device: device of the network. BatchNorms become SyncBatchNorm on GPUs, GlobalBatchNorm on
            CPUs.

    Raises:
        ConfigError: on CPUs, a BatchNorm that is fused with its activation (timm's BatchNormAct2d).
    """
    if device.type == 'cuda':
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(network)  # converts torch's BatchNorm and BatchNormAct2d
    for name, layer in network.named_modules():
        if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d):
            layer.__class__ = GlobalBatchNorm
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and not isinstance(
            layer, GlobalBatchNorm
        ):
            raise ConfigError(
                f'{name} is a {type(layer).__name__}, whose statistics cannot be taken over '
                f'processes on CPUs; take another backbone, or sync_batchnorm=False'
            )
    return network


class RunningStatistics:
    """The running statistics of BatchNorms that are not synchronised, which differ between ranks.

    Running statistics are averages of batch statistics, so it does not matter when they are
    averaged over ranks.

    Args:
        network: the network; its BatchNorms are collected once, in ``__init__``.

    Attributes:
        buffers: running means and variances, (C,) each.
    """

    def __init__(self, network: nn.Module):
        self.buffers = [
            buffer
            for layer in network.modules()
            if isinstance(layer, nn.modules.batchnorm._BatchNorm)
            and not isinstance(layer, (GlobalBatchNorm, nn.SyncBatchNorm))
            and layer.running_mean is not None
            for buffer in (layer.running_mean, layer.running_var)
        ]

    def average(self) -> None:
        """Replace the running statistics by their means over ranks."""
        all_reduce_mean(self.buffers)


class SplitBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over each of ``splits`` equal parts of the global batch.

    On one device it computes what ``splits`` devices compute without synchronisation. In MoCo a
    query and its key must not share statistics (see ``shuffle_bn``); the authors' CIFAR demo splits
    the batch in this way. Image i of the batch is in part i % splits. Running statistics are
    averaged over the parts. Each rank normalises splits / world_size parts, and at least one.

    Attributes:
        splits: number of parts of the global batch.
    """

    splits = 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if max(self.splits, world_size()) % min(self.splits, world_size()):
            raise ConfigError(
                f'bn_splits={self.splits} on {world_size()} processes, but one must be a multiple '
                f'of the other'
            )
        splits = max(self.splits // world_size(), 1)
        n, c, h, w = x.shape
        if n % splits or n == splits:
            raise ValueError(
                f'BatchNorm over {splits} parts needs a batch that they divide into at least two '
                f'images each, got {n}'
            )
        mean = self.running_mean.repeat(splits)
        var = self.running_var.repeat(splits)
        out = F.batch_norm(
            x.reshape(n // splits, splits * c, h, w),  # one channel for each channel of each part
            mean,
            var,
            self.weight.repeat(splits),
            self.bias.repeat(splits),
            True,
            self.momentum,
            self.eps,
        ).reshape(x.shape)
        if x.is_contiguous(memory_format=torch.channels_last):
            out = out.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            self.running_mean.copy_(mean.view(splits, c).mean(0))
            self.running_var.copy_(var.view(splits, c).mean(0))
            self.num_batches_tracked += 1
        return out


def split_batchnorm(network: nn.Module, splits: int) -> nn.Module:
    """Turn the BatchNorm2d layers of a network into SplitBatchNorm2d, in place.

    ``splits=1`` changes nothing.

    Raises:
        ConfigError: ``splits`` is not a whole number of at least 1.
    """
    if not isinstance(splits, int) or splits < 1:
        raise ConfigError(f'bn_splits={splits!r}, but it must be a whole number of at least 1')
    if splits > 1:
        for layer in network.modules():
            if type(layer) is nn.BatchNorm2d:
                layer.__class__ = SplitBatchNorm2d
                layer.splits = splits
    return network


def unsplit_batchnorm(network: nn.Module) -> nn.Module:
    """Turn the SplitBatchNorm2d layers of a network back into BatchNorm2d, in place."""
    for layer in network.modules():
        if type(layer) is SplitBatchNorm2d:
            layer.__class__ = nn.BatchNorm2d
    return network


@torch.no_grad()
def shuffle_bn(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Compute ``network(x)`` with the images of the global batch shuffled over ranks for the pass.

    MoCo's shuffling BN (arXiv 1911.05722, sec. 3.3): a key is normalised together with other
    images than its query, so that BatchNorm's statistics do not reveal which key is the query's.
    With one process the images are permuted within the batch, which matters only to
    SplitBatchNorm2d.

    Args:
        network: (B, ...) -> (B, D), called without gradient.
        x: (B, ...).

    Returns:
        (B, D): row i is the output for ``x[i]``.
    """
    rows = local_rows(len(x), x.device)
    order = broadcast(torch.randperm(len(x) * world_size()).to(x.device, non_blocking=True))
    out = network(all_gather(x)[order[rows]])
    return all_gather(out)[order.argsort()[rows]]
