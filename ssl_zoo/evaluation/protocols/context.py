"""The context of an evaluation: a checkpoint, its network, its data, and the work directory."""

import copy
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ssl_zoo.build import build_method, fit_to_evaluation, load_trained
from ssl_zoo.config.builtin_values import to_builtin
from ssl_zoo.data.data_digest import data_digest
from ssl_zoo.data.identity import content_identity
from ssl_zoo.data.loader import default_workers
from ssl_zoo.data.overlap import warn_of_overlap
from ssl_zoo.data.sources import Joined, Source
from ssl_zoo.data.sources.multi_labels import check_one_class
from ssl_zoo.data.splits import data_notes, data_sources
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import raise_together
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.feature_store import json_hash, store_features
from ssl_zoo.evaluation.features import Features, Preprocessing
from ssl_zoo.evaluation.metrics import interval, measure, top_k
from ssl_zoo.evaluation.per_class import report_classes
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.evaluation.results import write_row
from ssl_zoo.printable import printable
from ssl_zoo.storage.digest import sha256_of_file
from ssl_zoo.versions import versions

METRIC_NAMES = dict(
    top1='top-1',
    mean_per_class='mean per class',
    map='mean average precision',
    map_11point='mean average precision (11 points)',
)
MISSING_SOURCE = dict(
    val=(
        'choices are made on images held out from training, never on the test set; hold images out '
        'with --cfg-options data.val=0.1'
    ),
    test=(
        'all figures are measured on the test images; give them with '
        "--cfg-options \"data.test={'type': ..., 'root': ...}\""
    ),
)


class EvaluationContext:
    """What an evaluation measures, on which data, and where the results go.

    Args:
        checkpoint: checkpoint file of a run.
        options: changes to the data and workers of the config in the checkpoint, such as
            'data.test.root=/data/imagenet/val'.
        network: 'online' or 'target'; None for the method's own choice (DINO: the teacher; all
            others: the online network).
        layer: 'backbone' or 'projector'.
        random_weights: whether to evaluate the network as it was before training.
        work_dir: folder of results, predictions and features; None for the folder of the run.
        imports: Python files that register methods or data sets.
        precision: precision of the encoder, 'float32' or 'bf16'.
        batch_size: images per batch of an evaluation pass.
        workers: processes of the loader; None for the number used in training.
        seed: seed of everything that the evaluation draws: heads, crops, label lists.
        per_class: whether to print and save the accuracy of each class.

    Attributes:
        started: time.perf_counter() at the start, in seconds.
        path: path of the checkpoint.
        method: method from the checkpoint, in eval mode.
        settings: settings from the checkpoint, changed by the options.
        step: optimizer steps of the training.
        train_data: digest of the images that the network was trained on; None for random weights.
        device: device of the network.
        network: 'online' or 'target'.
        layer: 'backbone' or 'projector'.
        encoder: (B, 3, H, W) normalised -> (B, D).
        weights: 'trained' or 'random weights'.
        preprocessing: what happens to an image before the encoder.
        work_dir: folder of results, predictions and features.
        label_fields: fields of all rows; empty if all training images have their labels.
        label_choice: parameters of all protocols; empty if all training images have their labels.
    """

    def __init__(
        self,
        checkpoint: str,
        options: Sequence[str] = (),
        network: str | None = None,
        layer: str = 'backbone',
        random_weights: bool = False,
        work_dir: str | None = None,
        imports: Sequence[str] = (),
        precision: str = 'float32',
        batch_size: int = 256,
        workers: int | None = None,
        seed: int = 0,
        per_class: bool = False,
    ):
        from ssl_zoo.config.loading import import_file

        for file in imports:
            import_file(file)
        _check_arguments(precision, batch_size, workers, seed)
        self.started = time.perf_counter()
        self.path = Path(checkpoint).absolute()
        loaded = load_trained(self.path, options, random_weights)
        self.method = loaded.method
        self.settings = loaded.settings
        self.step = loaded.step
        self.train_data = loaded.train_data
        self.device = torch.device('cpu')
        if torch.cuda.is_available():
            self.device = torch.device('cuda', torch.cuda.current_device())
        self.method.to(self.device).eval()
        self.network = self.method.main_network if network is None else network
        self.layer = layer
        self.encoder: nn.Module = self.method.encoder(self.network, layer)
        self.weights = 'random weights' if random_weights else 'trained'
        self.batch_size = batch_size
        self.seed = seed
        self.per_class = per_class
        self.label_fields: dict = {}
        self.label_choice: dict = {}
        if workers is None:
            workers = self.settings.workers
        self.workers = default_workers() if workers is None else workers
        size, resize = self.settings.eval_geometry()
        data = self.settings.data
        self.preprocessing = Preprocessing(
            size, resize, data.mean, data.std, precision, self.settings.channels_last
        )
        run = self.path.parent
        if run.name == 'checkpoints':
            run = run.parent
        self.work_dir = Path(work_dir) if work_dir else Path(_relative(run))

    @cached_property
    def checkpoint_hash(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the checkpoint."""
        return sha256_of_file(self.path)[:16]

    @cached_property
    def sources(self) -> dict[str, Source | None]:
        """Labelled sources by name, None for a source that the config does not have.

        'train' is the training images without the hold-out, 'val' the hold-out, 'test' the test
        images, and 'labelled' the training images including the hold-out.
        """
        splits = raise_together(lambda: data_sources(self.settings.data, labelled=True))
        for note in data_notes(splits):
            print(f'note: {printable(note)}')
        warn_of_overlap(splits, self.settings.data)
        sources = dict(
            train=splits['bank'],
            val=splits['val'],
            test=splits['test'],
            labelled=splits['labelled'],
        )
        for name, source in sources.items():
            if source is not None and not len(source):
                raise ConfigError(f'data.{name} has no images')
        if sources['val'] is not None and not sources['val'].is_labelled:
            raise ConfigError(
                'data.val has no labels, and choices need them; give a labelled set or a number to '
                'hold out, such as --cfg-options data.val=0.1'
            )
        return sources

    @cached_property
    def data_digests(self) -> dict[str, str | None]:
        """Fields of a row: digests of the images that its figure depends on, None for none.

        train_data, the images that the network was trained on; bank_data, those that the evaluation
        learns from; val_data, the hold-out of its choices; test_data.
        """
        digests = dict(train_data=self.train_data)
        for field, name in (('bank', 'train'), ('val', 'val'), ('test', 'test')):
            source = self.sources[name]
            digests[f'{field}_data'] = None if source is None else data_digest(source)
        return digests

    def _bank_fields(self, retrained: bool) -> dict:
        """Return digest and number of the images that the evaluation learns from.

        Args:
            retrained: whether the measured classifier was trained on the hold-out, too.
        """
        train = self.sources['train']
        if not retrained:
            return dict(bank_data=self.data_digests['bank_data'], bank_images=len(train))
        bank = Joined(train, self.sources['val'])
        return dict(bank_data=data_digest(bank), bank_images=len(bank))

    def with_sources(
        self, sources: dict[str, Source | None], label_fields: dict, label_choice: dict
    ) -> 'EvaluationContext':
        """Return a copy with other sources.

        Args:
            sources: replace those of the same names.
            label_fields: fields of all rows.
            label_choice: parameters of all protocols.
        """
        other = copy.copy(self)
        other.sources = self.sources | sources
        vars(other).pop('data_digests', None)  # those of the earlier sources
        other.label_fields = label_fields
        other.label_choice = label_choice
        return other

    @property
    def has_several_classes(self) -> bool:
        """Whether the images have several classes each, see Source.multi_labels."""
        train = self.sources['train']
        return train is not None and train.multi_labels is not None

    def source(self, name: str, several_classes: bool = False) -> Source:
        """Return a source that the evaluation needs.

        Args:
            name: 'train', 'val' or 'test'.
            several_classes: whether its images may have several classes each.

        Raises:
            ConfigError: there is none, or its images have several classes.
        """
        if self.sources[name] is None:
            raise ConfigError(f'the config has no data.{name}: {MISSING_SOURCE[name]}')
        if not several_classes:
            check_one_class(self.sources[name], name)
        return self.sources[name]

    @cached_property
    def width(self) -> int:
        """D, the number of features that the encoder returns for an image."""
        size = self.preprocessing.size
        with torch.no_grad():
            return self.encoder(torch.zeros(1, 3, size, size, device=self.device)).shape[1]

    def fresh_encoder(self, draw: int = 0) -> nn.Module:
        """Return a copy of the encoder for training; random weights are drawn anew per ``draw``."""
        if self.weights == 'trained':
            return copy.deepcopy(self.encoder)
        method = build_method(
            replace(self.settings, seed=self.settings.seed + draw), from_file=True
        )
        fit_to_evaluation(method, self.settings)
        return method.to(self.device).encoder(self.network, self.layer)

    @property
    def classes(self) -> int:
        """The number of classes of the data set."""
        train = self.source('train')
        if train.classes:
            return len(train.classes)
        sources = (train, self.sources['val'], self.sources['test'])
        return 1 + int(max(source.labels.max() for source in sources if source is not None))

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, their numbers if they have no names."""
        return self.source('train').classes or [str(i) for i in range(self.classes)]

    def identity(self) -> dict:
        """Return everything that the features of an image depend on, except the image."""
        return dict(
            checkpoint=self.checkpoint_hash,
            weights=self.weights,
            network=self.network,
            layer=self.layer,
            preprocessing=asdict(self.preprocessing),
        )

    def features(self, source: Source, name: str, dtype: str = 'float32') -> Features:
        """Return the features of a source, extracted unless the work directory has them.

        Args:
            source: the images.
            name: name of the source; the folder's name starts with it.
            dtype: dtype of the stored features, 'float32' or 'float16'.
        """
        key = dict(self.identity(), **fingerprint(source), dtype=dtype)
        folder = self.work_dir / 'features' / f'{name}-{json_hash(**key)}'
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

    def folder(self, tool: str, **identity: Any) -> Path:
        """Make and return the folder for the state of a training that may be stopped.

        Args:
            tool: name of the parent folder.
            identity: plain values that, with the network, identify the training.

        Raises:
            ConfigError: the folder cannot be made.
        """
        folder = self.work_dir / tool / json_hash(**self.identity(), **identity)
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
        protocol: dict,
        chosen: dict,
        **fields: Any,
    ) -> dict:
        """Measure, save the predictions, write the results row, print the value.

        Args:
            tool: name of the evaluation, the start of the row's metric.
            metric: 'top1' or 'mean_per_class'.
            predicted: (N, P) int64 classes, best first.
            labels: (N,) int64.
            names: names of the N images.
            test: the source of the images.
            protocol: name and parameters, see ssl_zoo.evaluation.protocols.describe.
            chosen: result of the choice on the hold-out; empty without a choice.
            fields: further fields of the row.

        Returns:
            The row.

        Raises:
            ConfigError: the row or the predictions cannot be written.
        """
        top5 = {'top5': top_k(predicted, labels, 5)} if self.classes > 5 else {}

        def predictions(row: dict) -> Predictions:
            return Predictions(predicted, labels, np.array(names), row, np.array(self.class_names))

        row = self.record(
            tool,
            metric,
            measure(metric, predicted, labels),
            interval(metric, predicted, labels),
            len(labels),
            test,
            protocol,
            chosen,
            lambda path, row: predictions(row).save(path),
            **top5,
            **fields,
        )
        if rank() == 0 and self.per_class:
            with self._writing(METRIC_NAMES[metric], row['value']):
                table = report_classes(predictions(row), Path(row['predictions']))
            print(table, flush=True)
        return row

    def record(
        self,
        tool: str,
        metric: str,
        value: float,
        ci95: tuple[float, float],
        images: int,
        test: Source,
        protocol: dict,
        chosen: dict,
        save: Callable[[Path, dict], None],
        **fields: Any,
    ) -> dict:
        """Write the results row of a figure and its predictions, and print it.

        Args:
            tool: name of the evaluation, the start of the row's metric.
            metric: key of METRIC_NAMES.
            value: the figure, in percent.
            ci95: its 95 % interval.
            images: number of images that it was measured on.
            test: the source of the images.
            protocol: name and parameters, see ssl_zoo.evaluation.protocols.describe.
            chosen: result of the choice on the hold-out; empty without a choice.
            save: function of a path and the row that writes the predictions.
            fields: further fields of the row.

        Returns:
            The row.

        Raises:
            ConfigError: the row or the predictions cannot be written.
        """
        now = datetime.now(UTC)
        by_metric = {} if metric == 'top1' else dict(metric=metric)
        row = dict(
            metric=f'{tool}_{metric}',
            value=value,
            ci95=list(ci95),
            n=images,
            protocol=to_builtin(protocol | self.label_choice | by_metric),
            chosen=to_builtin(chosen),
            weights=self.weights,
            network=self.network,
            layer=self.layer,
            preprocessing=to_builtin(asdict(self.preprocessing)),
            **fields,
            **self.label_fields,
            warnings=[*self.method.warnings, *test.warnings],
            test=type(getattr(test, 'source', test)).__name__,
            test_manifest=test.manifest(),
            **self.data_digests | self._bank_fields(protocol.get('retrain', False)),
            left_out=len(test) - images,
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
            with self._writing(METRIC_NAMES[metric], row['value']):
                save(path, row)
                write_row(self.work_dir, row)
            _print_result(row, METRIC_NAMES[metric])
        return row

    @contextmanager
    def _writing(self, metric_name: str, value: float) -> Iterator[None]:
        """Raise ConfigError, with the figure, if its files cannot be written."""
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f'could not write the result ({metric_name} {value:.2f} %) to '
                f'{self.work_dir}: {error}'
            ) from None


def _check_arguments(precision: str, batch_size: int, workers: int | None, seed: int) -> None:
    if precision not in ('float32', 'bf16'):
        raise ConfigError(f"the precision is {precision!r}, but it must be 'float32' or 'bf16'")
    if batch_size < 1:
        raise ConfigError(f'the batch size is {batch_size}, but it must be at least 1')
    if not 0 <= seed < 2**62:
        raise ConfigError(f'the seed is {seed}, but it must be at least 0, and below 2**62')
    if workers is not None and workers < 0:
        raise ConfigError(f'--workers is {workers}, but it must be at least 0')


def _print_result(row: dict, metric_name: str) -> None:
    low, high = row['ci95']
    top5 = f', top-5 {row["top5"]:.2f} %' if 'top5' in row else ''
    for warning in row['warnings']:
        print(f'warning: {printable(warning)}')
    print(
        f'{metric_name} {row["value"]:.2f} % (95 % interval {low:.2f} to {high:.2f}){top5} on '
        f'{row["n"]:,} test images  [{row["weights"]}, {row["network"]} {row["layer"]}]  '
        f'{printable(describe_row(row))}\n  predictions in {row["predictions"]}',
        flush=True,
    )


def _relative(path: Path) -> str:
    """Return the path; relative, if it lies below the current directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def image_names(source: Source, positions: np.ndarray) -> list[str]:
    """Return the names of the images at (N,) positions of a source."""
    return [source.name(int(i)) for i in positions]


def check_two_classes(labels: np.ndarray, images: str = 'the training images') -> None:
    """Raise ConfigError if all labels, (N,) int64, are of one class."""
    if len(np.unique(labels)) < 2:
        raise ConfigError(f'{images} are all of one class; a classifier needs two')


def fingerprint(source: Source | None) -> dict | None:
    """Return the identity of a data set: names, labels, sizes and times of files, some pixels."""
    if source is None:
        return None
    return dict(manifest=source.manifest(), **content_identity(source))
