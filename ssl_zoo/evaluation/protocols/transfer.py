"""Transfer to other classification sets: logistic regression on features, and fine-tuning."""

import copy
from dataclasses import replace

from ssl_zoo.data.sources import Joined
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.classifiers import Classifier, predict
from ssl_zoo.evaluation.logistic import STRENGTHS, check_strengths
from ssl_zoo.evaluation.metrics import check_metric
from ssl_zoo.evaluation.protocols.choice import Choice
from ssl_zoo.evaluation.protocols.context import (
    EvaluationContext,
    check_two_classes,
    fingerprint,
    image_names,
)
from ssl_zoo.evaluation.protocols.finetune import finetune, train_one
from ssl_zoo.evaluation.protocols.logistic import evaluate_logistic
from ssl_zoo.evaluation.protocols.multi_label import evaluate_multi_label
from ssl_zoo.evaluation.recipes import TRANSFER_STEPS, Recipe


def transfer_linear(
    context: EvaluationContext,
    metric: str,
    strengths: tuple[float, ...] = STRENGTHS,
    dtype: str = 'float32',
) -> dict:
    """Fit a logistic regression by L-BFGS to frozen features, and measure it on the test images.

    There is no augmentation: the short side of an image is resized to the size of the centre crop.
    The penalty is chosen on the hold-out, and the regression is fitted again on training images
    and hold-out together (BYOL D.2, SimCLR B.8.1).

    Args:
        context: its data is the set to transfer to.
        metric: 'top1' or 'mean_per_class', see ssl_zoo.data.sources.transfer_sets.TRANSFER_SETS; of
            images with several classes 'map' or 'map_11point'.
        strengths: L2 penalties to choose from.
        dtype: dtype of the stored features, 'float32' or 'float16'.

    Returns:
        The results row.

    Raises:
        ConfigError: an argument is wrong, a source is missing, or there is one class only.
    """
    context = copy.copy(context)
    context.preprocessing = replace(context.preprocessing, resize=context.preprocessing.size)
    if context.has_several_classes:
        return evaluate_multi_label(context, metric, strengths, True, 'transfer_linear', dtype)
    check_metric(metric)
    strengths = check_strengths(strengths)
    features = {
        name: context.features(context.source(name), f'transfer_{name}', dtype)
        for name in ('train', 'val', 'test')
    }
    return evaluate_logistic(
        context,
        features['train'],
        features['val'],
        features['test'],
        context.source('test'),
        metric,
        strengths,
        True,
        'transfer_linear',
    )


def bn_momentum(images: int, batch_size: int) -> float:
    """Return torch's momentum of BatchNorm: 1 - max(1 - 10 / s, 0.9), s = steps per epoch.

    Source: SimCLR B.8.1, BYOL D.3.
    """
    return 1 - max(1 - 10 / (images / batch_size), 0.9)


def transfer_finetune(
    context: EvaluationContext,
    metric: str,
    recipe: Recipe,
    steps: int = TRANSFER_STEPS,
    retrain: bool = True,
) -> dict:
    """Fine-tune the whole network with every setting; measure the best on the test images.

    With ``retrain`` the chosen setting is trained again on training images and hold-out together
    (BYOL D.3, SimCLR B.8.1).

    Args:
        context: its data is the set to transfer to.
        metric: 'top1' or 'mean_per_class'.
        recipe: learning rates, weight decays, batch size.
        steps: optimizer steps of each training.
        retrain: whether to train the chosen setting again on training images and hold-out
            together.

    Returns:
        The results row.

    Raises:
        ConfigError: an argument is wrong, a source is missing, or there is one class only.
        FloatingPointError: the loss of every setting is not finite.
        Stopped: after Ctrl-C, SIGTERM or SIGUSR1, when the state is saved.
    """
    train = context.source('train')
    val = context.source('val')
    context.source('test')  # raises the error of missing test images before the training
    if steps < 1:
        raise ConfigError(f'--steps is {steps}, but it must be at least 1')
    check_two_classes(train.labels)
    folder = context.folder(
        'transfer_finetune',
        recipe=recipe.to_builtin(),
        steps=steps,
        data=[fingerprint(train), fingerprint(val)],
        seed=context.seed,
        metric=check_metric(metric),
    )
    sweep = _with_steps(recipe, steps, len(train))
    batch_size = min(recipe.batch_size, len(train))
    momentum = bn_momentum(len(train), batch_size)
    network, choice = finetune(
        context,
        train,
        val,
        sweep,
        sweep.settings(len(train)),
        folder,
        metric,
        bn_momentum=momentum,
    )
    if retrain:
        train = Joined(train, val)
        sweep = _with_steps(recipe, steps, len(train))
        momentum = bn_momentum(len(train), min(recipe.batch_size, len(train)))
        choice = choice.with_setting(replace(choice.setting, epochs=sweep.epochs[0]))
        state_path = folder / 'state.pth'
        network = train_one(
            context, train, sweep, choice.setting, 0, state_path, 'again on all', momentum
        )
    protocol = dict(
        name='finetune',
        weights=context.weights,
        steps=steps,
        **choice.parameters(sweep, len(train)),
        bn_momentum=momentum,
        retrain=retrain,
    )
    return _report(context, metric, network, protocol, choice, recipe)


def _report(
    context: EvaluationContext,
    metric: str,
    network: Classifier,
    protocol: dict,
    choice: Choice,
    recipe: Recipe,
) -> dict:
    """Measure the network on the test images and return the results row."""
    test = context.source('test')
    positions, predicted, _ = predict(
        network, test, context.preprocessing, context.batch_size, context.workers
    )
    return context.report(
        'transfer_finetune',
        metric,
        predicted[:, 0],
        test.labels[positions],
        image_names(test, positions),
        test,
        protocol,
        choice.found(),
        recipe=recipe.to_builtin(),
        setting=str(choice.setting),
    )


def _with_steps(recipe: Recipe, steps: int, images: int) -> Recipe:
    """Return the recipe with the epochs that make this number of steps.

    The half step on top keeps Recipe.steps, which rounds down, from returning one step less.
    """
    epochs = (steps + 0.5) * min(recipe.batch_size, images) / images
    return replace(recipe, epochs=(epochs,))
