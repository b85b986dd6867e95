"""Accuracies from predictions, how sure they are, and whether two networks differ."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.storage.atomic import atomic_write

RESAMPLES = 10_000


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Share of equal entries, in percent."""
    return 100 * float((predicted == labels).mean())


def top_k(predicted: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of images whose class is among the first k named, in percent. predicted: (N, at least k) or fewer classes than k."""
    return 100 * float((predicted[:, :k] == labels[:, None]).any(1).mean())


def mean_per_class(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur of the accuracy on their images, in percent."""
    counts = np.bincount(labels)
    right = np.bincount(labels[predicted == labels], minlength=len(counts))
    return 100 * float((right[counts > 0] / counts[counts > 0]).mean())


METRICS = dict(top1=accuracy, mean_per_class=mean_per_class)


def check_metric(metric: str) -> str:
    """The metric. Raises ConfigError if it is not one of METRICS."""
    if metric not in METRICS:
        raise ConfigError(f'the metric is {metric!r}: {nearest(metric, METRICS)}')
    return metric


def measure(metric: str, predicted: np.ndarray, labels: np.ndarray) -> float:
    """A metric of METRICS for (N,) or, best first, (N, k) predictions."""
    return METRICS[check_metric(metric)](
        predicted if predicted.ndim == 1 else predicted[:, 0], labels
    )


def _resampled(metric: str, signs: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """The metric's values in RESAMPLES bootstrap samples of the images, where image i counts signs[i] in {-1, 0, 1}.

    Drawing images with replacement draws the numbers of images in each (class, sign) from a multinomial distribution; so no
    image is touched. For top1 all images are one class.
    """
    group = np.zeros_like(labels) if metric == 'top1' else np.unique(labels, return_inverse=True)[1]
    classes = int(group.max()) + 1
    cells = np.bincount(group * 3 + signs + 1, minlength=3 * classes)
    rng, values, step = np.random.default_rng(seed), [], max(10_000_000 // len(cells), 1)
    for start in range(0, RESAMPLES, step):
        draws = rng.multinomial(
            len(labels), cells / len(labels), min(step, RESAMPLES - start)
        ).reshape(-1, classes, 3)
        counts = draws.sum(2)
        # A small class may be missing from a sample; it then counts as little as one that is not in the test set.
        shares = np.where(
            counts > 0, (draws[:, :, 2] - draws[:, :, 0]) / np.maximum(counts, 1), np.nan
        )
        values.append(100 * np.nanmean(shares, axis=1))
    return np.concatenate(values)


def interval(
    metric: str, predicted: np.ndarray, labels: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a metric (percentiles over images drawn with replacement), in percent.

    It says how much the value owes to the choice of test images, and nothing of how it varies over training seeds.
    """
    check_metric(metric)
    predicted = predicted if predicted.ndim == 1 else predicted[:, 0]
    low, high = np.percentile(
        _resampled(metric, (predicted == labels).astype(np.int64), labels, seed), [2.5, 97.5]
    )
    return float(low), float(high)


@dataclass
class Predictions:
    """Attributes: predicted (N, k) int64, best first, -1 for none; labels (N,) int64; names (N,) str; row: the results row."""

    predicted: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    row: dict

    def save(self, path: Path) -> None:
        arrays = dict(
            predicted=self.predicted,
            labels=self.labels,
            names=self.names,
            row=np.array(json.dumps(self.row)),
        )
        atomic_write(path, lambda file: np.savez_compressed(file, **arrays))

    def _check(self) -> None:
        n, kinds = (
            len(self.labels),
            (self.predicted.dtype.kind, self.labels.dtype.kind, self.names.dtype.kind),
        )
        if (
            self.predicted.ndim != 2
            or self.predicted.shape[1] < 1
            or n < 1
            or kinds != ('i', 'i', 'U')
            or not isinstance(self.row, dict)
            or not len(self.predicted) == n
            or self.labels.shape != (n,)
            or self.names.shape != (n,)
        ):
            raise ValueError(
                f'predicted {self.predicted.dtype} {self.predicted.shape}, labels {self.labels.dtype} {self.labels.shape}, '
                f'names {self.names.shape}'
            )

    @classmethod
    def load(cls, path: str | Path) -> 'Predictions':
        """Raises ConfigError for a file that is missing, torn or something else. Nothing in it is executed."""
        if not os.path.isfile(path):
            raise ConfigError(
                f'there are no predictions at {Path(path).absolute()}; an evaluation names the file it saves'
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                found = cls(
                    file['predicted'], file['labels'], file['names'], json.loads(str(file['row']))
                )
                found._check()
                return found
        except Exception as error:  # numpy and zipfile raise many types for a torn or foreign file
            raise ConfigError(
                f'{path} holds no predictions of ssl_zoo ({type(error).__name__}: {error})'
            ) from None


@dataclass(frozen=True)
class PredictionComparison:
    """Attributes: a, b: the values, in percent; difference: b - a; low, high: its 95 % interval; only_a, only_b: images that one
    alone has right; p: of the exact McNemar test; images: how many."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    only_a: int
    only_b: int
    p: float
    images: int


def compare(
    a: Predictions, b: Predictions, metric: str = 'top1', seed: int = 0
) -> PredictionComparison:
    """Whether two sets of predictions for the same images differ, image by image.

    The interval is that of the paired bootstrap (percentiles over images drawn with replacement, the same for both); p is that of
    McNemar's exact test: how probable so uneven a split of the images that one alone has right is, were both equally good. The
    test is of top-1 whatever the metric.

    Raises:
        ConfigError: other images or labels.
    """
    if not len(a.names) and not len(b.names):
        raise ConfigError('there are no images in the predictions')
    if sorted(a.names) != sorted(b.names):
        only = sorted(set(a.names) ^ set(b.names))
        raise ConfigError(
            f'the predictions are for other images: {len(a.names)} and {len(b.names)}, {len(only)} of them in one file '
            f'alone, such as {str(only[0] if only else a.names[0])!r}; compare two on the same test set'
        )
    first, second = np.argsort(a.names, kind='stable'), np.argsort(b.names, kind='stable')
    labels = a.labels[first]
    if not np.array_equal(labels, b.labels[second]):
        raise ConfigError(
            'the two files give other labels to the same images; compare two on the same test set'
        )
    x, y = a.predicted[first, 0], b.predicted[second, 0]
    right_a, right_b = x == labels, y == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    low, high = np.percentile(
        _resampled(metric, right_b.astype(np.int64) - right_a, labels, seed), [2.5, 97.5]
    )
    values = measure(metric, x, labels), measure(metric, y, labels)
    return PredictionComparison(
        *values, values[1] - values[0], float(low), float(high), only_a, only_b, p, len(labels)
    )
