"""The sources of a run: training images, the hold-out cut from them, test images."""

from typing import Protocol

import numpy as np

from ssl_zoo.data.sources import Source, Subset, balanced_order, build_source
from ssl_zoo.data.sources.class_names import CLASSES_FILE
from ssl_zoo.errors import ConfigError


def hold_out(source: Source, share: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Choose a hold-out, balanced over the classes.

    Args:
        source: n images.
        share: number of images to hold out (int), or fraction of the source (float below 1).

    Returns:
        (n - k,) and (k,) int64: sorted positions of the images that stay and of those held out.

    Raises:
        ConfigError: no image would be held out, or no image would stay.
    """
    n = round(share * len(source)) if isinstance(share, float) else share
    if not 0 < n < len(source):
        raise ConfigError(
            f'data.val={share!r} of {len(source)} images leaves nothing on one side; give a number '
            f'from 1 to {len(source) - 1} or a share between 0 and 1'
        )
    order = balanced_order(source, seed=1)
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
        `whole`, all of data.train; `train`, the images to pretrain on; `bank`, the images of
        data.train that are not held out, None if they have no labels; `val`, the hold-out, and
        `test`, None where the config has none.

    Raises:
        ConfigError: images are missing (MissingData), labels are missing, or val or test images
            have classes that the training images do not have, or numbers in their place that may
            mean other classes.
    """
    whole = build_source(data.train, data.max_pixels)
    train, bank, val = _split_validation(whole, data)
    test = build_source(data.test, data.max_pixels) if data.test else None
    if labelled:
        _require_labels(data.train, whole, 'train')
        if test is not None:
            _require_labels(data.test, test, 'test')
    if test is not None and (test.labels is None or bank.labels is None):
        unlabelled = 'test' if test.labels is None else 'train'
        raise ConfigError(
            f'data.test serves k-NN and probes, but data.{unlabelled} has no labels; '
            f'leave data.test out (data.test=None)'
        )
    for name, source in (('val', val), ('test', test)):
        if source is not None and None not in (bank.classes, source.classes):
            if source.classes_are_numbers and bank.classes_are_numbers:
                source.warning = compare_numbers(source, bank, name)
            align_classes(source, bank, name)
    return dict(
        whole=whole,
        train=train,
        bank=None if bank.labels is None else bank,
        val=val,
        test=test,
    )


def _split_validation(whole: Source, data: DataSettings) -> tuple[Source, Source, Source | None]:
    """Return the images to pretrain on, the images that are not held out, and the hold-out."""
    if isinstance(data.val, dict):
        return whole, whole, build_source(data.val, data.max_pixels)
    if not data.val:
        return whole, whole, None
    remaining, held_out = hold_out(whole, data.val)
    bank = Subset(whole, remaining)
    train = whole if data.train_on_val else bank
    return train, bank, Subset(whole, held_out)


def _require_labels(cfg: dict, source: Source, name: str) -> None:
    if source.labels is None:
        raise ConfigError(
            f'data.{name} ({cfg["type"]}) has no labels, and an evaluation needs some; give a '
            f"labelled set with --cfg-options \"data.{name}={{'type': 'ImageFolder', "
            f"'root': ...}}\""
        )


def compare_numbers(source: Source, reference: Source, name: str) -> str:
    """Compare the labels of two sources whose classes are numbers without names.

    Tools number the classes that they find from 0, without a gap. So a set with fewer classes,
    numbered without a gap, has probably other numbers for the same classes.

    Args:
        source: source with labels.
        reference: the training images.
        name: key of the source in the section `data` of the config, for the message.

    Returns:
        a warning if the sources do not have the same labels, else ''.

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
        return ''
    return (
        f'classes are matched by numbers without names, and data.{name} lacks {missing} of the '
        f'{len(reference_labels)} classes of data.train and has {unknown} others'
    )


def align_classes(source: Source, reference: Source, name: str) -> None:
    """Renumber the labels of a source, in place, to the numbers of the reference's classes.

    Args:
        source: source with labels; the reference must have all of its classes.
        reference: the training images.
        name: key of the source in the section `data` of the config, for the message.

    Raises:
        ConfigError: the reference does not have all classes.
    """
    unknown = sorted(set(source.classes) - set(reference.classes))
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
    new_labels = np.array([number[c] for c in source.classes], dtype=np.int64)
    source.labels = new_labels[source.labels]
    source.classes = reference.classes
