"""The context of an evaluation: a network from a checkpoint, the data to judge it on, and where the figures go."""

import copy
import hashlib
import json
import shlex
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ssl_zoo.build import build_method, load_method
from ssl_zoo.config.builtin_values import to_builtin
from ssl_zoo.data.loader import default_workers
from ssl_zoo.data.sources import Source
from ssl_zoo.data.splits import data_sources
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import raise_together
from ssl_zoo.errors import ConfigError, UnreadableImage
from ssl_zoo.evaluation.features import Features, Preprocessing, key_of, store_features
from ssl_zoo.evaluation.metrics import Predictions, interval, measure, top_k
from ssl_zoo.evaluation.results import write_row
from ssl_zoo.storage.digest import sha256_of_file
from ssl_zoo.versions import versions

SAMPLED = 8  # images whose pixels tell whether a data set is still the same
NAMES = dict(top1='top-1', mean_per_class='mean per class')


class EvaluationContext:
    """What is evaluated, and on what.

    Args:
        checkpoint: file of a run.
        options: changes to what its config says of data and workers, such as 'data.test.root=/data/imagenet/val'.
        network: 'online' or 'target'; None for the method's own choice (DINO: the teacher; all others: the online network).
        layer: 'backbone' or 'projector'.
        random_weights: the same network before training.
        work_dir: where figures, predictions and features go; by default that of the run.
        imports: Python files that register methods or data sets of one's own.
        precision: of the encoder, 'float32' or 'bf16'.
        batch_size, workers: of evaluation passes; workers None: as in training.
        seed: of what the evaluation draws (heads, crops, label lists).

    Attributes:
        method, settings: from the checkpoint; device; weights: 'trained' or 'random weights'; network: the name that was found.
        encoder: (B, 3, H, W) normalised -> (B, D).
    """

    def __init__(
        self,
        checkpoint: str,
        options: list[str] = (),
        network: str | None = None,
        layer: str = 'backbone',
        random_weights: bool = False,
        work_dir: str | None = None,
        imports: list[str] = (),
        precision: str = 'float32',
        batch_size: int = 256,
        workers: int | None = None,
        seed: int = 0,
    ):
        from ssl_zoo.config.loading import import_file

        for file in imports:
            import_file(file)
        if precision not in ('float32', 'bf16'):
            raise ConfigError(f"the precision is {precision!r}, but it must be 'float32' or 'bf16'")
        if batch_size < 1:
            raise ConfigError(f'the batch size is {batch_size}, but it must be at least 1')
        if not 0 <= seed < 2**62:
            raise ConfigError(f'the seed is {seed}, but it must be at least 0, and below 2**62')
        if workers is not None and workers < 0:
            raise ConfigError(f'--workers is {workers}, but it must be at least 0')
        self.started = time.perf_counter()
        self.path = Path(checkpoint).absolute()
        self.method, self.settings, self.step = load_method(self.path, options, random_weights)
        self.device = (
            torch.device('cuda', torch.cuda.current_device())
            if torch.cuda.is_available()
            else torch.device('cpu')
        )
        self.method.to(self.device).eval()
        self.network, self.layer = self.method.main_network if network is None else network, layer
        self.encoder: nn.Module = self.method.encoder(self.network, layer)
        self.weights = 'random weights' if random_weights else 'trained'
        self.batch_size, self.seed = batch_size, seed
        workers = self.settings.workers if workers is None else workers
        self.workers = default_workers() if workers is None else workers
        size, resize = self.settings.eval_geometry()
        data = self.settings.data
        self.preprocessing = Preprocessing(
            size, resize, data.mean, data.std, precision, self.settings.channels_last
        )
        run = (
            self.path.parent.parent if self.path.parent.name == 'checkpoints' else self.path.parent
        )
        self.work_dir = Path(work_dir) if work_dir else Path(_relative(run))

    @cached_property
    def checkpoint_hash(self) -> str:
        """SHA-256 of the file, its first 16 hexadecimal digits."""
        return sha256_of_file(self.path)[:16]

    @cached_property
    def sources(self) -> dict[str, Source | None]:
        """train (without the hold-out), val and test, labelled, None where there is none; whole: train with what was held out of it."""
        found = raise_together(lambda: data_sources(self.settings.data, labelled=True))
        sources = dict(
            train=found['bank'], val=found['val'], test=found['test'], whole=found['whole']
        )
        for name, source in sources.items():
            if source is not None and not len(source):
                raise ConfigError(f'data.{name} has no images')
        if sources['val'] is not None and sources['val'].labels is None:
            raise ConfigError(
                'data.val has no labels, and choices need them; give a labelled set or a number to hold out, such as '
                '--cfg-options data.val=0.1'
            )
        return sources

    def source(self, name: str) -> Source:
        """The source 'train', 'val' or 'test'. Raises ConfigError if there is none."""
        if self.sources[name] is None:
            why = dict(
                val='choices are made on images held out from training, never on the test set; hold some out with '
                '--cfg-options data.val=0.1',
                test="it is what figures are measured on; give one with --cfg-options \"data.test={'type': ..., 'root': ...}\"",
            )
            raise ConfigError(f'the config has no data.{name}: {why[name]}')
        return self.sources[name]

    @cached_property
    def width(self) -> int:
        """How many features the encoder gives."""
        size = self.preprocessing.size
        with torch.no_grad():
            return self.encoder(torch.zeros(1, 3, size, size, device=self.device)).shape[1]

    def fresh_encoder(self, draw: int = 0) -> nn.Module:
        """The encoder once more, to be trained: a copy of its weights, or with random weights new ones for every draw."""
        if self.weights == 'trained':
            return copy.deepcopy(self.encoder)
        method = build_method(replace(self.settings, seed=self.settings.seed + draw))
        return method.to(self.device).encoder(self.network, self.layer)

    @property
    def classes(self) -> int:
        """The number of classes of the data set."""
        train = self.source('train')
        others = [
            source for source in (self.sources['val'], self.sources['test']) if source is not None
        ]
        return (
            len(train.classes)
            if train.classes
            else 1 + int(max(source.labels.max() for source in (train, *others)))
        )

    def identity(self) -> dict:
        """What the network and what it sees depend on."""
        return dict(
            checkpoint=self.checkpoint_hash,
            weights=self.weights,
            network=self.network,
            layer=self.layer,
            preprocessing=asdict(self.preprocessing),
        )

    def features(self, source: Source, name: str, dtype: str = 'float32') -> Features:
        """Features of a source, from the cache in the work directory if they are those of this network, layer, preprocessing and data."""
        key = dict(self.identity(), **fingerprint(source), dtype=dtype)
        folder = self.work_dir / 'features' / f'{name}-{key_of(**key)}'
        return store_features(
            self.encoder,
            source,
            self.preprocessing,
            folder,
            key,
            dtype,
            self.batch_size,
            self.workers,
        )

    def folder(self, tool: str, **what) -> Path:
        """A folder for a training that may be stopped: the same for the same network, data and recipe, and for nothing else."""
        folder = self.work_dir / tool / key_of(**self.identity(), **what)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f'cannot make {folder}: {error}; choose another --work-dir') from None
        return folder

    def report(
        self,
        tool: str,
        metric: str,
        predicted: np.ndarray,
        labels: np.ndarray,
        names: list[str],
        test: Source,
        protocol: str,
        **more,
    ) -> dict:
        """Measure, save the predictions, write the results row, print the figure.

        Args:
            tool: what made them; metric: 'top1' or 'mean_per_class'.
            predicted: (N, k) classes, best first; labels: (N,); names: N.
            test: the source.
            protocol: the protocol in words.
            more: further items of the row.
        Returns:
            The row.
        """
        value, (low, high) = measure(metric, predicted, labels), interval(metric, predicted, labels)
        now = datetime.now(UTC)
        top5 = {'top5': top_k(predicted, labels, 5)} if self.classes > 5 else {}
        row = dict(
            metric=f'{tool}_{metric}',
            value=value,
            ci95=[low, high],
            n=len(labels),
            protocol=protocol,
            weights=self.weights,
            network=self.network,
            layer=self.layer,
            preprocessing=to_builtin(asdict(self.preprocessing)),
            **top5,
            **more,
            test=type(test).__name__ if not hasattr(test, 'source') else type(test.source).__name__,
            test_manifest=test.manifest(),
            left_out=len(test) - len(labels),
            checkpoint=_relative(self.path),
            checkpoint_sha256=self.checkpoint_hash,
            step=self.step,
            seed=self.seed,
            seconds=round(time.perf_counter() - self.started, 1),
            time=now.isoformat(timespec='seconds'),
            command=shlex.join(sys.argv),
            versions=versions(),
            config=self.settings.to_builtin(),
        )
        if rank() == 0:
            stamp = now.strftime('%Y%m%d-%H%M%S-%f')
            path = self.work_dir / 'predictions' / f'{tool}_{metric}_{stamp}.npz'
            row['predictions'] = str(path)
            try:
                Predictions(predicted, labels, np.array(names), row).save(path)
                write_row(self.work_dir, row)
            except OSError as error:
                raise ConfigError(
                    f'could not write the result ({NAMES[metric]} {value:.2f} %) to {self.work_dir}: {error}'
                ) from None
            protocol = printable(protocol)
            more = f', top-5 {row["top5"]:.2f} %' if 'top5' in row else ''
            print(
                f'{NAMES[metric]} {value:.2f} % (95 % interval {low:.2f} to {high:.2f}){more} on {len(labels):,} test images  '
                f'[{self.weights}, {self.network} {self.layer}]  {protocol}\n  predictions in {path}',
                flush=True,
            )
        return row


def _relative(path: Path) -> str:
    """From the present directory if it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def printable(text: str) -> str:
    """A name that may hold bytes that are not text, for the terminal."""
    return text.encode(errors='surrogateescape').decode(errors='replace')


def names_of(source: Source, positions: np.ndarray) -> list[str]:
    return [source.name(int(i)) for i in positions]


def fingerprint(source: Source | None) -> dict | None:
    """What tells a data set from others: its manifest and a few of its pixels."""
    return source and dict(manifest=source.manifest(), pixels=_pixels(source))


def _pixels(source: Source) -> str:
    """A hash of a few images' pixels: names and labels stay when files are exchanged, or when a config asks for another size."""
    digest = hashlib.sha256()
    for i in np.unique(np.linspace(0, len(source) - 1, SAMPLED).astype(int)):
        try:
            digest.update(
                json.dumps(source.read(int(i)).size).encode() + source.read(int(i)).tobytes()
            )
        except UnreadableImage as error:
            digest.update(str(error).encode())
    return digest.hexdigest()[:16]
