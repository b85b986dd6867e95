"""PASCAL VOC 2007 classification: photographs with one or several of 20 classes of objects."""

from pathlib import Path

import numpy as np

from ssl_zoo.data.sources.base import NO_LABEL
from ssl_zoo.data.sources.image_files import ImageFiles, missing_files
from ssl_zoo.data.sources.torchvision_sets import check_split, torchvision_set
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.registry import SOURCES

FOLDER = 'VOCdevkit/VOC2007'
CLASSES = (
    'aeroplane',
    'bicycle',
    'bird',
    'boat',
    'bottle',
    'bus',
    'car',
    'cat',
    'chair',
    'cow',
    'diningtable',
    'dog',
    'horse',
    'motorbike',
    'person',
    'pottedplant',
    'sheep',
    'sofa',
    'train',
    'tvmonitor',
)
# Numbers in the files of VOC's classification task. 0: all objects of the class are 'difficult',
# and the image does not count in this class (VOC 2007's development kit, VOCevalcls.m).
LABEL_OF = {'1': 1, '-1': 0, '0': NO_LABEL}


@SOURCES.register_module()
class VOC2007(ImageFiles):
    """PASCAL VOC 2007 classification: 20 classes, 5,011 'trainval' and 4,952 'test' images.

    'trainval' is 'train' (2,501) and 'val' (2,510). An image has every class of which it shows an
    object. In a class of which it shows difficult objects alone it does not count, as in the
    challenge.

    Args:
        root: folder of VOCdevkit/VOC2007.
        split: 'trainval', 'train', 'val' or 'test'.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged.
    """

    def __init__(self, root: str, split: str = 'trainval', download: bool = False):
        check_split(split, ('trainval', 'train', 'val', 'test'))
        folder = Path(root).expanduser()
        own_folder = (folder / FOLDER).absolute()
        if not download and not own_folder.is_dir():
            raise MissingData(
                f'looked for the folder {FOLDER} in {folder.absolute()}, but there is none; set '
                f'root to the folder that holds it, or download=True to fetch it'
            )
        data = torchvision_set('VOCDetection', root, download, year='2007', image_set=split)
        files = [Path(file).relative_to(folder).as_posix() for file in data.images]
        fix = f'remove {own_folder} and fetch VOC2007 again'
        missing, checked = missing_files(folder, files)
        if missing or not files:
            raise ConfigError(
                f'{len(missing)} of {checked} images checked of VOC2007 are not in '
                f'{folder.absolute()}, such as {"".join(missing[:1])!r}; {fix}'
            )
        super().__init__(folder, files, classes=list(CLASSES))
        names = [Path(file).stem for file in files]
        self.multi_labels = np.stack(
            [_column(own_folder, class_name, split, names, fix) for class_name in CLASSES], axis=1
        )


def _column(folder: Path, class_name: str, split: str, names: list[str], fix: str) -> np.ndarray:
    """Read the labels of a class, (n,) int8."""
    path = folder / 'ImageSets' / 'Main' / f'{class_name}_{split}.txt'
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
        labels = [LABEL_OF[label] for _, label in rows]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f'the labels in {path} cannot be read ({type(error).__name__}: {error}); {fix}'
        ) from None
    if [name for name, _ in rows] != names:
        raise ConfigError(f'{path} does not name the images of {split}.txt; {fix}')
    return np.array(labels, dtype=np.int8)
