"""Sources of the labelled data sets that representations are transferred to, in their original files, through torchvision.

They are those of SimCLR (arXiv 2002.05709, appendix B.8) and BYOL (arXiv 2006.07733, appendix D), CIFAR-10 and CIFAR-100 (arrays.py)
among them. Birdsnap, which torchvision does not have, and VOC 2007, where an image has several labels, are left out.

torchvision finds the files and knows the labels; images are read by read_image, like those of any other source.
"""

from pathlib import Path

import numpy as np

from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources.arrays import _one_of, torchvision_set
from ssl_zoo.data.sources.files import CHECKED_FILES, _Files
from ssl_zoo.errors import ConfigError, MissingData, nearest
from ssl_zoo.registry import SOURCES

# What the papers report of each set: the share of images that are right, or its mean over the classes.
METRICS = dict(
    Food101='top1',
    CIFAR10='top1',
    CIFAR100='top1',
    SUN397='top1',
    StanfordCars='top1',
    FGVCAircraft='mean_per_class',
    DTD='top1',
    OxfordIIITPet='mean_per_class',
    Caltech101='mean_per_class',
    Flowers102='mean_per_class',
)

# What the papers train on for the figures they report; they test on 'test'.
TRAIN_SPLITS = dict(
    Food101='train',
    CIFAR10='train',
    CIFAR100='train',
    SUN397='train',
    StanfordCars='train',
    FGVCAircraft='trainval',
    DTD='trainval',
    OxfordIIITPet='trainval',
    Caltech101='train',
    Flowers102='trainval',
)

CALTECH_TRAIN = 30  # images of each class

# The folder that torchvision looks for in root.
_FOLDERS = dict(
    Food101='food-101',
    SUN397='SUN397',
    StanfordCars='stanford_cars',
    FGVCAircraft='fgvc-aircraft-2013b',
    DTD='dtd',
    OxfordIIITPet='oxford-iiit-pet',
    Caltech101='caltech101',
    Flowers102='flowers-102',
)


def transfer_sources(name: str, root: str, download: bool = False) -> tuple[dict, dict]:
    """The configs of the two sources (train, test) that the papers report a data set on.

    Args:
        name: a key of METRICS; root, download: as the source's own.
    Raises:
        ConfigError: any other name.
    """
    if name not in METRICS:
        raise ConfigError(f'{name!r} is not a data set to transfer to: {nearest(name, METRICS)}')
    return tuple(
        dict(type=name, root=root, split=split, download=download)
        for split in (TRAIN_SPLITS[name], 'test')
    )


def _contents(name: str, data) -> tuple[list, list, list[str]]:
    """Image files, labels and class names of one of torchvision's data sets, without decoding an image.

    torchvision has no public names for them. These are its private ones, the same from 0.26 to 0.29, and nothing else uses any.
    """
    if name == 'StanfordCars':
        return (
            [file for file, _ in data._samples],
            [label for _, label in data._samples],
            data.classes,
        )
    if name == 'OxfordIIITPet':
        return data._images, data._labels, data.classes
    if name == 'Caltech101':
        folder = Path(data.root) / '101_ObjectCategories'
        return (
            [
                folder / data.categories[y] / f'image_{number:04d}.jpg'
                for y, number in zip(data.y, data.index, strict=True)
            ],
            data.y,
            data.categories,
        )
    return data._image_files, data._labels, data.classes


def _load(
    name: str, root: str, download: bool, *parts: dict
) -> tuple[Path, list[str], list[int], list[str]]:
    """What _Files takes, of one of torchvision's data sets or of several joined.

    Args:
        name: of the class in torchvision.datasets; parts: the further arguments of each data set to join.
    Raises:
        MissingData: the set is not there.
        ConfigError: as torchvision_set, or images that the annotations name are missing.
    """
    folder = Path(root).expanduser()
    place = folder / _FOLDERS[name]
    if (
        not download and not place.is_dir()
    ):  # torchvision does not say where it looked, and makes Caltech-101's folder
        raise MissingData(
            f'looked for the folder {_FOLDERS[name]} of {name} in {folder.absolute()}, but there is none; set root to '
            f'the folder that holds it, or download=True to fetch it'
        )
    again = f'remove {place.absolute()} and fetch {name} again'
    files, labels, classes = [], [], None
    for part in parts:
        more_files, more_labels, names = _contents(
            name, torchvision_set(name, root, download, **part)
        )
        if classes not in (
            None,
            names,
        ):  # DTD's are counted in each split; the same number would mean two classes
            raise ConfigError(
                f'the parts of {name} in {place.absolute()} do not have the same classes ({len(classes)} and '
                f'{len(names)}); {again}'
            )
        files += [Path(file).relative_to(folder).as_posix() for file in more_files]
        labels += more_labels
        classes = list(names)
    if not files or not 0 <= min(labels) <= max(labels) < len(classes):
        raise ConfigError(
            f'the annotations of {name} in {place.absolute()} name {len(files)} images with labels from '
            f'{min(labels, default=0)} to {max(labels, default=0)} of {len(classes)} classes; {again}'
        )
    looked_at = files[:: max(len(files) // CHECKED_FILES, 1)]
    missing = [file for file in looked_at if not (folder / file).is_file()]
    if missing:
        raise ConfigError(
            f'{len(missing)} of {len(looked_at)} images looked at of {name} are not in {folder.absolute()}, the first '
            f'is {missing[0]!r}; {again}'
        )
    return folder, files, labels, classes


def _parts(split: str) -> tuple[str, ...]:
    """The splits that a split is joined from where torchvision does not know 'trainval'."""
    return ('train', 'val') if split == 'trainval' else (split,)


@SOURCES.register_module()
class Food101(_Files):
    """Food-101: 101 dishes, 75,750 'train' and 25,250 'test' images. Its authors left wrong labels in 'train'.

    Args:
        root: folder of food-101; split: 'train' or 'test'; download: fetch the files if they are missing.
    Raises:
        ConfigError: any other split, files that are missing or damaged.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        _one_of('split', split, ('train', 'test'))
        super().__init__(*_load('Food101', root, download, dict(split=split)))


@SOURCES.register_module()
class SUN397(_Files):
    """SUN397: 397 scenes, 19,850 'train' and 19,850 'test' images, the first of the authors' ten partitions.

    torchvision knows no partitions. Theirs are in Partitions.zip (https://vision.princeton.edu/projects/2010/SUN/), to be unpacked
    by hand: Training_01.txt and Testing_01.txt are looked for in root/SUN397, root/SUN397/Partitions and root.

    Args:
        root: folder of SUN397; split: 'train' or 'test'; download: fetch the images (37 GB) if they are missing.
    Raises:
        ConfigError: any other split, no partition, files that are missing or damaged.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        _one_of('split', split, ('train', 'test'))
        folder = Path(root).expanduser()
        images = folder / 'SUN397'
        name = dict(train='Training_01.txt', test='Testing_01.txt')[split]
        places = (images, images / 'Partitions', folder)
        listing = next((place / name for place in places if (place / name).is_file()), None)
        if listing is None and (download or images.is_dir()):  # said before anything is fetched
            raise MissingData(
                f'looked for {name}, the {split} images of the first partition of SUN397, in '
                f'{", ".join(str(place.absolute()) for place in places)}, but there is none; unpack Partitions.zip '
                f'from https://vision.princeton.edu/projects/2010/SUN/ into one of them'
            )
        folder, files, labels, classes = _load('SUN397', root, download, {})
        label = dict(zip(files, labels, strict=True))
        chosen = [
            f'SUN397/{line.strip().lstrip("/")}'
            for line in listing.read_text().splitlines()
            if line.strip()
        ]
        missing = [file for file in chosen if file not in label]
        if missing or not chosen:
            raise ConfigError(
                f'{len(missing)} of {len(chosen)} images that {listing.absolute()} names are not in {folder.absolute()}'
                f'{f", the first is {missing[0]!r}" if missing else ""}; unpack SUN397 and Partitions.zip again'
            )
        super().__init__(folder, chosen, [label[file] for file in chosen], classes)


@SOURCES.register_module()
class StanfordCars(_Files):
    """Stanford Cars: 196 models, 8,144 'train' and 8,041 'test' images.

    The files have to be fetched by hand: the authors' site is gone, and torchvision cannot download them any more.

    Args:
        root: folder of stanford_cars, which holds devkit, cars_train, cars_test and cars_test_annos_withlabels.mat.
        split: 'train' or 'test'; download: has no effect on files that are there, and is answered with a sentence otherwise.
    Raises:
        ConfigError: any other split, files that are missing or damaged, no scipy.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        _one_of('split', split, ('train', 'test'))
        place = Path(root).expanduser() / _FOLDERS['StanfordCars']
        needed = (
            'devkit/cars_meta.mat',
            *dict(
                train=('devkit/cars_train_annos.mat', 'cars_train'),
                test=('cars_test_annos_withlabels.mat', 'cars_test'),
            )[split],
        )
        missing = [file for file in needed if not (place / file).exists()]
        if missing:
            raise MissingData(
                f'looked for {", ".join(missing)} of StanfordCars in {place.absolute()}, but found none; fetch them by '
                f'hand, see https://github.com/pytorch/vision/issues/7545: torchvision cannot download them any more'
            )
        super().__init__(*_load('StanfordCars', root, False, dict(split=split)))


@SOURCES.register_module()
class FGVCAircraft(_Files):
    """FGVC-Aircraft, 100 variants: 6,667 'trainval' images, which are 3,334 'train' and 3,333 'val', and 3,333 'test' images.

    The credits in the lowest 20 rows of each image are left on.

    Args:
        root: folder of fgvc-aircraft-2013b; split: 'trainval', 'train', 'val' or 'test'; download: fetch the files if they are missing.
    Raises:
        ConfigError: any other split, files that are missing or damaged.
    """

    def __init__(self, root: str, split: str = 'trainval', download: bool = False):
        _one_of('split', split, ('trainval', 'train', 'val', 'test'))
        super().__init__(
            *_load('FGVCAircraft', root, download, dict(split=split, annotation_level='variant'))
        )


@SOURCES.register_module()
class DTD(_Files):
    """Describable Textures: 47 textures, 1,880 images each in 'train', 'val' and 'test', the first of the authors' ten partitions.

    Args:
        root: folder of dtd/dtd; split: 'trainval' ('train' and 'val'), 'train', 'val' or 'test'.
        download: fetch the files if they are missing.
    Raises:
        ConfigError: any other split, files that are missing or damaged.
    """

    def __init__(self, root: str, split: str = 'trainval', download: bool = False):
        _one_of('split', split, ('trainval', 'train', 'val', 'test'))
        super().__init__(
            *_load(
                'DTD', root, download, *(dict(split=part, partition=1) for part in _parts(split))
            )
        )


@SOURCES.register_module()
class OxfordIIITPet(_Files):
    """Oxford-IIIT Pet: 37 breeds of cats and dogs, 3,680 'trainval' and 3,669 'test' images.

    Args:
        root: folder of oxford-iiit-pet; split: 'trainval' or 'test'; download: fetch the files if they are missing.
    Raises:
        ConfigError: any other split, files that are missing or damaged.
    """

    def __init__(self, root: str, split: str = 'trainval', download: bool = False):
        _one_of('split', split, ('trainval', 'test'))
        super().__init__(
            *_load('OxfordIIITPet', root, download, dict(split=split, target_types='category'))
        )


@SOURCES.register_module()
class Caltech101(_Files):
    """Caltech-101, 101 classes: 30 images of each are 'train' (3,030 in all, a fixed choice), the other 5,647 are 'test'.

    torchvision leaves the background class out. The published protocol counts it as one more: 102 classes, 3,060 training images.

    Args:
        root: folder of caltech101; split: 'train' or 'test'; download: fetch the files if they are missing.
    Raises:
        ConfigError: any other split, files that are missing or damaged, a class with none left for 'test'.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        _one_of('split', split, ('train', 'test'))
        folder, files, labels, classes = _load('Caltech101', root, download, {})
        chosen = []
        for label, name in enumerate(classes):
            inside = np.flatnonzero(np.array(labels) == label)
            if len(inside) <= CALTECH_TRAIN:
                raise ConfigError(
                    f'class {name!r} of Caltech101 in {folder.absolute()} has {len(inside)} images, but needs more than '
                    f'the {CALTECH_TRAIN} to train on; remove the folder caltech101 and fetch Caltech101 again'
                )
            order = inside[permutation(len(inside), 0, label)]
            chosen += sorted(order[:CALTECH_TRAIN] if split == 'train' else order[CALTECH_TRAIN:])
        super().__init__(folder, [files[i] for i in chosen], [labels[i] for i in chosen], classes)


@SOURCES.register_module()
class Flowers102(_Files):
    """Oxford 102 Flowers: 102 kinds, 1,020 'train', 1,020 'val' and 6,149 'test' images.

    Args:
        root: folder of flowers-102; split: 'trainval' ('train' and 'val'), 'train', 'val' or 'test'.
        download: fetch the files if they are missing.
    Raises:
        ConfigError: any other split, files that are missing or damaged, no scipy.
    """

    def __init__(self, root: str, split: str = 'trainval', download: bool = False):
        _one_of('split', split, ('trainval', 'train', 'val', 'test'))
        super().__init__(
            *_load('Flowers102', root, download, *(dict(split=part) for part in _parts(split)))
        )
