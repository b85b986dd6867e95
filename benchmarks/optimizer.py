"""Measure the time of a LARS step and of an EMA update on ResNet-50's parameters.

    pip install -e '.[bench]'
    python benchmarks/optimizer.py [--rounds 15] [--json FILE]

LARS is compared with torch's foreach SGD, timm's LARS and lightly's LARS. All get the same
parameters, gradients and groups (weight decay on weights alone) and take one step per round. LARS
must read parameters and gradients once more than SGD, for the norms. The EMA update is compared
with the same arithmetic on one tensor with as many values, which is limited by memory bandwidth,
and with lightly's update_momentum.
"""

import copy
import statistics

import timm.optim
import torch
from common import alternate, arguments, machine, write
from torch import nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.layers import EMA
from ssl_zoo.optim import LARS, parameter_groups


class _Bare(nn.Module):
    fixed_lr = ()
    lr_scale = {}

    def __init__(self):
        super().__init__()
        self.backbone = build_backbone('resnet50')


def optimizers(device: str, peers: bool) -> dict:
    makers = {
        'torch SGD, foreach': lambda g: torch.optim.SGD(g, lr=1e-3, momentum=0.9, foreach=True),
        'ssl_zoo LARS': lambda g: LARS(g, lr=1e-3),
    }
    if peers:
        from lightly.utils.lars import LARS as Lightly

        makers |= {
            'timm Lars': lambda g: timm.optim.Lars(g, lr=1e-3, momentum=0.9),
            'lightly LARS': lambda g: Lightly(g, 1e-3, momentum=0.9),
        }
    made = {}
    for name, make in makers.items():
        torch.manual_seed(0)
        network = _Bare().to(device)
        for p in network.parameters():
            p.grad = torch.randn_like(p)
        made[name] = make(parameter_groups(network, weight_decay=1e-6)).step
    return made


def averages(device: str, peers: bool) -> dict:
    source = _Bare().to(device)
    average = EMA(copy.deepcopy(source))
    flat = [
        torch.randn(sum(p.numel() for p in source.parameters()), device=device) for _ in range(2)
    ]
    made = {
        'one tensor': lambda: flat[0].lerp_(flat[1], 0.01),
        'ssl_zoo EMA': lambda: average.update(source, 0.99),
    }
    if peers:
        from lightly.models.utils import update_momentum

        followed = copy.deepcopy(source)
        made['lightly update_momentum'] = lambda: update_momentum(source, followed, m=0.99)
    return made


def ratios(runs: dict, rounds: int, base: str) -> dict:
    times = alternate(runs, rounds, warm_up=2)
    return {
        name: dict(
            milliseconds=1e3 * statistics.median(t),
            ratio=statistics.median(a / b for a, b in zip(t, times[base], strict=True)),
        )
        for name, t in times.items()
    }


def measure(rounds: int, peers: bool = True) -> dict:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return dict(
        steps=ratios(optimizers(device, peers), rounds, 'torch SGD, foreach'),
        averages=ratios(averages(device, peers), rounds, 'one tensor'),
    )


def main() -> None:
    args = arguments(__doc__, rounds=15).parse_args()
    figures = measure(args.rounds)
    print(
        f'ResNet-50, {sum(p.numel() for p in _Bare().parameters()) / 1e6:.1f} M parameters, '
        f'{machine()["gpu"] or machine()["cpu"]}, '
        f'{torch.get_num_threads()} threads, torch {torch.__version__}, median of {args.rounds} '
        'rounds'
    )
    for rows, base in ((figures['steps'], 'SGD'), (figures['averages'], 'one tensor')):
        for name, row in rows.items():
            print(f'  {name:<26}{row["milliseconds"]:8.2f} ms{row["ratio"]:8.2f} x {base}')
    write(args.json, command='optimizer', **figures)


if __name__ == '__main__':
    main()
