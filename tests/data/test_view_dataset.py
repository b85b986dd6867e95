"""ViewDataset: the parameters and crops of a batch, replacements of unreadable images."""

import numpy as np
import pytest
import torch

from ssl_zoo.data.crop import crop
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View, sample

pytestmark = pytest.mark.quick

VIEWS = [View(20, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, blur_p=0.5), View(12, solarize_p=0.5)]


def test_epochs_show_other_views(digits):
    dataset = ViewDataset(digits, VIEWS, 3)
    first = dataset.__getitems__([(0, 7)])
    second = dataset.__getitems__([(1, 7)])
    assert not torch.equal(first['views'][0], second['views'][0])


def test_an_unreadable_image_is_replaced_and_reported(image_folder):
    root = image_folder(classes=2, per_class=4)
    (root / 'class_0' / '2.png').write_bytes(b'broken')
    (root / 'class_0' / '3.png').write_bytes((root / 'class_0' / '1.png').read_bytes()[:60])
    dataset = ViewDataset(ImageFolder(str(root)), VIEWS, 0)
    batch = dataset.__getitems__([(0, 1), (0, 2), (0, 7)])
    assert batch['index'].tolist() == [1, 7, 7]  # 2 is broken and replaced by 7, 5 further on
    assert [i for i, _ in batch['unreadable']] == [2]
    assert 'UnidentifiedImageError' in batch['unreadable'][0][1]
    assert len(batch['views'][0]) == 3


def test_all_unreadable_is_an_error_not_an_endless_search(image_folder):
    root = image_folder(classes=1, per_class=3)
    for file in root.rglob('*.png'):
        file.write_bytes(b'')
    batch = ViewDataset(ImageFolder(str(root)), VIEWS, 0).__getitems__([(0, 0)])
    assert batch['views'] is None and sorted(i for i, _ in batch['unreadable']) == [0, 1, 2]


def test_params_are_those_of_each_view(digits):
    dataset = ViewDataset(digits, VIEWS, 3)
    batch = dataset.__getitems__([(2, 7), (2, 9)])
    for number, view in enumerate(VIEWS):
        expected = sample(view, number, np.array([2, 2]), np.array([7, 9]), 3)
        assert np.array_equal(batch['params'][number].numpy(), expected)
        for row, i, pixels in zip(expected, (7, 9), batch['views'][number], strict=True):
            crop(dataset.source.pixels(i), [view], row[None], [made := torch.empty_like(pixels)])
            assert torch.equal(pixels, made)
