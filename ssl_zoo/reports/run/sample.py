"""The images that the page shows, and their features under several networks of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.checkpoint import checkpoints_in
from ssl_zoo.data.eval_dataset import EvalDataset
from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources import Source, Subset
from ssl_zoo.data.splits import data_sources
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Features, encode_batches, eval_mode
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.printable import one_line
from ssl_zoo.progress_bar import progress_bar
from ssl_zoo.reports.class_names import readable_names
from ssl_zoo.reports.run.records import RunRecords

TEST_IMAGES = 1000  # largest number of test images whose features are compared
BANK_IMAGES = 5000  # largest number of training images among which neighbours are searched
QUERIES = 6  # images shown with neighbours and maps
# Seed of the choice of images: the same for all runs, so that runs on the same data are shown with
# the same images.
SEED = 3


@dataclass
class Sample:
    """Images of a run's data.

    Attributes:
        test: images whose features are compared with those of the bank.
        bank: training images.
        test_name: what ``test`` is, in words.
        bank_total: number of images that the bank was drawn from.
        labelled: whether both have labels.
    """

    test: Source
    bank: Source
    test_name: str
    bank_total: int
    labelled: bool

    @classmethod
    def of(cls, context: EvaluationContext) -> 'Sample':
        """Draw the images: test images, or the hold-out, or training images that the bank lacks.

        Raises:
            ConfigError: images are missing, or there are fewer than two.
        """
        sources = data_sources(context.settings.data)
        bank = sources['bank'] or sources['train']
        for name, words in (('test', 'test images'), ('val', 'hold-out images')):
            test = sources[name]
            if test is not None and len(test) and len(bank):
                drawn = _draw(test, TEST_IMAGES)
                return cls._checked(drawn, _draw(bank, BANK_IMAGES), words, len(bank))
        if len(bank) < 2:
            raise ConfigError(f'data.train has {len(bank)} images, too few for neighbours')
        order = permutation(len(bank), SEED)
        tested = min(TEST_IMAGES, len(bank) // 2)
        test = Subset(bank, np.sort(order[:tested]))
        rest = Subset(bank, np.sort(order[tested : tested + BANK_IMAGES]))
        return cls._checked(test, rest, 'training images, left out of the bank', len(bank))

    @classmethod
    def _checked(cls, test: Source, bank: Source, words: str, bank_total: int) -> 'Sample':
        labelled = test.labels is not None and bank.labels is not None
        return cls(test, bank, words, bank_total, labelled)

    @property
    def classes(self) -> list[str]:
        """Names of the classes; numbers where they have no names."""
        if self.bank.classes:
            return readable_names([one_line(str(name)) for name in self.bank.classes])
        largest = max(int(self.bank.labels.max()), int(self.test.labels.max()))
        return [str(label) for label in range(largest + 1)]


def _draw(source: Source, most: int) -> Source:
    """Return at most ``most`` images of a source, chosen by the counter-based generator."""
    if len(source) <= most:
        return source
    return Subset(source, np.sort(permutation(len(source), SEED)[:most]))


def choose_queries(index: np.ndarray, labels: np.ndarray | None, total: int) -> np.ndarray:
    """Choose the images to show: as many classes as possible, in an order that chance gives.

    Args:
        index: (N,) int64, positions of the readable images in the source.
        labels: (N,) int64, their classes, or None.
        total: number of images of the source.

    Returns:
        (Q,) int64, rows of ``index``, at most ``QUERIES``.
    """
    row_of = {int(position): row for row, position in enumerate(index)}
    order = [row_of[int(i)] for i in permutation(total, SEED, 1) if int(i) in row_of]
    if labels is None:
        return np.array(order[:QUERIES], dtype=np.int64)
    times_seen: dict[int, int] = {}
    rank = {}
    for place, row in enumerate(order):
        label = int(labels[row])
        times_seen[label] = times_seen.get(label, 0) + 1
        rank[row] = (times_seen[label], place)
    return np.array(sorted(order, key=rank.__getitem__)[:QUERIES], dtype=np.int64)


@dataclass(frozen=True)
class NetworkState:
    """A network of the run at some step.

    Attributes:
        path: its checkpoint.
        random_weights: whether the network has random weights instead.
        title: name on the page.
    """

    path: Path
    random_weights: bool
    title: str


def network_states(records: RunRecords) -> list[NetworkState]:
    """Return the networks to show: random weights, the checkpoint nearest half way, the newest.

    Without a checkpoint that can be read the list is empty.
    """
    newest = records.checkpoint
    if newest is None:
        return []
    path = Path(newest['path'])
    states = [NetworkState(path, True, 'random weights')]
    earlier = [p for p in checkpoints_in(records.folder) if 0 < _step(p) < newest['step']]
    if earlier:
        middle = min(earlier, key=lambda p: abs(_step(p) - newest['step'] / 2))
        states.append(NetworkState(middle, False, _title(records, _step(middle))))
    states.append(NetworkState(path, False, _title(records, newest['step'])))
    return states


def _step(path: Path) -> int:
    return int(path.stem.removeprefix('step_'))


def _title(records: RunRecords, step: int) -> str:
    epoch = records.epoch_of(step)
    return f'step {step:,}' if epoch is None else f'epoch {epoch:.4g} (step {step:,})'


def features_of(context: EvaluationContext, source: Source, title: str) -> Features:
    """Extract the features of a source, with a progress bar.

    Args:
        context: gives network and preprocessing.
        source: the images.
        title: label of the bar.

    Raises:
        ConfigError: no image can be read, or features are not finite.
    """
    values = []
    index = []
    batches = encode_batches(
        context.encoder,
        source,
        context.preprocessing,
        context.device,
        min(context.batch_size, 64),
        context.workers,
    )
    with eval_mode(context.encoder), progress_bar(len(source), title) as bar:
        for positions, outputs, failed in batches:
            index.append(positions)
            if outputs is not None:
                values.append(outputs)
            bar.update(len(positions) + len(failed))
    if not values:
        raise ConfigError(f'none of the {len(source)} images of {title} can be read')
    if not all(np.isfinite(part).all() for part in values):
        raise ConfigError(f'features of {title} are not finite')
    positions = np.concatenate(index)
    labels = None if source.labels is None else source.labels[positions]
    return Features(np.concatenate(values), labels, positions)


def seen_pixels(
    context: EvaluationContext, source: Source, positions: Sequence[int]
) -> tuple[np.ndarray, Tensor]:
    """Return images as the network sees them: resized and cropped for evaluation.

    Args:
        context: gives the preprocessing.
        source: the images.
        positions: positions of N readable images.

    Returns:
        (N, H, W, 3) uint8 for the page, and (N, 3, H, W) float32 normalised on the device.
    """
    preprocessing = context.preprocessing
    dataset = EvalDataset(source, preprocessing.size, preprocessing.resize)
    pixels = dataset.__getitems__([int(i) for i in positions])['pixels']
    with torch.no_grad():
        normalised = preprocessing.normaliser(context.device)(pixels)
    return pixels.permute(0, 2, 3, 1).numpy(), normalised
