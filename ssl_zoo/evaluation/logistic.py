"""Logistic regression on features over many strengths of its penalty, as the transfer protocol has it."""

import math
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.recipes import logspace
from ssl_zoo.progress_bar import progress_bar
from ssl_zoo.storage.atomic import write_or_raise

STRENGTHS = logspace(
    1e5, 1e-6, 45
)  # SimCLR (2002.05709), B.8.1, and BYOL (2006.07733), D.2; the strongest first
SAVE_SECONDS = 60


def check_strengths(strengths: tuple[float, ...]) -> tuple[float, ...]:
    """The strengths, the strongest first, each once. Raises ConfigError if one is no penalty."""
    if not all(1e-300 < s < math.inf for s in strengths):
        raise ConfigError(
            f'--strengths holds {", ".join(f"{s:g}" for s in strengths)}, but a strength must be a finite number above 0'
        )
    return tuple(sorted(set(strengths), reverse=True))


def _model(strength: float, max_iter: int) -> LogisticRegression:
    return LogisticRegression(C=1 / strength, max_iter=max_iter, warm_start=True, tol=1e-4)


def fit(
    values: np.ndarray, labels: np.ndarray, strength: float, max_iter: int = 1000
) -> LogisticRegression:
    """Multinomial logistic regression by L-BFGS (scikit-learn): it minimises the sum over images of the cross-entropy plus
    strength / 2 times the squared weights, the bias left out. (The papers do not say whether theirs is a sum or a mean. For two
    classes scikit-learn has one weight vector, the difference of the two.)

    Args:
        values: (N, D); labels: (N,) int64.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)
        return _model(strength, max_iter).fit(values.astype(np.float64), labels)


def sweep(
    train: np.ndarray,
    train_labels: np.ndarray,
    score,
    strengths: tuple[float, ...] = STRENGTHS,
    max_iter: int = 1000,
    state: Path | None = None,
) -> tuple[list[float], int]:
    """A logistic regression for every strength, each begun where the stronger one before it ended.

    Args:
        train: (N, D); train_labels: (N,).
        score: function of a fitted model, such as its accuracy on the hold-out.
        strengths: falling.
        max_iter: steps of L-BFGS at most.
        state: file to go on from after a stop.
    Returns:
        The scores, one for each strength, and how many strengths had not converged after max_iter steps.
    """
    train, model = train.astype(np.float64), _model(1.0, max_iter)
    scores, unconverged, saved = [], 0, time.perf_counter()
    if state is not None and state.exists():
        with np.load(state, allow_pickle=False) as file:
            scores, unconverged = file['scores'].tolist(), int(file['unconverged'])
            model.coef_, model.intercept_, model.classes_ = (
                file['coef'],
                file['intercept'],
                np.unique(train_labels),
            )
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
            if state is not None and time.perf_counter() - saved > SAVE_SECONDS:
                content = dict(
                    scores=scores,
                    unconverged=unconverged,
                    coef=model.coef_,
                    intercept=model.intercept_,
                )
                write_or_raise(state, lambda file, content=content: np.savez(file, **content))
                saved = time.perf_counter()
    if state is not None:
        state.unlink(missing_ok=True)
    return scores, unconverged


def predict(model: LogisticRegression, values: np.ndarray, top: int = 5) -> np.ndarray:
    """The best classes, (N, min(top, classes fitted)) int64."""
    scores = model.decision_function(values.astype(np.float64))
    if scores.ndim == 1:  # two classes
        scores = np.stack([-scores, scores], axis=1)
    return model.classes_[np.argsort(-scores, axis=1, kind='stable')[:, :top]]
