"""Caltech-101, split into 30 training images of each class and the rest."""

import numpy as np

from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources.image_files import ImageFiles
from ssl_zoo.data.sources.torchvision_files import torchvision_files
from ssl_zoo.data.sources.torchvision_sets import check_split
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import SOURCES

TRAIN_PER_CLASS = 30


@SOURCES.register_module()
class Caltech101(ImageFiles):
    """Caltech-101, 101 classes: 30 images of each are 'train', the other 5,647 are 'test'.

    'train' is a fixed choice of 3,030 images.

    torchvision leaves the background class out. The published protocol counts it as a class: 102
    classes, 3,060 training images.

    Args:
        root: folder of caltech101.
        split: 'train' or 'test'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged, a class with no
            image left for 'test'.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        check_split(split, ('train', 'test'))
        folder, files, labels, classes = torchvision_files('Caltech101', root, download, {})
        positions = []
        for label, name in enumerate(classes):
            of_class = np.flatnonzero(np.array(labels) == label)
            if len(of_class) <= TRAIN_PER_CLASS:
                raise ConfigError(
                    f'class {name!r} of Caltech101 in {folder.absolute()} has {len(of_class)} '
                    f'images, but needs more than the {TRAIN_PER_CLASS} to train on; remove the '
                    f'folder caltech101 and fetch Caltech101 again'
                )
            order = of_class[permutation(len(of_class), 0, label)]
            if split == 'train':
                positions += sorted(order[:TRAIN_PER_CLASS])
            else:
                positions += sorted(order[TRAIN_PER_CLASS:])
        super().__init__(
            folder,
            [files[i] for i in positions],
            [labels[i] for i in positions],
            classes,
        )
