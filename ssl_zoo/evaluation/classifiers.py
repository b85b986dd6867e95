"""Training of classifiers on labelled images: linear heads on a frozen encoder, many side by side, or the whole network."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.data.loader import train_loader
from ssl_zoo.data.photometric import horizontal_flip
from ssl_zoo.data.random import mix, seed_everything
from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.data.stream_sampler import StreamSampler, order_of
from ssl_zoo.data.view_dataset import ViewDataset
from ssl_zoo.data.views import View
from ssl_zoo.distributed import all_reduce_mean, all_reduce_sum, rank, world_size
from ssl_zoo.distributed.batchnorm import convert_sync_batchnorm
from ssl_zoo.distributed.counter import AsyncCounter
from ssl_zoo.distributed.objects import all_gather_object, barrier
from ssl_zoo.distributed.signals import StopSignals
from ssl_zoo.errors import CollectiveConfigError, ConfigError, Stopped
from ssl_zoo.evaluation.features import Features, Preprocessing, embedded, eval_mode
from ssl_zoo.evaluation.recipes import Recipe, Setting
from ssl_zoo.layers import mlp
from ssl_zoo.optim import LARC_EPS
from ssl_zoo.progress_bar import progress_bar
from ssl_zoo.storage.atomic import write_or_raise

SAVE_SECONDS = 300  # between states from which a stopped training goes on


class Heads(nn.Module):
    """Linear classifiers side by side on the same features, each with parameters of its own: (B, D) -> (B, H, C).

    All start alike: what a head becomes does not depend on the others.

    Args:
        dim: D; classes: C; heads: H.
        init: see Recipe.
        seed: of the weights.
    """

    def __init__(self, dim: int, classes: int, heads: int, init: str, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        [first] = mlp(dim, classes, init='haiku' if init == 'haiku' else 'torch')
        if init in ('zeros', 'normal'):
            nn.init.normal_(first.weight, std=0.01) if init == 'normal' else nn.init.zeros_(
                first.weight
            )
            nn.init.zeros_(first.bias)
        self.weight = nn.Parameter(
            first.weight.detach().expand(heads, classes, dim).clone()
        )  # (H, C, D)
        self.bias = nn.Parameter(first.bias.detach().expand(heads, classes).clone())  # (H, C)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.flatten(0, 1), self.bias.flatten()).view(
            len(x), *self.bias.shape
        )  # one product for all


class Classifier(nn.Module):
    """An encoder with heads: (B, 3, H, W) normalised -> (B, heads, classes) float32.

    Args:
        encoder: (B, 3, H, W) -> (B, D); None if features come in its place.
        heads: see Heads.
        frozen: the encoder stays in eval mode and gets no gradient, so that nothing of it changes.
        preprocessing: for its precision.
    """

    def __init__(
        self, encoder: nn.Module | None, heads: Heads, frozen: bool, preprocessing: Preprocessing
    ):
        super().__init__()
        self.encoder, self.heads, self.frozen, self.preprocessing = (
            encoder,
            heads,
            frozen,
            preprocessing,
        )

    def trained(self) -> nn.Module:
        return self.heads if self.frozen else self

    def train(self, mode: bool = True):
        super().train(mode)
        if self.frozen and self.encoder is not None:
            self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.encoder is not None:
            with (
                torch.set_grad_enabled(not self.frozen and torch.is_grad_enabled()),
                self.preprocessing.autocast(x.device),
            ):
                x = self.encoder(x)
        return self.heads(x.float())


class ImageBatches:
    """Random crops and flips of labelled images, a function of (seed, epoch, image): whatever the workers, wherever it starts.

    Args:
        source: with labels; recipe: for crop and flip; preprocessing: for size and normalisation; seed; workers: of the loader.
    """

    def __init__(
        self,
        source: Source,
        recipe: Recipe,
        preprocessing: Preprocessing,
        seed: int,
        workers: int,
        device: torch.device,
    ):
        view = View(
            preprocessing.size,
            crop=recipe.crop,
            flip_p=recipe.flip_p,
            interpolation=recipe.interpolation,
        )
        self.dataset, self.workers, self.device = ViewDataset(source, [view], seed), workers, device
        self.normalise, self.labels = (
            preprocessing.normaliser(device),
            torch.from_numpy(source.labels),
        )
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def steps(self, batch_size: int, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in train_loader(
            self.dataset, batch_size, self.workers, start, stop, (rank(), world_size())
        ):
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
    """Stored features in the order in which ImageBatches would give their images, unless these are in shards."""

    def __init__(self, features: Features, seed: int, device: torch.device):
        self.features, self.seed, self.device = features, seed, device

    def __len__(self) -> int:
        return len(self.features.labels)

    def steps(self, batch_size: int, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = partial(order_of, n=len(self), seed=self.seed)
        for batch in StreamSampler(
            len(self), batch_size, order, start, stop, (rank(), world_size())
        ):
            rows = np.array([i for _, i in batch])
            yield (
                torch.from_numpy(self.features.values[rows].astype(np.float32, copy=False)).to(
                    self.device
                ),
                torch.from_numpy(self.features.labels[rows]).to(self.device),
            )


class _HeadsSGD:
    """SGD of every head with its own learning rate and weight decay, in the time that one takes.

    SGD is linear in the gradient as long as the peak learning rate is constant: so it goes, with the weight decay, into each
    head's gradient, and torch's SGD over all heads gets the schedule's factor alone as its learning rate.

    Args:
        heads: see Heads; settings: one for each; recipe: for momentum, and for LARC, whose trust is |w| / (|g| + decay |w|) / 1000 for
            the weights and for the biases of each head (NVIDIA apex, clip=False; 1 where a norm is 0).
    """

    def __init__(self, heads: Heads, settings: list[Setting], recipe: Recipe):
        self.larc, self.parameters = recipe.optimizer == 'LARC', list(heads.parameters())
        device = heads.weight.device
        self.lr, self.decay = (
            torch.tensor([getattr(s, name) for s in settings], device=device)
            for name in ('lr', 'weight_decay')
        )
        self.sgd = torch.optim.SGD(
            self.parameters, lr=0, momentum=recipe.momentum, nesterov=recipe.nesterov
        )

    @torch.no_grad()
    def step(self, factor: float) -> None:
        for p in self.parameters:
            scale, decay = (v.view(-1, *[1] * (p.ndim - 1)) for v in (self.lr, self.decay))
            if self.larc:
                w, g = (
                    torch.linalg.vector_norm(v.flatten(1), dim=1).view_as(scale)
                    for v in (p, p.grad)
                )
                scale = scale * torch.where(
                    (w > 0) & (g > 0), 1e-3 * w / (g + decay * w + LARC_EPS), 1.0
                )
            p.grad.addcmul_(p, decay).mul_(scale)
        self.sgd.param_groups[0]['lr'] = factor
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)


class _NetworkSGD:
    """SGD of encoder and head with one setting. Norm parameters and biases are not decayed."""

    def __init__(self, network: Classifier, setting: Setting, recipe: Recipe):
        parameters = [p for p in network.parameters() if p.requires_grad]
        groups = [
            dict(
                params=[
                    p for p in parameters if (p.ndim > 1 and p is not network.heads.bias) == decays
                ],
                weight_decay=setting.weight_decay if decays else 0.0,
            )
            for decays in (True, False)
        ]
        self.peak, self.sgd = (
            setting.lr,
            torch.optim.SGD(groups, lr=0, momentum=recipe.momentum, nesterov=recipe.nesterov),
        )

    def step(self, factor: float) -> None:
        for group in self.sgd.param_groups:
            group['lr'] = self.peak * factor
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)


def train_classifier(
    network: Classifier,
    batches: ImageBatches | FeatureBatches,
    recipe: Recipe,
    settings: list[Setting],
    seed: int,
    state: Path | None = None,
    what: str = 'training',
) -> None:
    """Train the heads, each with its setting, or with a trained encoder the whole network with one setting.

    A head's gradient is that of its own mean cross-entropy, so that side by side they learn what each would learn alone. Several
    processes share every batch out and learn what one would.

    Args:
        network: on its device.
        batches: the labelled images or features.
        recipe: batch size, schedule, optimizer.
        settings: one for each head, with the same number of epochs.
        seed: of what the encoder may draw (dropout).
        state: file for the state of a training that takes long or is stopped; training goes on from it, and removes it at the end.
        what: the name on the progress bar.
    Raises:
        Stopped: after Ctrl-C, SIGTERM or SIGUSR1, when the state is saved.
        FloatingPointError: no setting is left whose loss is finite.
    """
    n, epochs = len(batches), settings[0].epochs
    if len({s.epochs for s in settings}) > 1:
        raise ConfigError(
            f'the heads of a sweep are trained side by side, for the same number of epochs, but it has '
            f'{", ".join(sorted({f"{s.epochs:g}" for s in settings}))}; give one'
        )
    if not network.frozen and recipe.optimizer != 'SGD':
        raise ConfigError(
            f'the whole network is trained with SGD here, not with {recipe.optimizer}; that is for linear heads'
        )
    if not network.frozen and min(recipe.batch_size, n) < 2:
        raise ConfigError(
            f'a batch of one image ({n} labelled images, batch_size={recipe.batch_size}), but BatchNorm needs two at least'
        )
    size, steps = min(recipe.batch_size, n), recipe.steps(epochs, n)
    if size < world_size():
        raise CollectiveConfigError(
            f'a batch of {size} images cannot be shared out over {world_size()} processes; start fewer, or one'
        )
    if not network.frozen and world_size() > 1:
        network.encoder = convert_sync_batchnorm(network.encoder, network.heads.weight.device)
    if network.frozen:
        optimizer = _HeadsSGD(network.heads, settings, recipe)
    else:
        [setting] = settings
        optimizer = _NetworkSGD(network, setting, recipe)
    network.train()
    network.zero_grad(set_to_none=True)
    first = _restore(state, network, optimizer.sgd, batches)
    losses: list[Tensor] = []
    parameters = [p for p in network.trained().parameters() if p.requires_grad]
    signals, counts = StopSignals(), AsyncCounter(len(StopSignals.CAUGHT))
    with progress_bar(steps * size, what, done=first * size) as progress:
        signals.catch(progress.write)
        saved = time.perf_counter()
        try:
            for step, (x, labels) in enumerate(batches.steps(size, first, steps), first):
                seed_everything(mix(seed, step) if rank() == 0 else mix(seed, step, rank()))
                logits = network(x)  # (B, H, C)
                heads = logits.shape[1]
                loss = (
                    F.cross_entropy(
                        logits.flatten(0, 1), labels.repeat_interleave(heads), reduction='none'
                    )
                    .view(-1, heads)
                    .mean(0)
                )
                loss = loss * (
                    len(labels) * world_size() / size
                )  # shares of a batch may differ by one image
                loss.sum().backward()
                all_reduce_mean([p.grad for p in parameters])
                optimizer.step(recipe.factor(step, epochs, n))
                losses.append(loss.detach())
                if (
                    step + 1
                ) % 20 == 0 or step + 1 == steps:  # seldom: reading it waits for the device
                    table = all_reduce_sum(torch.stack(losses)) / world_size()
                    means = table.mean(0).cpu().numpy()
                    losses, finite = [], means[np.isfinite(means)]
                    if len(finite):
                        progress.set_postfix(loss=f'{finite.min():.3f}', refresh=False)
                    elif not torch.isfinite(table[-1]).any():
                        raise FloatingPointError(
                            f'the loss of every setting is not finite at step {step + 1}; lower the learning rates'
                        )
                progress.update(size)
                now = time.perf_counter()
                asked = counts.add(*signals.asked())
                if step + 1 == steps:
                    asked = counts.finish()  # nobody hears of the last step later
                if any(asked) or now - saved > SAVE_SECONDS:
                    if rank() == 0:
                        _save(state, network, optimizer.sgd, batches, step + 1)
                    saved = now
                if any(asked):
                    barrier()  # torchrun ends all when the first has ended
                    raise Stopped(StopSignals.first(asked), step + 1, state is not None)
        finally:
            signals.release()
    for unreadable in all_gather_object(getattr(batches, 'unreadable', {})):
        getattr(batches, 'unreadable', {}).update(unreadable)
    if state is not None and rank() == 0:
        state.unlink(missing_ok=True)
    network.eval()


def _save(state: Path | None, network: Classifier, optimizer, batches, step: int) -> None:
    if state is not None:
        content = dict(
            step=step,
            network=network.trained().state_dict(),
            optimizer=optimizer.state_dict(),
            unreadable=getattr(batches, 'unreadable', {}),
        )
        write_or_raise(state, lambda file: torch.save(content, file))


def _restore(state: Path | None, network: Classifier, optimizer, batches) -> int:
    """The step to go on from."""
    if state is None or not state.exists():
        return 0
    with going_on(state):
        content = torch.load(state, map_location='cpu', weights_only=True)
        network.trained().load_state_dict(content['network'])
        optimizer.load_state_dict(content['optimizer'])
        getattr(batches, 'unreadable', {}).update(content['unreadable'])
        return content['step']


@contextmanager
def going_on(path: Path):
    """For reading what a stopped evaluation has kept. Raises ConfigError for whatever keeps it from being read."""
    try:
        yield
    except Exception as error:  # torch raises many types for a torn or foreign file
        reason = str(error).splitlines()[0] if str(error) else 'empty'
        raise ConfigError(
            f'{path} cannot be gone on from ({type(error).__name__}: {reason}); remove {path.parent} to start again'
        ) from None


@torch.no_grad()
def predict(
    network: Classifier,
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int = 256,
    workers: int = 0,
    top: int = 5,
) -> tuple[np.ndarray, np.ndarray, list]:
    """The best classes of every head for every readable image.

    Returns:
        positions (N,) in the source, classes (N, heads, min(top, C)) int64, best first, and unreadable [(position, reason)].
    """
    positions, classes, unreadable = [], [], []
    device, mine = next(network.parameters()).device, np.arange(rank(), len(source), world_size())
    own = Subset(source, mine) if world_size() > 1 else source
    with eval_mode(network), progress_bar(len(mine), 'evaluation') as progress:
        for index, logits, failed in (
            embedded(network, own, preprocessing, device, batch_size, workers) if len(mine) else ()
        ):
            positions.append(mine[index])
            unreadable += [(int(mine[i]), reason) for i, reason in failed]
            if logits is not None:
                classes.append(_best(torch.from_numpy(logits), top))
            progress.update(len(index) + len(failed))
    positions, classes, unreadable = (
        sum(parts, [])
        for parts in zip(*all_gather_object((positions, classes, unreadable)), strict=True)
    )
    unreadable.sort()
    if not classes:
        raise ConfigError(
            f'none of the {len(source)} images can be read, the first is {source.name(0)} ({unreadable[0][1]}); check them'
        )
    positions, classes = np.concatenate(positions), np.concatenate(classes)
    order = positions.argsort()
    return positions[order], classes[order], unreadable


@torch.no_grad()
def predict_features(heads: Heads, features: Features, top: int = 5) -> np.ndarray:
    """As predict, for stored features: (N, heads, min(top, C)) int64."""
    device = next(heads.parameters()).device
    parts = np.array_split(np.arange(len(features.values)), max(len(features.values) // 4096, 1))
    return np.concatenate(
        [
            _best(heads(torch.from_numpy(features.values[rows].astype(np.float32)).to(device)), top)
            for rows in parts
        ]
    )


def _best(logits: Tensor, top: int) -> np.ndarray:
    """(..., C) -> (..., top); a head whose numbers are not finite names no class, -1."""
    best = logits.topk(min(top, logits.shape[-1]), dim=-1).indices
    return torch.where(logits.isfinite().all(-1, keepdim=True), best, -1).cpu().numpy()
