"""Plot how speed and cost scale: training over workers and processes, evaluation over images.

    pip install -e '.[bench]'
    python benchmarks/growth.py [--images FOLDER] [--rounds 3] [--out docs] [--json FILE]

growth_input.png: images/s of the training loader (JPEG bytes to two crops of 224 px) over the
number of its workers, and images/s of training on the digits over the number of single-threaded
processes, both beside the line of proportional speed through the first point.

growth_evaluation.png: seconds of feature extraction and of the k-NN search over the number of
training images, with the slope in log-log axes; slope 1 is proportional.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import input_path
import matplotlib
import numpy as np
import torch
from common import arguments, jpegs, machine, write

from ssl_zoo.backbones import build_backbone
from ssl_zoo.data.loader import train_loader
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.evaluation.features import Preprocessing, extract_features
from ssl_zoo.evaluation.knn import knn_predict

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
# Colours that colour-blind readers can tell apart (Okabe and Ito).
BLUE = '#0072B2'
ORANGE = '#D55E00'
GRAY = '#777777'
BATCH = 32


def over_workers(files: list[bytes], counts: list[int], rounds: int) -> dict[int, float]:
    """Return images/s of the loader, measured after its first batches."""
    torch.set_num_threads(1)
    dataset = ViewDataset(input_path.Bytes(files), input_path.VIEWS, seed=0)
    seconds = {n: [] for n in counts}
    for _ in range(rounds):
        for n in counts:
            batches = 40
            warm_up = 5 * max(n, 1)
            loader = iter(train_loader(dataset, BATCH, n, stop=batches + warm_up))
            for _ in range(warm_up):
                next(loader)
            started = time.perf_counter()
            for _ in range(batches):
                next(loader)
            seconds[n].append((time.perf_counter() - started) / batches)
    return {n: BATCH / statistics.median(t) for n, t in seconds.items()}


def over_processes(counts: list[int], rounds: int, shared: bool) -> dict[int, float]:
    """Return images/s of training the digits, from the last progress line of two epochs.

    Each process has one thread. With ``shared``, BatchNorm uses the statistics of all processes.
    """
    rates: dict[int, list[float]] = {n: [] for n in counts}
    for _ in range(rounds):
        for n in counts:
            with tempfile.TemporaryDirectory() as folder:
                launcher = [
                    '-m',
                    'torch.distributed.run',
                    '--standalone',
                    '--nproc-per-node',
                    str(n),
                ]
                subprocess.run(
                    [
                        sys.executable,
                        *launcher,
                        'tools/train.py',
                        'configs/byol/digits.py',
                        '--work-dir',
                        f'{folder}/run',
                        '--cfg-options',
                        'epochs=2',
                        'warmup_epochs=1',
                        'online_eval.every=0',
                        'workers=0',
                        'log_every=10',
                        f'sync_batchnorm={shared}',
                    ],
                    cwd=ROOT,
                    check=True,
                    capture_output=True,
                    env={**os.environ, 'OMP_NUM_THREADS': '1'},
                )
                rows = [
                    json.loads(line)
                    for line in Path(folder, 'run/log.jsonl').read_text().splitlines()
                ]
                rates[n].append(
                    [
                        row['train/images_per_second']
                        for row in rows
                        if 'train/images_per_second' in row
                    ][-2]
                )
    return {n: statistics.median(values) for n, values in rates.items()}


def over_images(counts: list[int], rounds: int) -> dict[str, dict[int, float]]:
    """Return the seconds of extracting features and of 1,000 queries' k-NN against them.

    The network is the CIFAR ResNet-18 at an eighth of its width, at 32 px.
    """
    torch.set_num_threads(os.cpu_count())
    from on_device import Clouds

    network = build_backbone('resnet18', stem='cifar', width=0.125)
    how = Preprocessing(32, 32, (0.5,) * 3, (0.25,) * 3)
    seconds = {'features': {}, 'k-NN search': {}}
    queries = np.random.default_rng(1).normal(size=(1000, 512)).astype(np.float32)
    for n in counts:
        source = Clouds(n)
        taken = []
        searched = []
        bank = np.random.default_rng(0).normal(size=(n, 512)).astype(np.float32)
        labels = np.arange(n) % 10
        for _ in range(rounds):
            started = time.perf_counter()
            extract_features(network, source, how)
            taken.append(time.perf_counter() - started)
            started = time.perf_counter()
            knn_predict(bank, labels, queries, 10, 20)
            searched.append(time.perf_counter() - started)
        seconds['features'][n] = statistics.median(taken)
        seconds['k-NN search'][n] = statistics.median(searched)
    return seconds


def slope(points: dict[int, float]) -> float:
    return float(np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)[0])


def draw_rates(axis: Axes, lines: dict[str, dict[int, float]], xlabel: str, title: str) -> None:
    """Draw images/s over a number of workers or processes, and the line of proportional speed."""
    counts = list(next(iter(lines.values())))
    one = max(points[1] for points in lines.values())
    in_proportion = [one * max(n, 1) for n in counts]
    axis.plot(counts, in_proportion, '--', color=GRAY, label='in proportion')
    for (name, points), colour in zip(lines.items(), (BLUE, ORANGE), strict=False):
        axis.plot(counts, list(points.values()), 'o-', color=colour, label=name)
        for n, value in points.items():
            axis.annotate(
                f'{value:.0f}',
                (n, value),
                textcoords='offset points',
                xytext=(0, -16 if colour == BLUE else 8),
                ha='center',
            )
    axis.set(
        xlabel=xlabel,
        ylabel='images/s',
        title=title,
        xticks=counts,
        ylim=(0, 1.45 * one * max(counts)),
    )
    axis.margins(x=0.15)
    axis.legend(loc='upper left', frameon=False)


def draw_seconds(axis: Axes, evaluation: dict[str, dict[int, float]]) -> None:
    """Draw seconds over the number of training images, in double logarithmic axes."""
    for (name, points), colour in zip(evaluation.items(), (BLUE, ORANGE), strict=True):
        label = f'{name}, slope {slope(points):.2f}'
        axis.loglog(list(points), list(points.values()), 'o-', color=colour, label=label)
    axis.set(xlabel='training images', ylabel='seconds', title='Evaluation')
    axis.set_xticks(list(points), [f'{n:,}' for n in points])
    axis.minorticks_off()
    axis.legend(frameon=False)


def draw(
    workers: dict[int, float],
    processes: dict[str, dict[int, float]],
    evaluation: dict[str, dict[int, float]],
    folder: Path,
) -> None:
    """Write growth_input.png and growth_evaluation.png into a folder."""
    plt.rcParams.update({'font.size': 11, 'axes.spines.top': False, 'axes.spines.right': False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    loader = 'Loader: JPEGs to two crops of 224 px'
    draw_rates(left, {'measured': workers}, 'loader workers', loader)
    draw_rates(right, processes, 'processes, one thread each', 'Training the digits')
    figure.savefig(folder / 'growth_input.png', dpi=110)
    figure, axis = plt.subplots(figsize=(6.5, 4.2), layout='constrained')
    draw_seconds(axis, evaluation)
    figure.savefig(folder / 'growth_evaluation.png', dpi=110)


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument('--images', help='a folder of JPEG files; without it, made here from noise')
    parser.add_argument('--out', default='docs')
    args = parser.parse_args()
    cores = os.cpu_count()
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= cores]
    workers = over_workers(jpegs(args.images), [0, *counts], args.rounds)
    processes = {
        name: over_processes(counts, args.rounds, shared)
        for name, shared in (
            ('BatchNorm of each process apart', False),
            ('BatchNorm over all processes', True),
        )
    }
    evaluation = over_images([2500, 5000, 10_000, 20_000], args.rounds)
    print(
        f'{machine()["cpu"]}, {cores} cores, torch {torch.__version__}, median of {args.rounds} '
        'rounds'
    )
    for name, points in {'workers': workers, **processes}.items():
        print(
            f'  {name}: ' + ', '.join(f'{n}: {value:.0f} images/s' for n, value in points.items())
        )
    for name, points in evaluation.items():
        print(
            f'  {name}: '
            + ', '.join(f'{n:,}: {value:.2f} s' for n, value in points.items())
            + f'; slope {slope(points):.2f}'
        )
    draw(workers, processes, evaluation, Path(args.out))
    write(
        args.json,
        command='growth',
        workers=workers,
        processes=processes,
        evaluation=evaluation,
        slopes={name: slope(points) for name, points in evaluation.items()},
    )


if __name__ == '__main__':
    main()
