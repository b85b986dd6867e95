"""The data sets of transfer evaluations, with the metrics and splits of the papers.

The data sets are those of SimCLR (arXiv 2002.05709, appendix B.8) and BYOL (arXiv 2006.07733,
appendix D).
Birdsnap, which torchvision does not have, is left out.
"""

from typing import NamedTuple

from ssl_zoo.errors import ConfigError, nearest


class TransferSet(NamedTuple):
    """How the papers report a data set.

    Attributes:
        metric: 'top1'; 'mean_per_class', the mean of the accuracies of the classes; of images with
            several classes 'map_11point', see ssl_zoo.evaluation.average_precision.
        train_split: the split that the papers train on; they test on 'test'.
    """

    metric: str
    train_split: str


TRANSFER_SETS = dict(
    Food101=TransferSet('top1', 'train'),
    CIFAR10=TransferSet('top1', 'train'),
    CIFAR100=TransferSet('top1', 'train'),
    SUN397=TransferSet('top1', 'train'),
    StanfordCars=TransferSet('top1', 'train'),
    FGVCAircraft=TransferSet('mean_per_class', 'trainval'),
    DTD=TransferSet('top1', 'trainval'),
    OxfordIIITPet=TransferSet('mean_per_class', 'trainval'),
    Caltech101=TransferSet('mean_per_class', 'train'),
    Flowers102=TransferSet('mean_per_class', 'trainval'),
    VOC2007=TransferSet('map_11point', 'trainval'),
)


def transfer_sources(name: str, root: str, download: bool = False) -> tuple[dict, dict]:
    """Return the configs of the sources (train, test) that the papers use for a data set.

    Args:
        name: a key of TRANSFER_SETS.
        root: argument of the source: folder of the data set.
        download: fetch the files if they are missing.

    Raises:
        ConfigError: another name.
    """
    if name not in TRANSFER_SETS:
        raise ConfigError(
            f'{name!r} is not a data set to transfer to: {nearest(name, TRANSFER_SETS)}'
        )
    train = dict(type=name, root=root, split=TRANSFER_SETS[name].train_split, download=download)
    return train, {**train, 'split': 'test'}
