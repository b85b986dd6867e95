"""Logistic regression on frozen features, with the L2 penalty chosen on the hold-out."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_zoo.data.sources import Source
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import broadcast_object, raise_together
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation import logistic
from ssl_zoo.evaluation.features import Features
from ssl_zoo.evaluation.metrics import measure
from ssl_zoo.evaluation.protocols.context import (
    EvaluationContext,
    check_two_classes,
    image_names,
)

HASHED_ROWS = 64  # rows in the hash that identifies a set of features


def evaluate_logistic(
    context: EvaluationContext,
    bank: Features,
    held_out: Features | None,
    queries: Features,
    test: Source,
    metric: str,
    strengths: tuple[float, ...],
    retrain: bool,
    tool: str,
) -> dict:
    """Fit a logistic regression by L-BFGS and measure it on the test images.

    Args:
        context: what is evaluated.
        bank: features of the training images without the hold-out.
        held_out: features of the hold-out; the strength is chosen on them.
        queries: features of the test images.
        test: the test images.
        metric: 'top1' or 'mean_per_class'.
        strengths: L2 penalties to choose from, in falling order.
        retrain: whether to fit again with the hold-out after the choice.
        tool: name of the evaluation, the start of the row's metric.

    Returns:
        The results row, on every process.

    Raises:
        ConfigError: there is one class only, or no strength.
    """
    check_two_classes(bank.labels)
    if not strengths:
        raise ConfigError(
            'there is no strength to fit with; give one or more, such as --strengths 1'
        )
    evaluation = _LogisticEvaluation(
        context, bank, held_out, queries, test, metric, strengths, retrain, tool
    )
    return broadcast_object(raise_together(lambda: None if rank() > 0 else evaluation.run()))


@dataclass(frozen=True)
class _LogisticEvaluation:
    """The evaluation on process 0; the attributes are the arguments of evaluate_logistic."""

    context: EvaluationContext
    bank: Features
    held_out: Features | None
    queries: Features
    test: Source
    metric: str
    strengths: tuple[float, ...]
    retrain: bool
    tool: str

    def run(self) -> dict:
        strength = self.strengths[0]
        parameters: dict[str, Any] = dict(strength=strength)
        chosen: dict[str, float] = {}
        if len(self.strengths) > 1:
            strength, holdout_accuracy = self._choose_strength()
            holdout = len(self.held_out.labels)
            parameters = dict(candidates=dict(strength=self.strengths), holdout=holdout)
            chosen = dict(strength=strength, holdout_accuracy=holdout_accuracy)
        trained_on = join_features(self.bank, self.held_out) if self.retrain else self.bank
        model = logistic.fit(trained_on.values, trained_on.labels, strength)
        protocol = dict(
            name='logistic',
            features=len(trained_on.labels),
            dtype=str(self.bank.values.dtype),
            optimizer='L-BFGS',
            max_iter=logistic.MAX_ITER,
            **parameters,
            retrain=self.retrain,
        )
        return self.context.report(
            self.tool,
            self.metric,
            logistic.predict(model, self.queries.values),
            self.queries.labels,
            image_names(self.test, self.queries.index),
            self.test,
            protocol,
            chosen,
            strength=strength,
        )

    def _choose_strength(self) -> tuple[float, float]:
        """Return the best strength on the hold-out and its value of the metric, in percent."""
        folder = self.context.folder(
            self.tool,
            data=[_hash(self.bank), _hash(self.held_out)],
            strengths=self.strengths,
            metric=self.metric,
        )

        def score(model) -> float:
            predicted = logistic.predict(model, self.held_out.values)
            return measure(self.metric, predicted, self.held_out.labels)

        scores, unconverged = logistic.sweep(
            self.bank.values,
            self.bank.labels,
            score,
            self.strengths,
            state_path=folder / 'state.npz',
        )
        strength = self.strengths[int(np.argmax(scores))]
        if unconverged:
            print(
                f'{unconverged} of {len(self.strengths)} regressions had not converged after '
                f'{logistic.MAX_ITER} steps'
            )
        if strength in (self.strengths[0], self.strengths[-1]):
            print(f'warning: the best strength {strength:g} is at the end of the range')
        return strength, max(scores)


def join_features(a: Features, b: Features) -> Features:
    """Return the features of both sets together."""
    return Features(
        np.concatenate([a.values, b.values]),
        np.concatenate([a.labels, b.labels]),
        np.arange(len(a.labels) + len(b.labels)),
    )


def _hash(features: Features) -> str:
    """Return a hash of some feature rows and all labels."""
    positions = np.linspace(0, len(features.values) - 1, HASHED_ROWS)
    rows = features.values[np.unique(positions.astype(int))]
    content = np.ascontiguousarray(rows).tobytes() + features.labels.tobytes()
    return hashlib.sha256(content).hexdigest()
