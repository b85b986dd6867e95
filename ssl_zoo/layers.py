"""Building blocks that methods share: MLP heads, the EMA network, the cosine schedule."""
import math

import torch
from torch import Tensor, nn


def mlp(*dims: int, last_bias: bool = True) -> nn.Sequential:
    """Linear-BatchNorm-ReLU for every hidden width, then a plain Linear: (B, dims[0]) -> (B, dims[-1]).

    ``mlp(2048, 4096, 256)`` is Linear(2048, 4096), BatchNorm1d(4096), ReLU, Linear(4096, 256).
    Weights are drawn as haiku draws them, truncated normal at two sigma with sigma = 1/sqrt(fan_in), biases are 0.

    Args:
        dims: widths from input to output, at least two.
        last_bias: whether the last Linear has a bias.
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(zip(dims, dims[1:], strict=False)):
        last = i == len(dims) - 2
        linear = nn.Linear(fan_in, fan_out, bias=last_bias or not last)
        sigma = fan_in ** -0.5
        nn.init.trunc_normal_(linear.weight, std=sigma, a=-2 * sigma, b=2 * sigma)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.BatchNorm1d(fan_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` at progress 0 to ``end`` at progress 1."""
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


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
            raise ValueError('EMA.update needs a source of the same architecture as the network it follows')
        torch._foreach_lerp_(mine, theirs, 1 - decay)
