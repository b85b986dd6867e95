"""The training images that have labels: all of them, some of each class, or those of a list."""

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_zoo.data.label_lists import draw_labels, is_imagenet, official_list, read_list, write_list
from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.data.splits import untrained_classes
from ssl_zoo.distributed.objects import on_rank0
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.printable import printable
from ssl_zoo.storage.digest import sha256_of_file


class LabelledImages(NamedTuple):
    """The labelled images of one draw.

    Attributes:
        train: the images that have labels.
        val: the hold-out without these images, None without a hold-out.
        fields: fields of the results row: label_set, list, list_sha256, labelled.
    """

    train: Source
    val: Source | None
    fields: dict


def check_label_choice(labels: str | None, path: str | Path | None) -> None:
    """Raise ConfigError if both ``--labels`` and ``--list`` are given."""
    if labels is not None and path is not None:
        raise ConfigError('--labels and --list both say which images have labels; give one of them')


def labelled_images(
    context: EvaluationContext, labels: str | None, path: str | Path | None, draw: int = 0
) -> LabelledImages:
    """Select the images that have labels.

    A list from a file may name any training image. Images of the hold-out that the list names are
    removed from the hold-out. A drawn list has no image of the hold-out.

    Args:
        context: gives the images.
        labels: '1%', '10%', '4-per-class' ...; None with a list.
        path: text file with the names of the labelled images; None for the official list
            (ImageNet, 1 % and 10 %) or a drawn one.
        draw: number of the draw, added to the seed.

    Raises:
        ConfigError: the list names all images of the hold-out, or cannot be read.
    """
    train = context.source('train')
    if path is None and is_imagenet(train) and labels in ('1%', '10%'):
        path = on_rank0(lambda: official_list(labels))
    if path is not None:
        return _listed_images(context, labels, path)
    seed = context.seed + draw
    chosen = draw_labels(train, labels, seed)
    name = f'{labels.replace("%", "percent")}_seed{seed}.txt'
    file = context.work_dir / 'labels' / name
    digest = on_rank0(lambda: write_list(file, train, chosen))
    fields = dict(label_set=labels, list=str(file), list_sha256=digest, labelled=len(chosen))
    return LabelledImages(Subset(train, chosen), context.sources['val'], fields)


def _listed_images(
    context: EvaluationContext, labels: str | None, path: str | Path
) -> LabelledImages:
    val = context.sources['val']
    all_images = context.sources['labelled']
    chosen = read_list(path, all_images)
    listed = Subset(all_images, chosen)
    if val is not None and not isinstance(context.settings.data.val, dict):
        listed_names = {listed.name(i) for i in range(len(listed))}
        positions = [i for i in range(len(val)) if val.name(i) not in listed_names]
        val = Subset(val, np.array(positions, dtype=np.int64))
        if not len(val):
            raise ConfigError(
                f'all images of the hold-out are in the list {path}; hold other images out with '
                f'--cfg-options data.val='
            )
    fields = dict(
        label_set=labels or printable(Path(path).name),
        list=printable(str(path)),
        list_sha256=sha256_of_file(path),
        labelled=len(chosen),
    )
    return LabelledImages(listed, val, fields)


def label_choice(images: LabelledImages, path: str | Path | None) -> dict:
    """Return the parameters of the ``protocol`` dict that say which images have labels.

    The hash of the user's own list, ``path``, is a parameter. Drawn lists follow from the seed.
    """
    names = ['label_set', 'labelled']
    if path is not None:
        names.append('list_sha256')
    return {name: images.fields[name] for name in names}


def images_to_test(context: EvaluationContext, images: LabelledImages) -> Source:
    """Return the test images, with warnings of classes that have no labelled training image."""
    outdated: set[str] = set()
    current: list[str] = []
    for name, source in (('val', images.val), ('test', context.source('test'))):
        if source is not None:
            whole = context.sources[name]
            outdated.update(untrained_classes(whole, context.source('train'), name))
            current += untrained_classes(source, images.train, name)
    test = copy.copy(context.source('test'))
    test.warnings = (*(text for text in test.warnings if text not in outdated), *current)
    return test


def with_labels(
    context: EvaluationContext, labels: str | None, path: str | Path | None
) -> EvaluationContext:
    """Return a context whose training images are those that have labels.

    Args:
        context: what is evaluated; stays as it is.
        labels: '1%', '10%', '4-per-class' ...; None for all labels, or with a list.
        path: text file with the names of the labelled images, or None.

    Returns:
        the context, whose results rows say which labels were used; without ``labels`` and ``path``
        the same context.

    Raises:
        ConfigError: both are given, or see ``labelled_images``.
    """
    check_label_choice(labels, path)
    if labels is None and path is None:
        return context
    images = labelled_images(context, labels, path)
    test = images_to_test(context, images)
    sources = dict(train=images.train, val=images.val, test=test)
    return context.with_sources(sources, images.fields, label_choice(images, path))
