"""One logistic regression for each class, against the rest, for images with several classes."""

from pathlib import Path

import numpy as np

from ssl_zoo.evaluation import logistic
from ssl_zoo.evaluation.average_precision import METRICS
from ssl_zoo.storage.atomic import write_or_raise
from ssl_zoo.storage.reading import open_npz


def fit_scores(
    train: np.ndarray, labels: np.ndarray, queries: np.ndarray, strength: float
) -> np.ndarray:
    """Fit a regression for each class, and return the scores of other images.

    The objective of a class is the binary cross-entropy, summed over the images that count in this
    class, plus strength / 2 times the sum of the squared weights; the bias has no penalty.

    Args:
        train: (N, D).
        labels: (N, C) int8, 1 for a class of the image, 0 for none, -1 for one that does not count.
        queries: (M, D).
        strength: factor of the L2 penalty.

    Returns:
        (M, C) float64, the log odds of each class; 0 for a class that all counted images have, or
        none.
    """
    scores = np.zeros((len(queries), labels.shape[1]))
    for c in trainable(labels):
        counted = labels[:, c] >= 0
        model = logistic.fit(train[counted], labels[counted, c], strength)
        scores[:, c] = model.decision_function(queries.astype(np.float64))
    return scores


def trainable(labels: np.ndarray) -> np.ndarray:
    """Return the classes that some counted images have and others do not, (K,) int64."""
    return np.flatnonzero((labels == 1).any(0) & (labels == 0).any(0))


def sweep(
    train: np.ndarray,
    labels: np.ndarray,
    held_out: np.ndarray,
    held_out_labels: np.ndarray,
    metric: str,
    strengths: tuple[float, ...],
    folder: Path,
) -> tuple[np.ndarray, int]:
    """Measure every strength of the penalty on the hold-out, class by class.

    Args:
        train: (N, D).
        labels: (N, C) int8, see fit_scores.
        held_out: (M, D).
        held_out_labels: (M, C) int8.
        metric: key of ssl_zoo.evaluation.average_precision.METRICS.
        strengths: factors of the L2 penalty, in falling order.
        folder: for the state of a sweep that may be stopped; the same sweep goes on from it.

    Returns:
        values: (K, S) in percent, for the K classes that are trainable and that a held-out image
            has.
        unconverged: number of regressions that had not converged.
    """
    classes = [c for c in trainable(labels) if (held_out_labels[:, c] == 1).any()]
    done = folder / 'classes.npz'
    values, unconverged = _restore(done, len(strengths))
    for c in classes[len(values) :]:
        counted = labels[:, c] >= 0
        queried = held_out_labels[:, c] >= 0
        queries = held_out[queried].astype(np.float64)
        query_labels = held_out_labels[queried, c]

        def score(model, queries=queries, query_labels=query_labels) -> float:
            return 100 * METRICS[metric](model.decision_function(queries), query_labels)

        scores, failed = logistic.sweep(
            train[counted],
            labels[counted, c],
            score,
            strengths,
            state_path=folder / f'class_{c}.npz',
        )
        values = np.concatenate([values, [scores]])
        unconverged += failed
        content = dict(values=values, unconverged=unconverged)
        write_or_raise(done, lambda file, content=content: np.savez(file, **content))
    done.unlink(missing_ok=True)
    return values, unconverged


def _restore(path: Path, strengths: int) -> tuple[np.ndarray, int]:
    if not path.exists():
        return np.empty((0, strengths)), 0
    with open_npz(path) as file:
        return file['values'], int(file['unconverged'])
