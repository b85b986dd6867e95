"""Training of classifiers: many linear heads side by side on a frozen encoder, or one network."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.data.random import mix, seed_everything
from ssl_zoo.distributed import all_reduce_mean, all_reduce_sum, rank, world_size
from ssl_zoo.distributed.batchnorm import convert_sync_batchnorm
from ssl_zoo.distributed.counter import AsyncCounter
from ssl_zoo.distributed.objects import all_gather_object, barrier
from ssl_zoo.distributed.signals import StopSignals
from ssl_zoo.errors import CollectiveConfigError, ConfigError, Stopped
from ssl_zoo.evaluation.classifier_optimizers import HeadsSGD, NetworkSGD
from ssl_zoo.evaluation.classifiers import Classifier
from ssl_zoo.evaluation.labelled_batches import FeatureBatches, ImageBatches
from ssl_zoo.evaluation.recipes import Recipe, Setting
from ssl_zoo.progress_bar import progress_bar
from ssl_zoo.storage.atomic import write_or_raise
from ssl_zoo.storage.tensor_file import read_tensor_file

SAVE_SECONDS = 300  # between two saved states of a training
LOSS_STEPS = 20  # between two readings of the loss, because a reading waits for the device


def train_classifier(
    network: Classifier,
    batches: ImageBatches | FeatureBatches,
    recipe: Recipe,
    settings: list[Setting],
    seed: int,
    state_path: Path | None = None,
    name: str = 'training',
) -> None:
    """Train the heads of a frozen encoder, each with its setting, or the whole network with one.

    Each head gets the gradient of its own mean cross-entropy, so heads that are trained side by
    side learn the same as heads that are trained one by one. Several processes share every batch
    and learn the same as one process.

    Args:
        network: on its device.
        batches: the labelled images or features.
        recipe: gives batch size, schedule and optimizer.
        settings: one setting for each head, all with the same number of epochs.
        seed: seed of the random numbers that the encoder draws (dropout).
        state_path: file for the state of a stopped or long training. A training continues from
            this file and removes it at the end.
        name: title of the progress bar.

    Raises:
        Stopped: after Ctrl-C, SIGTERM or SIGUSR1, when the state is saved.
        FloatingPointError: the loss of every setting is not finite.
        ConfigError: the settings, the batch size or the optimizer do not fit this training.
    """
    _check(network, len(batches), recipe, settings)
    training = _Training(network, batches, recipe, settings, seed, state_path)
    training.run(name)
    for unreadable in all_gather_object(batches.unreadable):
        batches.unreadable.update(unreadable)
    if state_path is not None and rank() == 0:
        state_path.unlink(missing_ok=True)
    network.eval()


def _check(network: Classifier, images: int, recipe: Recipe, settings: list[Setting]) -> None:
    epochs = sorted({f'{s.epochs:g}' for s in settings})
    if len({s.epochs for s in settings}) > 1:
        raise ConfigError(
            f'the heads of a sweep are trained side by side, for the same number of epochs, but '
            f'the sweep has {", ".join(epochs)}; give one'
        )
    if not network.frozen and recipe.optimizer != 'SGD':
        raise ConfigError(
            f'the whole network is trained with SGD, not with {recipe.optimizer}; '
            f'{recipe.optimizer} is for linear heads'
        )
    batch_size = min(recipe.batch_size, images)
    if not network.frozen and batch_size < 2:
        raise ConfigError(
            f'a batch of one image ({images} labelled images, batch_size={recipe.batch_size}), but '
            f'BatchNorm needs at least two'
        )
    if batch_size < world_size():
        raise CollectiveConfigError(
            f'a batch of {batch_size} images cannot be shared by {world_size()} processes; start '
            f'fewer processes, or one'
        )


class _Training:
    """One training; the arguments are those of train_classifier."""

    def __init__(
        self,
        network: Classifier,
        batches: ImageBatches | FeatureBatches,
        recipe: Recipe,
        settings: list[Setting],
        seed: int,
        state_path: Path | None,
    ):
        self.network = network
        self.batches = batches
        self.recipe = recipe
        self.seed = seed
        self.state_path = state_path
        self.images = len(batches)
        self.epochs = settings[0].epochs
        self.batch_size = min(recipe.batch_size, self.images)
        self.steps = recipe.steps(self.epochs, self.images)
        if not network.frozen and world_size() > 1:
            device = network.heads.weight.device
            network.encoder = convert_sync_batchnorm(network.encoder, device)
        if network.frozen:
            self.optimizer: HeadsSGD | NetworkSGD = HeadsSGD(network.heads, settings, recipe)
        else:
            [setting] = settings
            self.optimizer = NetworkSGD(network, setting, recipe)
        self.parameters = [p for p in network.trained().parameters() if p.requires_grad]
        self.losses: list[Tensor] = []  # a loss (H,) for each step since the last reading
        self.signals = StopSignals()
        self.signal_counts = AsyncCounter(len(StopSignals.CAUGHT))
        self.saved_at = 0.0

    def run(self, name: str) -> None:
        """Train from the saved step, or from the first, to the last."""
        self.network.train()
        self.network.zero_grad(set_to_none=True)
        first = self._restore()
        images = self.steps * self.batch_size
        with progress_bar(images, name, done=first * self.batch_size) as progress:
            self.signals.catch(progress.write)
            self.saved_at = time.perf_counter()
            try:
                batches = self.batches.steps(self.batch_size, first, self.steps)
                for step, (x, labels) in enumerate(batches, first):
                    self._train_step(step, x, labels)
                    if (step + 1) % LOSS_STEPS == 0 or step + 1 == self.steps:
                        self._read_losses(step, progress)
                    progress.update(self.batch_size)
                    self._save_or_stop(step)
            finally:
                self.signals.release()

    def _train_step(self, step: int, x: Tensor, labels: Tensor) -> None:
        if rank() == 0:
            seed_everything(mix(self.seed, step))
        else:
            seed_everything(mix(self.seed, step, rank()))
        logits = self.network(x)  # (B, H, C)
        heads = logits.shape[1]
        targets = labels.repeat_interleave(heads)
        losses = F.cross_entropy(logits.flatten(0, 1), targets, reduction='none')  # (B H,)
        loss = losses.view(-1, heads).mean(0)  # (H,)
        # The processes' shares of a batch may differ by one image.
        loss = loss * (len(labels) * world_size() / self.batch_size)
        loss.sum().backward()
        all_reduce_mean([p.grad for p in self.parameters])
        self.optimizer.step(self.recipe.factor(step, self.epochs, self.images))
        self.losses.append(loss.detach())

    def _read_losses(self, step: int, progress) -> None:
        """Show the loss of the best head. Raises FloatingPointError if no head's loss is finite."""
        losses = all_reduce_sum(torch.stack(self.losses)) / world_size()  # (steps, H)
        self.losses = []
        means = losses.mean(0).cpu().numpy()
        finite = means[np.isfinite(means)]
        if len(finite):
            progress.set_postfix(loss=f'{finite.min():.3f}', refresh=False)
        elif not torch.isfinite(losses[-1]).any():
            raise FloatingPointError(
                f'the loss of every setting is not finite at step {step + 1}; lower the learning '
                f'rates'
            )

    def _save_or_stop(self, step: int) -> None:
        """Save the state when it is due. Raises Stopped if a process has received a signal."""
        now = time.perf_counter()
        received = self.signal_counts.add(*self.signals.received_flags())
        if step + 1 == self.steps:  # no later step would read the counts of the last one
            received = self.signal_counts.finish()
        if any(received) or now - self.saved_at > SAVE_SECONDS:
            if rank() == 0:
                self._save(step + 1)
            self.saved_at = now
        if any(received):
            barrier()  # torchrun ends all processes when the first has ended
            raise Stopped(
                StopSignals.first_received(received), step + 1, self.state_path is not None
            )

    def _save(self, step: int) -> None:
        if self.state_path is None:
            return
        content = dict(
            step=step,
            network=self.network.trained().state_dict(),
            optimizer=self.optimizer.sgd.state_dict(),
            unreadable=self.batches.unreadable,
        )
        write_or_raise(self.state_path, lambda file: torch.save(content, file))

    def _restore(self) -> int:
        """Load the saved state if there is one, and return the step to continue from."""
        if self.state_path is None or not self.state_path.exists():
            return 0
        with reading_saved_state(self.state_path):
            content = read_tensor_file(self.state_path)
            self.network.trained().load_state_dict(content['network'])
            self.optimizer.sgd.load_state_dict(content['optimizer'])
            self.batches.unreadable.update(content['unreadable'])
            if type(content['step']) is not int or content['step'] < 0:
                raise ValueError(f'its step is {content["step"]!r:.80}')
            return content['step']


@contextmanager
def reading_saved_state(path: Path) -> Iterator[None]:
    """Turn every error while reading the saved state of a stopped evaluation into a ConfigError."""
    try:
        yield
    except Exception as error:  # torch raises many types for a torn or foreign file
        reason = str(error).splitlines()[0] if str(error) else 'empty'
        raise ConfigError(
            f'cannot continue from {path} ({type(error).__name__}: {reason}); remove '
            f'{path.parent} to start again'
        ) from None
