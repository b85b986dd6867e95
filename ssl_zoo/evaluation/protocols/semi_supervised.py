"""Semi-supervised evaluation: the whole network fine-tuned on a few labelled images."""

import statistics

from ssl_zoo.distributed import rank
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.classifiers import predict
from ssl_zoo.evaluation.metrics import check_metric
from ssl_zoo.evaluation.protocols.context import (
    EvaluationContext,
    check_two_classes,
    fingerprint,
    image_names,
)
from ssl_zoo.evaluation.protocols.describe import describe
from ssl_zoo.evaluation.protocols.finetune import finetune
from ssl_zoo.evaluation.protocols.labels import (
    LabelledImages,
    check_label_choice,
    images_to_test,
    label_choice,
    labelled_images,
)
from ssl_zoo.evaluation.recipes import Recipe
from ssl_zoo.evaluation.results import write_row

# Fields that the row of the mean over draws copies from the row of the last draw.
SHARED_FIELDS = (
    'n',
    'weights',
    'network',
    'layer',
    'label_set',
    'labelled',
    'recipe',
    'test',
    'test_manifest',
    'train_data',
    'bank_data',
    'bank_images',
    'val_data',
    'test_data',
    'warnings',
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


def evaluate_semi_supervised(
    context: EvaluationContext,
    labels: str | None,
    path: str | None,
    recipe: Recipe,
    draws: int = 1,
    metric: str = 'top1',
) -> list[dict]:
    """Fine-tune on a few labels with every setting; measure the best on the test images.

    With random weights this is the supervised baseline at the same cost. Each draw has its own
    labels (unless a list is given), head, order of images and choice of setting; with random
    weights, each draw also has its own weights.

    Args:
        context: what is evaluated.
        labels: '1%', '10%', '4-per-class' ...; None with a list.
        path: text file with the names of the labelled images; None for the official list
            (ImageNet, 1 % and 10 %) or a drawn one.
        recipe: the sweep.
        draws: number of draws.
        metric: 'top1' or 'mean_per_class'.

    Returns:
        The results rows: one for each draw and, with several draws, one with their mean.

    Raises:
        ConfigError: an argument is wrong, or the labelled images are of one class.
        FloatingPointError: the loss of every setting is not finite.
        Stopped: after Ctrl-C, SIGTERM or SIGUSR1, when the state is saved.
    """
    if labels is None and path is None:
        raise ConfigError(
            'nothing says which images have labels; give --labels 1%, --labels 4-per-class or '
            '--list FILE'
        )
    check_label_choice(labels, path)
    check_metric(metric)
    if draws < 1:
        raise ConfigError(f'--draws is {draws}, but it must be at least 1')
    context.source('test')  # raises the error of missing test images before the training
    rows = []
    for draw in range(draws):
        if draws > 1:
            print(f'draw {draw + 1} of {draws}')
        images = labelled_images(context, labels, path, draw)
        rows.append(_evaluate_draw(context, images, path, recipe, draw, metric))
    if draws > 1:
        rows.append(_mean_row(rows, metric))
        if rank() == 0:
            write_row(context.work_dir, rows[-1])
    return rows


def _evaluate_draw(
    context: EvaluationContext,
    images: LabelledImages,
    path: str | None,
    recipe: Recipe,
    draw: int,
    metric: str,
) -> dict:
    """Fine-tune on the labels of one draw; return the results row."""
    test = images_to_test(context, images)
    train = images.train
    settings = recipe.settings(len(train))
    if images.val is None and len(settings) > 1:
        context.source('val')  # raises the error of a missing hold-out
    check_two_classes(train.labels, f'the {len(train)} labelled images')
    folder = context.folder(
        'semi_supervised',
        recipe=recipe.to_builtin(),
        list=images.fields['list_sha256'],
        draw=draw,
        seed=context.seed,
        data=fingerprint(train),
        val=fingerprint(images.val),
        metric=metric,
    )
    network, choice = finetune(context, train, images.val, recipe, settings, folder, metric, draw)
    positions, predicted, _ = predict(
        network, test, context.preprocessing, context.batch_size, context.workers
    )
    protocol = dict(
        name='finetune_few_labels',
        weights=context.weights,
        **label_choice(images, path),
        **choice.parameters(recipe, len(train)),
    )
    return context.report(
        'semi_supervised',
        metric,
        predicted[:, 0],
        test.labels[positions],
        image_names(test, positions),
        test,
        protocol,
        choice.found(),
        recipe=recipe.to_builtin(),
        setting=str(choice.setting),
        draw=draw,
        **images.fields,
    )


def _mean_row(rows: list[dict], metric: str) -> dict:
    """Print the mean over draws and return its results row."""
    values = [row['value'] for row in rows]
    mean = statistics.mean(values)
    std = statistics.stdev(values)
    last = rows[-1]
    protocol = dict(last['protocol'], draws=len(rows))
    print(f'{describe(protocol)}: {mean:.2f} %, sample standard deviation {std:.2f}')
    return dict(
        metric=f'semi_supervised_{metric}_mean',
        value=mean,
        std=std,
        draws=len(rows),
        values=values,
        protocol=protocol,
        lists_sha256=[row['list_sha256'] for row in rows],
        **{field: last[field] for field in SHARED_FIELDS},
    )
