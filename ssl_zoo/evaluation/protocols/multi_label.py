"""Images with several classes: mean average precision of regressions on frozen features."""

from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from ssl_zoo.data.sources import Source
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import broadcast_object, raise_together
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation import logistic, multi_label
from ssl_zoo.evaluation.average_precision import check_metric, interval, measure, per_class
from ssl_zoo.evaluation.features import Features
from ssl_zoo.evaluation.logistic import STRENGTHS, check_strengths
from ssl_zoo.evaluation.predictions import save_scores
from ssl_zoo.evaluation.protocols.context import EvaluationContext, fingerprint, image_names
from ssl_zoo.printable import one_line


def evaluate_multi_label(
    context: EvaluationContext,
    metric: str = 'map',
    strengths: tuple[float, ...] = STRENGTHS,
    retrain: bool = False,
    tool: str = 'logistic',
    dtype: str = 'float32',
) -> dict:
    """Fit a logistic regression for each class, and measure the mean average precision.

    The features have no augmentation. One penalty for all classes is chosen on the hold-out.

    Args:
        context: what is evaluated; its images have several classes.
        metric: 'map' or 'map_11point', see ssl_zoo.evaluation.average_precision.
        strengths: L2 penalties to choose from.
        retrain: whether to fit again with the hold-out after the choice.
        tool: name of the evaluation, the start of the row's metric.
        dtype: dtype of the stored features, 'float32' or 'float16'.

    Returns:
        The results row, on every process.

    Raises:
        ConfigError: an argument is wrong, a source is missing, or no class can be measured.
    """
    check_metric(metric)
    strengths = check_strengths(strengths)
    if not strengths:
        raise ConfigError(
            'there is no strength to fit with; give one or more, such as --strengths 1'
        )
    names = ['train', 'test']
    if len(strengths) > 1 or retrain:
        names.append('val')
    sources = {name: context.source(name, several_classes=True) for name in names}
    features = {name: context.features(source, name, dtype) for name, source in sources.items()}
    evaluation = _MultiLabelEvaluation(context, sources, features, metric, strengths, retrain, tool)
    return broadcast_object(raise_together(lambda: None if rank() > 0 else evaluation.run()))


@dataclass(frozen=True)
class _MultiLabelEvaluation:
    """The evaluation on process 0; attributes are arguments of evaluate_multi_label.

    Attributes:
        sources: images by name: 'train', 'test' and, if needed, 'val'.
        features: their features.
    """

    context: EvaluationContext
    sources: dict[str, Source]
    features: dict[str, Features]
    metric: str
    strengths: tuple[float, ...]
    retrain: bool
    tool: str

    def run(self) -> dict:
        values, labels = self._images('train')
        strength = self.strengths[0]
        parameters: dict[str, Any] = dict(strength=strength)
        chosen: dict[str, float] = {}
        if len(self.strengths) > 1:
            strength, on_hold_out = self._choose_strength()
            holdout = len(self._images('val')[1])
            parameters = dict(candidates=dict(strength=self.strengths), holdout=holdout)
            chosen = dict(strength=strength, holdout_map=on_hold_out)
        if self.retrain:
            more_values, more_labels = self._images('val')
            values = np.concatenate([values, more_values])
            labels = np.concatenate([labels, more_labels])
        queries, test_labels = self._images('test')
        measured = (test_labels == 1).any(0)
        if not measured.any():
            raise ConfigError('no test image has a class, so there is no average precision')
        scores = multi_label.fit_scores(values, labels, queries, strength)
        classes = self.sources['test'].classes
        of_classes = per_class(self.metric, scores, test_labels)
        protocol = dict(
            name='multi_label',
            classes=int(measured.sum()),
            features=len(labels),
            dtype=str(self.features['train'].values.dtype),
            optimizer='L-BFGS',
            max_iter=logistic.MAX_ITER,
            **parameters,
            retrain=self.retrain,
        )
        index = self.features['test'].index
        row = self.context.record(
            self.tool,
            self.metric,
            measure(self.metric, scores, test_labels),
            interval(self.metric, scores, test_labels),
            len(index),
            self.sources['test'],
            protocol,
            chosen,
            partial(
                save_scores,
                scores=scores,
                labels=test_labels,
                names=image_names(self.sources['test'], index),
                classes=classes,
            ),
            strength=strength,
            average_precision={
                classes[c]: round(of_classes[c], 4) for c in np.flatnonzero(measured)
            },
        )
        if self.context.per_class:
            for name, value in sorted(row['average_precision'].items(), key=itemgetter(1)):
                print(f'  {value:6.2f} %  {one_line(name)}')
        return row

    def _images(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return features, (n, D), and labels, (n, C), of the readable images."""
        features = self.features[name]
        return features.values, self.sources[name].multi_labels[features.index]

    def _choose_strength(self) -> tuple[float, float]:
        """Return the best strength on the hold-out and its value of the metric, in percent."""
        folder = self.context.folder(
            self.tool,
            data=[fingerprint(self.sources[name]) for name in ('train', 'val')],
            strengths=self.strengths,
            metric=self.metric,
            dtype=str(self.features['train'].values.dtype),
        )
        values, unconverged = multi_label.sweep(
            *self._images('train'),
            *self._images('val'),
            self.metric,
            self.strengths,
            folder,
        )
        if not len(values):
            raise ConfigError(
                'no class has a held-out image and training images with and without it, so no '
                'strength can be chosen; hold more images out, or give one strength: --strengths 1'
            )
        measured = int((self._images('test')[1] == 1).any(0).sum())
        if len(values) < measured:
            print(
                f'the choice is made on {len(values)} of {measured} classes: the others have no '
                f'held-out image, or all or none of the training images'
            )
        scores = values.mean(0)
        strength = self.strengths[int(np.argmax(scores))]
        if unconverged:
            print(
                f'{unconverged} of {values.size} regressions had not converged after '
                f'{logistic.MAX_ITER} steps'
            )
        if strength in (self.strengths[0], self.strengths[-1]):
            print(f'warning: the best strength {strength:g} is at the end of the range')
        return strength, float(scores.max())
