"""Fast logistic regressions on features (seconds): online evaluation, and few labels."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_zoo.evaluation.knn import l2_normalize
from ssl_zoo.evaluation.metrics import accuracy

PER_CLASS = 2  # labels per class in the few-label probe
DRAWS = 5  # random draws of the labels
MAX_ITER = 1000  # steps of L-BFGS of the few-label probe, at most


def few_label_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    per_class: int = PER_CLASS,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[float]:
    """Return the accuracies of a logistic regression on a few labels, one for each draw of labels.

    Features are scaled to unit length and then standardised with the mean and the standard
    deviation of all training features, which need no labels. The regression has scikit-learn's
    defaults: L2, C = 1.

    Args:
        train: (N, D) features to draw labelled examples from.
        train_labels: (N,) int64.
        test: (M, D) features.
        test_labels: (M,) int64.
        per_class: labels per class.
        draws: number of draws.
        seed: seed of the draws.

    Returns:
        ``draws`` accuracies on the test features, in percent.
    """
    train, test = _standardise(train, test)
    scores = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        rows = [
            rng.choice(np.flatnonzero(train_labels == c), per_class, replace=False)
            for c in np.unique(train_labels)
        ]
        drawn = np.concatenate(rows)
        probe = LogisticRegression(max_iter=MAX_ITER)
        probe.fit(train[drawn], train_labels[drawn])
        scores.append(accuracy(probe.predict(test), test_labels))
    return scores


def few_label_protocol() -> dict:
    """Return the ``protocol`` dict of a row of the few-label probe with its default arguments."""
    return dict(
        name='logistic_few_labels',
        labels_per_class=PER_CLASS,
        draws=DRAWS,
        penalty='L2',
        C=1.0,
        max_iter=MAX_ITER,
        features='standardised',
    )


def linear_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    max_iter: int = 100,
) -> float:
    """Return the test accuracy of a logistic regression on all training features, in percent.

    Features are standardised as in few_label_probe. The probe favours speed over accuracy: its
    values are for comparing the epochs of a run. The probe draws no random numbers.

    Args:
        train: (N, D) features.
        train_labels: (N,) int64.
        test: (M, D) features.
        test_labels: (M,) int64.
        max_iter: steps of L-BFGS, at most.
    """
    if len(np.unique(train_labels)) < 2:
        return accuracy(np.full(len(test), train_labels[0]), test_labels)
    train, test = _standardise(train, test)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)
        probe = LogisticRegression(max_iter=max_iter).fit(train, train_labels)
    return accuracy(probe.predict(test), test_labels)


def _standardise(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale rows to unit length, then standardise columns by the training mean and deviation."""
    train = l2_normalize(train)
    test = l2_normalize(test)
    mean = train.mean(0)
    std = train.std(0) + 1e-6
    return (train - mean) / std, (test - mean) / std
