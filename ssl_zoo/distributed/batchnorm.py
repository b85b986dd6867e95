"""BatchNorm over several processes, and over parts of a batch."""

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
    """Mean (C,), biased variance (C,) and number of values per channel over the batches (B, C, ...) of all processes, with gradient."""
    dims, shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    sums = all_reduce_sum(torch.cat([x.sum(dims), x.new_tensor([x.numel() / x.shape[1]])]))
    n = sums[-1].detach()
    mean = sums[:-1] / n
    return mean, all_reduce_sum((x - mean.view(shape)).square().sum(dims)) / n, n


def standardize(z: Tensor, eps: float = 1e-5) -> Tensor:
    """BatchNorm without parameters over the global batch: (B, D) -> (B, D)."""
    if world_size() == 1:
        return F.batch_norm(z, None, None, training=True, eps=eps)
    mean, var, _ = _moments(z)
    return (z - mean) * torch.rsqrt(var + eps)


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm whose statistics are those of the batches of all processes. torch's SyncBatchNorm is for GPUs alone."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Any (B, C, ...)."""

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(x)
        wide = x if x.dtype == torch.float64 else x.float()
        with torch.autocast(x.device.type, enabled=False):
            mean, var, n = _moments(wide)
            if self.training and self.running_mean is not None:
                with torch.no_grad():
                    self.num_batches_tracked += 1
                    share = (
                        1 / self.num_batches_tracked.item()
                        if self.momentum is None
                        else self.momentum
                    )
                    self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                    self.running_var.lerp_((var * n / (n - 1)).to(self.running_var.dtype), share)
            shape = (1, -1, *[1] * (x.ndim - 2))
            out = (wide - mean.view(shape)) * torch.rsqrt(var + self.eps).view(shape)
            if self.affine:
                out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)


def convert_sync_batchnorm(network: nn.Module, device: torch.device) -> nn.Module:
    """``network`` with every BatchNorm's statistics taken over all processes; parameters and their names stay.

    Raises:
        ConfigError: on CPUs, a BatchNorm that is fused with its activation (timm's BatchNormAct2d).
    """
    if device.type == 'cuda':
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(network)  # torch's, and timm's with activation
    for name, layer in network.named_modules():
        if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d):
            layer.__class__ = GlobalBatchNorm
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and not isinstance(
            layer, GlobalBatchNorm
        ):
            raise ConfigError(
                f'{name} is a {type(layer).__name__}, whose statistics cannot be taken over processes on CPUs; take another '
                f'backbone, or sync_batchnorm=False'
            )
    return network


class RunningStatistics:
    """The running statistics of BatchNorms that each process takes over its own images: ``average`` makes them those of all.

    They are averages of batch statistics, so it does not matter when they are averaged over processes.

    Args:
        network: looked through once.
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
        all_reduce_mean(self.buffers)


class SplitBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over each of ``splits`` equal parts of the global batch: what as many devices compute, on fewer.

    MoCo needs statistics that query and key do not share (``ssl_zoo.distributed.shuffled``); its authors' CIFAR demo splits so.
    Image i of the batch is in part i % splits. Running statistics are averaged over the parts. Several processes share the parts
    out; with more processes than parts there are as many parts as processes.
    """

    splits = 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if max(self.splits, world_size()) % min(self.splits, world_size()):
            raise ConfigError(
                f'bn_splits={self.splits} on {world_size()} processes, but one must be a multiple of the other'
            )
        splits = max(self.splits // world_size(), 1)
        n, c, h, w = x.shape
        if n % splits or n == splits:
            raise ValueError(
                f'BatchNorm over {splits} parts needs a batch that they divide into at least two images each, got {n}'
            )
        mean, var = self.running_mean.repeat(splits), self.running_var.repeat(splits)
        out = F.batch_norm(
            x.reshape(n // splits, splits * c, h, w),
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
    """``network`` with its BatchNorm2d layers made SplitBatchNorm2d, in place; returned as it is for one split."""
    if not isinstance(splits, int) or splits < 1:
        raise ConfigError(f'bn_splits={splits!r}, but it must be a whole number of at least 1')
    if splits > 1:
        for layer in network.modules():
            if type(layer) is nn.BatchNorm2d:
                layer.__class__, layer.splits = SplitBatchNorm2d, splits
    return network


def unsplit_batchnorm(network: nn.Module) -> nn.Module:
    """``network`` with its SplitBatchNorm2d layers made BatchNorm2d again, in place."""
    for layer in network.modules():
        if type(layer) is SplitBatchNorm2d:
            layer.__class__ = nn.BatchNorm2d
    return network


@torch.no_grad()
def shuffle_bn(network, x: Tensor) -> Tensor:
    """``network(x)`` with the images of all processes dealt out anew for the pass, and the outputs brought back.

    MoCo's shuffled BatchNorm (arXiv 1911.05722, sec. 3.3): a key is normalised with other images than its query, so statistics
    cannot tell which belong together. With one process the images change places within the batch.

    Args:
        network: (B, ...) -> (B, D), called without gradient.
        x: (B, ...).
    """
    own = local_rows(len(x), x.device)
    order = broadcast(torch.randperm(len(x) * world_size()).to(x.device, non_blocking=True))
    out = network(all_gather(x)[order[own]])
    return all_gather(out)[order.argsort()[own]]
