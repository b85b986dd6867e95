"""Tell labels that are classes from others: measured values, several classes, names of images."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ssl_zoo.data.sources.base import NO_LABEL, Source
from ssl_zoo.data.sources.multi_labels import check_multi_labels
from ssl_zoo.errors import ConfigError

SEPARATORS = ',;|'  # between the classes of an image in lists of other tools
NUMBER = re.compile(r'[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf)', re.ASCII | re.IGNORECASE)
MANY_CLASSES = 10  # with more, classes of one image each are unusual


class Combination(NamedTuple):
    """A class whose name holds several classes.

    Attributes:
        name: such as 'cat,dog'.
        parts: such as ['cat', 'dog'].
        separator: such as ','.
    """

    name: str
    parts: list[str]
    separator: str


def class_numbers(labels: object, source: str) -> np.ndarray:
    """Return labels as (n,) int64; the same object if they are.

    Args:
        labels: (n,) whole numbers.
        source: name of the source, for the message.

    Raises:
        ConfigError: the labels are not one whole number from -1 for each image.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in 'biuf':
        raise ConfigError(
            f'the labels of {source} have the shape {array.shape} and the type {array.dtype}, but '
            f'each image has one class, a whole number from 0, or {NO_LABEL} for no label; several '
            f'classes go into multi_labels'
        )
    wrong = array < NO_LABEL
    if array.dtype.kind == 'f':
        wrong |= ~np.isfinite(array) | (array != np.floor(array))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ConfigError(
            f'the label of image {i} of {source} is {array[i]}, but a class is a whole number from '
            f'0, or {NO_LABEL} for no label; to train without labels leave them out'
        )
    return array if array.dtype == np.int64 else array.astype(np.int64)


def check_labels(source: Source, name: str) -> None:
    """Check that the labels of a source are classes, and make them int64 (of several, int8).

    Args:
        source: any source.
        name: its name, for the message.

    Raises:
        ConfigError: as ``class_numbers`` and ``check_multi_labels``; there are more or fewer labels
            than images; a label has no name.
    """
    if source.multi_labels is not None:
        check_multi_labels(source, name)
    if source.labels is None:
        return
    labels = class_numbers(source.labels, name)
    if len(labels) != len(source):
        raise ConfigError(
            f'{name} has {len(labels):,} labels for {len(source):,} images; give one for each, '
            f'{NO_LABEL} for no label'
        )
    if source.classes is not None and labels.max(initial=NO_LABEL) >= len(source.classes):
        raise ConfigError(
            f'{name} names {len(source.classes):,} classes, and its labels go up to '
            f'{labels.max()}; give each class from 0 a name, or none'
        )
    if labels is not source.labels:
        source.labels = labels


def first_measured_value(names: Iterable[str]) -> str | None:
    """Return the first of the labels that is no whole number, if all of them are numbers."""
    distinct = list(dict.fromkeys(names))
    if not all(NUMBER.fullmatch(name) for name in distinct):
        return None
    return next((name for name in distinct if not name.isdigit()), None)


def combinations(names: Iterable[str]) -> tuple[list[Combination], list[Combination]]:
    """Find the classes that are made of others, such as 'cat,dog' beside 'cat' and 'dog,bird'.

    Most names that hold the separator must be such: names of ImageNet's 21,841 classes hold
    synonyms, and 2 % of those with a comma, such as 'radio, wireless', are made of others by
    chance, 32 % in part.

    Args:
        names: distinct names of classes.

    Returns:
        the classes of which every part is, or is part of, another class too, and those of which
        some part is.
    """
    names = list(names)
    whole: list[Combination] = []
    partly: list[Combination] = []
    for separator in SEPARATORS:
        parts_of = {name: [part.strip() for part in name.split(separator)] for name in names}
        classes_with = Counter(part for parts in parts_of.values() for part in set(parts))
        found = [
            Combination(name, parts, separator)
            for name, parts in parts_of.items()
            if len(parts) > 1 and all(parts)
        ]
        for kind, test in ((whole, all), (partly, any)):
            such = [one for one in found if test(classes_with[part] > 1 for part in one.parts)]
            kind += such if 2 * len(such) > len(found) else []
    return whole, partly


def class_warnings(source: Source) -> tuple[str, ...]:
    """Return the warnings of training images whose labels may not be classes.

    Args:
        source: the images of data.train that have a label.
    """
    if source.labels is None:
        return ()
    labels, images = np.unique(source.labels, return_counts=True)
    if source.classes is None:
        names = [str(label) for label in labels]
    else:
        names = [source.classes[label] for label in labels]
    texts = []
    single = np.flatnonzero(images == 1)
    if len(labels) > MANY_CLASSES and 2 * len(single) > len(labels):
        examples = ', '.join(names[i] for i in single[:3])
        texts.append(
            f'{len(single):,} of {len(labels):,} classes of data.train have one image each, such '
            f'as {examples}: names of images or measured values are no classes, and figures on '
            f'such labels say nothing'
        )
    _, partly = combinations(names)
    if partly:
        texts.append(
            f'{partly[0].name!r} counts as one class of data.train, apart from others that share '
            f'a part of its name; if it stands for several classes, the figures are wrong'
        )
    return tuple(texts)
