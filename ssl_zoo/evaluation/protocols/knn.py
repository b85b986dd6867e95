"""k-NN evaluation with k and temperature chosen on the hold-out, and with published settings."""

import math
from dataclasses import dataclass, field

import faiss
import numpy as np

from ssl_zoo.distributed import rank
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Features
from ssl_zoo.evaluation.knn import clustered_index, knn_grid, knn_protocol, recall
from ssl_zoo.evaluation.metrics import check_metric, measure
from ssl_zoo.evaluation.protocols.context import METRIC_NAMES, EvaluationContext, image_names
from ssl_zoo.evaluation.protocols.describe import PUBLISHED_KNN

RECALL_QUERIES = 1000  # test images that the recall of an index is measured on


@dataclass(frozen=True)
class KnnSetting:
    """A k and a temperature whose accuracy on the test images is reported.

    Attributes:
        k: number of neighbours.
        temperature: temperature of the vote.
        selection: origin of the setting, in words.
        candidates: all k and temperatures of the choice; None for a published setting.
        holdout: number of held-out images that the choice was made on; None for a published
            setting.
        holdout_accuracy: value of the metric on the hold-out, in percent; None for a published
            setting.
    """

    k: int
    temperature: float
    selection: str
    candidates: dict | None = None
    holdout: int | None = None
    holdout_accuracy: float | None = None

    def protocol(self, bank: Features, index: dict | None) -> dict:
        """Return the ``protocol`` dict of a results row."""
        if self.candidates is None:
            return knn_protocol(bank.values, index, k=self.k, temperature=self.temperature)
        return knn_protocol(bank.values, index, candidates=self.candidates, holdout=self.holdout)

    def found(self) -> dict:
        """Return the ``chosen`` dict of a results row: empty for a published setting."""
        if self.candidates is None:
            return {}
        return dict(k=self.k, temperature=self.temperature, holdout_accuracy=self.holdout_accuracy)


@dataclass(frozen=True)
class Search:
    """How neighbours are searched: exactly by default.

    Attributes:
        index: a clustered index; None for an exact search.
        parameters: parameters of the index for the ``protocol`` dict; None for an exact search.
        measured: recall of the index for the ``chosen`` dict; empty for an exact search.
    """

    index: faiss.Index | None = None
    parameters: dict | None = None
    measured: dict = field(default_factory=dict)


def evaluate_knn(
    context: EvaluationContext,
    ks: list[int],
    temperatures: list[float],
    clusters: int | None = None,
    probes: int = 32,
    dtype: str = 'float32',
    metric: str = 'top1',
) -> list[dict]:
    """Measure the accuracy of the weighted k-NN vote on the test images.

    The features come from the context's layer, without augmentation, scaled to unit length. The
    bank is the features of the training images without the hold-out. k and temperature are chosen
    on the hold-out (of several best pairs, the smallest k, then the smallest temperature). Without
    a hold-out only the published settings are reported.

    Args:
        context: what is evaluated.
        ks: numbers of neighbours to choose from.
        temperatures: temperatures of the vote to choose from.
        clusters: number of clusters of the index, see ssl_zoo.evaluation.knn.clustered_index; None
            for an exact search.
        probes: number of clusters that a search visits.
        dtype: dtype of the stored features, 'float32' or 'float16'.
        metric: 'top1' or 'mean_per_class'; the choice is made by this metric, too.

    Returns:
        The results rows: that of the chosen setting, then those of the published settings. Ranks
        other than 0 return an empty list.

    Raises:
        ConfigError: an argument is out of range, or nothing can be reported.
    """
    _check_arguments(ks, temperatures, clusters, probes)
    check_metric(metric)
    train = context.source('train')
    test = context.source('test')
    val = context.sources['val']
    if clusters is not None and clusters > len(train):
        raise ConfigError(
            f'--ivf {clusters}, but there are {len(train)} training images; give at most that '
            f'many, usually about four times the root of their number'
        )
    bank = context.features(train, 'train', dtype)
    queries = context.features(test, 'test', dtype)
    held_out = val and context.features(val, 'val', dtype)
    if rank() > 0:  # these ranks were needed only to extract their share of the features
        return []
    if clusters is not None and clusters > len(bank.labels):
        raise ConfigError(
            f'--ivf {clusters}, but {len(bank.labels)} of the training images can be read; give at '
            f'most that many'
        )
    ks = sorted({min(k, len(bank.labels)) for k in ks})
    temperatures = sorted(set(temperatures))
    search = Search()
    if clusters is not None:
        search = _clustered_search(bank, queries, max(ks), clusters, probes, context.seed)
    settings = _published_settings(bank)
    if held_out:
        chosen = _choose(context, bank, held_out, ks, temperatures, search.index, metric)
        settings = [chosen, *settings]
    if not settings:
        raise ConfigError(
            f'the bank has {len(bank.labels)} images, fewer than the usual k of 20; hold out with '
            f'--cfg-options data.val=0.1'
        )
    predicted = _predict(context, bank, queries, settings, search.index)
    names = image_names(test, queries.index)
    return [
        context.report(
            'knn',
            metric,
            predicted[setting.k, setting.temperature],
            queries.labels,
            names,
            test,
            setting.protocol(bank, search.parameters),
            {**setting.found(), **search.measured},
            k=setting.k,
            temperature=setting.temperature,
            selection=setting.selection,
        )
        for setting in settings
    ]


def _check_arguments(
    ks: list[int], temperatures: list[float], clusters: int | None, probes: int
) -> None:
    if not ks or min(ks) < 1:
        raise ConfigError(f'--k is {ks}, but it must be one or more numbers of at least 1')
    if not temperatures or not all(0 < t < math.inf for t in temperatures):
        raise ConfigError(
            f'--temperature is {temperatures}, but it must be one or more finite numbers above 0'
        )
    if clusters is not None and clusters < 1 or probes < 1:
        raise ConfigError(f'--ivf {clusters} and --probes {probes} must be at least 1')


def _clustered_search(
    bank: Features, queries: Features, k: int, clusters: int, probes: int, seed: int
) -> Search:
    """Build an index of the bank; measure and print its recall of the k nearest."""
    probes = min(probes, clusters)
    index = clustered_index(bank.values, clusters, probes, seed)
    sample = queries.values[:RECALL_QUERIES]
    share = recall(index, bank.values, sample, k)
    print(
        f'recall against the exact search: {share:.2f} % of the {k} nearest, {len(sample)} queries'
    )
    parameters = dict(type='IVF', clusters=clusters, probes=probes, bits=8)
    return Search(index, parameters, dict(recall=share))


def _published_settings(bank: Features) -> list[KnnSetting]:
    return [
        KnnSetting(k, temperature, selection)
        for (k, temperature), selection in PUBLISHED_KNN.items()
        if k <= len(bank.labels)
    ]


def _choose(
    context: EvaluationContext,
    bank: Features,
    held_out: Features,
    ks: list[int],
    temperatures: list[float],
    index: faiss.Index | None,
    metric: str,
) -> KnnSetting:
    """Choose k and temperature by the metric on the hold-out; print the values of all pairs."""
    grid = knn_grid(
        bank.values, bank.labels, held_out.values, context.classes, ks, temperatures, index
    )
    scores = np.array([[measure(metric, cell, held_out.labels) for cell in row] for row in grid])
    images = len(held_out.labels)
    print(_score_table(ks, temperatures, scores, images, METRIC_NAMES[metric]))
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    return KnnSetting(
        k=ks[i],
        temperature=temperatures[j],
        selection=f'chosen of {scores.size} on {images:,} held-out images',
        candidates=dict(k=ks, temperature=temperatures),
        holdout=images,
        holdout_accuracy=float(scores[i, j]),
    )


def _predict(
    context: EvaluationContext,
    bank: Features,
    queries: Features,
    settings: list[KnnSetting],
    index: faiss.Index | None,
) -> dict[tuple[int, float], np.ndarray]:
    """Return (M, 5) predicted classes for each (k, temperature), from one search."""
    ks = sorted({setting.k for setting in settings})
    temperatures = sorted({setting.temperature for setting in settings})
    grid = knn_grid(
        bank.values, bank.labels, queries.values, context.classes, ks, temperatures, index
    )
    return {
        (k, temperature): grid[i, j]
        for i, k in enumerate(ks)
        for j, temperature in enumerate(temperatures)
    }


def _score_table(
    ks: list[int], temperatures: list[float], scores: np.ndarray, images: int, metric_name: str
) -> str:
    head = '       k ' + ''.join(f'  T={t:<6g}' for t in temperatures)
    lines = [f'{metric_name} in percent on {images:,} held-out images', head]
    for k, row in zip(ks, scores, strict=True):
        lines.append(f'{k:>8} ' + ''.join(f'{score:8.2f}  ' for score in row))
    return '\n'.join(lines)
