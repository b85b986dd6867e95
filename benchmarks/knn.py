"""Measure the time of k-NN classification beside lightly's knn_predict.

    pip install -e '.[bench]'
    python benchmarks/knn.py [--rounds 5] [--queries 10000] [--bank 50000] [--dim 512] [--k 200]
    python benchmarks/knn.py --slope        # cost of a bank of 1.28 million x 2048, from a slope

Both get the same random features on the sphere, with a class structure, and the same number of
threads. Both start from features and end with a class for each query; our time includes scaling to
unit length. lightly's function gets the queries in batches, as in its own classifier (256 queries
in its ImageNet benchmark), and all at once. Rounds alternate; a ratio is the median over rounds.
Before the timing, both must give the same classes, except for ties. --json FILE writes the figures.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
from common import alternate

from ssl_zoo.evaluation.knn import knn_grid, knn_predict

BATCHES = (256, 1024, 10_000)


def data(n: int, dim: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(classes, dim)).astype(np.float32)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(n, dim)).astype(np.float32) * 4 + centres[labels], labels


def lightly_predict(
    bank: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor, args, batch: int
) -> np.ndarray:
    from lightly.utils.benchmarking.knn import knn_predict as predict

    return torch.cat(
        [
            predict(part, bank, labels, args.classes, args.k, args.t)[:, 0]
            for part in queries.split(batch)
        ]
    ).numpy()


def compare(args: argparse.Namespace) -> None:
    """Measure one search of ssl_zoo and lightly's in batches of several sizes, then a grid."""
    bank, labels = data(args.bank, args.dim, args.classes, 2)
    queries, _ = data(args.queries, args.dim, args.classes, 3)
    normalized = [
        torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (bank, queries)
    ]
    lightly_bank = normalized[0].t().contiguous()
    lightly_labels = torch.from_numpy(labels)

    def lightly(batch: int, settings: argparse.Namespace = args) -> np.ndarray:
        return lightly_predict(lightly_bank, lightly_labels, normalized[1], settings, batch)

    def ssl_zoo() -> np.ndarray:
        return knn_predict(bank, labels, queries, args.classes, args.k, args.t)

    runs = {'ssl_zoo': ssl_zoo}
    runs |= {f'lightly, batches of {n}': lambda n=n: lightly(n) for n in BATCHES}
    equal = check_equal_classes(runs)
    rows = rows_of_times(alternate(runs, args.rounds, warm_up=0), equal)
    best = min((name for name in runs if name != 'ssl_zoo'), key=lambda n: rows[n]['seconds'])
    print(
        f'{args.queries:,} queries, bank of {args.bank:,} x {args.dim}, k = {args.k}, '
        f'{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}, '
        f'faiss {faiss.__version__}, median of {args.rounds} rounds'
    )
    for name, row in rows.items():
        print(
            f'  {name:<26}{row["seconds"]:8.2f} s{row["ratio"]:8.2f} x ssl_zoo   equal classes '
            f'{100 * row["equal"]:.2f} %'
        )
    print(
        f'ssl_zoo is {rows[best]["ratio"]:.2f} times as fast as lightly at its best '
        f'({best.split(", ")[1]})'
    )
    batch = int(best.split()[-1])
    compare_grids(args, bank, labels, queries, lambda settings: lightly(batch, settings))
    if args.json:
        figures = dict(rows=rows, best=best, arguments=vars(args))
        Path(args.json).write_text(json.dumps(figures, indent=2))


def check_equal_classes(runs: dict[str, Callable[[], np.ndarray]]) -> dict[str, float]:
    """Return for each run the share of queries with ssl_zoo's class; exit if one is below 0.999.

    Each run is called once, which also warms up.
    """
    answers = {name: run() for name, run in runs.items()}
    equal = {name: float((answer == answers['ssl_zoo']).mean()) for name, answer in answers.items()}
    if min(equal.values()) < 0.999:
        raise SystemExit(f'the predictions differ: {equal}')
    return equal


def rows_of_times(
    times: dict[str, list[float]], equal: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Return medians over rounds: the seconds, and their ratio to ssl_zoo's seconds."""
    rows = {}
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, times['ssl_zoo'], strict=True)]
        rows[name] = dict(
            seconds=statistics.median(seconds),
            ratio=statistics.median(ratios),
            equal=equal[name],
        )
    return rows


def compare_grids(
    args: argparse.Namespace,
    bank: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    lightly: Callable[[argparse.Namespace], np.ndarray],
) -> None:
    """Measure several k and temperatures: ssl_zoo searches once, lightly once for each pair."""
    ks = (10, 20, 100, args.k)
    temperatures = (0.07, args.t)
    started = time.perf_counter()
    knn_grid(bank, labels, queries, args.classes, list(ks), list(temperatures))
    ours = time.perf_counter() - started
    started = time.perf_counter()
    for k in ks:
        for t in temperatures:
            lightly(argparse.Namespace(**{**vars(args), 'k': k, 't': t}))
    theirs = time.perf_counter() - started
    print(
        f'a grid of {len(ks)} k and {len(temperatures)} temperatures: ssl_zoo {ours:.2f} s (one '
        f'search), lightly {theirs:.2f} s (a call for each): {theirs / ours:.1f} times as fast'
    )


def slope(args) -> None:
    """Measure the search time at three sizes of the bank, in 2048 dimensions.

    The time is proportional to queries x bank x dim.
    """
    queries = data(2000, 2048, 1000, 3)[0]
    sizes = (20_000, 40_000, 80_000)
    points = []
    for n in sizes:
        bank, labels = data(n, 2048, 1000, 2)
        knn_predict(bank[:1000], labels[:1000], queries[:100], 1000, 20)
        seconds = []
        for _ in range(args.rounds):
            started = time.perf_counter()
            knn_predict(bank, labels, queries, 1000, args.k, args.t)
            seconds.append(time.perf_counter() - started)
        points.append(statistics.median(seconds))
        print(f'  bank of {n:>7,} x 2048: {points[-1]:.2f} s for 2,000 queries')
    per, fixed = np.polyfit(sizes, points, 1)
    whole = (per * 1_281_167 + fixed) * 50_000 / 2000
    print(
        f'slope {1e6 * per:.2f} microseconds per row of the bank for 2,000 queries; so 50,000 '
        'queries against 1,281,167 x 2048 take '
        f'about {whole / 60:.0f} min on these {torch.get_num_threads()} threads.\nmemory: the file '
        'of features has '
        f'{1_281_167 * 2048 * 4 / 2**30:.1f} GiB, of which a search holds a part of 65,536 '
        f'({2**16 * 2048 * 4 / 2**30:.1f} GiB, '
        'some copies of it) and the queries; with clusters and 8 bits (--ivf) '
        f'{1_281_167 * 2048 / 2**30:.1f} GiB; peak of this run, '
        f'its own data included, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} '
        'GiB'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ('rounds', 5),
        ('queries', 10_000),
        ('bank', 50_000),
        ('dim', 512),
        ('classes', 10),
        ('k', 200),
    ):
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--t', type=float, default=0.1)
    parser.add_argument('--slope', action='store_true')
    parser.add_argument('--json', help='write the figures there')
    args = parser.parse_args()
    faiss.omp_set_num_threads(torch.get_num_threads())
    os.environ.setdefault('LIGHTLY_DID_VERSION_CHECK', 'True')
    if args.slope:
        slope(args)
    else:
        compare(args)


if __name__ == '__main__':
    main()
