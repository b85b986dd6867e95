"""Test images that are training images: found by bytes or pixels, told once."""

import os
import shutil

import numpy as np
import pytest

from ssl_zoo.config.settings import Data
from ssl_zoo.data import overlap
from ssl_zoo.data.overlap import shared_images, warn_of_overlap
from ssl_zoo.data.sources import Subset
from ssl_zoo.data.sources.arrays import Arrays
from ssl_zoo.data.sources.folder import ImageFolder
from ssl_zoo.data.splits import data_sources

pytestmark = pytest.mark.quick


@pytest.fixture
def folders(image_folder):
    """Roots of training and test images; test images 0 and 5 are copies under other names."""
    train = image_folder(classes=2, per_class=8, name='train')
    test = image_folder(classes=2, per_class=3, size=20, name='test')
    shutil.copy(train / 'class_0/3.png', test / 'class_0/0.png')
    shutil.copy(train / 'class_1/7.png', test / 'class_1/2.png')
    return train, test


def test_copies_are_found_whatever_their_names(folders):
    train, test = (ImageFolder(str(root)) for root in folders)
    shared, compared = shared_images(test, train)
    assert shared.tolist() == [0, 5] and compared == 6
    shared, compared = shared_images(Subset(test, np.array([5, 1])), train)
    assert shared.tolist() == [0] and compared == 2


def test_files_of_equal_size_and_other_bytes_are_not_shared(folders):
    train, test = folders
    for root, byte in ((train, b'x'), (test, b'y')):
        (root / 'class_0/same.png').write_bytes(byte * 100)
    shared, _ = shared_images(ImageFolder(str(test)), ImageFolder(str(train)))
    names = [ImageFolder(str(test)).name(i) for i in shared]
    assert names == ['class_0/0.png', 'class_1/2.png']


def test_reading_is_limited(folders, monkeypatch):
    train, test = (ImageFolder(str(root)) for root in folders)
    monkeypatch.setattr(overlap, 'MAX_READS', 1)
    reads = []
    real = overlap._file_digest

    def counted(source, i):
        reads.append(source is train)
        return real(source, i)

    monkeypatch.setattr(overlap, '_file_digest', counted)
    shared, compared = shared_images(test, train)
    assert sum(reads) <= 1 and len(shared) <= compared <= 6


def test_arrays_are_compared_by_pixels():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    shared, compared = shared_images(Arrays(images[2:4]), Arrays(images[3:]))
    assert shared.tolist() == [1] and compared == 2


def test_a_link_to_the_training_folder_and_val_that_is_test_are_told(folders):
    train, test = folders
    link = train.with_name('link')
    os.symlink(train, link)
    configs = {
        name: dict(type='ImageFolder', root=str(root))
        for name, root in dict(train=train, test=test, link=link).items()
    }
    data = Data(train=configs['train'], val=configs['test'], test=configs['test'])
    sources = data_sources(data)
    warn_of_overlap(sources, data)
    assert [text.split(', such')[0] for text in sources['test'].warnings] == [
        '2 of 6 images of data.test are also in data.train',
        '6 of 6 images of data.test are also in data.val',
    ]
    assert [text.split(', such')[0] for text in sources['val'].warnings] == [
        '2 of 6 images of data.val are also in data.train'
    ]
    data = Data(train=configs['train'], val=4, test=configs['link'])
    sources = data_sources(data)
    warn_of_overlap(sources, data)
    assert [text.split(' are')[0] for text in sources['test'].warnings] == [
        '12 of 16 images of data.test',  # train
        '4 of 16 images of data.test',  # val
    ]
