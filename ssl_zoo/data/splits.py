"""The sources of a run: training images, the hold-out cut from them, test images."""

from typing import Protocol

import numpy as np

from ssl_zoo.data.sources import Source, Subset, build_source, stratified_hold_out
from ssl_zoo.data.sources.base import NO_LABEL
from ssl_zoo.data.sources.class_labels import class_warnings
from ssl_zoo.data.sources.class_names import CLASSES_FILE
from ssl_zoo.data.sources.multi_labels import align_columns
from ssl_zoo.errors import ConfigError


def hold_out(source: Source, size: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Choose a hold-out that has the classes in the proportions of the source.

    At least one image of each class stays.

    Args:
        source: n images.
        size: number of images to hold out (int), or fraction of the source (float below 1).

    Returns:
        (n - k,) and (k,) int64: sorted positions of the images that stay and of those held out.

    Raises:
        ConfigError: no image would be held out, or no image of some class would stay.
    """
    n = round(size * len(source)) if isinstance(size, float) else size
    order, largest = stratified_hold_out(source, seed=1)
    if not largest and source.labels is not None:
        raise ConfigError(
            f'data.val={size!r}, but each of the {len(source):,} images has a class of its own, '
            f'and an image of each class must stay; set data.val=None if the labels are no classes'
        )
    if not 0 < n <= largest:
        raise ConfigError(
            f'data.val={size!r} of {len(source)} images leaves nothing on one side; an image of '
            f'each class must stay: give a number from 1 to {largest} or a share between 0 and 1'
        )
    return np.sort(order[n:]), np.sort(order[:n])


class DataSettings(Protocol):
    """The settings that name the sources of a run, see ssl_zoo.config.settings.Data.

    Attributes:
        train: config of the training images.
        val: config of the hold-out, or its size if it is cut from `train` (see `hold_out`); None
            for no hold-out.
        test: config of the test images, or None.
        train_on_val: whether to pretrain on the held-out images too.
    """

    train: dict
    val: dict | int | float | None
    test: dict | None
    train_on_val: bool
    max_pixels: int


def data_sources(data: DataSettings, labelled: bool = False) -> dict[str, Source | None]:
    """Build the sources of a run.

    Args:
        data: the settings of the sources.
        labelled: whether training and test images must have labels, as an evaluation needs.

    Returns:
        `train`, the images to pretrain on, with and without labels; `labelled`, the images of
        data.train with a label, or all if none has one; `bank`, those of `labelled` that are not
        held out, None without labels (of one class or several); `val`, the hold-out, and `test`,
        None where the config has none.

    Raises:
        ConfigError: images are missing (MissingData), labels are missing, or val or test images
            have classes that the training images do not have, or numbers in their place that may
            mean other classes.
    """
    whole, labelled_part = _training_images(data)
    train, bank, val = _split_validation(whole, labelled_part, data)
    test = None
    if data.test:
        test = _labelled_part(build_source(data.test, data.max_pixels), 'test')
    if labelled:
        _require_labels(data.train, bank, 'train')
        if test is not None:
            _require_labels(data.test, test, 'test')
    if test is not None and not (test.is_labelled and bank.is_labelled):
        unlabelled = 'train' if test.is_labelled else 'test'
        raise ConfigError(
            f'data.test serves k-NN and probes, but data.{unlabelled} has no labels; '
            f'leave data.test out (data.test=None)'
        )
    _match_classes(bank, val, test)
    if test is not None and val is not None:
        test.warnings += tuple(text for text in val.warnings if text not in test.warnings)
    return dict(
        labelled=labelled_part,
        train=train,
        bank=bank if bank.is_labelled else None,
        val=val,
        test=test,
    )


def feature_sources(data: DataSettings) -> dict[str, Source | None]:
    """Build the sources of which features are extracted; no source needs labels.

    Returns:
        `train`, without the hold-out, `val` and `test`, None where the config has none. Of a source
        in which some images have labels, those.

    Raises:
        ConfigError: as in ``data_sources``, except for missing labels.
    """
    _, bank, val = _split_validation(*_training_images(data), data)
    test = None
    if data.test:
        test = _labelled_part(build_source(data.test, data.max_pixels), 'test')
    _match_classes(bank, val, test)
    return dict(train=bank, val=val, test=test)


def _match_classes(bank: Source, val: Source | None, test: Source | None) -> None:
    """Number the classes of hold-out and test as those of the bank, and add warnings to them."""
    for name, source in (('val', val), ('test', test)):
        if source is None or not (source.is_labelled and bank.is_labelled):
            continue
        _check_same_kind(source, bank, name)
        if bank.multi_labels is not None:
            source.warnings += bank.warnings + align_columns(source, bank, name)
            continue
        if None not in (bank.classes, source.classes):
            if source.classes_are_numbers and bank.classes_are_numbers:
                source.warnings += compare_numbers(source, bank, name)
            align_classes(source, bank, name)
        source.warnings += bank.warnings + untrained_classes(source, bank, name)


def _check_same_kind(source: Source, bank: Source, name: str) -> None:
    several, one = (name, 'train') if bank.multi_labels is None else ('train', name)
    if (source.multi_labels is None) != (bank.multi_labels is None):
        raise ConfigError(
            f'images of data.{several} have several classes each, and those of data.{one} have '
            f'one; give both in the same way, such as lists with the same separator'
        )


def data_warnings(sources: dict[str, Source | None]) -> list[str]:
    """Return the warnings of the sources of a run, from ``data_sources``, each once."""
    of_sources = [source.warnings for source in sources.values() if source is not None]
    return list(dict.fromkeys(text for warnings in of_sources for text in warnings))


def data_notes(sources: dict[str, Source | None]) -> list[str]:
    """Return the notes of the sources of a run, from ``data_sources``, each once."""
    of_sources = [source.notes for source in sources.values() if source is not None]
    return list(dict.fromkeys(text for notes in of_sources for text in notes))


def _split_validation(
    whole: Source, labelled: Source, data: DataSettings
) -> tuple[Source, Source, Source | None]:
    """Return the images to pretrain on, the bank, and the hold-out.

    Args:
        whole: data.train.
        labelled: its images with a label, or all if no image has one; bank and hold-out are cut
            from these.
        data: the settings of the sources.
    """
    if isinstance(data.val, dict):
        val = build_source(data.val, data.max_pixels)
        return whole, labelled, _labelled_part(val, 'val')
    if not data.val:
        return whole, labelled, None
    remaining, held_out = hold_out(labelled, data.val)
    bank = Subset(labelled, remaining)
    val = Subset(labelled, held_out)
    val.warnings += _classes_without_hold_out(bank, val)
    if data.train_on_val:
        return whole, bank, val
    if not isinstance(labelled, Subset) or labelled is whole:
        return bank, bank, val
    pretrained_on = np.delete(np.arange(len(whole)), labelled.indices[held_out])
    return Subset(whole, pretrained_on), bank, val


def _training_images(data: DataSettings) -> tuple[Source, Source]:
    """Return data.train, and its images with a label, or all if no image has one."""
    whole = build_source(data.train, data.max_pixels)
    labelled = _labelled_part(whole, 'train')
    labelled.warnings += class_warnings(labelled)
    if labelled.multi_labels is not None:
        whole.notes += (
            'images of data.train have several classes each: k-NN and probes of one class are left '
            'out, and ssl-zoo linear measures the mean average precision',
        )
    return whole, labelled


def _labelled_part(source: Source, name: str) -> Source:
    """Return the images that have a label; the source itself if all have one, or none has."""
    if not source.is_labelled:
        return source
    if source.multi_labels is None:
        has_label = source.labels != NO_LABEL
    else:
        has_label = (source.multi_labels != NO_LABEL).any(1)
    if has_label.all():
        return source
    if not has_label.any():
        raise ConfigError(
            f'all labels of data.{name} are {NO_LABEL}, which stands for an image without label; '
            f'give labels to some images, or a source without labels'
        )
    part = Subset(source, np.flatnonzero(has_label))
    part.warnings += (
        f'{np.sum(~has_label):,} of {len(source):,} images of data.{name} have no label and are '
        f'left out of evaluations',
    )
    return part


def _classes_without_hold_out(bank: Source, val: Source) -> tuple[str, ...]:
    """Return a warning if the hold-out has no image of some class of the bank."""
    if bank.labels is None:
        return ()
    missing = np.setdiff1d(bank.labels, val.labels)
    if not len(missing):
        return ()
    classes = len(np.unique(bank.labels))
    return (
        f'the hold-out of {len(val):,} images has none of {len(missing)} of {classes} classes, '
        f'which are too small: {_listing(bank, missing)}',
    )


def untrained_classes(source: Source, bank: Source, name: str) -> tuple[str, ...]:
    """Return a warning if images of a source are of classes without an image in the bank.

    Args:
        source: labelled images; labels are numbered as those of the bank.
        bank: the labelled training images.
        name: key of the source in the section `data` of the config.
    """
    unseen = ~np.isin(source.labels, bank.labels)
    if not unseen.any():
        return ()
    return (
        f'{np.sum(unseen):,} of {len(source):,} {name} images are of classes without a training '
        f'image and cannot be right: {_listing(source, np.unique(source.labels[unseen]))}',
    )


def _listing(source: Source, labels: np.ndarray) -> str:
    """Return the names of the first classes of `labels`."""
    names = [str(label) if source.classes is None else source.classes[label] for label in labels]
    more = ' ...' if len(names) > 5 else ''
    return ', '.join(names[:5]) + more


def _require_labels(cfg: dict, source: Source, name: str) -> None:
    if not source.is_labelled:
        raise ConfigError(
            f'data.{name} ({cfg["type"]}) has no labels, and an evaluation needs some; give a '
            f"labelled set with --cfg-options \"data.{name}={{'type': 'ImageFolder', "
            f"'root': ...}}\""
        )


def compare_numbers(source: Source, reference: Source, name: str) -> tuple[str, ...]:
    """Compare the labels of two sources whose classes are numbers without names.

    Tools number the classes that they find from 0, without a gap. So a set with fewer classes,
    numbered without a gap, has probably other numbers for the same classes.

    Args:
        source: source with labels.
        reference: the training images.
        name: key of the source in the section `data` of the config, for the message.

    Returns:
        a warning if the sources do not have the same labels, else nothing.

    Raises:
        ConfigError: the source has fewer classes, numbered without a gap.
    """
    labels = set(source.labels.tolist())
    reference_labels = set(reference.labels.tolist())
    n = len(source.classes)
    if n < len(reference.classes) and len(labels) == n:
        raise ConfigError(
            f'data.{name} has the classes 0 to {n - 1} and data.train 0 to '
            f'{len(reference.classes) - 1}, numbers without names: a set that lacks a class may '
            f'number the others anew; name the classes of both in {CLASSES_FILE} beside the data, '
            f'one per line'
        )
    missing = len(reference_labels - labels)
    unknown = len(labels - reference_labels)
    if not missing and not unknown:
        return ()
    return (
        f'classes are matched by numbers without names, and data.{name} lacks {missing} of the '
        f'{len(reference_labels)} classes of data.train and has {unknown} others',
    )


def align_classes(source: Source, reference: Source, name: str) -> None:
    """Renumber the labels of a source, in place, to the numbers of the reference's classes.

    Args:
        source: source with labels; the reference must have all classes of its images.
        reference: the training images.
        name: key of the source in the section `data` of the config, for the message.

    Raises:
        ConfigError: the reference does not have a class of which the source has images.
    """
    used = {source.classes[label] for label in np.unique(source.labels)}
    unknown = sorted(used - set(reference.classes))
    if unknown:
        more = ' ...' if len(unknown) > 3 else ''
        raise ConfigError(
            f'data.{name} has classes that data.train does not have: '
            f'{", ".join(unknown[:3])}{more}; '
            f'data.train has {len(reference.classes)}: {", ".join(reference.classes[:3])} ...'
        )
    if source.classes == reference.classes:
        return
    number = {class_name: i for i, class_name in enumerate(reference.classes)}
    # A class without images need not be one of the reference's.
    new_labels = np.array([number.get(name, NO_LABEL) for name in source.classes], dtype=np.int64)
    source.labels = new_labels[source.labels]
    source.classes = reference.classes
