"""Build a source from its config, whole or limited to a number of images; orders by class."""

import numpy as np

from ssl_zoo.data.decode import MAX_PIXELS
from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources.base import Source
from ssl_zoo.data.sources.class_labels import check_labels
from ssl_zoo.data.sources.composed import Subset
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import SOURCES


def balanced_order(source: Source, seed: int = 0) -> np.ndarray:
    """Return a fixed order in which classes take turns: the first k images are balanced for any k.

    Within a class the order is random; without labels the whole order is random. A class that has
    no image left takes no more turns.

    Args:
        source: source of n images.
        seed: seed of the order.

    Returns:
        (n,) int64, a permutation of range(n).
    """
    order = permutation(len(source), seed)
    if source.labels is None:
        return order
    turn, _ = _turn_and_class_size(source.labels[order])
    return order[np.argsort(turn, kind='stable')]


def stratified_order(source: Source, seed: int = 0) -> np.ndarray:
    """Return a fixed order whose first k images hold the classes in proportion, for any k.

    The first images are one of each class, so that no class is missing once k reaches the number of
    classes. Further images are those of Sainte-Lague's method of apportionment. If all classes have
    the same size, this is ``balanced_order``.

    Args:
        source: source of n images.
        seed: seed of the order.

    Returns:
        (n,) int64, a permutation of range(n).
    """
    order = permutation(len(source), seed)
    if source.labels is None:
        return order
    turn, size = _turn_and_class_size(source.labels[order])
    place = (turn + 0.5) / size
    place[turn == 0] = 0
    return order[np.argsort(place, kind='stable')]


def stratified_subset(source: Source, images: int | None) -> Source:
    """Return ``images`` images of a source, classes in proportion; all images for None."""
    if images is None or images >= len(source):
        return source
    return Subset(source, np.sort(stratified_order(source, seed=2)[:images]))


def stratified_hold_out(source: Source, seed: int = 0) -> tuple[np.ndarray, int]:
    """Return an order for a hold-out, and how many images of it can be held out at most.

    The first k images hold the classes in proportion (Sainte-Lague's method): a class gets an
    image when its share of k is half an image or more. One image of each class comes after all
    others, so that it stays.

    Args:
        source: source of n images.
        seed: seed of the order.

    Returns:
        (n,) int64, a permutation of range(n), and the number of images before those that stay:
        n less the number of classes, or n - 1 without labels.
    """
    order = permutation(len(source), seed)
    if source.labels is None:
        return order, len(order) - 1
    turn, size = _turn_and_class_size(source.labels[order])
    place = (turn + 0.5) / size
    stays = turn == size - 1
    place[stays] = 1
    return order[np.argsort(place, kind='stable')], int(np.sum(~stays))


def _turn_and_class_size(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) int64 arrays: the number of earlier images of the same class, and of all."""
    turn = np.empty(len(labels), dtype=np.int64)
    size = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of_class = labels == label
        size[of_class] = of_class.sum()
        turn[of_class] = np.arange(of_class.sum())
    return turn, size


def build_source(cfg: dict, max_pixels: int = MAX_PIXELS) -> Source:
    """Build a source from its config.

    Args:
        cfg: `type`, a name in SOURCES; the arguments of that type; `limit`, optional: number
            of images to keep, a fixed choice in which the classes have their shares of the whole.
        max_pixels: number of pixels above which an image file is unreadable.

    Raises:
        ConfigError: an unknown type, unknown or bad arguments, files that are missing (MissingData)
            or damaged, labels that are no classes, a limit that is no whole number from 1 to the
            number of images.
    """
    cfg = dict(cfg)
    limit = cfg.pop('limit', None)
    source = SOURCES.create(cfg)
    source.max_pixels = max_pixels
    check_labels(source, cfg['type'])
    if limit is None:
        return source
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= len(source):
        raise ConfigError(
            f'limit={limit!r}, but {cfg["type"]} has {len(source)} images; '
            f'give a number from 1 to {len(source)}'
        )
    return Subset(source, np.sort(stratified_order(source)[:limit]))
