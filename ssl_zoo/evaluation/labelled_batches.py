"""Batches of labelled images or of stored features, for training a classifier."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.data.loader import WORKER_TIMEOUT, train_loader
from ssl_zoo.data.photometric import horizontal_flip
from ssl_zoo.data.resilient_loader import ResilientLoader
from ssl_zoo.data.sources import Source
from ssl_zoo.data.stream_sampler import StreamSampler, order_of
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Features, Preprocessing
from ssl_zoo.evaluation.recipes import Recipe


class ImageBatches:
    """Random crops and flips of labelled images.

    Crops and flips are a function of (seed, epoch, image), so they do not depend on the number of
    workers or on the step from which a training continues.

    Args:
        source: the images, with labels.
        recipe: gives crop, flip and interpolation.
        preprocessing: gives size and normalisation.
        seed: seed of crops, flips and order.
        workers: processes of the loader.
        device: device of the batches.
        timeout: seconds to wait for a worker's batch before new workers replace the workers.

    Attributes:
        unreadable: reason for each image that could not be read, by position in the source.
    """

    def __init__(
        self,
        source: Source,
        recipe: Recipe,
        preprocessing: Preprocessing,
        seed: int,
        workers: int,
        device: torch.device,
        timeout: float = WORKER_TIMEOUT,
    ):
        view = View(
            preprocessing.size,
            crop=recipe.crop,
            flip_p=recipe.flip_p,
            interpolation=recipe.interpolation,
        )
        self.dataset = ViewDataset(source, [view], seed)
        self.workers = workers
        self.timeout = timeout
        self.device = device
        self.normalise = preprocessing.normaliser(device)
        self.labels = torch.from_numpy(source.labels)
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.dataset)

    def steps(self, batch_size: int, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of the steps from ``start`` to ``stop``, this process's share of each.

        Args:
            batch_size: images per step, over all processes.
            start: first step.
            stop: step after the last.

        Yields:
            images: (B, 3, H, W) float32, normalised.
            labels: (B,) int64.

        Raises:
            ConfigError: no image of a batch can be read, or the workers were lost repeatedly.
        """
        share = (rank(), world_size())

        def make_loader(first: int) -> Iterable[dict]:
            return train_loader(
                self.dataset, batch_size, self.workers, first, stop, share, self.timeout
            )

        for batch in ResilientLoader(make_loader, start, timeout=self.timeout):
            self.unreadable.update(batch['unreadable'])
            if batch['views'] is None:
                i, reason = batch['unreadable'][0]
                raise ConfigError(
                    f'{len(batch["unreadable"])} images in a row cannot be read, the first is '
                    f'{self.dataset.source.name(i)} ({reason}); check the data'
                )
            images = self.normalise(horizontal_flip(batch['views'][0], batch['params'][0]))
            yield images, self.labels[batch['index']].to(self.device, non_blocking=True)


class FeatureBatches:
    """Batches of stored features, in the order of ImageBatches (except for images in shards).

    Args:
        features: the features, with labels.
        seed: seed of the order.
        device: device of the batches.
    """

    def __init__(self, features: Features, seed: int, device: torch.device):
        self.features = features
        self.seed = seed
        self.device = device
        self.unreadable: dict[int, str] = {}  # always empty: features have no images to read

    def __len__(self) -> int:
        """Return the number of features."""
        return len(self.features.labels)

    def steps(self, batch_size: int, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (B, D) float32 features and (B,) int64 labels, see ImageBatches.steps."""
        order = partial(order_of, n=len(self), seed=self.seed)
        share = (rank(), world_size())
        for batch in StreamSampler(len(self), batch_size, order, start, stop, share):
            rows = np.array([i for _, i in batch])
            values = self.features.values[rows].astype(np.float32, copy=False)
            labels = torch.from_numpy(self.features.labels[rows])
            yield torch.from_numpy(values).to(self.device), labels.to(self.device)
