"""Multinomial logistic regression on features, for many strengths of the L2 penalty."""

import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.recipes import logspace
from ssl_zoo.progress_bar import progress_bar
from ssl_zoo.storage.atomic import write_or_raise
from ssl_zoo.storage.reading import open_npz

# Penalties of SimCLR (2002.05709), B.8.1, and BYOL (2006.07733), D.2; the strongest first.
STRENGTHS = logspace(1e5, 1e-6, 45)
MAX_ITER = 1000  # steps of L-BFGS
SAVE_SECONDS = 60  # between two saved states of a sweep


def check_strengths(strengths: tuple[float, ...]) -> tuple[float, ...]:
    """Return the distinct strengths, the strongest first.

    Raises:
        ConfigError: a strength is not a finite number above 0.
    """
    if not all(1e-300 < s < math.inf for s in strengths):
        values = ', '.join(f'{s:g}' for s in strengths)
        raise ConfigError(
            f'--strengths holds {values}, but a strength must be a finite number above 0'
        )
    return tuple(sorted(set(strengths), reverse=True))


def _model(strength: float, max_iter: int) -> LogisticRegression:
    return LogisticRegression(C=1 / strength, max_iter=max_iter, warm_start=True, tol=1e-4)


def fit(
    values: np.ndarray, labels: np.ndarray, strength: float, max_iter: int = MAX_ITER
) -> LogisticRegression:
    """Fit a multinomial logistic regression by L-BFGS (scikit-learn).

    The objective is the cross-entropy, summed over images, plus strength / 2 times the sum of the
    squared weights; the bias has no penalty. (The papers do not say whether their cross-entropy is
    a sum or a mean. For two classes scikit-learn has one weight vector, the difference of the two.)

    Args:
        values: (N, D).
        labels: (N,) int64.
        strength: factor of the L2 penalty.
        max_iter: steps of L-BFGS, at most.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)
        return _model(strength, max_iter).fit(values.astype(np.float64), labels)


def sweep(
    train: np.ndarray,
    train_labels: np.ndarray,
    score: Callable[[LogisticRegression], float],
    strengths: tuple[float, ...] = STRENGTHS,
    max_iter: int = MAX_ITER,
    state_path: Path | None = None,
) -> tuple[list[float], int]:
    """Fit a regression for every strength, each started from the weights of the stronger one.

    Args:
        train: (N, D).
        train_labels: (N,) int64.
        score: function of a fitted model, such as its accuracy on the hold-out.
        strengths: factors of the L2 penalty, in falling order.
        max_iter: steps of L-BFGS, at most.
        state_path: file for the state of a long sweep. A sweep continues from this file and
            removes it at the end.

    Returns:
        scores: one score for each strength.
        unconverged: number of regressions that had not converged after max_iter steps.
    """
    train = train.astype(np.float64)
    model = _model(1.0, max_iter)
    scores: list[float] = []
    unconverged = 0
    if state_path is not None and state_path.exists():
        scores, unconverged = _restore(state_path, model, train_labels)
    saved_at = time.perf_counter()
    with (
        progress_bar(len(strengths), 'L-BFGS', 'strengths', len(scores)) as progress,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter('ignore', ConvergenceWarning)
        for strength in strengths[len(scores) :]:
            model.set_params(C=1 / strength).fit(train, train_labels)
            unconverged += int(model.n_iter_.max() >= max_iter)
            scores.append(score(model))
            progress.update()
            if state_path is not None and time.perf_counter() - saved_at > SAVE_SECONDS:
                _save(state_path, model, scores, unconverged)
                saved_at = time.perf_counter()
    if state_path is not None:
        state_path.unlink(missing_ok=True)
    return scores, unconverged


def _save(path: Path, model: LogisticRegression, scores: list[float], unconverged: int) -> None:
    content = dict(
        scores=scores, unconverged=unconverged, coef=model.coef_, intercept=model.intercept_
    )
    write_or_raise(path, lambda file: np.savez(file, **content))


def _restore(
    path: Path, model: LogisticRegression, train_labels: np.ndarray
) -> tuple[list[float], int]:
    """Load the model's saved weights; return the scores and the number of unconverged fits."""
    with open_npz(path) as file:
        model.coef_ = file['coef']
        model.intercept_ = file['intercept']
        model.classes_ = np.unique(train_labels)
        return file['scores'].tolist(), int(file['unconverged'])


def predict(model: LogisticRegression, values: np.ndarray, top: int = 5) -> np.ndarray:
    """Predict classes, best first.

    Args:
        model: fitted to C classes.
        values: (N, D).
        top: number of classes to return for each row.

    Returns:
        (N, min(top, C)) int64.
    """
    scores = model.decision_function(values.astype(np.float64))
    if scores.ndim == 1:  # two classes
        scores = np.stack([-scores, scores], axis=1)
    return model.classes_[np.argsort(-scores, axis=1, kind='stable')[:, :top]]
