"""build_source: the limit on the number of images; balanced_order."""

import numpy as np
import pytest

from ssl_zoo.data.sources import (
    balanced_order,
    build_source,
    stratified_hold_out,
    stratified_order,
)
from ssl_zoo.data.sources.arrays import Arrays
from ssl_zoo.data.sources.folder import ImageFolder

pytestmark = pytest.mark.quick


def test_limit_is_fixed_and_balanced(image_folder):
    root = image_folder(classes=3, per_class=10)
    small, again, larger = (
        build_source(dict(type='ImageFolder', root=str(root), limit=n)) for n in (9, 9, 12)
    )
    assert np.bincount(small.labels).tolist() == [3, 3, 3]
    assert small.indices.tolist() == again.indices.tolist()
    assert set(small.indices) < set(larger.indices)
    assert small.name(0) == small.source.name(small.indices[0])


def test_a_balanced_order_differs_with_the_seed(image_folder):
    source = ImageFolder(str(image_folder()))
    assert balanced_order(source, 0).tolist() != balanced_order(source, 1).tolist()


def test_a_limit_above_the_number_of_images(image_folder, refusal):
    cfg = dict(type='ImageFolder', root=str(image_folder()), limit=100)
    refusal(cfg, 'limit=100, but ImageFolder has 24 images')


def of_sizes(*sizes) -> Arrays:
    """A source whose class i has sizes[i] images."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return Arrays(np.zeros((len(labels), 2, 2, 3), np.uint8), labels)


def test_a_limit_has_the_classes_in_proportion_and_none_is_missing():
    source = of_sizes(1300, 1000, 600, 300, 120, 3)
    order = stratified_order(source)
    assert sorted(order) == list(range(len(source)))
    assert np.bincount(source.labels[order[:332]]).tolist() == [129, 100, 60, 30, 12, 1]
    for k in (6, 20, 100):
        counts = np.bincount(source.labels[order[:k]], minlength=6)
        assert counts.min() >= 1 and counts.sum() == k
        assert (np.diff(counts) <= 0).all()  # a larger class never has fewer images


def test_equal_classes_take_turns_whatever_the_order():
    source = of_sizes(10, 10, 10, 10)
    assert stratified_order(source, 3).tolist() == balanced_order(source, 3).tolist()
    held, largest = stratified_hold_out(source, 3)
    assert held.tolist() == balanced_order(source, 3).tolist() and largest == 36


def test_a_hold_out_leaves_an_image_of_each_class():
    source = of_sizes(130, 100, 60, 30, 12, 4, 1)
    order, largest = stratified_hold_out(source)
    assert largest == 337 - 7
    held = np.bincount(source.labels[order[:67]], minlength=7)  # a fifth
    assert held.tolist() == [26, 20, 12, 6, 2, 1, 0]
    rest = np.bincount(source.labels[order[largest:]], minlength=7)
    assert rest.tolist() == [1] * 7
