"""Accuracies of predictions, and their bootstrap intervals over test images."""

import numpy as np

from ssl_zoo.errors import ConfigError, nearest

RESAMPLES = 10_000
DRAWN_NUMBERS = 10_000_000  # numbers of multinomial samples in memory at a time


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of correct predictions, in percent.

    Args:
        predicted: (N,) int64.
        labels: (N,) int64.
    """
    return 100 * float((predicted == labels).mean())


def top_k(predicted: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Return the share of images whose label is among their first k predictions, in percent.

    Args:
        predicted: (N, P) int64, best first; with P < k all P predictions count.
        labels: (N,) int64.
        k: number of predictions that count.
    """
    return 100 * float((predicted[:, :k] == labels[:, None]).any(1).mean())


def mean_per_class(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean accuracy over the classes that occur in the labels, in percent.

    Args:
        predicted: (N,) int64.
        labels: (N,) int64.
    """
    counts = np.bincount(labels)
    right = np.bincount(labels[predicted == labels], minlength=len(counts))
    occurs = counts > 0
    return 100 * float((right[occurs] / counts[occurs]).mean())


METRICS = dict(top1=accuracy, mean_per_class=mean_per_class)


def check_metric(metric: str) -> str:
    """Return the metric. Raises ConfigError if it is not a key of METRICS."""
    if metric not in METRICS:
        raise ConfigError(f'the metric is {metric!r}: {nearest(metric, METRICS)}')
    return metric


def first_column(predicted: np.ndarray) -> np.ndarray:
    """Return the best prediction of each image: (N,), or (N, P) best first -> (N,)."""
    return predicted if predicted.ndim == 1 else predicted[:, 0]


def measure(metric: str, predicted: np.ndarray, labels: np.ndarray) -> float:
    """Return the value of a metric, in percent.

    Args:
        metric: key of METRICS.
        predicted: (N,) int64, or (N, P) best first.
        labels: (N,) int64.

    Raises:
        ConfigError: the metric is not a key of METRICS.
    """
    return METRICS[check_metric(metric)](first_column(predicted), labels)


def bootstrap(metric: str, signs: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the values of a metric in RESAMPLES bootstrap samples of the test images.

    In images drawn with replacement, the numbers of images of each (class, sign) have a
    multinomial distribution, so those numbers are drawn, not single images. For top1 all images
    are one class.

    Args:
        metric: key of METRICS.
        signs: (N,) int64 in {-1, 0, 1}, the score of each image.
        labels: (N,) int64.
        seed: seed of the samples.

    Returns:
        (RESAMPLES,) float64, in percent.
    """
    if metric == 'top1':
        group = np.zeros_like(labels)
    else:
        group = np.unique(labels, return_inverse=True)[1]
    classes = int(group.max()) + 1
    cells = np.bincount(group * 3 + signs + 1, minlength=3 * classes)
    probabilities = cells / len(labels)
    rng = np.random.default_rng(seed)
    samples = max(DRAWN_NUMBERS // len(cells), 1)
    values = []
    for start in range(0, RESAMPLES, samples):
        draws = rng.multinomial(len(labels), probabilities, min(samples, RESAMPLES - start))
        draws = draws.reshape(-1, classes, 3)  # negative, zero, positive
        counts = draws.sum(2)
        # A class that a sample lacks does not count, like a class that the test set lacks.
        mean_signs = (draws[:, :, 2] - draws[:, :, 0]) / np.maximum(counts, 1)
        values.append(100 * np.nanmean(np.where(counts > 0, mean_signs, np.nan), axis=1))
    return np.concatenate(values)


def interval(
    metric: str, predicted: np.ndarray, labels: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a metric (percentiles; images drawn with replacement).

    The interval shows how the value depends on the choice of test images. It does not show how the
    value varies over training seeds.

    Args:
        metric: key of METRICS.
        predicted: (N,) int64, or (N, P) best first.
        labels: (N,) int64.
        seed: seed of the bootstrap samples.

    Returns:
        Lower and upper end, in percent.

    Raises:
        ConfigError: the metric is not a key of METRICS.
    """
    right = (first_column(predicted) == labels).astype(np.int64)
    values = bootstrap(check_metric(metric), right, labels, seed)
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
