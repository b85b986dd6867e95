"""Small linear probes on features: to watch a training, and for very few labels."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_zoo.evaluation.knn import l2_normalize
from ssl_zoo.evaluation.metrics import accuracy


def few_label_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    per_class: int = 2,
    draws: int = 5,
    seed: int = 0,
) -> list[float]:
    """Accuracy in percent of a logistic regression (scikit-learn's defaults: L2, C = 1) on a few labels, for several draws.

    Features are scaled to unit length and then, by the training features' mean and deviation (which need no labels), to
    zero mean and unit variance in every dimension.

    Args:
        train: (N, D) features to draw labelled examples from; train_labels: (N,).
        test: (M, D); test_labels: (M,).
        per_class: labels per class; draws: how often they are drawn; seed: of the draws.
    """
    train, test = _standardised(train, test)
    scores = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        chosen = np.concatenate(
            [
                rng.choice(np.flatnonzero(train_labels == c), per_class, replace=False)
                for c in np.unique(train_labels)
            ]
        )
        probe = LogisticRegression(max_iter=1000).fit(train[chosen], train_labels[chosen])
        scores.append(accuracy(probe.predict(test), test_labels))
    return scores


def linear_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    max_iter: int = 100,
) -> float:
    """Accuracy in percent of a logistic regression on all training features, standardised as above. Quick rather than best: to be
    compared with itself from epoch to epoch. It draws no random numbers.

    Args:
        train: (N, D); train_labels: (N,); test: (M, D); test_labels: (M,).
        max_iter: steps of L-BFGS at most.
    """
    if len(np.unique(train_labels)) < 2:
        return accuracy(np.full(len(test), train_labels[0]), test_labels)
    train, test = _standardised(train, test)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)
        return accuracy(
            LogisticRegression(max_iter=max_iter).fit(train, train_labels).predict(test),
            test_labels,
        )


def _standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    train, test = l2_normalize(train), l2_normalize(test)
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    return (train - mean) / deviation, (test - mean) / deviation
