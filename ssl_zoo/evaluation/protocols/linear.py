"""Linear evaluation: linear classifiers on the frozen encoder, a sweep of settings in one pass over the data."""

import copy
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ssl_zoo.data.sources import Joined, Source
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import broadcast_object, raise_together, write_on_rank0
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation import logistic
from ssl_zoo.evaluation.classifiers import (
    Classifier,
    FeatureBatches,
    Heads,
    ImageBatches,
    going_on,
    predict,
    predict_features,
    train_classifier,
)
from ssl_zoo.evaluation.features import Features
from ssl_zoo.evaluation.metrics import measure
from ssl_zoo.evaluation.protocols.context import NAMES, EvaluationContext, fingerprint, names_of
from ssl_zoo.evaluation.recipes import Recipe, Setting


def evaluate_linear(context: EvaluationContext, recipe: Recipe, retrain: bool = False) -> dict:
    """The frozen protocol: random crops and flips, an encoder in eval mode without gradient, one linear head for each setting, all
    on the same features. The head that is best on the hold-out is measured on the test images, after the last epoch.

    Args:
        context: what is evaluated; recipe: the sweep.
        retrain: train the chosen setting again on the training images and the hold-out together.
    Returns:
        The results row.
    """
    train, test = context.source('train'), context.source('test')
    settings = recipe.settings(len(train))
    preprocessing = replace(context.preprocessing, interpolation=recipe.test_interpolation)
    if len(settings) > 1 or retrain:
        context.source('val')  # says now what would be missing after the training

    _need_two_classes(train)
    folders: list[Path] = []

    def trained(
        source: Source, settings: list[Setting], what: str
    ) -> tuple[Classifier, ImageBatches]:
        folder = context.folder(
            'linear',
            recipe=recipe.to_builtin(),
            data=fingerprint(source),
            seed=context.seed,
            settings=[str(s) for s in settings],
        )
        heads = Heads(context.width, context.classes, len(settings), recipe.init, context.seed)
        network = Classifier(context.encoder, heads, True, context.preprocessing).to(context.device)
        folders.append(folder)
        kept = folder / 'trained.pth'
        batches = ImageBatches(
            source, recipe, context.preprocessing, context.seed, context.workers, context.device
        )
        if broadcast_object(kept.exists()):  # a stop after the training did not cost it
            with going_on(kept):
                content = torch.load(kept, map_location='cpu', weights_only=True)
                heads.load_state_dict(content['heads'])
                batches.unreadable.update(content['unreadable'])
        else:
            train_classifier(
                network, batches, recipe, settings, context.seed, folder / 'state.pth', what
            )
            content = dict(heads=heads.state_dict(), unreadable=batches.unreadable)
            write_on_rank0(kept, lambda file: torch.save(content, file))
        return network.eval(), batches

    network, batches = trained(train, settings, 'linear')
    best, selection, chosen = 0, 'one setting', settings[0]
    if len(settings) > 1:
        val = context.source('val')
        positions, predicted, _ = predict(
            network, val, preprocessing, context.batch_size, context.workers
        )
        scores = [
            measure('top1', predicted[:, h], val.labels[positions]) for h in range(len(settings))
        ]
        best, selection = choose(settings, scores, len(positions))
        chosen = settings[best]
    if retrain:
        everything = Joined(train, context.source('val'))
        # The peak learning rate follows the batch, which a small set limits.
        chosen = recipe.settings(len(everything))[best]
        network, batches = trained(everything, [chosen], 'linear, again on all')
        selection, best = f'{selection}, trained again with the hold-out', 0
    positions, predicted, _ = predict(
        network, test, preprocessing, context.batch_size, context.workers
    )
    row = context.report(
        'linear',
        'top1',
        predicted[:, best],
        test.labels[positions],
        names_of(test, positions),
        test,
        f'frozen encoder, random crops and flips, {recipe.optimizer}, {chosen}, '
        f'batch {min(recipe.batch_size, len(batches))}; {selection}',
        recipe=recipe.to_builtin(),
        setting=str(chosen),
        unreadable=len(batches.unreadable),
    )
    for folder in folders if rank() == 0 else ():  # which has written the figure by now
        shutil.rmtree(folder, ignore_errors=True)
    return row


def _need_two_classes(train: Source) -> None:
    if len(np.unique(train.labels)) < 2:
        raise ConfigError('the training images are all of one class; a classifier needs two')


def evaluate_cached(
    context: EvaluationContext,
    recipe: Recipe,
    retrain: bool = False,
    strengths: tuple[float, ...] = logistic.STRENGTHS,
    dtype: str = 'float32',
) -> list[dict]:
    """Features extracted once, without augmentation, and on them the sweep of heads (SGD) and logistic regression (L-BFGS).

    Args:
        context, recipe, retrain: see evaluate_linear.
        strengths: of the logistic regression's penalty; none to leave it out.
        dtype: of the stored features.
    Returns:
        The results rows, the heads' and the regression's.
    """
    train, test, val = context.source('train'), context.source('test'), context.sources['val']
    strengths = logistic.check_strengths(strengths)
    _need_two_classes(train)
    context = copy.copy(context)
    context.preprocessing = replace(context.preprocessing, interpolation=recipe.test_interpolation)
    if val is None and (len(recipe.settings(len(train))) > 1 or len(strengths) > 1 or retrain):
        context.source('val')  # says what is missing
    bank, queries = context.features(train, 'train', dtype), context.features(test, 'test', dtype)
    settings = recipe.settings(len(bank.labels))
    held_out = val and context.features(val, 'val', dtype)
    everything = _joined(bank, held_out) if retrain else bank
    names, rows = names_of(test, queries.index), []

    def heads_on(features: Features, settings: list[Setting], what: str) -> Heads:
        heads = Heads(
            features.values.shape[1], context.classes, len(settings), recipe.init, context.seed
        )
        network = Classifier(None, heads, True, context.preprocessing).to(context.device)
        folder = context.folder(
            'linear',
            recipe=recipe.to_builtin(),
            cached=dtype,
            n=len(features.labels),
            data=[fingerprint(train), fingerprint(val)],
            seed=context.seed,
            settings=[str(s) for s in settings],
        )
        train_classifier(
            network,
            FeatureBatches(features, context.seed, context.device),
            recipe,
            settings,
            context.seed,
            folder / 'state.pth',
            what,
        )
        return heads

    heads = heads_on(bank, settings, 'heads')
    best, selection = 0, 'one setting'
    if len(settings) > 1:
        predicted = predict_features(heads, held_out)
        best, selection = choose(
            settings,
            [measure('top1', predicted[:, h], held_out.labels) for h in range(len(settings))],
            len(held_out.labels),
        )
    chosen = settings[best]
    if retrain:
        chosen = recipe.settings(len(everything.labels))[best]
        heads, best, selection = (
            heads_on(everything, [chosen], 'heads, again on all'),
            0,
            f'{selection}, trained again with the hold-out',
        )
    rows.append(
        context.report(
            'linear_cached',
            'top1',
            predict_features(heads, queries)[:, best],
            queries.labels,
            names,
            test,
            f'features without augmentation, {recipe.optimizer}, {chosen}; {selection}',
            recipe=recipe.to_builtin(),
            setting=str(chosen),
        )
    )
    if strengths:
        rows.append(
            evaluate_logistic(
                context, bank, held_out, queries, test, 'top1', strengths, retrain, 'logistic'
            )
        )
    return rows


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
    """L-BFGS logistic regression, its strength chosen on the hold-out, measured on the test images."""
    if len(np.unique(bank.labels)) < 2:
        raise ConfigError('the training images are all of one class; a classifier needs two')
    if not strengths:
        raise ConfigError(
            'there is no strength to fit with; give one or more, such as --strengths 1'
        )

    def on_one() -> dict | None:
        return (
            None
            if rank() > 0
            else _fitted(context, bank, held_out, queries, test, metric, strengths, retrain, tool)
        )

    return broadcast_object(raise_together(on_one))


def _fitted(context, bank, held_out, queries, test, metric, strengths, retrain, tool) -> dict:
    selection, strength = 'one strength', strengths[0]
    if len(strengths) > 1:
        state = (
            context.folder(
                tool, data=[_hash(bank), _hash(held_out)], strengths=strengths, metric=metric
            )
            / 'state.npz'
        )
        scores, unconverged = logistic.sweep(
            bank.values,
            bank.labels,
            lambda model: measure(
                metric, logistic.predict(model, held_out.values), held_out.labels
            ),
            strengths,
            state=state,
        )
        strength = strengths[int(np.argmax(scores))]
        selection = f'strength chosen of {len(strengths)} on {len(held_out.labels):,} held-out images ({max(scores):.2f} %)'
        if unconverged:
            print(
                f'{unconverged} of {len(strengths)} regressions had not converged after 1000 steps'
            )
        if strength in (strengths[0], strengths[-1]):
            print(f'warning: the best strength {strength:g} is at the end of the range')
    final = _joined(bank, held_out) if retrain else bank
    model = logistic.fit(final.values, final.labels, strength)
    again = ', fitted again with the hold-out' if retrain else ''
    return context.report(
        tool,
        metric,
        logistic.predict(model, queries.values),
        queries.labels,
        names_of(test, queries.index),
        test,
        f'logistic regression on {len(final.labels):,} features without augmentation, L-BFGS, strength {strength:.3g}; '
        f'{selection}{again}',
        strength=strength,
    )


def choose(
    settings: list[Setting], scores: list[float], n: int, metric: str = 'top1'
) -> tuple[int, str]:
    """The setting with the best score on the hold-out, the first of several, and the choice in words; all are printed."""
    best = int(np.argmax(scores))
    print(f'{NAMES[metric]} in percent on {n:,} held-out images')
    for i, (setting, score) in enumerate(zip(settings, scores, strict=True)):
        print(f'{score:8.2f}  {setting}{"  <- chosen" if i == best else ""}')
    lrs = [s.lr for s in settings]
    if len(set(lrs)) > 2 and settings[best].lr in (min(lrs), max(lrs)):
        print(
            f'warning: the best learning rate {settings[best].lr:g} is at the end of the range; widen it with --lrs'
        )
    return best, f'chosen of {len(settings)} on {n:,} held-out images ({scores[best]:.2f} %)'


def _hash(features: Features) -> str:
    """Of some rows and all labels."""
    some = features.values[np.unique(np.linspace(0, len(features.values) - 1, 64).astype(int))]
    return hashlib.sha256(
        np.ascontiguousarray(some).tobytes() + features.labels.tobytes()
    ).hexdigest()


def _joined(a: Features, b: Features) -> Features:
    return Features(
        np.concatenate([a.values, b.values]),
        np.concatenate([a.labels, b.labels]),
        np.arange(len(a.labels) + len(b.labels)),
    )
