"""build_source: the limit on the number of images; balanced_order."""

import numpy as np
import pytest

from ssl_zoo.data.sources import balanced_order, build_source
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
