"""Sources of images held in memory: CIFAR-10, CIFAR-100, STL-10, scikit-learn's digits."""

import numpy as np
from PIL import Image

from ssl_zoo.data.sources.base import Source
from ssl_zoo.data.sources.class_labels import class_numbers
from ssl_zoo.data.sources.torchvision_sets import check_split, torchvision_set
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import SOURCES

LARGEST_DIGIT = 256  # pixels of a side: an image of 8 px upscaled, all of them in memory


class Arrays(Source):
    """Images in one array.

    Args:
        images: (n, H, W, 3) uint8.
        labels: (n,) whole numbers, or None.
        classes: name of each class, or None.
    """

    in_memory = True

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | list[int] | None = None,
        classes: list[str] | None = None,
    ):
        self.images = images
        self.classes = classes
        if labels is not None:
            self.labels = class_numbers(labels, type(self).__name__)

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, i: int) -> np.ndarray:
        return self.images[i]


class _Cifar(Arrays):
    def __init__(self, root: str, split: str = 'train', download: bool = False):
        check_split(split, ('train', 'test'))
        data = torchvision_set(type(self).__name__, root, download, train=split == 'train')
        super().__init__(data.data, data.targets, list(data.classes))


@SOURCES.register_module()
class CIFAR10(_Cifar):
    """CIFAR-10 in its original files, through torchvision.

    50,000 'train' and 10,000 'test' images of 32 px.

    Args:
        root: folder of cifar-10-batches-py.
        split: 'train' or 'test'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged.
    """


@SOURCES.register_module()
class CIFAR100(_Cifar):
    """CIFAR-100 in its original files, through torchvision.

    50,000 'train' and 10,000 'test' images of 32 px.

    Args:
        root: folder of cifar-100-python.
        split: 'train' or 'test'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged.
    """


@SOURCES.register_module()
class STL10(Arrays):
    """STL-10 in its original files, through torchvision, images of 96 px.

    'train' has 5,000 images, 'test' 8,000, 'unlabeled' 100,000. Splits with unlabelled images have
    no labels.

    Args:
        root: folder of stl10_binary.
        split: 'train', 'test', 'unlabeled' or 'train+unlabeled'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        check_split(split, ('train', 'test', 'unlabeled', 'train+unlabeled'))
        data = torchvision_set('STL10', root, download, split=split)
        images = data.data.transpose(0, 2, 3, 1)
        if 'unlabeled' in split:
            super().__init__(images)
        else:
            super().__init__(images, data.labels, list(data.classes))


@SOURCES.register_module()
class Digits(Arrays):
    """scikit-learn's handwritten digits (8 px, bundled), upscaled to RGB; needs no download.

    A fixed split, stratified by class: 'train' has 1,257 images, 'val' 180 (for choices), 'test'
    360.

    Args:
        split: 'train', 'val' or 'test'.
        size: side of the images in pixels, 1 to 256.

    Attributes:
        positions: (n,) positions of the images in scikit-learn's data set.

    Raises:
        ConfigError: another split or size.
    """

    def __init__(self, split: str = 'train', size: int = 32):
        from sklearn.datasets import load_digits

        check_split(split, ('train', 'val', 'test'))
        if not 1 <= size <= LARGEST_DIGIT:
            raise ConfigError(f'size is {size!r}, but it must be from 1 to {LARGEST_DIGIT} pixels')
        digits = load_digits()
        positions = _split_digits(digits.target)[split]
        gray = (digits.images[positions] * (255 / 16)).round().astype(np.uint8)
        images = [_upscale(image, size) for image in gray]
        classes = [str(i) for i in range(10)]
        super().__init__(np.stack(images), digits.target[positions], classes)
        self.positions = positions

    def name(self, i: int) -> str:
        return f'digit {self.positions[i]}'


def _split_digits(labels: np.ndarray) -> dict[str, np.ndarray]:
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(np.arange(1797), test_size=360, random_state=0, stratify=labels)
    train, val = train_test_split(rest, test_size=180, random_state=0, stratify=labels[rest])
    return dict(train=train, val=val, test=test)


def _upscale(gray: np.ndarray, size: int) -> np.ndarray:
    """(8, 8) uint8 -> (size, size, 3) uint8."""
    image = Image.fromarray(gray).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image.convert('RGB'))
