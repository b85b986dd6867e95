"""Image files to upright RGB. What cannot be read raises UnreadableImage with the reason."""

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps

from ssl_zoo.errors import UnreadableImage

SUFFIXES = (
    '.jpg',
    '.jpeg',
    '.png',
    '.bmp',
    '.gif',
    '.webp',
    '.tif',
    '.tiff',
    '.ppm',
    '.pgm',
    '.pbm',
    '.jp2',
    '.avif',
)


def read_pixels(data: bytes | np.ndarray, name: str | Path = 'an image') -> np.ndarray:
    """As read_image, from the bytes of an image file: (H, W, 3) uint8, which may be written to.

    JPEG files take the shorter way of libjpeg-turbo without Pillow: the same pixels in 3/4 of the time. What Pillow decodes by rules of
    its own (CMYK, more than 8 bits, other formats), and what fails, goes to Pillow.

    Args:
        data: the file's bytes; name: what messages call it.
    """
    plain, tagged = _plain_jpeg(data)
    if plain:
        with suppress(ValueError):  # damaged: Pillow says what is wrong, or reads it all the same
            pixels = simplejpeg.decode_jpeg(data, 'RGB')
            return _upright(pixels, data) if tagged else pixels
    return np.array(read_image(_Named(bytes(data), str(name))))


def _plain_jpeg(data: bytes | np.ndarray) -> tuple[bool, bool]:
    """Whether these bytes begin as a JPEG file of 8 bits, gray or three colours, of no more pixels than Pillow takes; whether there
    are tags that may turn it."""
    if bytes(data[:3]) != b'\xff\xd8\xff':
        return False, False
    at, end, plain, tagged = 2, len(data), False, False
    while at + 9 < end and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xDA:  # the pixels begin
            return plain, tagged
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # the frame header
            bits, height, width, channels = (
                data[at + 4],
                _word(data, at + 5),
                _word(data, at + 7),
                data[at + 9],
            )
            plain = (
                bits == 8
                and channels in (1, 3)
                and 0 < height * width <= 2 * (Image.MAX_IMAGE_PIXELS or 2**31)
            )
        elif not (0xC4 <= kind <= 0xFE) or 0xD0 <= kind <= 0xD9:
            break  # not what stands in front of the pixels
        tagged |= kind == 0xE1  # EXIF or XMP
        at += 2 + _word(data, at + 2)
    return False, False


def _upright(pixels: np.ndarray, data: bytes | np.ndarray) -> np.ndarray:
    """The pixels of a JPEG file, turned as its EXIF orientation says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            orientation = (
                Image.open(io.BytesIO(bytes(data))).getexif().get(ExifTags.Base.Orientation, 1)
            )
    except Exception as error:
        raise ValueError(f'tags that cannot be read: {error}') from None
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _word(data: bytes | np.ndarray, at: int) -> int:
    return int(data[at]) << 8 | int(data[at + 1])


class _Named(io.BytesIO):
    """Bytes that Pillow's messages call by a name."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.called = name

    def __repr__(self) -> str:
        return repr(self.called)


def read_image(path: str | Path | BinaryIO) -> Image.Image:
    """The first frame of an image file, given by its path or open, as upright RGB, 8 bits per channel.

    EXIF orientation is applied; transparency is dropped; palette and grayscale images become colour images; CMYK is
    converted; 16-bit and floating point values are scaled, where Pillow's own conversion would clip them to white.

    Raises:
        UnreadableImage: with the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of odd tags and large images: read all the same
            with Image.open(path) as image:
                image.load()  # frame 0; a truncated file raises here
                return to_rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        raise UnreadableImage(f'{type(error).__name__}: {error}') from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as RGB, as in read_image."""
    if image.mode == 'RGB':
        return image
    if image.mode.startswith('I') or image.mode == 'F':
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        # 16-bit integers span 0 to 65535; Pillow also opens them as 32-bit 'I'. Floats are taken as 0 to 1 if they fit. Else
        # the range is the smallest usual one that holds the values.
        spans = (
            [65535]
            if image.mode.startswith('I;16')
            else [1, 255, 65535]
            if image.mode == 'F'
            else [255, 65535]
        )
        largest = next((span for span in spans if values.max() <= span), values.max())
        return Image.fromarray(
            (values.clip(0, largest) * (255 / largest)).round().astype(np.uint8)
        ).convert('RGB')
    if image.mode == 'LAB':
        raise ValueError(
            'LAB images are not supported'
        )  # Pillow would hand the channels on as if they were RGB
    if image.mode in ('P', 'PA', 'LA', 'La', 'RGBa'):
        image = image.convert('RGBA')  # the palette's own colours, transparency aside
    return image.convert('RGB')
