"""Measure what linear evaluation of 12 settings costs beside one setting.

    python benchmarks/linear_sweep.py                            # ResNet-18, 32 px, 10 classes
    python benchmarks/linear_sweep.py --name resnet50 --stem imagenet --size 224 --classes 1000 \\
        --batch 32 --steps 2

Heads are trained on a frozen encoder with random weights, from images in memory: the time of
loading would be the same for both and bring the ratio nearer to 1. Rounds alternate; the ratio is
the median over rounds of the time with 12 settings / the time with 1. --cached measures heads on
stored features, where no encoder hides their cost.
"""

import argparse
import json
import platform
import statistics
import time

import torch

from ssl_zoo.backbones import build_backbone
from ssl_zoo.evaluation.classifier_training import train_classifier
from ssl_zoo.evaluation.classifiers import Classifier, Heads
from ssl_zoo.evaluation.features import Preprocessing
from ssl_zoo.evaluation.recipes import LINEAR, Setting


class Batches:
    """The same batch again and again."""

    def __init__(self, x: torch.Tensor, classes: int, steps: int):
        self.x = x
        self.labels = torch.arange(len(x)) % classes
        self.n = steps * len(x)
        self.unreadable = {}

    def __len__(self) -> int:
        return self.n

    def steps(self, batch_size: int, start: int, stop: int):
        for _ in range(start, stop):
            yield self.x, self.labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--name', default='resnet18')
    parser.add_argument('--stem', default='cifar')
    for name, default in (
        ('size', 32),
        ('classes', 10),
        ('batch', 128),
        ('steps', 2),
        ('heads', 12),
        ('rounds', 7),
    ):
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--cached', action='store_true', help='heads on stored features')
    parser.add_argument('--json', help='write the figures there')
    args = parser.parse_args()
    torch.manual_seed(0)
    encoder = build_backbone(args.name, args.stem).eval()
    images = torch.randn(args.batch, 3, args.size, args.size)
    preprocessing = Preprocessing(args.size, args.size, (0.5,) * 3, (0.5,) * 3)
    x = torch.randn(args.batch, encoder.embed_dim) if args.cached else images
    recipe = LINEAR['byol'].with_changes(epochs=(1,), batch_size=args.batch)

    def seconds(heads: int) -> float:
        network = Classifier(
            None if args.cached else encoder,
            Heads(encoder.embed_dim, args.classes, heads, 'normal', 0),
            True,
            preprocessing,
        )
        started = time.perf_counter()
        train_classifier(
            network,
            Batches(x, args.classes, args.steps),
            recipe,
            [Setting(0.1 / (i + 1), 0.0, 1) for i in range(heads)],
            0,
        )
        return time.perf_counter() - started

    times = {1: [], args.heads: []}
    for r in range(args.rounds + 1):
        for heads in (1, args.heads) if r % 2 else (args.heads, 1):
            taken = seconds(heads)
            if r:  # the first round warms up
                times[heads].append(taken)
    ratio = statistics.median(b / a for a, b in zip(times[1], times[args.heads], strict=True))
    what = 'stored features' if args.cached else f'{args.name}, {args.size} px'
    print(
        f'{what}, {encoder.embed_dim} features, {args.classes} classes, batch {args.batch}, '
        f'{args.steps} steps, '
        f'{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}, '
        f'median of {args.rounds} rounds'
    )
    for heads, t in times.items():
        print(
            f'  {heads:>3} setting{"s" if heads > 1 else " "}  '
            f'{1e3 * statistics.median(t) / args.steps:8.1f} ms per step'
        )
    print(f'{args.heads} settings cost {ratio:.2f} times one')
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(
                dict(
                    ratio=ratio,
                    seconds={h: statistics.median(t) for h, t in times.items()},
                    arguments=vars(args),
                ),
                file,
                indent=2,
            )


if __name__ == '__main__':
    main()
