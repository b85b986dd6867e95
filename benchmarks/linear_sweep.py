"""Measure the cost of linear evaluation with 12 settings, relative to one setting.

    python benchmarks/linear_sweep.py                            # ResNet-18, 32 px, 10 classes
    python benchmarks/linear_sweep.py --name resnet50 --stem imagenet --size 224 --classes 1000 \\
        --batch 32 --steps 2

Heads are trained on a frozen encoder with random weights, from images in memory: the loading time
would be the same for both and bring the ratio nearer to 1. Rounds alternate; the ratio is
the median over rounds of the time with 12 settings / the time with 1. --cached measures heads on
stored features, where no encoder hides their cost.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from ssl_zoo.backbones import build_backbone
from ssl_zoo.evaluation.classifier_training import train_classifier
from ssl_zoo.evaluation.classifiers import Classifier, Heads
from ssl_zoo.evaluation.features import Preprocessing
from ssl_zoo.evaluation.recipes import LINEAR, Setting


class Batches:
    """Yields the same batch at every step."""

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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--name', default='resnet18', help='backbone')
    parser.add_argument('--stem', default='cifar')
    parser.add_argument('--size', type=int, default=32, help='pixels')
    parser.add_argument('--classes', type=int, default=10)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--steps', type=int, default=2)
    parser.add_argument('--heads', type=int, default=12, help='settings trained at a time')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--cached', action='store_true', help='heads on stored features')
    parser.add_argument('--json', help='write the figures there')
    return parser.parse_args()


def measure(args: argparse.Namespace) -> tuple[dict[int, list[float]], int]:
    """Return the seconds of each round, by number of settings, and the number of features."""
    torch.manual_seed(0)
    encoder = build_backbone(args.name, args.stem).eval()
    images = torch.randn(args.batch, 3, args.size, args.size)
    preprocessing = Preprocessing(args.size, args.size, (0.5,) * 3, (0.5,) * 3)
    x = torch.randn(args.batch, encoder.embed_dim) if args.cached else images
    recipe = LINEAR['byol'].with_changes(epochs=(1,), batch_size=args.batch)
    batches = Batches(x, args.classes, args.steps)

    def seconds(n_heads: int) -> float:
        heads = Heads(encoder.embed_dim, args.classes, n_heads, 'normal', 0)
        network = Classifier(None if args.cached else encoder, heads, True, preprocessing)
        settings = [Setting(0.1 / (i + 1), 0.0, 1) for i in range(n_heads)]
        started = time.perf_counter()
        train_classifier(network, batches, recipe, settings, 0)
        return time.perf_counter() - started

    times = {1: [], args.heads: []}
    for r in range(args.rounds + 1):
        for n_heads in (1, args.heads) if r % 2 else (args.heads, 1):
            duration = seconds(n_heads)
            if r:  # the first round warms up
                times[n_heads].append(duration)
    return times, encoder.embed_dim


def main() -> None:
    args = parse_arguments()
    times, width = measure(args)
    ratio = statistics.median(b / a for a, b in zip(times[1], times[args.heads], strict=True))
    medians = {n_heads: statistics.median(seconds) for n_heads, seconds in times.items()}
    inputs = 'stored features' if args.cached else f'{args.name}, {args.size} px'
    print(
        f'{inputs}, {width} features, {args.classes} classes, batch {args.batch}, '
        f'{args.steps} steps, {torch.get_num_threads()} threads, {platform.machine()}, '
        f'torch {torch.__version__}, median of {args.rounds} rounds'
    )
    for n_heads, seconds in medians.items():
        plural = 's' if n_heads > 1 else ' '
        print(f'  {n_heads:>3} setting{plural}  {1e3 * seconds / args.steps:8.1f} ms per step')
    print(f'{args.heads} settings cost {ratio:.2f} times one')
    if args.json:
        figures = dict(ratio=ratio, seconds=medians, arguments=vars(args))
        Path(args.json).write_text(json.dumps(figures, indent=2))


if __name__ == '__main__':
    main()
