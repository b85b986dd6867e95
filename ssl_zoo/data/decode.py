"""Decode image files to upright RGB. Unreadable files raise UnreadableImage with the reason."""

import io
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
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
    '.jfif',
    '.jpe',
    '.heic',
    '.heif',
)
# Formats that not every installation reads, by the suffixes of their files.
OPTIONAL_FORMATS = {'.avif': 'AVIF', '.heic': 'HEIF', '.heif': 'HEIF'}

# The formats that are read. Pillow knows more, and runs Ghostscript for one of them (EPS), whatever
# the name of the file. HEIF is Pillow's only where pillow-heif is installed.
FORMATS = (
    'JPEG',
    'PNG',
    'WEBP',
    'TIFF',
    'GIF',
    'BMP',
    'PPM',
    'AVIF',
    'JPEG2000',
    'HEIF',
)

# Largest number of pixels of an image, unless data.max_pixels says otherwise: above the 102 and 108
# million pixels of large cameras. At this limit decoding takes at most about 1.5 GB.
MAX_PIXELS = 128_000_000
# A file may hold 8 bytes per pixel (16-bit RGBA without compression), and further data.
FILE_BYTES_PER_PIXEL = 8
FURTHER_FILE_BYTES = 64 << 20

JPEG_START = b'\xff\xd8\xff'
START_OF_SCAN = 0xDA  # the pixels follow
APP1 = 0xE1  # EXIF or XMP
START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Segments that may come before the pixels and state their length: C4 to FE, without the markers D0
# to D9, which state none.
BEFORE_SCAN = set(range(0xC4, 0xFF)) - set(range(0xD0, 0xDA))


@cache
def _register_formats() -> None:
    """Register Pillow's formats, and HEIF where pillow-heif is installed."""
    Image.init()  # Pillow's own look-up raises KeyError for a format that is not installed
    if 'HEIF' not in Image.OPEN:
        with suppress(Exception):  # not installed, or its library cannot be loaded
            import pillow_heif

            pillow_heif.register_heif_opener()


@cache
def readable_suffixes() -> tuple[str, ...]:
    """Return those of SUFFIXES whose format this installation reads."""
    _register_formats()
    return tuple(
        suffix for suffix in SUFFIXES if OPTIONAL_FORMATS.get(suffix, 'JPEG') in Image.OPEN
    )


def open_image(
    file: str | Path | BinaryIO,
    formats: Sequence[str] = FORMATS,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Open an image file of one of the formats; its pixels are not decoded yet.

    Every image of the zoo is opened here, because ``PIL.Image.open`` alone hands PostScript to a
    program.

    Args:
        file: a path, or a file open for reading bytes.
        formats: Pillow's names of the formats; those that are not installed are left out.
        max_pixels: largest number of pixels.

    Raises:
        UnreadableImage: the image has more pixels.
        OSError: the file cannot be read, or has none of the formats.
        Exception: the header is damaged; Pillow raises nearly anything.
    """
    _register_formats()
    installed = [name for name in formats if name in Image.OPEN]
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow refuses twice as many
    try:
        image = Image.open(file, formats=installed)
    except Image.DecompressionBombError as error:  # before Pillow tells the size
        pixels = re.search(r'\d+', str(error))
        raise _too_many_pixels(
            f'{int(pixels[0]):,}' if pixels else 'too many', max_pixels
        ) from None
    _check_pixels(*image.size, max_pixels)
    return image


def read_file(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image file, unless it is larger than an image of ``max_pixels`` can be.

    Returns:
        (n,) uint8, the bytes.

    Raises:
        UnreadableImage: the file cannot be read, is no regular file, or is too large.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, 'rb', buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImage('it is not a regular file')
            check_file_size(status.st_size, max_pixels)
            return np.fromfile(file, dtype=np.uint8)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise UnreadableImage(f'{type(error).__name__}: {error}') from None


def check_file_size(size: int, max_pixels: int) -> None:
    """Raise UnreadableImage if no image of ``max_pixels`` needs a file of ``size`` bytes."""
    limit = FILE_BYTES_PER_PIXEL * max_pixels + FURTHER_FILE_BYTES
    if size > limit:
        raise UnreadableImage(
            f'the file has {size:,} bytes, more than the {limit:,} that an image of '
            f'data.max_pixels={max_pixels:,} can need; if it is one, raise data.max_pixels'
        )


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_many_pixels(f'{width:,} x {height:,} are {width * height:,}', max_pixels)


def _too_many_pixels(pixels: str, max_pixels: int) -> UnreadableImage:
    return UnreadableImage(
        f'{pixels} pixels, more than data.max_pixels={max_pixels:,}; if the image is meant to be '
        f'as large, raise data.max_pixels'
    )


def read_pixels(
    data: bytes | np.ndarray, name: str | Path = 'an image', max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode the bytes of an image file to the same pixels as `read_image`.

    libjpeg-turbo decodes plain JPEG files without Pillow: the same pixels in 3/4 of the time.
    Pillow decodes all other files (CMYK, more than 8 bits, other formats) and those that
    libjpeg-turbo refuses.

    Args:
        data: the file's bytes, or a uint8 array of them.
        name: name of the file, for messages.
        max_pixels: largest number of pixels; the header is read before any pixel is decoded.

    Returns:
        (H, W, 3) uint8, contiguous and writeable.

    Raises:
        UnreadableImage: with the reason.
    """
    header = _jpeg_header(data)
    if header.plain:
        _check_pixels(header.width, header.height, max_pixels)
        with suppress(ValueError):  # damaged: Pillow names the reason, or can read the file
            pixels = simplejpeg.decode_jpeg(data, 'RGB')
            return _turn_upright(pixels, data, max_pixels) if header.tagged else pixels
    return np.array(read_image(_NamedBytesIO(bytes(data), str(name)), max_pixels))


class _JpegHeader(NamedTuple):
    """Facts from the header of a JPEG file.

    Attributes:
        plain: 8 bits, one or three channels, at least one pixel: libjpeg-turbo and Pillow decode
            the pixels alike.
        tagged: the file has EXIF or XMP data, which may rotate the image.
        width: in pixels, as stored.
        height: in pixels, as stored.
    """

    plain: bool = False
    tagged: bool = False
    width: int = 0
    height: int = 0


NO_JPEG = _JpegHeader()


def _jpeg_header(data: bytes | np.ndarray) -> _JpegHeader:
    if bytes(data[:3]) != JPEG_START:
        return NO_JPEG
    position = 2
    header = NO_JPEG
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == START_OF_SCAN:
            return header
        if marker in START_OF_FRAME:
            header = _frame_header(data, position)._replace(tagged=header.tagged)
        elif marker not in BEFORE_SCAN:
            break
        elif marker == APP1:
            header = header._replace(tagged=True)
        position += 2 + _uint16(data, position + 2)
    return NO_JPEG


def _frame_header(data: bytes | np.ndarray, position: int) -> _JpegHeader:
    """Read the start of frame at this position."""
    bits = data[position + 4]
    height = _uint16(data, position + 5)
    width = _uint16(data, position + 7)
    channels = data[position + 9]
    plain = bits == 8 and channels in (1, 3) and height * width > 0
    return _JpegHeader(plain, width=width, height=height)


def _uint16(data: bytes | np.ndarray, position: int) -> int:
    return int(data[position]) << 8 | int(data[position + 1])


def _turn_upright(pixels: np.ndarray, data: bytes | np.ndarray, max_pixels: int) -> np.ndarray:
    """Apply the EXIF orientation of a JPEG file to its pixels.

    Raises:
        ValueError: Pillow cannot read the tags.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            exif = open_image(io.BytesIO(bytes(data)), ['JPEG'], max_pixels).getexif()
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


def read_image(file: str | Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the first frame of an image file as upright RGB, 8 bits per channel.

    EXIF orientation is applied; transparency is dropped; palette and grayscale images become colour
    images; CMYK is converted; 16-bit and floating point values are scaled, where Pillow's own
    conversion would clip them to white.

    Args:
        file: a path, or a file open for reading bytes.
        max_pixels: largest number of pixels; the header is read before any pixel is decoded.

    Raises:
        UnreadableImage: with the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # files with odd tags and large images can be read
            with open_image(file, max_pixels=max_pixels) as image:
                image.load()  # frame 0; a truncated file raises here
                return to_rgb(ImageOps.exif_transpose(image))
    except (MemoryError, UnreadableImage):
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
    values = np.asarray(image)  # (H, W) uint16, int32 or float32
    if image.mode.startswith('I;16'):
        scaled = _to_8_bits(np.arange(65536), 65535)[values]
    else:
        usual_ranges = [1, 255, 65535] if image.mode == 'F' else [255, 65535]
        maximum = max(rows.max() for rows in _finite_rows(values))
        largest = next((value for value in usual_ranges if maximum <= value), maximum)
        scaled = np.concatenate([_to_8_bits(rows, largest) for rows in _finite_rows(values)])
    return Image.fromarray(scaled)


def _to_8_bits(values: np.ndarray, largest: float) -> np.ndarray:
    """Scale 0 to ``largest`` to 0 to 255, uint8."""
    scaled = values.clip(0, largest) * (255 / largest)
    return scaled.round().astype(np.uint8)


def _finite_rows(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of an image in groups of about a million float64, not all at once."""
    rows = max((1 << 20) // values.shape[1], 1)
    for start in range(0, len(values), rows):
        yield np.nan_to_num(values[start : start + rows].astype(np.float64))
