"""How long a LARS step takes on ResNet-50's parameters, beside torch's foreach SGD and timm's LARS.

    python benchmarks/lars.py [--rounds 15] [--json FILE]

All optimizers get the same parameters, gradients and groups (weight decay on weights alone) and take one step per round, in
alternating order; a ratio is the median over rounds of time / time of SGD in the same round. LARS must read parameters and
gradients once more than SGD, for the norms.
"""
import argparse
import json
import platform
import statistics
import time

import timm.optim
import torch

from ssl_zoo.backbones import build_backbone
from ssl_zoo.optim import LARS, parameter_groups


class _Bare(torch.nn.Module):
    fixed_lr = ()

    def __init__(self):
        super().__init__()
        self.backbone = build_backbone('resnet50')


def optimizers(device: str) -> dict[str, torch.optim.Optimizer]:
    made = {}
    for name, make in (('torch SGD, foreach', lambda g: torch.optim.SGD(g, lr=1e-3, momentum=0.9, foreach=True)),
                       ('ssl_zoo LARS', lambda g: LARS(g, lr=1e-3)),
                       ('timm Lars', lambda g: timm.optim.Lars(g, lr=1e-3, momentum=0.9))):
        torch.manual_seed(0)
        network = _Bare().to(device)
        for p in network.parameters():
            p.grad = torch.randn_like(p)
        made[name] = make(parameter_groups(network, weight_decay=1e-6))
    return made


def seconds(optimizer: torch.optim.Optimizer, device: str) -> float:
    started = time.perf_counter()
    optimizer.step()
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--json', help='write the figures there')
    args = parser.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    made = optimizers(device)
    times = {name: [] for name in made}
    for r in range(args.rounds + 2):
        order = list(made) if r % 2 else list(made)[::-1]
        for name in order:
            taken = seconds(made[name], device)
            if r >= 2:                                           # two rounds to warm up
                times[name].append(taken)
    base = times['torch SGD, foreach']
    rows = {name: dict(milliseconds=1e3 * statistics.median(t), ratio=statistics.median(a / b for a, b in zip(t, base, strict=True)))
            for name, t in times.items()}
    machine = f'{platform.machine()}, {torch.get_num_threads()} threads' if device == 'cpu' else torch.cuda.get_device_name()
    print(f'one step on {sum(p.numel() for p in _Bare().parameters()) / 1e6:.1f} M parameters, {machine}, torch {torch.__version__}, '
          f'median of {args.rounds} rounds')
    for name, row in rows.items():
        print(f'  {name:<20}{row["milliseconds"]:8.2f} ms{row["ratio"]:8.2f} x SGD')
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(dict(machine=machine, torch=str(torch.__version__), rounds=args.rounds, rows=rows), file, indent=2)


if __name__ == '__main__':
    main()
