"""Building blocks of methods: MLP heads, EMA, queues, GroupNorm in place of BatchNorm."""

import math
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from ssl_zoo.distributed import local_shards
from ssl_zoo.errors import ConfigError


def _batchnorm_without_offset(width: int) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(width)
    layer.bias.requires_grad_(False)
    return layer


LAST_NORMS = {
    'affine': nn.BatchNorm1d,
    'scale': _batchnorm_without_offset,
    'plain': partial(nn.BatchNorm1d, affine=False),
}


def mlp(
    *dims: int,
    norm: bool = True,
    bias: bool = True,
    last_bias: bool = True,
    last_norm: str | None = None,
    init: str = 'torch',
) -> nn.Sequential:
    """Build an MLP head, (B, dims[0]) -> (B, dims[-1]).

    Each hidden layer is Linear, BatchNorm, ReLU; the last layer is a Linear.

    ``mlp(2048, 4096, 256)`` is Linear(2048, 4096), BatchNorm1d(4096), ReLU, Linear(4096, 256).

    Args:
        dims: widths from input to output, at least two.
        norm: whether a BatchNorm follows each hidden Linear.
        bias: whether the hidden Linears have a bias.
        last_bias: whether the last Linear has a bias.
        last_norm: BatchNorm behind the last Linear: None, 'affine' (scale and offset), 'scale' (no
            offset) or 'plain' (neither).
        init: 'torch' for PyTorch's initial weights, 'haiku' for those of haiku, which DeepMind's
            code uses: a normal with sigma = 1/sqrt(fan_in), truncated at two sigma; biases 0.

    Raises:
        ConfigError: fewer than two widths, or a width that is not a whole number above 0.
    """
    if len(dims) < 2 or not all(isinstance(dim, int) and dim > 0 for dim in dims):
        raise ConfigError(
            f'an MLP of widths {" - ".join(map(str, dims))}: it needs at least one layer, and '
            f'whole numbers above 0'
        )
    layers: list[nn.Module] = []
    *hidden, last = pairwise(dims)  # (fan_in, fan_out) of each layer
    for fan_in, fan_out in hidden:
        layers.append(_linear(fan_in, fan_out, bias, init))
        if norm:
            layers.append(nn.BatchNorm1d(fan_out))
        layers.append(nn.ReLU(inplace=True))
    layers.append(_linear(*last, last_bias, init))
    if last_norm:
        layers.append(LAST_NORMS[last_norm](dims[-1]))
    return nn.Sequential(*layers)


def _linear(fan_in: int, fan_out: int, bias: bool, init: str) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out, bias=bias)
    if init == 'haiku':
        sigma = fan_in**-0.5
        nn.init.trunc_normal_(layer.weight, std=sigma, a=-2 * sigma, b=2 * sigma)
        if bias:
            nn.init.zeros_(layer.bias)
    return layer


def cosine_schedule(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` at progress 0 to ``end`` at progress 1."""
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


def multi_crop(network: nn.Module, views: list[Tensor]) -> Tensor:
    """Forward views of several sizes, consecutive views of equal size as one batch (SwAV, DINO).

    BatchNorm therefore takes its statistics over all views of one size together.

    Args:
        network: (N, 3, H, W) -> (N, D).
        views: V tensors (B, 3, H_v, W_v).

    Returns:
        (V * B, D), view after view.
    """
    groups: list[list[Tensor]] = []
    for view in views:
        if groups and groups[-1][0].shape[-2:] == view.shape[-2:]:
            groups[-1].append(view)
        else:
            groups.append([view])
    return torch.cat([network(torch.cat(group)) for group in groups])


class EMA(nn.Module):
    """A network whose parameters are an exponential moving average of another network's.

    The network gets no gradient. Only parameters are averaged. Buffers (BatchNorm's running
    statistics) are the network's own: in train mode it normalises with the statistics of its own
    batches, as in the official code of BYOL, MoCo v3 and DINO.

    Args:
        network: a copy of the followed network, or a new one; its parameters are frozen.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    @torch.no_grad()
    def update(self, source: nn.Module, decay: float) -> None:
        """Set parameters to decay * parameters + (1 - decay) * parameters of ``source``.

        Raises:
            ValueError: the parameters of ``source`` have other shapes.
        """
        averages = list(self.network.parameters())
        sources = list(source.parameters())
        if [p.shape for p in averages] != [p.shape for p in sources]:
            raise ValueError(
                'EMA.update needs a source of the same architecture as the network it follows'
            )
        local_averages, _ = local_shards(averages)
        local_sources, _ = local_shards(sources)
        torch._foreach_lerp_(local_averages, local_sources, 1 - decay)


class Queue(nn.Module):
    """The newest ``size`` unit vectors, first in, first out (MoCo, arXiv 1911.05722).

    Vectors passed to ``add`` stay pending until ``update``, which a method calls in ``after_step``.
    So a step never compares with its own keys, and with gradient accumulation the queue changes
    once per optimizer step. The queue starts with random directions, as in MoCo.

    Args:
        size: number of vectors.
        dim: dimension of a vector.

    Attributes:
        keys: (size, dim) float32 unit vectors.
        written: number of vectors written since the start, int64 scalar on the device.
        full: whether all random directions of the start have been replaced.

    Raises:
        ConfigError: ``size`` is not a whole number of at least 1.
    """

    def __init__(self, size: int, dim: int):
        super().__init__()
        if not isinstance(size, int) or size < 1:
            raise ConfigError(
                f'a queue of {size!r} keys: it must hold a whole number of them, at least 1'
            )
        self.register_buffer('keys', F.normalize(torch.randn(size, dim), dim=1))
        # The next vector goes to row written % size.
        self.register_buffer('written', torch.zeros((), dtype=torch.int64))
        # The value of ``written`` on the host: ``full`` need not wait for the device.
        self.written_on_host: int | None = 0
        self.pending: list[Tensor] = []
        self.register_load_state_dict_post_hook(_forget_replaced_state)

    @property
    def full(self) -> bool:
        if self.written_on_host is None:  # a state was loaded
            self.written_on_host = int(self.written)
        return self.written_on_host >= len(self.keys)

    @torch.no_grad()
    def add(self, keys: Tensor) -> None:
        """Keep vectors for the next ``update``: (B, dim), of any length."""
        self.pending.append(F.normalize(keys.detach().to(self.keys.dtype), dim=1))

    @torch.no_grad()
    def update(self) -> None:
        """Replace the oldest keys by the pending ones."""
        if not self.pending:
            return
        size = len(self.keys)
        new = torch.cat(self.pending)[-size:]
        rows = (self.written + torch.arange(len(new), device=new.device)) % size
        self.keys[rows] = new
        self.written += len(new)
        if self.written_on_host is not None:
            self.written_on_host += len(new)
        self.pending = []


class MovingAverage(nn.Module):
    """value <- decay * value + (1 - decay) * mean of the tensors added since the last ``update``.

    Args:
        shape: shape of the value.
        decay: weight of the old value in an update.

    Attributes:
        value: tensor of ``shape``, float32; 0 at the start.
    """

    def __init__(self, *shape: int, decay: float):
        super().__init__()
        self.decay = decay
        self.register_buffer('value', torch.zeros(shape))
        self.pending: list[Tensor] = []
        self.register_load_state_dict_post_hook(_forget_replaced_state)

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Keep a tensor of the value's shape for the next ``update``."""
        self.pending.append(x.detach().to(self.value.dtype))

    @torch.no_grad()
    def update(self) -> None:
        """Move the value towards the mean of the pending tensors."""
        if not self.pending:
            return
        self.value.lerp_(torch.stack(self.pending).mean(0), 1 - self.decay)
        self.pending = []


def _forget_replaced_state(module: Queue | MovingAverage, incompatible_keys: Any) -> None:
    """Drop pending tensors and the host's counter, which belong to the replaced state."""
    module.pending = []
    if isinstance(module, Queue):
        module.written_on_host = None


class StdLinear(nn.Linear):
    """Linear with weight standardisation (arXiv 1903.10520): each row has mean 0 and variance 1."""

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(self.weight, dim=1, keepdim=True, correction=0)
        return F.linear(x, (self.weight - mean) * torch.rsqrt(var + 1e-6), self.bias)


def batchnorm_to_groupnorm(network: nn.Module, groups: int) -> nn.Module:
    """Replace BatchNorm by GroupNorm; standardise the weights of convolutions and Linears.

    From "BYOL works even without batch statistics" (arXiv 2010.10241). The new layers keep the
    weights of the replaced ones.

    Args:
        network: any module; changed in place.
        groups: number of groups of each GroupNorm.

    Returns:
        ``network``.

    Raises:
        ConfigError: ``groups`` is not a whole number of at least 1, or does not divide a width.
    """
    if not isinstance(groups, int) or groups < 1:
        raise ConfigError(f'groups={groups!r}, but it must be a whole number of at least 1')
    for name, layer in list(network.named_children()):
        new = _without_batch_statistics(layer, groups)
        if new is None:
            batchnorm_to_groupnorm(layer, groups)
            continue
        state = layer.state_dict()
        new.load_state_dict({key: state[key] for key in ('weight', 'bias') if key in state})
        for key, parameter in new.named_parameters():
            # The parameters of an EMA network stay frozen.
            parameter.requires_grad_(getattr(layer, key).requires_grad)
        setattr(network, name, new)
    return network


def _without_batch_statistics(layer: nn.Module, groups: int) -> nn.Module | None:
    """Build the layer that replaces ``layer``, with new weights; None if ``layer`` stays."""
    if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
        if layer.num_features % groups:
            raise ConfigError(
                f'GroupNorm of {groups} groups does not fit {layer.num_features} channels; choose '
                f'a divisor'
            )
        return nn.GroupNorm(groups, layer.num_features, affine=layer.affine)
    if type(layer) is nn.Linear:
        return StdLinear(layer.in_features, layer.out_features, layer.bias is not None)
    if type(layer) not in (nn.Conv2d, Conv2dSame):
        return None
    shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride)
    options = dict(dilation=layer.dilation, groups=layer.groups, bias=layer.bias is not None)
    if type(layer) is Conv2dSame:
        return StdConv2dSame(*shape, **options)  # its padding follows from the image size
    return StdConv2d(*shape, padding=layer.padding, **options)
