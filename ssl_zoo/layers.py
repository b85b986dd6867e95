"""Building blocks that methods share: MLP heads, the EMA network, queues, normalisation layers, the cosine schedule."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from ssl_zoo.distributed import local_shards
from ssl_zoo.errors import ConfigError


def _scale_only(width: int) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(width)
    layer.bias.requires_grad_(False)
    return layer


LAST_NORMS = {
    'affine': nn.BatchNorm1d,
    'scale': _scale_only,
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
    """Linear-BatchNorm-ReLU for every hidden width, then a Linear: (B, dims[0]) -> (B, dims[-1]).

    ``mlp(2048, 4096, 256)`` is Linear(2048, 4096), BatchNorm1d(4096), ReLU, Linear(4096, 256).

    Args:
        dims: widths from input to output, at least two.
        norm: whether hidden layers have a BatchNorm.
        bias, last_bias: whether hidden Linears, the last Linear have a bias.
        last_norm: BatchNorm after the last Linear: None, 'affine', 'scale' (no offset) or 'plain' (neither).
        init: 'torch' for PyTorch's; 'haiku' for haiku's, as in DeepMind's code: truncated normal at two sigma with
            sigma = 1/sqrt(fan_in), biases 0.
    """
    if len(dims) < 2 or not all(isinstance(d, int) and d > 0 for d in dims):
        raise ConfigError(
            f'an MLP of widths {" - ".join(map(str, dims))}: it needs at least one layer, and whole numbers above 0'
        )
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(zip(dims, dims[1:], strict=False)):
        last = i == len(dims) - 2
        linear = nn.Linear(fan_in, fan_out, bias=last_bias if last else bias)
        if init == 'haiku':
            sigma = fan_in**-0.5
            nn.init.trunc_normal_(linear.weight, std=sigma, a=-2 * sigma, b=2 * sigma)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        layers.append(linear)
        if not last:
            layers += (
                [nn.BatchNorm1d(fan_out), nn.ReLU(inplace=True)]
                if norm
                else [nn.ReLU(inplace=True)]
            )
        elif last_norm:
            layers.append(LAST_NORMS[last_norm](fan_out))
    return nn.Sequential(*layers)


def cosine_schedule(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` at progress 0 to ``end`` at progress 1."""
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


def multi_crop(network: nn.Module, views: list[Tensor]) -> Tensor:
    """``network`` on views of several sizes: one pass for each run of views of the same size, as in SwAV and DINO.

    BatchNorm's statistics are therefore those of all views of one size together.

    Args:
        network: (N, 3, H, W) -> (N, D).
        views: tensors (B, 3, H_i, W_i).

    Returns:
        (len(views) * B, D), view after view.
    """
    runs: list[list[Tensor]] = []
    for view in views:
        if runs and runs[-1][0].shape[-2:] == view.shape[-2:]:
            runs[-1].append(view)
        else:
            runs.append([view])
    return torch.cat([network(torch.cat(run)) for run in runs])


class EMA(nn.Module):
    """A network that follows another one by an exponential moving average of its parameters, and gets no gradient.

    Only parameters follow. Buffers (BatchNorm's running statistics) are the network's own: it is forwarded in train mode
    and normalises by its own batches, as in the official code of BYOL, MoCo v3 and DINO.

    Args:
        network: the module to own; its parameters are frozen. Pass a copy of the followed module, or one drawn afresh.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    @torch.no_grad()
    def update(self, source: nn.Module, decay: float) -> None:
        """parameters <- decay * parameters + (1 - decay) * parameters of ``source``, in their own precision."""
        mine, theirs = list(self.network.parameters()), list(source.parameters())
        if [p.shape for p in mine] != [p.shape for p in theirs]:
            raise ValueError(
                'EMA.update needs a source of the same architecture as the network it follows'
            )
        torch._foreach_lerp_(local_shards(mine)[0], local_shards(theirs)[0], 1 - decay)


def _forget_waiting(module: nn.Module, _) -> None:
    module.waiting, module.count = [], None  # of the state that was just replaced


class Queue(nn.Module):
    """The newest ``size`` unit vectors, first in, first out.

    What ``add`` gets waits until ``update``, which a method calls in ``after_step``: so a step never meets its own keys, and
    with gradient accumulation the queue still moves once per optimiser step. It starts with random directions, as MoCo's.

    Args:
        size: how many; dim: their dimension.
    """

    def __init__(self, size: int, dim: int):
        super().__init__()
        if not isinstance(size, int) or size < 1:
            raise ConfigError(
                f'a queue of {size!r} keys: it must hold a whole number of them, at least 1'
            )
        self.register_buffer('keys', F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer(
            'written', torch.zeros((), dtype=torch.int64)
        )  # in all, so the place is written % size
        self.waiting: list[Tensor] = []
        self.count: int | None = 0  # ``written``, known without asking the device
        self.register_load_state_dict_post_hook(_forget_waiting)

    @property
    def full(self) -> bool:
        """Whether no random direction of the start is left."""
        if self.count is None:  # of a state that was loaded
            self.count = int(self.written)
        return self.count >= len(self.keys)

    @torch.no_grad()
    def add(self, keys: Tensor) -> None:
        """Remember (B, dim) vectors of any length for the next ``update``."""
        self.waiting.append(F.normalize(keys.detach().to(self.keys.dtype), dim=1))

    @torch.no_grad()
    def update(self) -> None:
        """Write what waits over the oldest keys."""
        if self.waiting:
            new = torch.cat(self.waiting)[-len(self.keys) :]
            place = (self.written + torch.arange(len(new), device=new.device)) % len(self.keys)
            self.keys[place] = new
            self.written += len(new)
            self.count = None if self.count is None else self.count + len(new)
            self.waiting = []


class MovingAverage(nn.Module):
    """value <- decay * value + (1 - decay) * mean of what was added since the last ``update``; it starts at 0.

    Args:
        shape: of the value; decay: its share that stays.
    """

    def __init__(self, *shape: int, decay: float):
        super().__init__()
        self.decay = decay
        self.register_buffer('value', torch.zeros(shape))
        self.waiting: list[Tensor] = []
        self.register_load_state_dict_post_hook(_forget_waiting)

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        self.waiting.append(x.detach().to(self.value.dtype))

    @torch.no_grad()
    def update(self) -> None:
        if self.waiting:
            self.value.lerp_(torch.stack(self.waiting).mean(0), 1 - self.decay)
            self.waiting = []


class StdLinear(nn.Linear):
    """Linear whose rows are standardised to mean 0 and variance 1 before use (weight standardisation, arXiv 1903.10520)."""

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(self.weight, dim=1, keepdim=True, correction=0)
        return F.linear(x, (self.weight - mean) * torch.rsqrt(var + 1e-6), self.bias)


def batchnorm_to_groupnorm(network: nn.Module, groups: int) -> nn.Module:
    """``network`` with GroupNorm in place of every BatchNorm and weight-standardised convolutions and linear layers.

    After BYOL works even without batch statistics (arXiv 2010.10241). The weights drawn for the replaced layers stay.

    Args:
        network: any module; changed in place.
        groups: of GroupNorm; every normalised width must be a multiple of it.

    Raises:
        ConfigError: a width that ``groups`` does not divide.
    """
    if not isinstance(groups, int) or groups < 1:
        raise ConfigError(f'groups={groups!r}, but it must be a whole number of at least 1')
    for name, layer in list(network.named_children()):
        new = layer
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            if layer.num_features % groups:
                raise ConfigError(
                    f'GroupNorm of {groups} groups does not fit {layer.num_features} channels; choose a divisor'
                )
            new = nn.GroupNorm(groups, layer.num_features, affine=layer.affine)
        elif type(layer) is nn.Conv2d:
            new = StdConv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
                layer.bias is not None,
            )
        elif type(layer) is Conv2dSame:
            new = StdConv2dSame(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,
                layer.stride,
                dilation=layer.dilation,
                groups=layer.groups,
                bias=layer.bias is not None,
            )
        elif type(layer) is nn.Linear:
            new = StdLinear(layer.in_features, layer.out_features, layer.bias is not None)
        else:
            batchnorm_to_groupnorm(layer, groups)
        if new is not layer:
            new.load_state_dict(
                {k: v for k, v in layer.state_dict().items() if k in ('weight', 'bias')}
            )
            for key, parameter in new.named_parameters():
                parameter.requires_grad_(
                    getattr(layer, key).requires_grad
                )  # an EMA network stays without gradient
            setattr(network, name, new)
    return network
