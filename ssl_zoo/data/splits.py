"""What is cut from the data: hold-outs for choices, and lists of the few labelled images of semi-supervised learning."""

import numpy as np

from ssl_zoo.data.sources import Source, Subset, balanced_order, build_source
from ssl_zoo.errors import ConfigError


def hold_out(source: Source, share: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Cut a hold-out from a source: (indices that stay, indices held out), both sorted, balanced over classes.

    Args:
        share: a number of images (int) or a share of them (float below 1).
    """
    n = round(share * len(source)) if isinstance(share, float) else share
    if not 0 < n < len(source):
        raise ConfigError(
            f'data.val={share!r} of {len(source)} images leaves nothing on one side; give a number from 1 to '
            f'{len(source) - 1} or a share between 0 and 1'
        )
    order = balanced_order(source, seed=1)
    return np.sort(order[n:]), np.sort(order[:n])


def data_sources(data, labelled: bool = False) -> dict:
    """The sources of a run: whole (data.train), train (what of it is pretrained on), bank (its labelled images that are not val), val,
    test; None where there is none.

    Args:
        data: what a config says of its data, see ssl_zoo.config.settings.Data.
        labelled: whether train and test must have labels, for an evaluation.
    Raises:
        ConfigError: data that is not there, or that does not fit together.
    """
    train = whole = build_source(data.train)
    if isinstance(data.val, dict):
        bank, val = train, build_source(data.val)
    elif data.val:
        stay, out = hold_out(train, data.val)
        bank, val = Subset(train, stay), Subset(train, out)
        train = train if data.train_on_val else bank
    else:
        bank, val = train, None
    test = build_source(data.test) if data.test else None
    for name, source in (('train', whole), ('test', test)):
        if labelled and source is not None and source.labels is None:
            raise ConfigError(
                f'data.{name} ({getattr(data, name)["type"]}) has no labels, and an evaluation needs some; give a labelled '
                f"set with --cfg-options \"data.{name}={{'type': 'ImageFolder', 'root': ...}}\""
            )
    if test is not None and (test.labels is None or bank.labels is None):
        raise ConfigError(
            f'data.test serves k-NN and probes, but data.{"test" if test.labels is None else "train"} has no labels; '
            f'leave data.test out (data.test=None)'
        )
    for name, other in (('val', val), ('test', test)):
        if other is not None and None not in (bank.classes, other.classes):
            number_alike(other, bank, name)
    return dict(
        whole=whole, train=train, bank=None if bank.labels is None else bank, val=val, test=test
    )


def number_alike(other: Source, bank: Source, name: str) -> None:
    """Give the classes of ``other`` the numbers they have in ``bank``; it may lack some, and may not have others."""
    strange = sorted(set(other.classes) - set(bank.classes))
    if strange:
        raise ConfigError(
            f'data.{name} has classes that data.train does not have: {", ".join(strange[:3])}'
            f'{" ..." if len(strange) > 3 else ""}; data.train has {len(bank.classes)}: {", ".join(bank.classes[:3])} ...'
        )
    if other.classes != bank.classes:
        number = {c: i for i, c in enumerate(bank.classes)}
        other.labels = np.array([number[c] for c in other.classes], dtype=np.int64)[other.labels]
        other.classes = bank.classes
