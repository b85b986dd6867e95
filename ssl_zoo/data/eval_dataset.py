"""Images as evaluation sees them: resized, centre-cropped, without randomness."""

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ssl_zoo.data.sources import Source
from ssl_zoo.errors import UnreadableImage

MAX_ASPECT_RATIO = 16  # long side / short side of an image before it is resized


def _middle_of_long_image(image: Image.Image) -> Image.Image:
    """Crop a very long image to MAX_ASPECT_RATIO, because resizing it whole may fill the memory."""
    longest = MAX_ASPECT_RATIO * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left = (image.width - width) // 2
    top = (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


class EvalDataset(Dataset):
    """Images with the short side resized to `resize` and the centre cropped to `size`.

    Unreadable images are left out and reported.

    Args:
        source: the images.
        size: side of the crop in pixels.
        resize: short side of the image before the crop, in pixels.
        interpolation: Pillow's 'bicubic' or 'bilinear'.
    """

    def __init__(self, source: Source, size: int, resize: int, interpolation: str = 'bicubic'):
        self.source = source
        self.size = size
        self.resize = resize
        self.interpolation = interpolation

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, indices: list[int]) -> dict:
        """Read one batch.

        Args:
            indices: positions in the source.

        Returns:
            `pixels`, (B, 3, size, size) uint8; `index`, (B,) int64, the positions of the B readable
            images; `unreadable`, a list of (image, reason).
        """
        pixels = []
        readable = []
        unreadable = []
        for i in indices:
            try:
                image = self.source.read(i)
            except UnreadableImage as error:
                unreadable.append((i, str(error)))
                continue
            pixels.append(np.asarray(self._resize_and_crop(image)).transpose(2, 0, 1))
            readable.append(i)
        if pixels:
            batch = np.ascontiguousarray(np.stack(pixels))
        else:
            batch = np.empty((0, 3, self.size, self.size), np.uint8)
        return dict(
            pixels=torch.from_numpy(batch),
            index=torch.tensor(readable, dtype=torch.int64),
            unreadable=unreadable,
        )

    def _resize_and_crop(self, image: Image.Image) -> Image.Image:
        from torchvision.transforms.v2 import functional as F

        if image.size == (self.size, self.size) and self.size == self.resize:
            return image
        interpolation = F.InterpolationMode(self.interpolation)
        image = F.resize(_middle_of_long_image(image), self.resize, interpolation=interpolation)
        return F.center_crop(image, self.size)
