"""Stanford Cars, whose files have to be fetched by hand."""

from pathlib import Path

from ssl_zoo.data.sources.image_files import ImageFiles
from ssl_zoo.data.sources.torchvision_files import FOLDERS, torchvision_files
from ssl_zoo.data.sources.torchvision_sets import check_split
from ssl_zoo.errors import MissingData
from ssl_zoo.registry import SOURCES

NEEDED = dict(
    train=('devkit/cars_meta.mat', 'devkit/cars_train_annos.mat', 'cars_train'),
    test=('devkit/cars_meta.mat', 'cars_test_annos_withlabels.mat', 'cars_test'),
)


@SOURCES.register_module()
class StanfordCars(ImageFiles):
    """Stanford Cars: 196 models, 8,144 'train' and 8,041 'test' images.

    The files have to be fetched by hand: the authors' site is gone, and torchvision cannot download
    them any more.

    Args:
        root: folder of stanford_cars, which holds devkit, cars_train, cars_test and
            cars_test_annos_withlabels.mat.
        split: 'train' or 'test'.
        download: ignored; accepted because the other data sets have this argument.

    Raises:
        ConfigError: another split, files that are missing (MissingData) or damaged, no scipy.
    """

    def __init__(self, root: str, split: str = 'train', download: bool = False):
        check_split(split, ('train', 'test'))
        folder = Path(root).expanduser() / FOLDERS['StanfordCars']
        missing = [file for file in NEEDED[split] if not (folder / file).exists()]
        if missing:
            raise MissingData(
                f'looked for {", ".join(missing)} of StanfordCars in {folder.absolute()}, but '
                f'found none; fetch them by hand, see '
                f'https://github.com/pytorch/vision/issues/7545: '
                f'torchvision cannot download them any more'
            )
        super().__init__(*torchvision_files('StanfordCars', root, False, dict(split=split)))
