"""The interface of a data source: images read by position, with or without labels."""

import hashlib
import io

import numpy as np
from PIL import Image

from ssl_zoo.data.decode import MAX_PIXELS
from ssl_zoo.data.random import permutation

NO_LABEL = -1  # the label of an image whose class is not known


def numbers_as_names(labels: np.ndarray) -> list[str]:
    """Return '0', '1', ... for labels, (n,) int64, whose classes have no names."""
    return [str(i) for i in range(labels.max() + 1)]


class Source:
    """Base class of all data sources.

    A subclass defines `__len__` and `read` or `pixels`, and registers itself with
    `@SOURCES.register_module()`; the keys of `data.train=dict(type=..., ...)` are the arguments of
    its `__init__`.

    Attributes:
        labels: (n,) int64, NO_LABEL for an image without label; None for a source without labels.
        multi_labels: (n, C) int8 where an image may have several of the C classes: 1 for a class of
            the image, 0 for none, NO_LABEL for an image that does not count in this class; None
            elsewhere. Such a source has no `labels`: nothing may take them for one class each.
        classes: name of each class, in the order of the labels, or None.
        classes_are_numbers: whether the classes have no names, and `classes` holds their numbers.
        warnings: sentences that a figure on these images must carry.
        notes: sentences about how the images were found, such as files that were left out.
        in_memory: whether `pixels` costs no reading and no decoding.
        max_pixels: number of pixels above which an image file is unreadable; `build_source` sets it
            to data.max_pixels.
    """

    labels: np.ndarray | None = None
    multi_labels: np.ndarray | None = None
    classes: list[str] | None = None
    classes_are_numbers: bool = False
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    in_memory: bool = False
    max_pixels: int = MAX_PIXELS

    def __init_subclass__(cls, **arguments):
        super().__init_subclass__(**arguments)
        # If the nearest class that defines `read` or `pixels` (this class or a mixin) defines only
        # one of them, derive the other.
        defined = next(
            names for base in cls.__mro__ if (names := {'read', 'pixels'} & vars(base).keys())
        )
        if defined == {'read'}:
            cls.pixels = lambda self, i: np.array(cls.read(self, i))  # type: ignore[method-assign]
        elif defined == {'pixels'}:
            cls.read = lambda self, i: Image.fromarray(  # type: ignore[method-assign]
                cls.pixels(self, i)
            )

    @property
    def is_labelled(self) -> bool:
        """Whether the images have labels: one class each, or several."""
        return self.labels is not None or self.multi_labels is not None

    def __len__(self) -> int:
        """Return the number of images."""
        raise NotImplementedError

    def read(self, i: int) -> Image.Image:
        """Return image i as an upright RGB image.

        Raises:
            UnreadableImage: with the reason.
        """
        raise NotImplementedError(
            f'{type(self).__name__} must define read(self, i) or pixels(self, i)'
        )

    def pixels(self, i: int) -> np.ndarray:
        """Return image i as training reads it: (H, W, 3) uint8, the pixels of `read`.

        Raises:
            UnreadableImage: with the reason.
        """
        raise NotImplementedError(
            f'{type(self).__name__} must define read(self, i) or pixels(self, i)'
        )

    def name(self, i: int) -> str:
        """Return the name of image i in messages, lists and the manifest."""
        return f'{type(self).__name__} image {i}'

    def encoded(self, i: int) -> tuple[str, bytes]:
        """Return image i as an image file: the stored file, or a PNG if it is not stored as a file.

        Returns:
            the suffix, such as '.png', and the file's bytes.

        Raises:
            UnreadableImage: with the reason.
        """
        file = io.BytesIO()
        self.read(i).save(file, 'PNG')
        return '.png', file.getvalue()

    def order(self, epoch: int, seed: int, only: np.ndarray | None = None) -> np.ndarray:
        """Return the order in which an epoch visits the images, a pure function of the arguments.

        Args:
            epoch: number of the epoch.
            seed: the run's seed.
            only: positions of the images to visit; None for all. The default order depends
                only on their number. A source whose neighbouring images must be read together keeps
                the relative order that all its images have.

        Returns:
            (n,) int64, a permutation of range(n), where n is len(self) or len(only).
        """
        return permutation(len(self) if only is None else len(only), seed, epoch)

    def file_stats(self, only: np.ndarray | None = None) -> np.ndarray | None:
        """Return size and modification time of the images' files, without reading the files.

        A source that reads files defines this method, so that stored features are not reused, and
        a run does not resume, when the files were exchanged under the same names.

        Args:
            only: positions of images; None for all.

        Returns:
            (n, 2) int64, bytes and nanoseconds, -1 for a file that cannot be found; None if the
            images are not files.
        """
        return None

    def manifest(self) -> str:
        """Return the first 16 hexadecimal digits of the SHA-256 over all names and labels."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            label = '' if self.labels is None else self.labels[i]
            if self.multi_labels is not None:
                label = self.multi_labels[i].tolist()
            line = f'{self.name(i)}\t{label}\n'
            digest.update(line.encode(errors='surrogateescape'))
        return digest.hexdigest()[:16]
