"""Linear evaluation: a sweep of linear heads, trained together on the frozen encoder."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ssl_zoo.data.sources import Joined, Source
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import broadcast_object, write_on_rank0
from ssl_zoo.evaluation.classifier_training import reading_saved_state, train_classifier
from ssl_zoo.evaluation.classifiers import Classifier, Heads, predict
from ssl_zoo.evaluation.features import Preprocessing
from ssl_zoo.evaluation.labelled_batches import ImageBatches
from ssl_zoo.evaluation.metrics import check_metric, measure
from ssl_zoo.evaluation.protocols.choice import Choice, choose
from ssl_zoo.evaluation.protocols.context import (
    EvaluationContext,
    check_two_classes,
    fingerprint,
    image_names,
)
from ssl_zoo.evaluation.recipes import Recipe, Setting
from ssl_zoo.storage.tensor_file import read_tensor_file


@dataclass(frozen=True)
class TrainedHeads:
    """Heads that were trained on a source.

    Attributes:
        network: frozen encoder and heads, in eval mode.
        batches: the labelled images.
        folder: folder of the saved heads, to be removed when the results row is written.
    """

    network: Classifier
    batches: ImageBatches
    folder: Path


def evaluate_linear(
    context: EvaluationContext, recipe: Recipe, retrain: bool = False, metric: str = 'top1'
) -> dict:
    """Train linear heads on the frozen encoder, and measure the best on the test images.

    The images are randomly cropped and flipped. The encoder is in eval mode and gets no gradient.
    One head for each setting is trained on the same features. After the last epoch the head with
    the best value of the metric on the hold-out is measured on the test images.

    Args:
        context: what is evaluated.
        recipe: the sweep.
        retrain: whether to train the chosen setting again on training images and hold-out
            together.
        metric: 'top1' or 'mean_per_class'.

    Returns:
        The results row.

    Raises:
        ConfigError: the metric is unknown, the hold-out or the test images are missing, or there
            is one class only.
        Stopped: after Ctrl-C, SIGTERM or SIGUSR1, when the state is saved.
    """
    check_metric(metric)
    train = context.source('train')
    test = context.source('test')
    settings = recipe.settings(len(train))
    preprocessing = replace(context.preprocessing, interpolation=recipe.test_interpolation)
    if len(settings) > 1 or retrain:
        context.source('val')  # a missing hold-out is an error before the training, not after
    check_two_classes(train.labels)
    heads = _train_heads(context, train, recipe, settings, 'linear')
    folders = [heads.folder]
    choice = Choice(settings[0])
    if len(settings) > 1:
        choice = _choose_head(context, heads.network, settings, preprocessing, metric)
    head = choice.index
    if retrain:
        everything = Joined(train, context.source('val'))
        # The peak learning rate depends on the batch size, and a small data set limits the batch.
        choice = choice.with_setting(recipe.settings(len(everything))[choice.index])
        name = 'linear, again on all'
        heads = _train_heads(context, everything, recipe, [choice.setting], name)
        folders.append(heads.folder)
        head = 0
    positions, predicted, _ = predict(
        heads.network, test, preprocessing, context.batch_size, context.workers
    )
    protocol = dict(name='linear', **choice.parameters(recipe, len(heads.batches)), retrain=retrain)
    row = context.report(
        'linear',
        metric,
        predicted[:, head],
        test.labels[positions],
        image_names(test, positions),
        test,
        protocol,
        choice.found(),
        recipe=recipe.to_builtin(),
        setting=str(choice.setting),
        unreadable=len(heads.batches.unreadable),
    )
    if rank() == 0:  # process 0 has written the row by now
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return row


def _train_heads(
    context: EvaluationContext,
    source: Source,
    recipe: Recipe,
    settings: list[Setting],
    name: str,
) -> TrainedHeads:
    """Train one head for each setting, or load the heads that a stopped evaluation has trained."""
    folder = context.folder(
        'linear',
        recipe=recipe.to_builtin(),
        data=fingerprint(source),
        seed=context.seed,
        settings=[str(s) for s in settings],
    )
    heads = Heads(context.width, context.classes, len(settings), recipe.init, context.seed)
    network = Classifier(context.encoder, heads, True, context.preprocessing).to(context.device)
    batches = ImageBatches(
        source, recipe, context.preprocessing, context.seed, context.workers, context.device
    )
    trained = folder / 'trained.pth'
    if broadcast_object(trained.exists()):
        with reading_saved_state(trained):
            content = read_tensor_file(trained)
            heads.load_state_dict(content['heads'])
            batches.unreadable.update(content['unreadable'])
    else:
        state_path = folder / 'state.pth'
        train_classifier(network, batches, recipe, settings, context.seed, state_path, name)
        content = dict(heads=heads.state_dict(), unreadable=batches.unreadable)
        write_on_rank0(trained, lambda file: torch.save(content, file))
    return TrainedHeads(network.eval(), batches, folder)


def _choose_head(
    context: EvaluationContext,
    network: Classifier,
    settings: list[Setting],
    preprocessing: Preprocessing,
    metric: str,
) -> Choice:
    val = context.source('val')
    positions, predicted, _ = predict(
        network, val, preprocessing, context.batch_size, context.workers
    )
    labels = val.labels[positions]
    scores = [measure(metric, predicted[:, head], labels) for head in range(len(settings))]
    return choose(settings, scores, len(positions), metric)
