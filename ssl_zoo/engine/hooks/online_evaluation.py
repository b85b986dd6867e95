"""Online evaluation: k-NN accuracy and signs of collapse during training, results at the end."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.hooks import Hook

from ssl_zoo.build import build_method
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.data_digest import data_digest
from ssl_zoo.data.sources import Source, stratified_subset
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import on_rank0
from ssl_zoo.engine.initial_weights import begins_with_weights
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.collapse import alike_warning, collapse_warning
from ssl_zoo.evaluation.features import Features, Preprocessing, extract_features
from ssl_zoo.evaluation.knn import knn_predict, knn_protocol
from ssl_zoo.evaluation.label_free import (
    FEATURE_IMAGES,
    MEASURES,
    measure_features,
    measure_views,
)
from ssl_zoo.evaluation.metrics import accuracy
from ssl_zoo.evaluation.probe import DRAWS, few_label_probe, few_label_protocol, linear_probe
from ssl_zoo.evaluation.results import rows_of, write_row
from ssl_zoo.evaluation.view_features import view_features
from ssl_zoo.input_size import fitting_copy
from ssl_zoo.losses import feature_std
from ssl_zoo.method import Method
from ssl_zoo.printable import one_line
from ssl_zoo.versions import versions

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer

SHOWN_UNREADABLE = 20  # largest number of unreadable images that one evaluation names in the log
UNTRAINED = 'random weights'
FINAL_METRICS = ('knn_top1', 'probe_2_per_class_top1')


@dataclass(frozen=True)
class OnlineMeasurement:
    """The results of one online evaluation on the validation images.

    Attributes:
        feature_std: see ssl_zoo.losses.feature_std.
        rankme: effective rank of the features.
        max_rank: the largest possible RankMe.
        images: number of validation images.
        knn: k-NN accuracy in percent, None without labels.
        probe: accuracy of the linear probe in percent, None without labels or online_eval.probe.
        others: the measures of ssl_zoo.evaluation.label_free other than RankMe, by key, as far as
            the features have them.
    """

    feature_std: float
    rankme: float
    max_rank: int
    images: int
    knn: float | None = None
    probe: float | None = None
    others: dict[str, float] = field(default_factory=dict)

    def scalars(self) -> dict[str, float]:
        """Return the scalars for the log."""
        scalars = {'val/feature_std': self.feature_std, 'val/rankme': self.rankme}
        if self.knn is not None:
            scalars = {'val/knn': self.knn, **scalars}
        if self.probe is not None:
            scalars['val/probe'] = self.probe
        scalars |= {f'val/{key}': value for key, value in self.others.items()}
        return scalars

    def __str__(self) -> str:
        text = f'feature std {self.feature_std:.3f}  RankMe {self.rankme:.1f} of {self.max_rank}'
        names = {measure.key: measure.name for measure in MEASURES}
        text += ''.join(f'  {names[key]} {value:.3g}' for key, value in self.others.items())
        if self.knn is None:
            return text
        accuracies = f'k-NN {self.knn:.2f} %'
        if self.probe is not None:
            accuracies += f'  linear probe {self.probe:.2f} %'
        return f'{accuracies} on {self.images} val images  {text}'


@dataclass(frozen=True)
class FinalResult:
    """Accuracies of one network on the test images, in percent.

    Attributes:
        weights: 'trained' or 'random weights'.
        knn: k-NN accuracy.
        probe: mean accuracy of the few-label probe over draws.
        probe_std: its standard deviation over draws.
    """

    weights: str
    knn: float
    probe: float
    probe_std: float

    def scalars(self) -> dict[str, float]:
        """Return the scalars for the writers."""
        part = 'test' if self.weights == 'trained' else 'test_random_weights'
        knn, probe = FINAL_METRICS
        return {f'{part}/{knn}': self.knn, f'{part}/{probe}': self.probe}


class OnlineEvaluationHook(Hook):
    """Evaluate the features before the first step and every few epochs; write results at the end.

    An evaluation draws no random numbers and does not change the statistics of BatchNorm, so it
    does not change the training.

    Args:
        settings: settings of the run.
        sources: see ssl_zoo.data.splits.data_sources.

    Attributes:
        evaluated_step: the last step at which the run's network was evaluated, None before the
            first evaluation.
    """

    priority = 'LOW'  # after the checkpoint of the step

    def __init__(self, settings: Settings, sources: dict):
        self.settings = settings
        self.online_eval = settings.online_eval
        self.train = sources['train']
        self.unreadable: dict[str, str] = {}  # reason by name of the image
        self.evaluated_step: int | None = None
        self.untrained_measurement: OnlineMeasurement | None = None
        self.preprocessing = Preprocessing(
            *settings.eval_geometry(),
            settings.data.mean,
            settings.data.std,
            channels_last=settings.channels_last,
        )
        self.views = settings.build_views()
        self.view_sizes = {view.size for view in self.views}
        val = sources['val']
        bank = sources['bank']
        test = sources['test']
        if bank is not None and bank.labels is None:  # images with several classes
            bank = None
            test = None
        self.has_labels = bank is not None and val is not None and val.labels is not None
        self.bank = bank and stratified_subset(bank, self.online_eval.bank)
        if self.has_labels:
            self.val = stratified_subset(val, self.online_eval.queries)
        else:
            self.val = stratified_subset(val or sources['train'], FEATURE_IMAGES)
        self.test = test or (val if self.has_labels else None)
        self.view_source = stratified_subset(self.val, self.online_eval.view_images)

    def before_train(self, runner: 'Trainer') -> None:
        if not self.online_eval.every:
            return
        resumed = runner.step > 0
        if resumed:
            self.evaluated_step = on_rank0(lambda: _last_evaluated_step(runner))
        is_random = not resumed and not begins_with_weights(self.settings)
        untrained = runner.whole_method() if is_random else self.build_untrained(runner)
        self.untrained_measurement = self.evaluate(runner, untrained)
        if self.untrained_measurement is not None:  # on rank 0
            warning = alike_warning(
                self.untrained_measurement.rankme, self.untrained_measurement.images
            )
            if warning:
                runner.logger.warning(f'warning: {warning}')
        if not resumed and not is_random:
            self.evaluate(runner, is_start=True)
        if resumed and runner.step < runner.max_steps:
            # A crash after a checkpoint, but before its evaluation, has lost the evaluation.
            self.after_optimizer_step(runner)

    def after_optimizer_step(self, runner: 'Trainer') -> None:
        every = self.online_eval.every
        if every and runner.due(every) and runner.step < runner.max_steps:
            self.evaluate_once(runner)

    def after_train(self, runner: 'Trainer') -> None:
        if self.online_eval.every:
            self.evaluate_once(runner)
        if self.test is not None:
            self.report(runner)

    def evaluate_once(self, runner: 'Trainer') -> None:
        """Evaluate the run's network, unless it was evaluated at this step."""
        if self.evaluated_step != runner.step:
            self.evaluate(runner)

    def evaluate(
        self, runner: 'Trainer', untrained: Method | None = None, is_start: bool = False
    ) -> OnlineMeasurement | None:
        """Measure a network, and write the measurement to the log.

        Args:
            runner: the runner.
            untrained: the method before training, measured as step 0; None for the method of the
                run.
            is_start: whether the run begins with weights from elsewhere, which are measured now.
                The scalars of step 0 are those of random weights.

        Returns:
            The measurement on rank 0, None on the other ranks.
        """
        started = time.perf_counter()
        is_untrained = untrained is not None
        method = untrained if is_untrained else runner.whole_method()
        step = 0 if is_untrained else runner.step
        measurement = self._measure(runner, method)
        if step == runner.step:
            self.evaluated_step = step
        if measurement is None:
            return None
        seconds = time.perf_counter() - started
        runner.pause(seconds, once=is_untrained or is_start)
        note = f'  {UNTRAINED}' if is_untrained else ''
        if is_start:
            note = '  the weights that the run begins with'
        epoch = runner.plan.epoch(step)
        runner.logger.info(f'epoch {epoch:.1f}  {measurement}  ({seconds:.1f} s){note}')
        if step == runner.step and not is_start:
            runner.log_scalars(step, measurement.scalars())
        if not is_untrained:
            self._warn_of_collapse(runner, measurement)
        return measurement

    def is_complete(self, runner: 'Trainer') -> bool:
        """Whether the final results are written, or not needed. All processes call it."""
        if self.test is None:
            return True
        wanted = {(w, m) for w in ('trained', UNTRAINED) for m in FINAL_METRICS}

        def is_written() -> bool:
            rows = rows_of(Path(runner.work_dir, 'results.jsonl'))
            return wanted <= {
                (str(row.get('weights')), str(row.get('metric')))
                for row in rows
                if row.get('step') == runner.max_steps and 'checkpoint_sha256' not in row
            }

        return on_rank0(is_written)

    def report(self, runner: 'Trainer') -> None:
        """Measure k-NN and a few-label probe on the test images, also with random weights."""
        results = []
        for weights, method in (
            ('trained', runner.whole_method()),
            (UNTRAINED, self.build_untrained(runner)),
        ):
            bank = self._extract(runner, method, self.bank)
            test = self._extract(runner, method, self.test)
            if not self._can_report(bank, test):
                if rank() == 0:
                    runner.logger.warning(
                        'no results on test images: they need a readable test image, and '
                        'training images of two classes or more, two of each class'
                    )
                return
            if rank() == 0:
                results.append(self._measure_final(weights, bank, test))
        if rank() == 0:
            self._log_final(runner, results, len(test.values), len(bank.values))
            write_row(runner.work_dir, *self._rows(runner, results, test, bank))
            for result in results:
                runner.visualizer.add_scalars(result.scalars(), runner.step)

    def build_untrained(self, runner: 'Trainer') -> Method:
        """Build the method with random weights from the seed of the run."""
        method = build_method(
            self.settings, pretrained=False, microbatch_images=runner.plan.micro_batch
        )
        return method.to(runner.device)

    def _extract(self, runner: 'Trainer', method: Method, source: Source) -> Features:
        """Extract features; name in the log images that are unreadable for the first time."""
        with self._eager():
            encoder = method.encoder()
            if self.preprocessing.size not in self.view_sizes:
                encoder = fitting_copy(encoder, self.preprocessing.size)
            features = extract_features(encoder, source, self.preprocessing)
        named = [(source.name(i), reason) for i, reason in features.unreadable]
        new = [(name, reason) for name, reason in named if name not in self.unreadable]
        self.unreadable.update(new)
        if rank() == 0:
            for name, reason in new[:SHOWN_UNREADABLE]:
                runner.logger.warning(one_line(f'left out of evaluation: {name} ({reason})'))
            if len(new) > SHOWN_UNREADABLE:
                runner.logger.warning(f'and {len(new) - SHOWN_UNREADABLE} more')
        return features

    def _eager(self) -> AbstractContextManager:
        """Return a context without torch.compile.

        A compiled backbone would be compiled again for eval mode and for each batch size.
        """
        if self.settings.compile:
            return torch.compiler.set_stance('force_eager')
        return nullcontext()

    def _measure(self, runner: 'Trainer', method: Method) -> OnlineMeasurement | None:
        """Measure a network on the validation images; return None on ranks above 0."""
        val = self._extract(runner, method, self.val)
        if not len(val.values):
            raise ConfigError(
                f'none of the {len(self.val)} images of data.val can be read; check them, or set '
                f'data.val=None'
            )
        sample = val.values[:FEATURE_IMAGES]
        is_finite = bool(np.isfinite(sample).all())
        bank = None
        if self.has_labels and is_finite:
            bank = self._extract(runner, method, self.bank)
        if rank() > 0:
            return None
        knn = None
        probe = None
        if bank is not None:
            knn = self._knn_accuracy(bank, val)
            if self.online_eval.probe:
                probe = linear_probe(bank.values, bank.labels, val.values, val.labels)
        others = measure_features(sample)
        rankme = others.pop('rankme')
        if self.online_eval.view_images and is_finite:
            others |= self._measure_views(method)
        return OnlineMeasurement(
            feature_std=feature_std(torch.from_numpy(sample)).item(),
            rankme=rankme,
            max_rank=min(sample.shape),
            images=len(val.values),
            knn=knn,
            probe=probe,
            others={key: value for key, value in others.items() if np.isfinite(value)},
        )

    def _measure_views(self, method: Method) -> dict[str, float]:
        """Measure a network on training views of some validation images; rank 0 calls it."""
        with self._eager():
            views = view_features(
                method.encoder(), self.view_source, self.views, self.preprocessing
            )
        return measure_views(views)

    def _knn_accuracy(self, bank: Features, queries: Features) -> float:
        predicted = knn_predict(
            bank.values,
            bank.labels,
            queries.values,
            len(self.bank.classes),
            self.online_eval.k,
            self.online_eval.temperature,
        )
        return accuracy(predicted, queries.labels)

    def _warn_of_collapse(self, runner: 'Trainer', measurement: OnlineMeasurement) -> None:
        start = self.untrained_measurement
        warning = collapse_warning(
            measurement.feature_std, measurement.rankme, start.feature_std, start.rankme
        )
        if warning:
            runner.logger.warning(f'warning: {warning}')

    def _can_report(self, bank: Features, test: Features) -> bool:
        """Whether there are test images, and two bank images of each of two classes."""
        per_class = np.bincount(bank.labels, minlength=len(self.bank.classes))
        per_class = per_class[per_class > 0]
        return len(test.values) > 0 and len(per_class) >= 2 and per_class.min() >= 2

    def _measure_final(self, weights: str, bank: Features, test: Features) -> FinalResult:
        scores = few_label_probe(bank.values, bank.labels, test.values, test.labels)
        return FinalResult(
            weights,
            knn=self._knn_accuracy(bank, test),
            probe=float(np.mean(scores)),
            probe_std=float(np.std(scores)),
        )

    def _log_final(
        self, runner: 'Trainer', results: list[FinalResult], images: int, bank: int
    ) -> None:
        width = max(len(result.weights) for result in results)
        k = self.online_eval.k
        log = runner.logger.info
        for warning in (*runner.method.warnings, *self.test.warnings):
            log(f'warning: {warning}')
        log(f'on {images} test images, backbone features of {bank} training images:')
        log(f'  {"":<{width}}  k-NN, k={k}  2 labels per class, mean of {DRAWS} draws')
        for r in results:
            log(
                f'  {r.weights:<{width}}  {r.knn:7.2f} %    {r.probe:.2f} % (std {r.probe_std:.2f})'
            )

    def _rows(
        self, runner, results: list[FinalResult], test: Features, bank: Features
    ) -> list[dict]:
        """Return the results rows: k-NN and few-label probe of each network."""
        data = self.settings.data
        common = dict(
            time=datetime.now(UTC).isoformat(timespec='seconds'),
            n=len(test.values),
            network='backbone',
            test='val' if data.test is None else data.test['type'],
            test_manifest=self.test.manifest(),
            bank_data=data_digest(self.bank),
            bank_images=len(self.bank),
            test_data=data_digest(self.test),
            warnings=[*runner.method.warnings, *self.test.warnings],
            step=runner.step,
            checkpoint=str(runner.checkpoints.path or ''),
            seed=self.settings.seed,
            seconds=round(runner.train_seconds, 1),
            versions=versions(),
            config=self.settings.to_builtin(),
        )
        k = self.online_eval.k
        temperature = self.online_eval.temperature
        protocol = knn_protocol(bank.values, k=k, temperature=temperature)
        trained_on = {'trained': data_digest(self.train), UNTRAINED: None}
        rows = []
        for result in results:
            knn_row = dict(
                metric=FINAL_METRICS[0],
                value=result.knn,
                weights=result.weights,
                protocol=protocol,
                chosen={},
                train_data=trained_on[result.weights],
                **common,
            )
            probe_row = dict(
                metric=FINAL_METRICS[1],
                value=result.probe,
                std=result.probe_std,
                draws=DRAWS,
                weights=result.weights,
                protocol=few_label_protocol(),
                chosen={},
                train_data=trained_on[result.weights],
                **common,
            )
            rows += [knn_row, probe_row]
        return rows


def _last_evaluated_step(runner: 'Trainer') -> int | None:
    """Return the last step in log.jsonl with an evaluation, up to the current step, or None."""
    rows = rows_of(Path(runner.work_dir, 'log.jsonl'))
    steps = [row.get('step') for row in rows if 'val/feature_std' in row]
    done = [step for step in steps if isinstance(step, int) and step <= runner.step]
    return max(done, default=None)
