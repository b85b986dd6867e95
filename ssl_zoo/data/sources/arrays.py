"""Sources of images in memory: CIFAR-10, CIFAR-100, STL-10, digits."""

from pathlib import Path

import numpy as np
from PIL import Image

from ssl_zoo.data.sources.base import Source
from ssl_zoo.errors import ConfigError, MissingData, nearest
from ssl_zoo.registry import SOURCES


class _Arrays(Source):
    """A source of images in memory, (n, H, W, 3) uint8."""

    def __init__(self, images: np.ndarray, labels=None, classes: list[str] | None = None):
        self.images = images
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.classes = classes

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, i: int) -> np.ndarray:
        return self.images[i]


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f'{name} is {value!r}: {nearest(value, allowed)}')


def torchvision_set(name: str, root: str, download: bool, **arguments):
    """torchvision's data set of that name, and a sentence in place of whatever keeps torchvision from building it.

    Args:
        root, download: as torchvision's; arguments: further ones of that data set.
    Raises:
        MissingData: its files are not there.
        ConfigError: some of them are not there, they cannot be read or fetched, or scipy is missing, which reads some.
    """
    from torchvision import datasets

    cls, folder = getattr(datasets, name), Path(root).expanduser()
    try:
        return cls(str(folder), download=download, **arguments)
    except MemoryError:
        raise
    except (
        RuntimeError,
        ImportError,
    ) as error:  # RuntimeError: what torchvision raises for missing files, and once for scipy
        if 'scipy' in str(error).lower():
            raise ConfigError(
                f'{name} keeps its labels in .mat files, and scipy, which reads them, cannot be imported ({error}); '
                f'install it: pip install scipy'
            ) from None
        if download:
            raise MissingData(
                f'fetched {name} into {folder.absolute()}, but its files are not as they should be: {error}; '
                f'remove them and try again'
            ) from None
        raise MissingData(
            f'looked for the files of {name} in {folder.absolute()}: {error}; set root to the folder that '
            f'holds them, or download=True to fetch them'
        ) from None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(
            f'the files of {name} in {folder.absolute()} are not complete: {error}; remove them and fetch '
            f'{name} again'
        ) from None
    except OSError as error:
        raise ConfigError(
            f'could not {"fetch" if download else "read"} {name} {"into" if download else "in"} '
            f'{folder.absolute()}: {error}'
        ) from None
    except (
        Exception
    ) as error:  # annotations cut short or edited: torchvision does not look before it reads
        raise ConfigError(
            f'the files of {name} in {folder.absolute()} are not as torchvision expects them '
            f'({type(error).__name__}: {error}); remove them and fetch {name} again'
        ) from error


class _Cifar(_Arrays):
    def __init__(self, root: str, split: str = 'train', download: bool = False):
        _one_of('split', split, ('train', 'test'))
        data = torchvision_set(type(self).__name__, root, download, train=split == 'train')
        super().__init__(data.data, data.targets, list(data.classes))


@SOURCES.register_module()
class CIFAR10(_Cifar):
    """CIFAR-10 in its original files, through torchvision: 50,000 'train' and 10,000 'test' images of 32 px.

    Args:
        root: folder of cifar-10-batches-py; split: 'train' or 'test'; download: fetch the files if they are missing.
    """


@SOURCES.register_module()
class CIFAR100(_Cifar):
    """CIFAR-100 in its original files, through torchvision; arguments as CIFAR10's."""


@SOURCES.register_module()
class STL10(_Arrays):
    """STL-10 through torchvision, 96 px: 'train' (5,000), 'test' (8,000), 'unlabeled' (100,000), 'train+unlabeled'.

    Splits with unlabelled images have no labels.

    Args:
        root: folder of stl10_binary; split: see above; download: fetch the files if they are missing.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        _one_of('split', split, ('train', 'test', 'unlabeled', 'train+unlabeled'))
        data = torchvision_set('STL10', root, download, split=split)
        labels = None if 'unlabeled' in split else data.labels
        super().__init__(
            data.data.transpose(0, 2, 3, 1), labels, None if labels is None else list(data.classes)
        )


@SOURCES.register_module()
class Digits(_Arrays):
    """scikit-learn's bundled 8 px handwritten digits, upscaled to RGB of 32 px by default; needs no download.

    A fixed split, stratified by class: 'train' 1257, 'val' 180 (for choices), 'test' 360 images.

    Args:
        split: 'train', 'val' or 'test'; size: side in pixels.
    """

    def __init__(self, split: str = 'train', size: int = 32):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        _one_of('split', split, ('train', 'val', 'test'))
        digits = load_digits()
        rest, test = train_test_split(
            np.arange(1797), test_size=360, random_state=0, stratify=digits.target
        )
        train, val = train_test_split(
            rest, test_size=180, random_state=0, stratify=digits.target[rest]
        )
        chosen = dict(train=train, val=val, test=test)[split]
        gray = (digits.images[chosen] * (255 / 16)).round().astype(np.uint8)
        images = [
            Image.fromarray(g).resize((size, size), Image.Resampling.BICUBIC).convert('RGB')
            for g in gray
        ]
        super().__init__(
            np.stack([np.asarray(image) for image in images]),
            digits.target[chosen],
            [str(i) for i in range(10)],
        )
        self.numbers = chosen

    def name(self, i: int) -> str:
        return f'digit {self.numbers[i]}'
