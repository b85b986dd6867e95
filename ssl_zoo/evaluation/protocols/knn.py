"""k-NN evaluation: a grid of k and temperature, chosen on the hold-out, beside the settings that others report."""

import math

import numpy as np

from ssl_zoo.distributed import rank
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.knn import clustered_index, knn_grid, recall
from ssl_zoo.evaluation.metrics import accuracy
from ssl_zoo.evaluation.protocols.context import EvaluationContext, names_of

# Settings that published figures are made with: DINO's (also DINOv2's), and lightly's (that of MoCo's CIFAR notebook).
USUAL = ((20, 0.07, 'as DINO'), (200, 0.1, 'as lightly'))
RECALL_QUERIES = 1000


def evaluate_knn(
    context: EvaluationContext,
    ks: list[int],
    temperatures: list[float],
    clusters: int | None = None,
    probes: int = 32,
    dtype: str = 'float32',
) -> list[dict]:
    """Accuracy of the weighted k-NN vote on the test images.

    Features: of the layer, without augmentation, scaled to unit length. Bank: the training images without the hold-out. k and
    temperature are chosen on the hold-out (the smallest k and temperature where several are best); without a hold-out only the
    usual settings are reported.

    Args:
        context: what is evaluated.
        ks, temperatures: the grid.
        clusters, probes: None for exact search, see ssl_zoo.evaluation.knn.clustered_index.
        dtype: of the stored features.
    Returns:
        The results rows: the chosen setting's, then the usual ones'.
    """
    if not ks or min(ks) < 1:
        raise ConfigError(f'--k is {ks}, but it must be one or more numbers of at least 1')
    if not temperatures or not all(0 < t < math.inf for t in temperatures):
        raise ConfigError(
            f'--temperature is {temperatures}, but it must be one or more finite numbers above 0'
        )
    if clusters is not None and clusters < 1 or probes < 1:
        raise ConfigError(f'--ivf {clusters} and --probes {probes} must be at least 1')
    train, test, val = context.source('train'), context.source('test'), context.sources['val']
    if clusters is not None and clusters > len(train):
        raise ConfigError(
            f'--ivf {clusters}, but there are {len(train)} training images; give at most so many, usually about four times '
            f'the root of their number'
        )
    bank = context.features(train, 'train', dtype)
    queries = context.features(test, 'test', dtype)
    held_out = val and context.features(val, 'val', dtype)
    if rank() > 0:  # the other processes have done their share of the features
        return []
    if clusters is not None and clusters > len(bank.labels):
        raise ConfigError(
            f'--ivf {clusters}, but {len(bank.labels)} of the training images can be read; give at most so many'
        )
    ks, temperatures = sorted({min(k, len(bank.labels)) for k in ks}), sorted(set(temperatures))
    probes = min(probes, clusters or probes)
    index = clusters and clustered_index(bank.values, clusters, probes, context.seed)
    how = f'bank of {len(bank.labels):,}'
    if clusters is not None:
        sample = queries.values[:RECALL_QUERIES]
        found = recall(index, bank.values, sample, min(max(ks), len(bank.labels)))
        how += f', IVF of {clusters} clusters, {probes} probed, 8 bits, recall {found:.1f} %'
        print(
            f'recall against the exact search: {found:.2f} % of the {min(max(ks), len(bank.labels))} nearest, {len(sample)} queries'
        )
    usual = [(k, t, name) for k, t, name in USUAL if k <= len(bank.labels)]
    reported = [] if held_out else usual
    if not held_out and not usual:
        raise ConfigError(
            f'the bank has {len(bank.labels)} images, fewer than the usual k of 20; hold out with --cfg-options data.val=0.1'
        )
    if held_out:
        grid = knn_grid(
            bank.values, bank.labels, held_out.values, context.classes, ks, temperatures, index
        )
        right = np.array([[accuracy(cell[:, 0], held_out.labels) for cell in row] for row in grid])
        print(_table(ks, temperatures, right, len(held_out.labels)))
        i, j = np.unravel_index(right.argmax(), right.shape)
        reported = [
            (
                ks[i],
                temperatures[j],
                f'chosen of {right.size} on {len(held_out.labels):,} held-out images',
            ),
            *usual,
        ]
    all_ks, all_ts = sorted({k for k, _, _ in reported}), sorted({t for _, t, _ in reported})
    predicted = knn_grid(
        bank.values, bank.labels, queries.values, context.classes, all_ks, all_ts, index
    )
    names = names_of(test, queries.index)
    return [
        context.report(
            'knn',
            'top1',
            predicted[all_ks.index(k), all_ts.index(t)],
            queries.labels,
            names,
            test,
            f'weighted k-NN, k={k}, T={t:g}, cosine, {how}, {name}',
            k=k,
            temperature=t,
            selection=name,
        )
        for k, t, name in reported
    ]


def _table(ks: list[int], temperatures: list[float], right: np.ndarray, n: int) -> str:
    lines = [
        f'top-1 in percent on {n:,} held-out images',
        '       k ' + ''.join(f'  T={t:<6g}' for t in temperatures),
    ]
    return '\n'.join(
        lines
        + [
            f'{k:>8} ' + ''.join(f'{value:8.2f}  ' for value in row)
            for k, row in zip(ks, right, strict=True)
        ]
    )
