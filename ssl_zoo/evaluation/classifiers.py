"""Classifiers on an encoder: linear heads side by side, encoder and heads, and predictions."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.distributed import rank, world_size
from ssl_zoo.distributed.objects import all_gather_object
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Features, Preprocessing, encode_batches, eval_mode
from ssl_zoo.layers import mlp
from ssl_zoo.progress_bar import progress_bar

FEATURES_PER_PASS = 4096  # stored features that the heads classify at a time


class Heads(nn.Module):
    """Linear classifiers side by side on the same features: (B, D) -> (B, H, C).

    Every head has its own parameters. All heads start from the same values, so that the training
    of a head does not depend on the other heads.

    Args:
        dim: D, the number of features.
        classes: C, the number of classes.
        heads: H, the number of heads.
        init: initialisation of the weights, see Recipe.
        seed: seed of the initial weights.
    """

    def __init__(self, dim: int, classes: int, heads: int, init: str, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        [first] = mlp(dim, classes, init='haiku' if init == 'haiku' else 'torch')
        if init == 'normal':
            nn.init.normal_(first.weight, std=0.01)
        if init == 'zeros':
            nn.init.zeros_(first.weight)
        if init in ('zeros', 'normal'):
            nn.init.zeros_(first.bias)
        weight = first.weight.detach().expand(heads, classes, dim)
        bias = first.bias.detach().expand(heads, classes)
        self.weight = nn.Parameter(weight.clone())  # (H, C, D)
        self.bias = nn.Parameter(bias.clone())  # (H, C)

    def forward(self, x: Tensor) -> Tensor:
        logits = F.linear(x, self.weight.flatten(0, 1), self.bias.flatten())  # one product for all
        return logits.view(len(x), *self.bias.shape)


class Classifier(nn.Module):
    """An encoder with heads: (B, 3, H, W) normalised -> (B, heads, classes) float32.

    Args:
        encoder: (B, 3, H, W) -> (B, D); None for a network whose input is features (B, D).
        heads: the linear classifiers.
        frozen: whether the encoder stays in eval mode and gets no gradient.
        preprocessing: gives the precision at which the encoder runs.
    """

    def __init__(
        self, encoder: nn.Module | None, heads: Heads, frozen: bool, preprocessing: Preprocessing
    ):
        super().__init__()
        self.encoder = encoder
        self.heads = heads
        self.frozen = frozen
        self.preprocessing = preprocessing

    def trained(self) -> nn.Module:
        """Return the module that is trained: the heads, or the whole network if not frozen."""
        return self.heads if self.frozen else self

    def train(self, mode: bool = True) -> 'Classifier':
        super().train(mode)
        if self.frozen and self.encoder is not None:
            self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.encoder is not None:
            with_gradient = not self.frozen and torch.is_grad_enabled()
            with torch.set_grad_enabled(with_gradient), self.preprocessing.autocast(x.device):
                x = self.encoder(x)
        return self.heads(x.float())


@torch.no_grad()
def predict(
    network: Classifier,
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int = 256,
    workers: int = 0,
    top: int = 5,
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Predict the classes of every readable image of a source, with every head.

    Each process predicts for its share of the images, and every process returns all predictions.

    Args:
        network: the classifier, C classes.
        source: the images.
        preprocessing: what happens to an image before the network.
        batch_size: images per batch.
        workers: processes of the loader.
        top: number of classes to return for each image.

    Returns:
        positions: (N,) int64, positions of the readable images in the source.
        classes: (N, heads, min(top, C)) int64, best first.
        unreadable: (position, reason) of each unreadable image.

    Raises:
        ConfigError: no image can be read.
    """
    positions: list[np.ndarray] = []
    classes: list[np.ndarray] = []
    unreadable: list[tuple[int, str]] = []
    device = next(network.parameters()).device
    own = np.arange(rank(), len(source), world_size())
    own_source = Subset(source, own) if world_size() > 1 else source
    with eval_mode(network), progress_bar(len(own), 'evaluation') as progress:
        batches: Iterable = ()
        if len(own):
            batches = encode_batches(
                network, own_source, preprocessing, device, batch_size, workers
            )
        for index, logits, failed in batches:
            positions.append(own[index])
            unreadable += [(int(own[i]), reason) for i, reason in failed]
            if logits is not None:
                classes.append(_best_classes(torch.from_numpy(logits), top))
            progress.update(len(index) + len(failed))
    gathered = zip(*all_gather_object((positions, classes, unreadable)), strict=True)
    positions, classes, unreadable = (sum(of_processes, []) for of_processes in gathered)
    unreadable.sort()
    if not classes:
        raise ConfigError(
            f'none of the {len(source)} images can be read, the first is {source.name(0)} '
            f'({unreadable[0][1]}); check them'
        )
    all_positions = np.concatenate(positions)
    all_classes = np.concatenate(classes)
    order = all_positions.argsort()
    return all_positions[order], all_classes[order], unreadable


@torch.no_grad()
def predict_features(heads: Heads, features: Features, top: int = 5) -> np.ndarray:
    """Predict the classes of stored features with every head.

    Args:
        heads: H heads of C classes.
        features: N features.
        top: number of classes to return for each feature.

    Returns:
        (N, H, min(top, C)) int64, best first.
    """
    device = next(heads.parameters()).device
    n = len(features.values)
    classes = []
    for rows in np.array_split(np.arange(n), max(n // FEATURES_PER_PASS, 1)):
        values = torch.from_numpy(features.values[rows].astype(np.float32))
        classes.append(_best_classes(heads(values.to(device)), top))
    return np.concatenate(classes)


def _best_classes(logits: Tensor, top: int) -> np.ndarray:
    """(..., C) -> (..., top) int64, best first; -1 for a head whose logits are not finite."""
    best = logits.topk(min(top, logits.shape[-1]), dim=-1).indices
    return torch.where(logits.isfinite().all(-1, keepdim=True), best, -1).cpu().numpy()
