"""Semi-supervised evaluation: the whole network fine-tuned on a few labelled images."""

import statistics
from pathlib import Path

import numpy as np

from ssl_zoo.data.label_lists import draw_labels, is_imagenet, official_list, read_list, write_list
from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import on_rank0
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.classifiers import predict
from ssl_zoo.evaluation.metrics import check_metric
from ssl_zoo.evaluation.protocols.context import EvaluationContext, fingerprint, names_of, printable
from ssl_zoo.evaluation.protocols.finetune import finetune
from ssl_zoo.evaluation.recipes import Recipe
from ssl_zoo.evaluation.results import write_row
from ssl_zoo.storage.digest import sha256_of_file


def labelled_images(
    context: EvaluationContext, labels: str, path: str | None, draw: int
) -> tuple[Source, Source | None, dict]:
    """The images that have labels, the hold-out without them, and where the choice comes from.

    A given list may name any training image, those of the hold-out too; the hold-out then does without them. A list that is drawn
    leaves the hold-out alone.
    """
    train, val = context.source('train'), context.sources['val']
    if path is None and is_imagenet(train) and labels in ('1%', '10%'):
        path = on_rank0(lambda: official_list(labels))
    if path is not None:
        whole = context.sources['whole']
        chosen = read_list(path, whole)
        given = Subset(whole, chosen)
        if val is not None and not isinstance(context.settings.data.val, dict):
            taken = {given.name(i) for i in range(len(given))}
            val = Subset(
                val,
                np.array([i for i in range(len(val)) if val.name(i) not in taken], dtype=np.int64),
            )
            if not len(val):
                raise ConfigError(
                    f'all images of the hold-out are in the list {path}; hold others out with --cfg-options data.val='
                )
        digest = sha256_of_file(path)
        return (
            given,
            val,
            dict(
                label_set=labels or printable(Path(path).name),
                list=printable(str(path)),
                list_sha256=digest,
                labelled=len(chosen),
            ),
        )
    chosen = draw_labels(train, labels, context.seed + draw)
    path = (
        context.work_dir
        / 'labels'
        / f'{labels.replace("%", "percent")}_seed{context.seed + draw}.txt'
    )
    digest = on_rank0(lambda: write_list(path, train, chosen))
    return (
        Subset(train, chosen),
        val,
        dict(label_set=labels, list=str(path), list_sha256=digest, labelled=len(chosen)),
    )


def evaluate_semi_supervised(
    context: EvaluationContext,
    labels: str | None,
    path: str | None,
    recipe: Recipe,
    draws: int = 1,
    metric: str = 'top1',
) -> list[dict]:
    """Fine-tune on a few labels, with every setting of the recipe; the best on the hold-out is measured on the test images.

    With random weights it is the supervised baseline, under the same budget. Each draw has labels (where the lists are ours), a
    head, an order and, with random weights, weights of its own, and makes its own choice.

    Args:
        context: what is evaluated.
        labels: '1%', '10%', '4-per-class' ...; None with a list.
        path: text file that names the labelled images; None for the official list (ImageNet, 1 % and 10 %) or one that is drawn.
        recipe: the sweep; draws: how often; metric: 'top1' or 'mean_per_class'.
    Returns:
        The results rows, one for each draw, and with several draws one with their mean.
    """
    if labels is None and path is None:
        raise ConfigError(
            'nothing says which images have labels; give --labels 1%, --labels 4-per-class or --list FILE'
        )
    if labels is not None and path is not None:
        raise ConfigError('--labels and --list both say which images have labels; give one of them')
    check_metric(metric)
    if draws < 1:
        raise ConfigError(f'--draws is {draws}, but it must be at least 1')
    test, rows = context.source('test'), []
    kind = 'from scratch' if context.weights == 'random weights' else 'fine-tuned'
    for draw in range(draws):
        train, val, about = labelled_images(context, labels, path, draw)
        settings = recipe.settings(len(train))
        if val is None and len(settings) > 1:
            context.source('val')  # says what is missing
        if len(np.unique(train.labels)) < 2:
            raise ConfigError(
                f'the {len(train)} labelled images are all of one class; a classifier needs two'
            )
        folder = context.folder(
            'semi_supervised',
            recipe=recipe.to_builtin(),
            list=about['list_sha256'],
            draw=draw,
            seed=context.seed,
            data=fingerprint(train),
            val=fingerprint(val),
            metric=metric,
        )
        if draws > 1:
            print(f'draw {draw + 1} of {draws}')
        network, setting, selection = finetune(
            context, train, val, recipe, settings, folder, metric, draw
        )
        positions, predicted, _ = predict(
            network, test, context.preprocessing, context.batch_size, context.workers
        )
        rows.append(
            context.report(
                'semi_supervised',
                metric,
                predicted[:, 0],
                test.labels[positions],
                names_of(test, positions),
                test,
                f'{kind} on {len(train):,} labels ({about["label_set"]}), whole network, {recipe.optimizer}, {setting}, '
                f'batch {min(recipe.batch_size, len(train))}; {selection}',
                recipe=recipe.to_builtin(),
                setting=str(setting),
                draw=draw,
                **about,
            )
        )
    if draws > 1:
        values = [row['value'] for row in rows]
        mean, std = statistics.mean(values), statistics.stdev(values)
        print(
            f'{kind} on {about["labelled"]:,} labels ({about["label_set"]}): mean {mean:.2f} %, sample standard deviation {std:.2f}, '
            f'n = {draws} draws'
        )
        kept = (
            'n',
            'weights',
            'network',
            'layer',
            'label_set',
            'labelled',
            'recipe',
            'test',
            'test_manifest',
            'checkpoint',
            'checkpoint_sha256',
            'step',
            'seed',
            'seconds',
            'time',
            'command',
            'versions',
            'config',
        )
        rows.append(
            dict(
                metric=f'semi_supervised_{metric}_mean',
                value=mean,
                std=std,
                draws=draws,
                values=values,
                protocol=f'{kind} on {about["labelled"]:,} labels ({about["label_set"]}), mean of {draws} draws',
                lists_sha256=[row['list_sha256'] for row in rows],
                **{k: rows[-1][k] for k in kept},
            )
        )
        if rank() == 0:
            write_row(context.work_dir, rows[-1])
    return rows
