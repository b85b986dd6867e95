"""Decode image files to upright RGB. Unreadable files raise UnreadableImage with the reason."""

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

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

JPEG_START = b'\xff\xd8\xff'
START_OF_SCAN = 0xDA  # the pixels follow
APP1 = 0xE1  # EXIF or XMP
START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Segments that may come before the pixels and state their length: C4 to FE, without the markers D0
# to D9, which state none.
BEFORE_SCAN = set(range(0xC4, 0xFF)) - set(range(0xD0, 0xDA))


def read_pixels(data: bytes | np.ndarray, name: str | Path = 'an image') -> np.ndarray:
    """Decode the bytes of an image file to the same pixels as `read_image`.

    libjpeg-turbo decodes plain JPEG files without Pillow: the same pixels in 3/4 of the time.
    Pillow decodes all other files (CMYK, more than 8 bits, other formats) and those that
    libjpeg-turbo refuses.

    Args:
        data: the file's bytes, or a uint8 array of them.
        name: name of the file, for messages.

    Returns:
        (H, W, 3) uint8, contiguous and writeable.

    Raises:
        UnreadableImage: with the reason.
    """
    header = _jpeg_header(data)
    if header.plain:
        with suppress(ValueError):  # damaged: Pillow names the reason, or can read the file
            pixels = simplejpeg.decode_jpeg(data, 'RGB')
            return _turn_upright(pixels, data) if header.tagged else pixels
    return np.array(read_image(_NamedBytesIO(bytes(data), str(name))))


class _JpegHeader(NamedTuple):
    """Facts from the header of a JPEG file.

    Attributes:
        plain: 8 bits, one or three channels, no more pixels than Pillow accepts.
        tagged: the file has EXIF or XMP data, which may rotate the image.
    """

    plain: bool
    tagged: bool


NO_JPEG = _JpegHeader(plain=False, tagged=False)


def _jpeg_header(data: bytes | np.ndarray) -> _JpegHeader:
    if bytes(data[:3]) != JPEG_START:
        return NO_JPEG
    position = 2
    plain = False
    tagged = False
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == START_OF_SCAN:
            return _JpegHeader(plain, tagged)
        if marker in START_OF_FRAME:
            plain = _is_plain_frame(data, position)
        elif marker not in BEFORE_SCAN:
            break
        tagged |= marker == APP1
        position += 2 + _uint16(data, position + 2)
    return NO_JPEG


def _is_plain_frame(data: bytes | np.ndarray, position: int) -> bool:
    """Whether libjpeg-turbo and Pillow decode the pixels after this start of frame alike."""
    bits = data[position + 4]
    height = _uint16(data, position + 5)
    width = _uint16(data, position + 7)
    channels = data[position + 9]
    most_pixels = 2 * (Image.MAX_IMAGE_PIXELS or 2**31)  # Pillow refuses more
    return bits == 8 and channels in (1, 3) and 0 < height * width <= most_pixels


def _uint16(data: bytes | np.ndarray, position: int) -> int:
    return int(data[position]) << 8 | int(data[position + 1])


def _turn_upright(pixels: np.ndarray, data: bytes | np.ndarray) -> np.ndarray:
    """Apply the EXIF orientation of a JPEG file to its pixels.

    Raises:
        ValueError: Pillow cannot read the tags.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            exif = Image.open(io.BytesIO(bytes(data))).getexif()
            orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception as error:
        raise ValueError(f'tags that cannot be read: {error}') from None
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


class _NamedBytesIO(io.BytesIO):
    """Bytes whose repr, which Pillow's messages show, is a file's name."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.shown_name = name

    def __repr__(self) -> str:
        return repr(self.shown_name)


def read_image(file: str | Path | BinaryIO) -> Image.Image:
    """Read the first frame of an image file as upright RGB, 8 bits per channel.

    EXIF orientation is applied; transparency is dropped; palette and grayscale images become colour
    images; CMYK is converted; 16-bit and floating point values are scaled, where Pillow's own
    conversion would clip them to white.

    Args:
        file: a path, or a file open for reading bytes.

    Raises:
        UnreadableImage: with the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # files with odd tags and large images can be read
            with Image.open(file) as image:
                image.load()  # frame 0; a truncated file raises here
                return to_rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        raise UnreadableImage(f'{type(error).__name__}: {error}') from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a Pillow image of any mode to RGB, as described in `read_image`.

    Raises:
        ValueError: a LAB image.
    """
    if image.mode == 'RGB':
        return image
    if image.mode.startswith('I') or image.mode == 'F':
        return _scale_to_8_bits(image).convert('RGB')
    if image.mode == 'LAB':
        # Pillow would pass the channels on as if they were RGB.
        raise ValueError('LAB images are not supported')
    if image.mode in ('P', 'PA', 'LA', 'La', 'RGBa'):
        image = image.convert('RGBA')  # the palette's own colours, without transparency
    return image.convert('RGB')


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float values to 0 to 255.

    16-bit integers span 0 to 65535; Pillow also opens them as 32-bit 'I'. The range of other
    values is the smallest usual one that holds them: 1 (floats only), 255 or 65535, else their
    maximum.
    """
    if image.mode.startswith('I;16'):
        usual_ranges = [65535]
    elif image.mode == 'F':
        usual_ranges = [1, 255, 65535]
    else:
        usual_ranges = [255, 65535]
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    fitting = (largest for largest in usual_ranges if values.max() <= largest)
    largest = next(fitting, values.max())
    scaled = values.clip(0, largest) * (255 / largest)
    return Image.fromarray(scaled.round().astype(np.uint8))
