"""SUN397 in the first of its authors' partitions, which torchvision does not have."""

from pathlib import Path

from ssl_zoo.data.sources.image_files import ImageFiles
from ssl_zoo.data.sources.torchvision_files import FOLDERS, torchvision_files
from ssl_zoo.data.sources.torchvision_sets import check_split
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.registry import SOURCES

PARTITIONS = 'https://vision.princeton.edu/projects/2010/SUN/'
PARTITION_FILES = dict(train='Training_01.txt', test='Testing_01.txt')


@SOURCES.register_module()
class SUN397(ImageFiles):
    """SUN397: 397 scenes, 19,850 'train' and 19,850 'test' images.

    The splits are the first of the authors' ten partitions. Download and unpack Partitions.zip
    (https://vision.princeton.edu/projects/2010/SUN/) by hand: its files Training_01.txt and
    Testing_01.txt must be in root/SUN397, root/SUN397/Partitions or root.

    Args:
        root: folder of SUN397.
        split: 'train' or 'test'.
        download: fetch the images (37 GB) if they are missing.

    Raises:
        ConfigError: another split, files that are missing (MissingData), partition files included,
            or damaged.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        check_split(split, ('train', 'test'))
        partition = _find_partition(root, split, download)
        folder, all_files, all_labels, classes = torchvision_files('SUN397', root, download, {})
        label = dict(zip(all_files, all_labels, strict=True))
        lines = [line.strip() for line in partition.read_text().splitlines() if line.strip()]
        files = [f'{FOLDERS["SUN397"]}/{line.lstrip("/")}' for line in lines]
        missing = [file for file in files if file not in label]
        if missing or not files:
            first = f', the first is {missing[0]!r}' if missing else ''
            raise ConfigError(
                f'{len(missing)} of {len(files)} images that {partition.absolute()} names are not '
                f'in {folder.absolute()}{first}; unpack SUN397 and Partitions.zip again'
            )
        super().__init__(folder, files, [label[file] for file in files], classes)


def _find_partition(root: str, split: str, download: bool) -> Path:
    """Find the text file that names the images of a split."""
    folder = Path(root).expanduser()
    images = folder / FOLDERS['SUN397']
    name = PARTITION_FILES[split]
    searched = (images, images / 'Partitions', folder)
    for candidate in searched:
        if (candidate / name).is_file():
            return candidate / name
    # Raised before anything is fetched.
    if download or images.is_dir():
        raise MissingData(
            f'looked for {name}, the {split} images of the first partition of SUN397, in '
            f'{", ".join(str(path.absolute()) for path in searched)}, but there is none; unpack '
            f'Partitions.zip from {PARTITIONS} into one of them'
        )
    # Neither images nor partition: `torchvision_files` reports the missing folder.
    return folder / name
