"""Small pictures for the page: images as the network sees them, and maps in colour."""

import io

import numpy as np
from PIL import Image

from ssl_zoo.data.image_sheet import as_jpeg
from ssl_zoo.reports import html

SIDE = 72  # pixels of a picture, as the style sheet shows it
MAX_PNG_SIDE = 32  # a picture up to this size is stored pixel by pixel


def picture(pixels: np.ndarray, alt: str, border: str = '') -> str:
    """Return the ``img`` element of a picture, as small as the page shows it.

    Args:
        pixels: (H, W, 3) uint8.
        alt: text for readers who cannot see the picture.
        border: see ``html.thumbnail``.
    """
    image = Image.fromarray(pixels)
    if max(image.size) > MAX_PNG_SIDE:
        # Twice the size on the page, for screens of high density.
        return html.thumbnail(as_jpeg(image, 2 * SIDE), '.jpg', alt, border)
    file = io.BytesIO()
    image.save(file, 'png', optimize=True)
    return html.thumbnail(file.getvalue(), '.png', alt, border)


def enlarged(values: np.ndarray, side: int) -> np.ndarray:
    """Return a map with its longer side enlarged to ``side`` pixels, bilinear.

    Args:
        values: (h, w, 3) float in [0, 1].
        side: pixels.

    Returns:
        (H, W, 3) uint8.
    """
    image = Image.fromarray(np.round(255 * values).astype(np.uint8))
    scale = side / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))
