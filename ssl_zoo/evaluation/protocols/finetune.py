"""Fine-tune the whole network with every setting of a sweep; keep the best on the hold-out."""

import json
from pathlib import Path

import torch
from torch import nn

from ssl_zoo.data.sources import Source
from ssl_zoo.distributed.batchnorm import unsplit_batchnorm
from ssl_zoo.distributed.objects import on_rank0, write_on_rank0
from ssl_zoo.evaluation.classifier_training import reading_saved_state, train_classifier
from ssl_zoo.evaluation.classifiers import Classifier, Heads, predict
from ssl_zoo.evaluation.labelled_batches import ImageBatches
from ssl_zoo.evaluation.metrics import measure
from ssl_zoo.evaluation.protocols.choice import Choice, choose
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.recipes import Recipe, Setting
from ssl_zoo.storage.tensor_file import read_tensor_file

DIVERGED = -1.0  # score of a setting whose loss is not finite, below every accuracy


def build_network(
    context: EvaluationContext, recipe: Recipe, draw: int, bn_momentum: float | None
) -> Classifier:
    """Build a network of encoder and one head, with the weights of the checkpoint.

    Args:
        context: gives the encoder.
        recipe: gives the init of the head.
        draw: number of the draw, added to the seed of the head.
        bn_momentum: momentum of torch's BatchNorm; None to leave it as it is.
    """
    # MoCo's BatchNorm over parts of a batch belongs to pretraining alone.
    encoder = unsplit_batchnorm(context.fresh_encoder(draw))
    if bn_momentum is not None:
        for module in encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = bn_momentum
    encoder.requires_grad_(True)  # the parameters of a target network do not require gradients
    heads = Heads(context.width, context.classes, 1, recipe.init, context.seed + draw)
    return Classifier(encoder, heads, False, context.preprocessing).to(context.device)


def train_one(
    context: EvaluationContext,
    train: Source,
    recipe: Recipe,
    setting: Setting,
    draw: int,
    state_path: Path,
    name: str,
    bn_momentum: float | None = None,
) -> Classifier:
    """Train the whole network with one setting, and return it.

    Args:
        context: gives the encoder.
        train: labelled images.
        recipe: gives crop, batch size and schedule.
        setting: learning rate, weight decay and epochs.
        draw: number of the draw, added to the seed.
        state_path: file for the state of a stopped training.
        name: title of the progress bar.
        bn_momentum: momentum of torch's BatchNorm; None to leave it as it is.
    """
    seed = context.seed + draw
    network = build_network(context, recipe, draw, bn_momentum)
    batches = ImageBatches(
        train, recipe, context.preprocessing, seed, context.workers, context.device
    )
    train_classifier(network, batches, recipe, [setting], seed, state_path, name)
    return network


def finetune(
    context: EvaluationContext,
    train: Source,
    val: Source | None,
    recipe: Recipe,
    settings: list[Setting],
    folder: Path,
    metric: str = 'top1',
    draw: int = 0,
    bn_momentum: float | None = None,
) -> tuple[Classifier, Choice]:
    """Train the network with every setting, and choose the best on the hold-out.

    Each network is measured after its last epoch. ``folder`` holds the scores of the finished
    settings and the best network so far; a stopped sweep continues from these files.

    Args:
        context: gives the encoder.
        train: labelled images.
        val: the hold-out; not used for one setting.
        recipe: the sweep.
        settings: settings of the recipe.
        folder: folder of the saved state.
        metric: 'top1' or 'mean_per_class'.
        draw: number of the draw, added to the seed.
        bn_momentum: momentum of torch's BatchNorm; None to leave it as it is.

    Returns:
        The network of the chosen setting, and the choice.

    Raises:
        FloatingPointError: the loss of every setting is not finite.
        Stopped: after Ctrl-C, SIGTERM or SIGUSR1, when the state is saved.
    """
    scores_file = folder / 'scores.json'
    best_file = folder / 'best.pth'
    state_path = folder / 'state.pth'
    finished = on_rank0(lambda: _read_scores(scores_file, len(settings)))
    for i in range(len(finished), len(settings)):
        name = f'{i + 1}/{len(settings)}'
        score = 0.0
        images = 0
        try:
            network = train_one(
                context, train, recipe, settings[i], draw, state_path, name, bn_momentum
            )
            if len(settings) > 1:
                positions, predicted, _ = predict(
                    network, val, context.preprocessing, context.batch_size, context.workers
                )
                score = measure(metric, predicted[:, 0], val.labels[positions])
                images = len(positions)
            if all(score > other for other, _ in finished):
                weights = network.state_dict()
                write_on_rank0(best_file, lambda file, weights=weights: torch.save(weights, file))
        except FloatingPointError:  # the other settings may still train
            state_path.unlink(missing_ok=True)
            score = DIVERGED
        finished.append([score, images])
        content = json.dumps(finished).encode()
        write_on_rank0(scores_file, lambda file, content=content: file.write(content))
    choice = _choose(settings, finished, metric, scores_file)
    network = build_network(context, recipe, draw, bn_momentum)
    with reading_saved_state(best_file):
        network.load_state_dict(read_tensor_file(best_file))
    return network, choice


def _choose(
    settings: list[Setting], finished: list[list], metric: str, scores_file: Path
) -> Choice:
    """Choose the setting with the best score. Raises FloatingPointError if all have diverged."""
    scores = [score for score, _ in finished]
    if max(scores) < 0:
        scores_file.unlink(missing_ok=True)
        raise FloatingPointError(
            'the loss of every setting is not finite; lower the learning rates'
        )
    if len(settings) == 1:
        return Choice(settings[0])
    return choose(settings, scores, max(images for _, images in finished), metric)


def _read_scores(scores_file: Path, settings: int) -> list[list]:
    """Return [score, held-out images] of each finished setting."""
    if not scores_file.exists():
        return []
    with reading_saved_state(scores_file):
        content = json.loads(scores_file.read_text())
        finished = [[float(score), int(images)] for score, images in content]
        if len(finished) > settings:
            raise ValueError(f'{len(finished)} scores of {settings} settings')
    return finished
