"""Images held on the device give the views that a loader gives."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.data.loader import train_loader
from ssl_zoo.data.on_device import DeviceDataset
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.errors import ConfigError

pytestmark = pytest.mark.quick

VIEWS = [
    View(32, crop=(0.2, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8),
    View(24, interpolation='bilinear'),
]
CPU = torch.device('cpu')


def test_batches_are_those_of_a_loader_up_to_rounding(digits):
    held, loaded = (
        train_loader(dataset, 50, workers, start=2, stop=6, share=(1, 2))
        for dataset, workers in (
            (DeviceDataset(digits, VIEWS, 3, CPU), None),
            (ViewDataset(digits, VIEWS, 3), 0),
        )
    )
    for ours, theirs in zip(held, loaded, strict=True):
        assert (
            torch.equal(ours['index'], theirs['index'])
            and len(ours['index']) == 25
            and ours['unreadable'] == []
        )
        for a, b in zip(ours['params'], theirs['params'], strict=True):
            assert torch.equal(a, b)
        for a, b in zip(ours['views'], theirs['views'], strict=True):
            assert a.dtype == b.dtype == torch.uint8 and a.shape == b.shape
            difference = (a.int() - b.int()).abs()
            assert (
                difference.max() <= 3 and difference.float().mean() < 0.1
            )  # torch's weights have 8 bits or more


def test_unreadable_images_are_replaced_by_the_same_ones(image_folder):
    root = image_folder(classes=2, per_class=6)
    for name in ('class_0/1.png', 'class_0/4.png', 'class_1/2.png'):
        (root / name).write_bytes(b'broken')
    source = ImageFolder(str(root))
    keys = [(e, i) for e in range(2) for i in range(len(source))]
    ours, theirs = (
        dataset.__getitems__(keys)
        for dataset in (DeviceDataset(source, VIEWS, 0, CPU), ViewDataset(source, VIEWS, 0))
    )
    assert ours['unreadable'] == theirs['unreadable'] and len(ours['unreadable']) >= 6
    assert torch.equal(ours['index'], theirs['index'])
    assert all(torch.equal(a, b) for a, b in zip(ours['params'], theirs['params'], strict=True))
    assert all(
        (a.int() - b.int()).abs().float().mean() < 0.5
        for a, b in zip(ours['views'], theirs['views'], strict=True)
    )


def test_images_of_several_sizes_and_of_none_are_refused(image_folder):
    root = image_folder(classes=1, per_class=3)
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(root / 'class_0' / '9.png')
    wrong = (
        r'one size, but class_0/0\.png has 24 x 24 pixels and class_0/9\.png 20 x 30; '
        'leave on_device out'
    )
    with pytest.raises(ConfigError, match=wrong):
        DeviceDataset(ImageFolder(str(root)), VIEWS, 0, CPU)
    for file in root.rglob('*.png'):
        file.write_bytes(b'broken')
    with pytest.raises(ConfigError, match='none of 4 images can be read: class_0/0.png'):
        DeviceDataset(ImageFolder(str(root)), VIEWS, 0, CPU)
