"""Features of images: the output of a network in eval mode, without augmentation."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ssl_zoo.data.loader import WORKER_TIMEOUT, eval_loader
from ssl_zoo.data.photometric import Photometric
from ssl_zoo.data.resilient_loader import ResilientLoader
from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.objects import all_gather_object


@dataclass
class Features:
    """Features of the readable images of a source.

    Attributes:
        values: (N, D) float32, or float16 if stored so.
        labels: (N,) int64, or None for a source without labels.
        index: (N,) int64, position of each row's image in the source.
        unreadable: (position in the source, reason) of each image that could not be read.
    """

    values: np.ndarray
    labels: np.ndarray | None
    index: np.ndarray
    unreadable: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of the network.

    Attributes:
        size: side of the centre crop, in pixels.
        resize: the short side before the crop, in pixels; the resize is antialiased.
        mean: mean of each channel, subtracted from pixel values in [0, 1].
        std: standard deviation of each channel; the centred values are divided by it.
        precision: precision of the network, 'float32' or 'bf16' (autocast).
        channels_last: whether the images are in the channels_last memory format.
        interpolation: interpolation of the resize, 'bicubic' or 'bilinear'.
    """

    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str = 'float32'
    channels_last: bool = False
    interpolation: str = 'bicubic'

    def normaliser(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return a function from (B, 3, H, W) uint8 to normalised float32 on ``device``."""
        photometric = Photometric([], self.mean, self.std, self.channels_last)
        return photometric.to(device).normalise

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """Return the context in which the network runs at ``precision``."""
        if self.precision == 'bf16':
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put the network in eval mode, and afterwards restore the mode of each of its modules."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def device_of(network: nn.Module) -> torch.device:
    """Return the device of the first parameter; the CPU for a network without parameters."""
    return next((p.device for p in network.parameters()), torch.device('cpu'))


@torch.no_grad()
def encode_batches(
    encode: Callable[[Tensor], Tensor],
    source: Source,
    preprocessing: Preprocessing,
    device: torch.device,
    batch_size: int = 256,
    workers: int = 0,
    timeout: float = WORKER_TIMEOUT,
) -> Iterator[tuple[np.ndarray, np.ndarray | None, list[tuple[int, str]]]]:
    """Encode the images of a source, batch by batch.

    Args:
        encode: (B, 3, H, W) normalised float32 -> (B, ...).
        source: the images.
        preprocessing: what happens to an image before ``encode``.
        device: where ``encode`` runs.
        batch_size: images per batch.
        workers: processes of the loader.
        timeout: seconds to wait for a worker's batch before new workers replace the workers.

    Yields:
        positions: (b,) int64, positions of the batch's readable images in the source.
        outputs: (b, ...) float32, or None if no image of the batch can be read.
        unreadable: (position, reason) of each unreadable image of the batch.

    Raises:
        ConfigError: the workers were lost repeatedly at one batch.
    """
    normalise = preprocessing.normaliser(device)

    def make_loader(start: int) -> Iterable[dict]:
        return eval_loader(
            source,
            preprocessing.size,
            preprocessing.resize,
            batch_size,
            workers,
            preprocessing.interpolation,
            start,
            timeout,
        )

    for batch in ResilientLoader(make_loader, timeout=timeout):
        outputs = None
        if len(batch['index']):
            with preprocessing.autocast(device):
                outputs = encode(normalise(batch['pixels'])).float().cpu().numpy()
        yield batch['index'].numpy(), outputs, batch['unreadable']


def extract_features(
    network: nn.Module,
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int = 256,
    workers: int = 0,
) -> Features:
    """Extract features of every readable image of a source, in memory.

    The train/eval modes and the BatchNorm statistics of the network do not change. Each process
    extracts the features of its share of the images, and every process returns the features of
    all images.

    Args:
        network: (B, 3, H, W) -> (B, D).
        source: the images.
        preprocessing: what happens to an image before the network.
        batch_size: images per batch.
        workers: processes of the loader.
    """
    own = np.arange(rank(), len(source), world_size())
    own_source = Subset(source, own) if world_size() > 1 else source
    values = []
    index = []
    unreadable = []
    if len(own):
        with eval_mode(network):
            batches = encode_batches(
                network, own_source, preprocessing, device_of(network), batch_size, workers
            )
            for positions, outputs, failed in batches:
                index.append(own[positions])
                if outputs is not None:
                    values.append(outputs)
                unreadable += [(int(own[i]), reason) for i, reason in failed]
    return _gather(source, index, values, unreadable)


def _gather(
    source: Source,
    index: list[np.ndarray],
    values: list[np.ndarray],
    unreadable: list[tuple[int, str]],
) -> Features:
    """Join the batches of all processes, in the order of the source."""
    gathered = zip(*all_gather_object((index, values, unreadable)), strict=True)
    index, values, unreadable = (sum(of_processes, []) for of_processes in gathered)
    all_index = np.concatenate(index)
    all_values = np.concatenate(values) if values else np.empty((0, 0), np.float32)
    if world_size() > 1:
        order = all_index.argsort()
        all_index = all_index[order]
        unreadable = sorted(unreadable)
        if len(all_values):
            all_values = all_values[order]
    labels = None if source.labels is None else source.labels[all_index]
    return Features(all_values, labels, all_index, unreadable)
