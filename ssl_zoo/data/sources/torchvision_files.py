"""The image files, labels and classes of torchvision's data sets.

torchvision finds the files and knows the labels. The images themselves are read by
`ssl_zoo.data.decode`, like those of every other source.
"""

from pathlib import Path
from typing import NamedTuple

from ssl_zoo.data.sources.image_files import missing_files
from ssl_zoo.data.sources.torchvision_sets import torchvision_set
from ssl_zoo.errors import ConfigError, MissingData

# The folder that torchvision looks for in root.
FOLDERS = dict(
    Food101='food-101',
    SUN397='SUN397',
    StanfordCars='stanford_cars',
    FGVCAircraft='fgvc-aircraft-2013b',
    DTD='dtd',
    OxfordIIITPet='oxford-iiit-pet',
    Caltech101='caltech101',
    Flowers102='flowers-102',
)


class LabelledFiles(NamedTuple):
    """The arguments of ImageFiles.

    Attributes:
        root: the folder.
        files: paths relative to root.
        labels: label of each file.
        classes: name of each class.
    """

    root: Path
    files: list[str]
    labels: list[int]
    classes: list[str]


def torchvision_files(name: str, root: str, download: bool, *splits: dict) -> LabelledFiles:
    """List the files of a data set of torchvision, or of several of its splits joined.

    Args:
        name: name of the class in torchvision.datasets, a key of FOLDERS.
        root: folder that holds FOLDERS[name].
        download: fetch the files if they are missing.
        splits: for each split to join, the further arguments of torchvision's class.

    Raises:
        MissingData: the data set is not in root.
        ConfigError: as `torchvision_set`; splits with different classes; labels outside the
            classes; images that the annotations name are missing.
    """
    folder = Path(root).expanduser()
    own_folder = folder / FOLDERS[name]
    # Checked here, because torchvision's error does not say where it looked, and torchvision
    # creates Caltech-101's folder.
    if not download and not own_folder.is_dir():
        raise MissingData(
            f'looked for the folder {FOLDERS[name]} of {name} in {folder.absolute()}, but there is '
            f'none; set root to the folder that holds it, or download=True to fetch it'
        )
    fix = f'remove {own_folder.absolute()} and fetch {name} again'
    files = []
    labels = []
    classes = None
    for split in splits:
        data = torchvision_set(name, root, download, **split)
        split_files, split_labels, split_classes = _contents(name, data)
        # DTD numbers the classes in each split. If the splits have different classes, the same
        # number means different classes.
        if classes not in (None, split_classes):
            raise ConfigError(
                f'the parts of {name} in {own_folder.absolute()} do not have the same classes '
                f'({len(classes)} and {len(split_classes)}); {fix}'
            )
        files += [Path(file).relative_to(folder).as_posix() for file in split_files]
        labels += split_labels
        classes = list(split_classes)
    _check_labels(name, own_folder, labels, classes, fix)
    missing, checked = missing_files(folder, files)
    if missing:
        raise ConfigError(
            f'{len(missing)} of {checked} images checked of {name} are not in {folder.absolute()}, '
            f'the first is {missing[0]!r}; {fix}'
        )
    return LabelledFiles(folder, files, labels, classes)


def _check_labels(
    name: str, own_folder: Path, labels: list[int], classes: list[str], fix: str
) -> None:
    if not labels or not 0 <= min(labels) <= max(labels) < len(classes):
        raise ConfigError(
            f'the annotations of {name} in {own_folder.absolute()} name {len(labels)} images with '
            f'labels from {min(labels, default=0)} to {max(labels, default=0)} of {len(classes)} '
            f'classes; {fix}'
        )


def _contents(name: str, data) -> tuple[list, list, list[str]]:
    """Return image files, labels and class names of a data set of torchvision.

    torchvision has no public attributes for them. Its private attributes, which only this function
    uses, are the same from 0.26 to 0.29.
    """
    if name == 'StanfordCars':
        files = [file for file, _ in data._samples]
        labels = [label for _, label in data._samples]
        return files, labels, data.classes
    if name == 'OxfordIIITPet':
        return data._images, data._labels, data.classes
    if name == 'Caltech101':
        folder = Path(data.root) / '101_ObjectCategories'
        files = [
            folder / data.categories[label] / f'image_{number:04d}.jpg'
            for label, number in zip(data.y, data.index, strict=True)
        ]
        return files, data.y, data.categories
    return data._image_files, data._labels, data.classes
