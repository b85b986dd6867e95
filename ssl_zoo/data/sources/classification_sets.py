"""Food-101, FGVC-Aircraft, DTD, Pets, Flowers: labelled data sets in torchvision's splits."""

from ssl_zoo.data.sources.image_files import ImageFiles
from ssl_zoo.data.sources.torchvision_files import torchvision_files
from ssl_zoo.data.sources.torchvision_sets import check_split
from ssl_zoo.registry import SOURCES


def _joined_splits(split: str) -> tuple[str, ...]:
    """Return the splits to join where torchvision has no 'trainval'."""
    return ('train', 'val') if split == 'trainval' else (split,)


@SOURCES.register_module()
class Food101(ImageFiles):
    """Food-101: 101 dishes, 75,750 'train' and 25,250 'test' images.

    Its authors left wrong labels in 'train'.

    Args:
        root: folder of food-101.
        split: 'train' or 'test'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        check_split(split, ('train', 'test'))
        super().__init__(*torchvision_files('Food101', root, download, dict(split=split)))


@SOURCES.register_module()
class FGVCAircraft(ImageFiles):
    """FGVC-Aircraft, 100 variants: 3,334 'train', 3,333 'val' and 3,333 'test' images.

    'trainval' is 'train' and 'val'. The lowest 20 rows of each image, which hold
    credits, are not cropped.

    Args:
        root: folder of fgvc-aircraft-2013b.
        split: 'trainval', 'train', 'val' or 'test'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged.
    """

    def __init__(self, root: str, split: str = 'trainval', download: bool = False):
        check_split(split, ('trainval', 'train', 'val', 'test'))
        arguments = dict(split=split, annotation_level='variant')
        super().__init__(*torchvision_files('FGVCAircraft', root, download, arguments))


@SOURCES.register_module()
class DTD(ImageFiles):
    """Describable Textures: 47 textures, 1,880 images each in 'train', 'val' and 'test'.

    'trainval' is 'train' and 'val'. The splits are the first of the authors' ten partitions.

    Args:
        root: folder of dtd/dtd.
        split: 'trainval', 'train', 'val' or 'test'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged.
    """

    def __init__(self, root: str, split: str = 'trainval', download: bool = False):
        check_split(split, ('trainval', 'train', 'val', 'test'))
        arguments = [dict(split=part, partition=1) for part in _joined_splits(split)]
        super().__init__(*torchvision_files('DTD', root, download, *arguments))


@SOURCES.register_module()
class OxfordIIITPet(ImageFiles):
    """Oxford-IIIT Pet: 37 breeds of cats and dogs, 3,680 'trainval' and 3,669 'test' images.

    Args:
        root: folder of oxford-iiit-pet.
        split: 'trainval' or 'test'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged.
    """

    def __init__(self, root: str, split: str = 'trainval', download: bool = False):
        check_split(split, ('trainval', 'test'))
        arguments = dict(split=split, target_types='category')
        super().__init__(*torchvision_files('OxfordIIITPet', root, download, arguments))


@SOURCES.register_module()
class Flowers102(ImageFiles):
    """Oxford 102 Flowers: 102 kinds, 1,020 'train', 1,020 'val' and 6,149 'test' images.

    'trainval' is 'train' and 'val'.

    Args:
        root: folder of flowers-102.
        split: 'trainval', 'train', 'val' or 'test'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged, no scipy.
    """

    def __init__(self, root: str, split: str = 'trainval', download: bool = False):
        check_split(split, ('trainval', 'train', 'val', 'test'))
        arguments = [dict(split=part) for part in _joined_splits(split)]
        super().__init__(*torchvision_files('Flowers102', root, download, *arguments))
