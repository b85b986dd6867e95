"""Transfer to other classification sets: logistic regression on frozen features, and fine-tuning of the whole network."""

import copy
from dataclasses import replace

import numpy as np

from ssl_zoo.data.sources import Joined
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation import logistic
from ssl_zoo.evaluation.classifiers import predict
from ssl_zoo.evaluation.metrics import check_metric
from ssl_zoo.evaluation.protocols.context import EvaluationContext, fingerprint, names_of
from ssl_zoo.evaluation.protocols.finetune import finetune, train_one
from ssl_zoo.evaluation.protocols.linear import evaluate_logistic
from ssl_zoo.evaluation.recipes import TRANSFER_STEPS, Recipe


def transfer_linear(
    context: EvaluationContext,
    metric: str,
    strengths: tuple[float, ...] = logistic.STRENGTHS,
    dtype: str = 'float32',
) -> dict:
    """L-BFGS logistic regression on frozen features, no augmentation, the short side resized to the crop and the centre cut out; the
    penalty is chosen on the hold-out, and the regression fitted again with it (BYOL D.2, SimCLR B.8.1).

    Args:
        context: with the other set as its data.
        metric: 'top1' or 'mean_per_class', see ssl_zoo.data.sources.transfer_sets.TRANSFER_SETS.
        strengths, dtype: see ssl_zoo.evaluation.protocols.linear.evaluate_cached.
    """
    check_metric(metric)
    strengths = logistic.check_strengths(strengths)
    context = copy.copy(context)
    context.preprocessing = replace(context.preprocessing, resize=context.preprocessing.size)
    parts = {
        name: context.features(context.source(name), f'transfer_{name}', dtype)
        for name in ('train', 'val', 'test')
    }
    return evaluate_logistic(
        context,
        parts['train'],
        parts['val'],
        parts['test'],
        context.source('test'),
        metric,
        strengths,
        True,
        'transfer_linear',
    )


def bn_momentum(images: int, batch_size: int) -> float:
    """torch's momentum of BatchNorm: 1 - max(1 - 10 / s, 0.9), s = steps per epoch (SimCLR B.8.1, BYOL D.3)."""
    return 1 - max(1 - 10 / (images / batch_size), 0.9)


def transfer_finetune(
    context: EvaluationContext,
    metric: str,
    recipe: Recipe,
    steps: int = TRANSFER_STEPS,
    retrain: bool = True,
) -> dict:
    """The whole network fine-tuned with every setting, the best on the hold-out trained again with it (BYOL D.3, SimCLR B.8.1).

    Args:
        context, metric: see transfer_linear.
        recipe: learning rates, weight decays, batch size; steps: optimiser steps of each training.
        retrain: train the chosen setting again on training images and hold-out together.
    """
    train, val, test = (context.source(name) for name in ('train', 'val', 'test'))
    if steps < 1:
        raise ConfigError(f'--steps is {steps}, but it must be at least 1')
    if len(np.unique(train.labels)) < 2:
        raise ConfigError('the training images are all of one class; a classifier needs two')

    def budget(
        n: int,
    ) -> Recipe:  # so many steps, whatever the images; a little over, to round to them
        return replace(recipe, epochs=((steps + 0.5) * min(recipe.batch_size, n) / n,))

    folder = context.folder(
        'transfer_finetune',
        recipe=recipe.to_builtin(),
        steps=steps,
        data=[fingerprint(train), fingerprint(val)],
        seed=context.seed,
        metric=check_metric(metric),
    )
    sweep, size = budget(len(train)), min(recipe.batch_size, len(train))
    network, setting, selection = finetune(
        context,
        train,
        val,
        sweep,
        sweep.settings(len(train)),
        folder,
        metric,
        bn_momentum=bn_momentum(len(train), size),
    )
    if retrain:
        everything = Joined(train, val)
        again, size = budget(len(everything)), min(recipe.batch_size, len(everything))
        setting = replace(setting, epochs=again.epochs[0])
        network = train_one(
            context,
            everything,
            again,
            setting,
            0,
            folder / 'state.pth',
            'again on all',
            bn_momentum(len(everything), size),
        )
        selection += ', trained again with the hold-out'
    positions, predicted, _ = predict(
        network, test, context.preprocessing, context.batch_size, context.workers
    )
    return context.report(
        'transfer_finetune',
        metric,
        predicted[:, 0],
        test.labels[positions],
        names_of(test, positions),
        test,
        f'whole network fine-tuned, {steps:,} steps of {size}, {recipe.optimizer}, lr {setting.lr:g}, weight decay '
        f'{setting.weight_decay:g}; {selection}',
        recipe=recipe.to_builtin(),
        setting=str(setting),
    )
