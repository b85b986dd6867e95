"""Image files to upright RGB. What cannot be read raises Unreadable with the reason."""
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.pbm', '.jp2', '.avif')


class Unreadable(Exception):
    """An image that could not be decoded: not an image, truncated, damaged, gone."""


def read_image(path: str | Path | BinaryIO) -> Image.Image:
    """The first frame of an image file, given by its path or open, as upright RGB, 8 bits per channel.

    EXIF orientation is applied; transparency is dropped; palette and grayscale images become colour images; CMYK is
    converted; 16-bit and floating point values are scaled, where Pillow's own conversion would clip them to white.

    Raises:
        Unreadable: with the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')                                  # of odd tags and large images: read all the same
            with Image.open(path) as image:
                image.load()                                                 # frame 0; a truncated file raises here
                return to_rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:                       # damaged files make Pillow's decoders raise nearly anything
        raise Unreadable(f'{type(error).__name__}: {error}') from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as RGB, as in read_image."""
    if image.mode == 'RGB':
        return image
    if image.mode.startswith('I') or image.mode == 'F':
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        # 16-bit integers span 0 to 65535; Pillow also opens them as 32-bit 'I'. Floats are taken as 0 to 1 if they fit. Else
        # the range is the smallest usual one that holds the values.
        spans = [65535] if image.mode.startswith('I;16') else [1, 255, 65535] if image.mode == 'F' else [255, 65535]
        largest = next((span for span in spans if values.max() <= span), values.max())
        return Image.fromarray((values.clip(0, largest) * (255 / largest)).round().astype(np.uint8)).convert('RGB')
    if image.mode == 'LAB':
        raise ValueError('LAB images are not supported')              # Pillow would hand the channels on as if they were RGB
    if image.mode in ('P', 'PA', 'LA', 'La', 'RGBa'):
        image = image.convert('RGBA')                # the palette's own colours, transparency aside
    return image.convert('RGB')
