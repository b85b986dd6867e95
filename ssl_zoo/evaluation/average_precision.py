"""Mean average precision of images that have several classes, and its bootstrap interval."""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score

from ssl_zoo.errors import ConfigError, nearest

RESAMPLES = 1_000  # of the bootstrap; each sorts nothing, but sums over all images and classes
DRAWN_NUMBERS = 10_000_000  # numbers of multinomial samples in memory at a time


class _Curve:
    """Precision and recall at each distinct score of a class, in samples of the images.

    Args:
        scores: (N,), higher for the class.
        labels: (N,) in {0, 1}.
        counts: (R, N), how often each of R samples holds each image.

    Attributes:
        found: (R, T), images of the class with at least each of the T distinct scores.
        precision: (R, T), their share of all images with at least this score; 0 without images.
    """

    def __init__(self, scores: np.ndarray, labels: np.ndarray, counts: np.ndarray):
        order = np.argsort(-scores, kind='stable')
        # Images with the same score stand in no order: they count together.
        last_of_score = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
        counts = counts[:, order]
        self.found = np.cumsum(counts * labels[order], axis=1)[:, last_of_score]
        seen = np.cumsum(counts, axis=1)[:, last_of_score]
        self.precision = self.found / np.maximum(seen, 1)

    def average_precision(self) -> np.ndarray:
        """Return (R,) sums of precision times the step in recall, as scikit-learn has them."""
        steps = np.diff(self.found, axis=1, prepend=0)
        total = self.found[:, -1]
        with np.errstate(invalid='ignore'):  # nan for samples without an image of the class
            return (self.precision * steps).sum(1) / total

    def eleven_points(self) -> np.ndarray:
        """Return (R,) means of the highest precision at recalls of 0, 0.1 ... 1 and above."""
        highest = np.maximum.accumulate(self.precision[:, ::-1], axis=1)[:, ::-1]
        total = self.found[:, -1]
        values = np.zeros(len(total))
        for tenths in range(11):
            # In whole numbers: 3 of 10 images are a recall of 0.3, which floats may miss.
            first = (10 * self.found >= tenths * total[:, None]).argmax(1)
            values += highest[np.arange(len(total)), first] / 11
        return np.where(total > 0, values, np.nan)


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the average precision of one class (scikit-learn), in [0, 1].

    Args:
        scores: (N,), higher for the class.
        labels: (N,) in {0, 1}, with a 1.
    """
    return float(average_precision_score(labels, scores))


def average_precision_11point(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the average precision of one class by the 11 points of PASCAL VOC 2007, in [0, 1].

    It is the mean over the recalls 0, 0.1 ... 1 of the highest precision at this recall or above
    (Everingham et al. 2010, sec. 4.2). Images with the same score count together; VOC's own code
    takes them in the order of the list. Arguments are those of average_precision.
    """
    return float(_Curve(scores, labels, np.ones((1, len(labels)))).eleven_points()[0])


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = dict(
    map=average_precision, map_11point=average_precision_11point
)
_OF_SAMPLES = dict(map=_Curve.average_precision, map_11point=_Curve.eleven_points)


def check_metric(metric: str) -> str:
    """Return the metric. Raises ConfigError if it is not a key of METRICS."""
    if metric not in METRICS:
        raise ConfigError(
            f'the metric is {metric!r}, but of images with several classes it is one of '
            f'{", ".join(METRICS)}: {nearest(metric, METRICS)}'
        )
    return metric


def per_class(metric: str, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the average precision of each class, in percent.

    Args:
        metric: key of METRICS.
        scores: (N, C), higher for the class.
        labels: (N, C), 1 for a class of the image, 0 for none, -1 for an image that does not count
            in this class.

    Returns:
        (C,) float64, nan for a class without an image.
    """
    values = np.full(labels.shape[1], np.nan)
    for c in range(labels.shape[1]):
        counts = labels[:, c] >= 0
        if (labels[:, c] > 0).any():
            values[c] = 100 * METRICS[metric](scores[counts, c], labels[counts, c])
    return values


def measure(metric: str, scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the classes that have images, in percent; arguments of per_class."""
    return float(np.nanmean(per_class(metric, scores, labels)))


def interval(
    metric: str, scores: np.ndarray, labels: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of ``measure`` (percentiles; images with replacement).

    A class of which a sample has no image does not count in this sample.
    """
    n, classes = labels.shape
    rng = np.random.default_rng(seed)
    samples = max(DRAWN_NUMBERS // n, 1)
    values = []
    for start in range(0, RESAMPLES, samples):
        counts = rng.multinomial(n, np.full(n, 1 / n), min(samples, RESAMPLES - start))
        of_classes = []
        for c in range(classes):
            counted = labels[:, c] >= 0
            if (labels[:, c] > 0).any():
                curve = _Curve(scores[counted, c], labels[counted, c], counts[:, counted])
                of_classes.append(_OF_SAMPLES[metric](curve))
        table = np.array(of_classes)
        table = table[:, ~np.isnan(table).all(0)]  # samples in which some class has an image
        values.append(100 * np.nanmean(table, axis=0))
    low, high = np.percentile(np.concatenate(values), [2.5, 97.5])
    return float(low), float(high)
