"""Labels of images that have several classes: one column of 0 and 1 for each class."""

import numpy as np

from ssl_zoo.data.sources.base import NO_LABEL, Source
from ssl_zoo.data.sources.list_lines import UNLABELLED, is_class_number
from ssl_zoo.errors import ConfigError


def split_classes(name: str, separator: str) -> list[str]:
    """Return the distinct classes in a label such as 'cat,dog'; none for ',' alone."""
    parts = (part.strip() for part in name.split(separator))
    return list(dict.fromkeys(part for part in parts if part))


def multi_label_columns(names: list[str], separator: str) -> tuple[np.ndarray, list[str]]:
    """Return a column of 0 and 1 for each class that occurs.

    Args:
        names: label of each image, such as 'cat,dog'; UNLABELLED for an image without label.
        separator: what stands between two classes.

    Returns:
        (n, C) int8, NO_LABEL in the rows of images without label, and the C sorted classes,
        numbers by value.
    """
    of_image = [() if name == UNLABELLED else split_classes(name, separator) for name in names]
    classes = sorted({name for names_of_image in of_image for name in names_of_image})
    if all(map(is_class_number, classes)):
        classes.sort(key=int)
    column = {name: c for c, name in enumerate(classes)}
    labels = np.zeros((len(names), len(classes)), dtype=np.int8)
    for row, name, names_of_image in zip(labels, names, of_image, strict=True):
        row[[column[class_name] for class_name in names_of_image]] = 1
        if name == UNLABELLED:
            row[:] = NO_LABEL
    return labels, classes


def check_multi_labels(source: Source, name: str) -> None:
    """Check the columns of a source, and make them int8.

    Args:
        source: a source with ``multi_labels``.
        name: its name, for the message.

    Raises:
        ConfigError: the columns do not fit the images and the names of the classes, hold other
            values than 0, 1 and NO_LABEL, or stand beside labels of one class per image.
    """
    columns = np.asarray(source.multi_labels)
    if source.labels is not None or source.classes is None:
        raise ConfigError(
            f'{name} has multi_labels, and needs classes, the names of their columns, and no labels'
        )
    shape = (len(source), len(source.classes))
    if columns.shape != shape or not np.isin(columns, (NO_LABEL, 0, 1)).all():
        raise ConfigError(
            f'multi_labels of {name} have the shape {columns.shape} and values from '
            f'{columns.min(initial=0)} to {columns.max(initial=0)}, but {shape[0]:,} images and '
            f'{shape[1]:,} classes need the shape {shape} and the values 1 for a class of the '
            f'image, 0 for none, {NO_LABEL} for one that does not count'
        )
    if columns.dtype != np.int8:
        source.multi_labels = columns.astype(np.int8)


def check_one_class(source: Source, name: str) -> None:
    """Raise ConfigError if images of a source, data.<name>, have several classes."""
    if source.multi_labels is not None:
        raise ConfigError(
            f'images of data.{name} have several classes, and this evaluation needs one for each; '
            f'ssl-zoo linear and ssl-zoo transfer measure the mean average precision instead'
        )


def align_columns(source: Source, reference: Source, name: str) -> tuple[str, ...]:
    """Order the columns of a source, in place, as those of the reference.

    Args:
        source: source with ``multi_labels``; the reference must have all classes of its images.
        reference: the training images.
        name: key of the source in the section `data` of the config, for messages.

    Returns:
        a warning if the reference has no image of a class of the source, else nothing.

    Raises:
        ConfigError: the reference does not have a class of which the source has images.
    """
    column = {class_name: c for c, class_name in enumerate(source.classes)}
    used = {source.classes[c] for c in np.flatnonzero((source.multi_labels > 0).any(0))}
    unknown = sorted(used - set(reference.classes))
    if unknown:
        more = ' ...' if len(unknown) > 3 else ''
        raise ConfigError(
            f'data.{name} has classes that data.train does not have: '
            f'{", ".join(unknown[:3])}{more}; data.train has {len(reference.classes)}: '
            f'{", ".join(reference.classes[:3])} ...'
        )
    columns = np.zeros((len(source), len(reference.classes)), dtype=np.int8)
    for c, class_name in enumerate(reference.classes):
        if class_name in column:
            columns[:, c] = source.multi_labels[:, column[class_name]]
    source.multi_labels = columns
    source.classes = reference.classes
    untrained = (columns > 0).any(0) & ~(reference.multi_labels > 0).any(0)
    if not untrained.any():
        return ()
    names = [source.classes[c] for c in np.flatnonzero(untrained)]
    more = ' ...' if len(names) > 5 else ''
    return (
        f'{len(names)} of {len(source.classes)} classes of the {name} images have no training '
        f'image and cannot be found: {", ".join(names[:5])}{more}',
    )
