"""Build a source from its config, whole or limited to a number of images, balanced by class."""

import numpy as np

from ssl_zoo.data.decode import MAX_PIXELS
from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources.base import Source
from ssl_zoo.data.sources.composed import Subset
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import SOURCES


def balanced_order(source: Source, seed: int = 0) -> np.ndarray:
    """Return a fixed order in which classes take turns: the first k images are balanced for any k.

    Within a class the order is random; without labels the whole order is random.

    Args:
        source: source of n images.
        seed: seed of the order.

    Returns:
        (n,) int64, a permutation of range(n).
    """
    order = permutation(len(source), seed)
    if source.labels is None:
        return order
    labels = source.labels[order]
    turn = np.empty(len(order), dtype=np.int64)  # position of an image within its class
    for label in np.unique(labels):
        of_class = labels == label
        turn[of_class] = np.arange(of_class.sum())
    return order[np.argsort(turn, kind='stable')]


def build_source(cfg: dict, max_pixels: int = MAX_PIXELS) -> Source:
    """Build a source from its config.

    Args:
        cfg: `type`, a name in SOURCES; the arguments of that type; `limit`, optional: number
            of images to keep, a fixed choice balanced over the classes.
        max_pixels: number of pixels above which an image file is unreadable.

    Raises:
        ConfigError: an unknown type, unknown or bad arguments, files that are missing (MissingData)
            or damaged, a limit that is no whole number from 1 to the number of images.
    """
    cfg = dict(cfg)
    limit = cfg.pop('limit', None)
    source = SOURCES.create(cfg)
    source.max_pixels = max_pixels
    if limit is None:
        return source
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= len(source):
        raise ConfigError(
            f'limit={limit!r}, but {cfg["type"]} has {len(source)} images; '
            f'give a number from 1 to {len(source)}'
        )
    return Subset(source, np.sort(balanced_order(source)[:limit]))
