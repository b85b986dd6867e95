"""Images held on the device: read once, cropped there for every batch (`data.on_device=True`)."""

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.data.crop import crop_batch, crop_boxes
from ssl_zoo.data.photometric import maybe_compile
from ssl_zoo.data.sources import Source
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.errors import ConfigError, UnreadableImage


class DeviceDataset(ViewDataset):
    """A ViewDataset whose images are held on a device and cropped there, without workers.

    The crops equal those of a ViewDataset up to rounding. The order, the parameters and the
    replacements of unreadable images are the same.

    Args:
        source: images of one size.
        views: recipe of each view.
        seed: seed of the views' parameters.
        device: device of the training.
        compiled: compile the crop with torch.compile.

    Attributes:
        images: (n, 3, H, W) uint8 on the device; zeros in place of unreadable images.
        failed: position of an unreadable image -> reason.

    Raises:
        ConfigError: the images have several sizes, none can be read, or they do not fit into the
            memory of host or device.
    """

    def __init__(
        self,
        source: Source,
        views: list[View],
        seed: int,
        device: torch.device,
        compiled: bool = False,
    ):
        super().__init__(source, views, seed)
        self.compiled = compiled
        images, self.failed = _read_all(source)
        self.images = _to_device(images, device)

    def _first_readable(self, i: int) -> tuple[None, int, list[tuple[int, str]]]:
        failed = []
        while i in self.failed:
            failed.append((i, self.failed[i]))
            i = self._replacement(i)
        return None, i, failed

    def __getitems__(self, keys: list[tuple[int, int]]) -> dict:
        """Make one batch, as ViewDataset does; the views are on the device."""
        epochs = np.array([epoch for epoch, _ in keys])
        indices = np.array([i for _, i in keys])
        unreadable = []
        if self.failed:
            for k, requested in enumerate(indices.tolist()):
                _, indices[k], failed = self._first_readable(requested)
                unreadable += failed
        params = self._params(epochs, indices)
        index = torch.from_numpy(indices)
        return dict(
            views=self._crop(index, params),
            params=list(torch.from_numpy(params)),
            index=index,
            unreadable=unreadable,
        )

    def _crop(self, index: Tensor, params: np.ndarray) -> list[Tensor]:
        device = self.images.device
        images = self.images[index.to(device, non_blocking=True)]
        crop = maybe_compile(crop_batch, self.compiled)
        # All boxes are sent to the device before the first crop.
        boxes = [
            crop_boxes(view_params, *images.shape[2:]).to(device, non_blocking=True)
            for view_params in params
        ]
        return [
            crop(images, view_boxes, view.size, view.interpolation)
            for view_boxes, view in zip(boxes, self.views, strict=True)
        ]


def _read_all(source: Source) -> tuple[np.ndarray, dict[int, str]]:
    """Read (n, H, W, 3) uint8, with zeros for unreadable images, and a dict position -> reason."""
    images = None
    first_readable = None
    failed = {}
    for i in range(len(source)):
        try:
            pixels = source.pixels(i)
        except UnreadableImage as error:
            failed[i] = str(error)
            continue
        if images is None:
            images = _allocate(len(source), *pixels.shape[:2])
            first_readable = i
        if pixels.shape != images.shape[1:]:
            raise ConfigError(
                f'data.on_device=True needs images of one size, but {source.name(first_readable)} '
                f'has {_size(images[first_readable])} pixels and {source.name(i)} '
                f'{_size(pixels)}; '
                f'leave on_device out'
            )
        images[i] = pixels
    if images is None:
        raise ConfigError(
            f'none of {len(source)} images can be read: {source.name(0)} ({failed[0]}); '
            f'check the data'
        )
    return images, failed


def _allocate(n: int, height: int, width: int) -> np.ndarray:
    try:
        return np.zeros((n, height, width, 3), dtype=np.uint8)
    except MemoryError:
        gib = n * height * width * 3 / 2**30
        raise ConfigError(
            f'data.on_device=True, but the host has no room for {gib:.1f} GiB of images; '
            f'leave on_device out'
        ) from None


def _to_device(images: np.ndarray, device: torch.device) -> Tensor:
    """Copy (n, H, W, 3) on the host -> (n, 3, H, W) on the device."""
    try:
        return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous()
    except torch.OutOfMemoryError:
        raise ConfigError(
            f'data.on_device=True, but {device} has no room for {images.nbytes / 2**30:.1f} GiB of '
            f'images; leave on_device out'
        ) from None


def _size(pixels: np.ndarray) -> str:
    return f'{pixels.shape[1]} x {pixels.shape[0]}'
