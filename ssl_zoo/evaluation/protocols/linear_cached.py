"""Linear evaluation on stored features: a sweep of linear heads, and logistic regression."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from ssl_zoo.data.sources import Source
from ssl_zoo.evaluation.classifier_training import train_classifier
from ssl_zoo.evaluation.classifiers import Classifier, Heads, predict_features
from ssl_zoo.evaluation.features import Features
from ssl_zoo.evaluation.labelled_batches import FeatureBatches
from ssl_zoo.evaluation.logistic import STRENGTHS, check_strengths
from ssl_zoo.evaluation.metrics import check_metric, measure
from ssl_zoo.evaluation.protocols.choice import Choice, choose
from ssl_zoo.evaluation.protocols.context import (
    EvaluationContext,
    check_two_classes,
    fingerprint,
    image_names,
)
from ssl_zoo.evaluation.protocols.logistic import evaluate_logistic, join_features
from ssl_zoo.evaluation.recipes import Recipe, Setting


@dataclass(frozen=True)
class StoredFeatures:
    """Stored features of an evaluation.

    Attributes:
        train: features of the training images without the hold-out.
        held_out: features of the hold-out; None without a hold-out.
        test: features of the test images.
        fingerprints: fingerprints of the training images and the hold-out.
    """

    train: Features
    held_out: Features | None
    test: Features
    fingerprints: list[dict | None]


def evaluate_cached(
    context: EvaluationContext,
    recipe: Recipe,
    retrain: bool = False,
    strengths: tuple[float, ...] = STRENGTHS,
    dtype: str = 'float32',
    metric: str = 'top1',
) -> list[dict]:
    """Extract features once, without augmentation, and train the heads and the regression on them.

    Args:
        context: what is evaluated.
        recipe: the sweep of heads, trained with SGD.
        retrain: whether to train the chosen settings again on training images and hold-out
            together.
        strengths: L2 penalties of the logistic regression (L-BFGS); empty for no regression.
        dtype: dtype of the stored features, 'float32' or 'float16'.
        metric: 'top1' or 'mean_per_class'.

    Returns:
        The results rows: that of the heads, then that of the regression.

    Raises:
        ConfigError: the hold-out or the test images are missing, there is one class only, or a
            strength is not a finite number above 0.
        Stopped: after Ctrl-C, SIGTERM or SIGUSR1, when the state is saved.
    """
    check_metric(metric)
    train = context.source('train')
    test = context.source('test')
    val = context.sources['val']
    strengths = check_strengths(strengths)
    check_two_classes(train.labels)
    context = copy.copy(context)
    context.preprocessing = replace(context.preprocessing, interpolation=recipe.test_interpolation)
    has_choice = len(recipe.settings(len(train))) > 1 or len(strengths) > 1
    if val is None and (has_choice or retrain):
        context.source('val')  # raises the error of a missing hold-out
    train_features = context.features(train, 'train', dtype)
    test_features = context.features(test, 'test', dtype)
    held_out = None if val is None else context.features(val, 'val', dtype)
    fingerprints = [fingerprint(train), fingerprint(val)]
    features = StoredFeatures(train_features, held_out, test_features, fingerprints)
    rows = [_evaluate_heads(context, features, test, recipe, retrain, dtype, metric)]
    if strengths:
        row = evaluate_logistic(
            context,
            train_features,
            held_out,
            test_features,
            test,
            metric,
            strengths,
            retrain,
            'logistic',
        )
        rows.append(row)
    return rows


def _evaluate_heads(
    context: EvaluationContext,
    features: StoredFeatures,
    test: Source,
    recipe: Recipe,
    retrain: bool,
    dtype: str,
    metric: str,
) -> dict:
    """Train the heads and return the results row of the best one."""

    def train_heads(trained_on: Features, settings: list[Setting], name: str) -> Heads:
        folder = context.folder(
            'linear',
            recipe=recipe.to_builtin(),
            cached=dtype,
            n=len(trained_on.labels),
            data=features.fingerprints,
            seed=context.seed,
            settings=[str(s) for s in settings],
        )
        return _train_heads(context, trained_on, recipe, settings, folder / 'state.pth', name)

    trained_on = features.train
    settings = recipe.settings(len(trained_on.labels))
    heads = train_heads(trained_on, settings, 'heads')
    choice = Choice(settings[0])
    if len(settings) > 1:
        labels = features.held_out.labels
        predicted = predict_features(heads, features.held_out)
        scores = [measure(metric, predicted[:, head], labels) for head in range(len(settings))]
        choice = choose(settings, scores, len(labels), metric)
    head = choice.index
    if retrain:
        trained_on = join_features(features.train, features.held_out)
        choice = choice.with_setting(recipe.settings(len(trained_on.labels))[choice.index])
        heads = train_heads(trained_on, [choice.setting], 'heads, again on all')
        head = 0
    parameters = choice.parameters(recipe, len(trained_on.labels))
    for name in ('crop', 'flip_p', 'interpolation'):  # stored features have no augmentation
        del parameters[name]
    return context.report(
        'linear_cached',
        metric,
        predict_features(heads, features.test)[:, head],
        features.test.labels,
        image_names(test, features.test.index),
        test,
        dict(name='linear_cached', **parameters, dtype=dtype, retrain=retrain),
        choice.found(),
        recipe=recipe.to_builtin(),
        setting=str(choice.setting),
    )


def _train_heads(
    context: EvaluationContext,
    features: Features,
    recipe: Recipe,
    settings: list[Setting],
    state_path: Path,
    name: str,
) -> Heads:
    width = features.values.shape[1]
    heads = Heads(width, context.classes, len(settings), recipe.init, context.seed)
    network = Classifier(None, heads, True, context.preprocessing).to(context.device)
    batches = FeatureBatches(features, context.seed, context.device)
    train_classifier(network, batches, recipe, settings, context.seed, state_path, name)
    return heads
