"""Training of the whole network, once for each setting of a sweep; the best on the hold-out is kept."""

import json
from pathlib import Path

import torch
from torch import nn

from ssl_zoo.data.sources import Source
from ssl_zoo.distributed.batchnorm import unsplit_batchnorm
from ssl_zoo.distributed.objects import on_rank0, write_on_rank0
from ssl_zoo.evaluation.classifiers import (
    Classifier,
    Heads,
    ImageBatches,
    going_on,
    predict,
    train_classifier,
)
from ssl_zoo.evaluation.metrics import measure
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.protocols.linear import choose
from ssl_zoo.evaluation.recipes import Recipe, Setting


def network_of(
    context: EvaluationContext, recipe: Recipe, draw: int, bn_momentum: float | None
) -> Classifier:
    """A network of one head to be trained as a whole, from the checkpoint's weights."""
    encoder = unsplit_batchnorm(
        context.fresh_encoder(draw)
    )  # MoCo's parts of a batch belong to its pretraining
    if bn_momentum is not None:
        for module in encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = bn_momentum
    encoder.requires_grad_(True)  # a target network's parameters are not
    return Classifier(
        encoder,
        Heads(context.width, context.classes, 1, recipe.init, context.seed + draw),
        False,
        context.preprocessing,
    ).to(context.device)


def train_one(
    context: EvaluationContext,
    train: Source,
    recipe: Recipe,
    setting: Setting,
    draw: int,
    state: Path,
    what: str,
    bn_momentum: float | None = None,
) -> Classifier:
    """The whole network trained with one setting."""
    network = network_of(context, recipe, draw, bn_momentum)
    batches = ImageBatches(
        train, recipe, context.preprocessing, context.seed + draw, context.workers, context.device
    )
    train_classifier(network, batches, recipe, [setting], context.seed + draw, state, what)
    return network


def finetune(
    context: EvaluationContext,
    train: Source,
    val: Source,
    recipe: Recipe,
    settings: list[Setting],
    folder: Path,
    metric: str = 'top1',
    draw: int = 0,
    bn_momentum: float | None = None,
) -> tuple[Classifier, Setting, str]:
    """Train the network with every setting; the one that is best on the hold-out, after its last epoch.

    What is finished is kept in ``folder``, so that a stopped sweep goes on where it was.

    Args:
        train: labelled images; val: the hold-out.
        settings: of the recipe.
        draw: number of the draw, added to the seed.
        bn_momentum: of torch's BatchNorm, None to leave it.
    Returns:
        The network, its setting, the choice in words.
    """
    record, kept, state = folder / 'scores.json', folder / 'best.pth', folder / 'state.pth'
    done = on_rank0(lambda: _done(record, len(settings)))  # (score, held-out images) each
    for i in range(len(done), len(settings)):
        score, n = 0.0, 0
        try:
            network = train_one(
                context,
                train,
                recipe,
                settings[i],
                draw,
                state,
                f'{i + 1}/{len(settings)}',
                bn_momentum,
            )
            if len(settings) > 1:
                positions, predicted, _ = predict(
                    network, val, context.preprocessing, context.batch_size, context.workers
                )
                score, n = measure(metric, predicted[:, 0], val.labels[positions]), len(positions)
            if all(score > other for other, _ in done):
                weights = network.state_dict()
                write_on_rank0(kept, lambda file, weights=weights: torch.save(weights, file))
        except FloatingPointError:  # the worst there is, and no reason to lose the others
            state.unlink(missing_ok=True)
            score = -1.0
        done.append([score, n])
        text = json.dumps(done).encode()
        write_on_rank0(record, lambda file, text=text: file.write(text))
    scores = [score for score, _ in done]
    if max(scores) < 0:
        record.unlink(missing_ok=True)
        raise FloatingPointError(
            'the loss of every setting is not finite; lower the learning rates'
        )
    best, selection = (
        choose(settings, scores, max(n for _, n in done), metric)
        if len(settings) > 1
        else (0, 'one setting')
    )
    network = network_of(context, recipe, draw, bn_momentum)
    with going_on(kept):
        network.load_state_dict(torch.load(kept, map_location='cpu', weights_only=True))
    return network, settings[best], selection


def _done(record: Path, settings: int) -> list[list]:
    """(score, held-out images) of each setting that is finished."""
    if not record.exists():
        return []
    with going_on(record):
        done = [[float(score), int(n)] for score, n in json.loads(record.read_text())]
        if len(done) > settings:
            raise ValueError(f'{len(done)} scores of {settings} settings')
    return done
