"""Images that a program holds: paths, Pillow images, arrays, or the items of a torch Dataset."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ssl_zoo.data.decode import read_image, to_rgb
from ssl_zoo.data.sources.base import Source
from ssl_zoo.errors import ConfigError, UnreadableImage

ALLOWED = (
    'the path of an image file, a Pillow image, or an array of (H, W), (H, W, 1) or (H, W, 3) uint8'
)


def to_image(item: Any) -> Image.Image:
    """Convert a path, a Pillow image, an array or a tensor to an upright RGB image.

    Tensors are (H, W), (H, W, 3) or (3, H, W) uint8.

    Raises:
        UnreadableImage: a file cannot be read.
        ConfigError: anything else.
    """
    if isinstance(item, (str, Path)):
        return read_image(item)
    if isinstance(item, Image.Image):
        return to_rgb(item)
    if isinstance(item, Tensor):
        item = item.detach().cpu().numpy()
        if item.ndim == 3 and item.shape[0] == 3 and item.shape[2] != 3:
            item = item.transpose(1, 2, 0)
    if isinstance(item, np.ndarray):
        if item.ndim == 3 and item.shape[2] == 1:
            item = item[:, :, 0]
        has_shape = item.ndim == 2 or (item.ndim == 3 and item.shape[2] == 3)
        if item.dtype == np.uint8 and has_shape and item.size:
            return Image.fromarray(np.ascontiguousarray(item)).convert('RGB')
        raise ConfigError(
            f'an image is an array of {item.shape} {item.dtype}, but it must be (H, W), (H, W, 1) '
            f'or (H, W, 3) uint8; scale floats to 0 to 255 and convert them with astype("uint8")'
        )
    raise ConfigError(f'an image is a {type(item).__name__}, but it must be {ALLOWED}')


class ImageObjects(Source):
    """A sequence of images that a program holds.

    Args:
        images: a sequence of items that ``to_image`` takes; read when they are needed.
        labels: (n,) whole numbers of at least 0, or None.

    Raises:
        ConfigError: there are no images, or not as many labels.
    """

    def __init__(self, images: Any, labels: Any = None):
        if not len(images):
            raise ConfigError('there are no images: the list is empty')
        self.images = images
        if labels is not None:
            if not are_class_numbers(labels, len(images)):
                array = np.asarray(labels)
                raise ConfigError(
                    f'labels of shape {array.shape}, {array.dtype}, for {len(images)} images, but '
                    f'there must be one whole number of at least 0 for each image'
                )
            self.labels = np.asarray(labels, dtype=np.int64)
            self.classes = [str(i) for i in range(self.labels.max() + 1)]
            self.classes_are_numbers = True

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> Image.Image:
        return to_image(self.images[i])

    def name(self, i: int) -> str:
        item = self.images[i]
        return str(item) if isinstance(item, (str, Path)) else f'image {i}'


class DatasetImages(ImageObjects):
    """The images of a torch Dataset, whose items are images or tuples that begin with one.

    Args:
        dataset: the dataset, without a transform or with one whose results ``to_image`` takes.
        labels: (n,) whole numbers; None takes the dataset's attribute ``targets`` or ``labels``,
            as torchvision's have it; without it there are no labels.
    """

    def __init__(self, dataset: Dataset, labels: Any = None):
        if labels is None:
            found = getattr(dataset, 'targets', getattr(dataset, 'labels', None))
            labels = found if are_class_numbers(found, len(dataset)) else None
        super().__init__(dataset, labels)

    def read(self, i: int) -> Image.Image:
        item = self.images[i]
        return to_image(item[0] if isinstance(item, (tuple, list)) else item)

    def name(self, i: int) -> str:
        return f'image {i}'


def as_source(images: Any, labels: Any = None) -> Source:
    """Return images as a source: a Source as it is, a torch Dataset, or a sequence of images.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(images, Source):
        if labels is not None:
            raise ConfigError('a source has its own labels; leave labels out')
        return images
    if isinstance(images, Dataset):
        return DatasetImages(images, labels)
    if isinstance(images, (list, tuple, np.ndarray, Tensor)):
        return ImageObjects(images, labels)
    raise ConfigError(
        f'images is a {type(images).__name__}, but it must be a list of images, an array of '
        f'(n, H, W, 3) uint8, a torch Dataset or a source'
    )


def is_one_image(images: Any) -> bool:
    """Whether ``images`` is one image, and not a sequence of images."""
    if isinstance(images, (str, Path, Image.Image)):
        return True
    if isinstance(images, Tensor):
        return images.ndim == 2 or (images.ndim == 3 and 3 in (images.shape[0], images.shape[2]))
    return isinstance(images, np.ndarray) and (
        images.ndim == 2 or (images.ndim == 3 and images.shape[2] == 3)
    )


def are_class_numbers(labels: Any, n: int) -> bool:
    """Whether labels are n whole numbers of at least 0."""
    try:
        array = np.asarray(labels)
    except ValueError:  # lists of different lengths
        return False
    return array.shape == (n,) and array.dtype.kind in 'iu' and bool((array >= 0).all())


def raise_if_unreadable(source: Source, unreadable: list[tuple[int, str]]) -> None:
    """Raise UnreadableImage for the first image that could not be read."""
    if unreadable:
        i, reason = unreadable[0]
        more = f' (and {len(unreadable) - 1} more)' if len(unreadable) > 1 else ''
        raise UnreadableImage(f'{source.name(i)} cannot be read: {reason}{more}')
