"""Predictions for a test set in a file, and the paired comparison of two networks."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.metrics import bootstrap, measure
from ssl_zoo.printable import one_line
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.reading import open_npz, parse_json

MAX_CLASSES = 10_000_000
SCORES = 'scores'  # key of a file of save_scores


@dataclass
class Predictions:
    """Predictions for N test images.

    Attributes:
        predicted: (N, P) int64, classes, best first; -1 for no class.
        labels: (N,) int64.
        names: (N,) str, names of the images.
        row: the results row of the evaluation.
        classes: (C,) str, names of the classes; None in files of earlier versions.
    """

    predicted: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    row: dict
    classes: np.ndarray | None = None

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        arrays: dict[str, Any] = dict(
            predicted=self.predicted,
            labels=self.labels,
            names=self.names,
            row=np.array(json.dumps(self.row)),
        )
        if self.classes is not None:
            arrays['classes'] = self.classes
        atomic_write(path, lambda file: np.savez_compressed(file, **arrays))

    @classmethod
    def load(cls, path: str | Path) -> 'Predictions':
        """Read a file. Nothing in the file is executed.

        Raises:
            ConfigError: the file is missing, torn or not a file of predictions.
        """
        if not os.path.isfile(path):
            raise ConfigError(
                f'there are no predictions at {Path(path).absolute()}; an evaluation names the '
                f'file it saves'
            )
        try:
            with open_npz(path) as file:
                if SCORES in file:
                    raise _SeveralClasses
                row = parse_json(str(file['row']))
                if not isinstance(row, dict):
                    raise ValueError('the row is no object')
                classes = file['classes'] if 'classes' in file else None
                predictions = cls(file['predicted'], file['labels'], file['names'], row, classes)
            predictions._check()
        except _SeveralClasses:
            raise ConfigError(
                f'{path} holds the scores of images with several classes, and this command reads '
                f'predictions of one class for each; the row of the results has their interval'
            ) from None
        except Exception as error:  # numpy and zipfile raise many types for a torn or foreign file
            reason = one_line(f'{type(error).__name__}: {error}')
            raise ConfigError(f'{path} holds no predictions of ssl_zoo ({reason})') from None
        return predictions

    def _check(self) -> None:
        """Raise ValueError if a shape or a type is wrong."""
        n = len(self.labels)
        arrays = (self.predicted, self.labels, self.names)
        types_fit = [array.dtype.kind for array in arrays] == ['i', 'i', 'U']
        predicted_fits = (
            self.predicted.ndim == 2
            and self.predicted.shape[0] == n
            and self.predicted.shape[1] >= 1
        )
        shapes_fit = predicted_fits and self.labels.shape == self.names.shape == (n,)
        if n < 1 or not types_fit or not shapes_fit or not isinstance(self.row, dict):
            raise ValueError(
                f'predicted {self.predicted.dtype} {self.predicted.shape}, '
                f'labels {self.labels.dtype} {self.labels.shape}, names {self.names.shape}'
            )
        classes = (self.labels.min(), self.labels.max(), self.predicted.min(), self.predicted.max())
        if min(classes) < -1 or self.labels.min() < 0 or max(classes) >= MAX_CLASSES:
            raise ValueError(
                f'labels from {classes[0]} to {classes[1]}, predictions from {classes[2]} to '
                f'{classes[3]}, but a class is a number from 0 to {MAX_CLASSES - 1:,}'
            )
        if self.classes is None:
            return
        if self.classes.dtype.kind != 'U' or self.classes.ndim != 1:
            raise ValueError(f'classes {self.classes.dtype} {self.classes.shape}')
        if max(classes) >= len(self.classes):
            raise ValueError(f'a class {max(classes)} beside {len(self.classes)} names')


class _SeveralClasses(Exception):
    """A file holds scores of several classes for each image."""


def save_scores(
    path: Path,
    row: dict,
    scores: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    classes: list[str],
) -> None:
    """Write the scores of images that have several classes, whole or not at all.

    Args:
        path: the file, .npz.
        row: the results row of the evaluation.
        scores: (N, C) float64.
        labels: (N, C) int8, 1 for a class of the image, 0 for none, -1 for one that does not count.
        names: names of the N images.
        classes: names of the C classes.
    """
    arrays: dict[str, Any] = {
        SCORES: scores.astype(np.float32),
        'labels': labels,
        'names': np.array(names),
        'classes': np.array(classes),
        'row': np.array(json.dumps(row)),
    }
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))


@dataclass(frozen=True)
class PredictionComparison:
    """Comparison of two networks on the same test images.

    Attributes:
        a: value of the first network, in percent.
        b: value of the second network, in percent.
        difference: b - a, in percentage points.
        low: lower end of the 95 % interval of the difference.
        high: upper end of the interval.
        only_a: number of images that only the first network classifies correctly.
        only_b: number of images that only the second network classifies correctly.
        p: p value of the exact McNemar test.
        images: number of images.
    """

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
    """Compare two sets of predictions for the same images, image by image.

    The interval comes from the paired bootstrap: percentiles over images drawn with replacement,
    the same images for both networks. The p value comes from McNemar's exact test, always on
    top-1: the probability that ``only_a`` and ``only_b`` differ at least as much as observed, if
    both networks were equally good.

    Args:
        a: predictions of the first network.
        b: predictions of the second network.
        metric: 'top1' or 'mean_per_class'.
        seed: seed of the bootstrap samples.

    Raises:
        ConfigError: the images or the labels differ, or there are no images.
    """
    _check_same_images(a, b)
    order_a = np.argsort(a.names, kind='stable')
    order_b = np.argsort(b.names, kind='stable')
    labels = a.labels[order_a]
    if not np.array_equal(labels, b.labels[order_b]):
        raise ConfigError(
            'the two files give different labels to the same images; compare two on the same test '
            'set'
        )
    predicted_a = a.predicted[order_a, 0]
    predicted_b = b.predicted[order_b, 0]
    right_a = predicted_a == labels
    right_b = predicted_b == labels
    only_a = int((right_a & ~right_b).sum())
    only_b = int((right_b & ~right_a).sum())
    p = 1.0
    if only_a + only_b:
        p = float(binomtest(only_a, only_a + only_b).pvalue)
    differences = bootstrap(metric, right_b.astype(np.int64) - right_a, labels, seed)
    low, high = np.percentile(differences, [2.5, 97.5])
    value_a = measure(metric, predicted_a, labels)
    value_b = measure(metric, predicted_b, labels)
    return PredictionComparison(
        a=value_a,
        b=value_b,
        difference=value_b - value_a,
        low=float(low),
        high=float(high),
        only_a=only_a,
        only_b=only_b,
        p=p,
        images=len(labels),
    )


def _check_same_images(a: Predictions, b: Predictions) -> None:
    if not len(a.names) and not len(b.names):
        raise ConfigError('there are no images in the predictions')
    if sorted(a.names) == sorted(b.names):
        return
    only_in_one = sorted(set(a.names) ^ set(b.names))
    example = only_in_one[0] if only_in_one else a.names[0]
    raise ConfigError(
        f'the predictions are for different images: {len(a.names)} and {len(b.names)}, '
        f'{len(only_in_one)} of them in one file alone, such as {str(example)!r}; compare two on '
        f'the same test set'
    )
