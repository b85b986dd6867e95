"""Small images held on the device: read once, cropped there for every batch."""

import numpy as np
import torch

from ssl_zoo.data.loader import ViewDataset
from ssl_zoo.data.photometric import run
from ssl_zoo.data.sources import Source
from ssl_zoo.data.views import View, crop_boxes, crops
from ssl_zoo.errors import ConfigError, UnreadableImage


class DeviceDataset(ViewDataset):
    """As ViewDataset, with all images of a source held on a device and cropped there, batch by batch, without workers.

    The crops are those of a loader up to rounding; order, numbers drawn and replacement of unreadable images are the same.

    Args:
        source: images of one size; views; seed; device: of the training; compiled: whether torch.compile makes the crops.
    Raises:
        ConfigError: images of several sizes, none that can be read, more than the device's memory takes.
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
        self.failed: dict[int, str] = {}
        self.compiled = compiled
        images, first = None, None
        for i in range(len(source)):
            try:
                pixels = source.pixels(i)
            except UnreadableImage as error:
                self.failed[i] = str(error)
                continue
            if images is None:
                images, first = _room(len(source), *pixels.shape[:2]), i
            if pixels.shape != images.shape[1:]:
                raise ConfigError(
                    f'data.on_device=True needs images of one size, but {source.name(first)} has {_size(images[first])} '
                    f'pixels and {source.name(i)} {_size(pixels)}; leave on_device out'
                )
            images[i] = pixels
        if images is None:
            raise ConfigError(
                f'none of {len(source)} images can be read: {source.name(0)} ({self.failed[0]}); check the data'
            )
        try:
            self.images = (
                torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous()
            )  # (n, 3, H, W)
        except torch.OutOfMemoryError:
            raise ConfigError(
                f'data.on_device=True, but {device} has no room for {images.nbytes / 2**30:.1f} GiB of images; leave '
                f'on_device out'
            ) from None

    def _readable_from(self, i: int):
        failed = []
        while i in self.failed:
            failed.append((i, self.failed[i]))
            i = self._next(i)
        return None, i, failed

    def __getitems__(self, keys: list[tuple[int, int]]) -> dict:
        """As ViewDataset's, the views on the device."""
        epochs, indices, unreadable = (
            np.array([epoch for epoch, _ in keys]),
            np.array([i for _, i in keys]),
            [],
        )
        if self.failed:
            for k, wanted in enumerate(indices.tolist()):
                _, indices[k], failed = self._readable_from(wanted)
                unreadable += failed
        params, index, device = (
            self._params(epochs, indices),
            torch.from_numpy(indices),
            self.images.device,
        )
        images, crop = self.images[index.to(device, non_blocking=True)], run(crops, self.compiled)
        boxes = [
            crop_boxes(rows, *images.shape[2:]).to(device, non_blocking=True) for rows in params
        ]
        return dict(
            views=[
                crop(images, box, view.size, view.interpolation)
                for box, view in zip(boxes, self.views, strict=True)
            ],
            params=list(torch.from_numpy(params)),
            index=index,
            unreadable=unreadable,
        )


def _room(n: int, height: int, width: int) -> np.ndarray:
    try:
        return np.zeros((n, height, width, 3), dtype=np.uint8)
    except MemoryError:
        raise ConfigError(
            f'data.on_device=True, but there is no room for {n * height * width * 3 / 2**30:.1f} GiB of images; leave '
            f'on_device out'
        ) from None


def _size(pixels: np.ndarray) -> str:
    return f'{pixels.shape[1]} x {pixels.shape[0]}'
