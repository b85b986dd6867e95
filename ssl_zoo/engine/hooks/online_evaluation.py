"""The online evaluation during training (k-NN accuracy, feature std of the embeddings) and the figures at its end."""

import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook

from ssl_zoo.build import build_method
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.sources import Source, Subset, balanced_order
from ssl_zoo.distributed import rank
from ssl_zoo.distributed.objects import on_rank0
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.collapse import collapse_warning, rankme
from ssl_zoo.evaluation.features import Preprocessing, extract_features
from ssl_zoo.evaluation.knn import knn_predict
from ssl_zoo.evaluation.metrics import accuracy
from ssl_zoo.evaluation.probe import few_label_probe, linear_probe
from ssl_zoo.evaluation.results import rows_of, write_row
from ssl_zoo.losses import feature_std
from ssl_zoo.versions import versions


def at_most(source: Source, n: int | None) -> Source:
    """The source, or ``n`` of its images, balanced over classes."""
    return (
        source
        if n is None or n >= len(source)
        else Subset(source, np.sort(balanced_order(source, seed=2)[:n]))
    )


class OnlineEvaluationHook(Hook):
    """Looks at the embeddings before the first step and every few epochs; at the end writes the results.

    Evaluation draws no random numbers, leaves BatchNorm's statistics alone and so changes nothing in the training.

    Args:
        settings: of the run.
        sources: see ssl_zoo.data.splits.data_sources.
        progress: the hook that writes scalars.
    """

    FEATURE_STD_IMAGES = 2048

    def __init__(self, settings: Settings, sources: dict, progress):
        self.settings, self.online_eval, self.progress = settings, settings.online_eval, progress
        self.unreadable: dict[str, str] = {}
        self.preprocessing = Preprocessing(
            *settings.eval_geometry(),
            settings.data.mean,
            settings.data.std,
            channels_last=settings.channels_last,
        )
        val, bank = sources['val'], sources['bank']
        self.has_labels = bank is not None and val is not None and val.labels is not None
        self.bank = bank and at_most(bank, self.online_eval.bank)
        self.val = (
            at_most(val, self.online_eval.queries)
            if self.has_labels
            else at_most(val or sources['train'], self.FEATURE_STD_IMAGES)
        )
        self.test = sources['test'] or (val if self.has_labels else None)

    def before_train(self, runner):
        self.first_step = runner.step
        if self.online_eval.every:
            resumed = runner.step > 0
            self.start = self.look(
                runner, self.untrained(runner) if resumed else runner.whole_method()
            )
            if (
                resumed and runner.step < runner.max_steps
            ):  # lost, if a crash came between a checkpoint and the look after it
                self.after_optimizer_step(runner)

    def after_optimizer_step(self, runner):
        if (
            self.online_eval.every
            and runner.due(self.online_eval.every)
            and runner.step < runner.max_steps
        ):
            self.look_once(runner)

    def after_train(self, runner):
        if self.online_eval.every:
            self.look_once(runner)
        if self.test is not None:
            self.report(runner)

    def look_once(self, runner) -> None:
        """Look, unless log.jsonl holds what was seen at this step: a run that resumes may stand where it has looked."""

        def looked() -> bool:
            return any(
                row.get('step') == runner.step and 'val/feature_std' in row
                for row in rows_of(Path(runner.work_dir, 'log.jsonl'))
            )

        if runner.step > self.first_step or not on_rank0(looked):
            self.look(runner)

    def untrained(self, runner):
        return build_method(
            self.settings, pretrained=False, microbatch_images=runner.plan.micro_batch
        ).to(runner.device)

    def features(self, runner, method, source):
        # Compiled for training, a backbone would be compiled again for every other mode and batch size.
        eager = torch.compiler.set_stance('force_eager') if self.settings.compile else nullcontext()
        with eager:
            features = extract_features(method.encoder(), source, self.preprocessing)
        new = [
            (source.name(i), reason)
            for i, reason in features.unreadable
            if source.name(i) not in self.unreadable
        ]
        self.unreadable.update(new)
        if rank() > 0:
            return features
        for name, reason in new[:20]:
            runner.logger.warning(f'left out of evaluation: {name} ({reason})')
        if len(new) > 20:
            runner.logger.warning(f'and {len(new) - 20} more')
        return features

    def look(self, runner, untrained=None) -> tuple[float, float]:
        """Measure, report and log; (feature std, RankMe). ``untrained`` is looked at instead of the run's method, as the start."""
        started = time.perf_counter()
        method, step = (
            (untrained, 0) if untrained is not None else (runner.whole_method(), runner.step)
        )
        val = self.features(runner, method, self.val)
        if not len(val.values):
            raise ConfigError(
                f'none of the {len(self.val)} images of data.val can be read; check them, or set data.val=None'
            )
        sample = val.values[: self.FEATURE_STD_IMAGES]
        finite = np.isfinite(sample).all()
        scalars = {
            'val/feature_std': feature_std(torch.from_numpy(sample)).item(),
            'val/rankme': rankme(sample) if finite else float('nan'),
        }
        text = f'feature std {scalars["val/feature_std"]:.3f}  RankMe {scalars["val/rankme"]:.1f} of {min(sample.shape)}'
        bank = self.features(runner, method, self.bank) if self.has_labels and finite else None
        if bank is not None and rank() == 0:
            predicted = knn_predict(
                bank.values,
                bank.labels,
                val.values,
                len(self.bank.classes),
                self.online_eval.k,
                self.online_eval.temperature,
            )
            scalars = {'val/knn': accuracy(predicted, val.labels), **scalars}
            shown = f'k-NN {scalars["val/knn"]:.2f} %'
            if self.online_eval.probe:
                scalars['val/probe'] = linear_probe(
                    bank.values, bank.labels, val.values, val.labels
                )
                shown += f'  linear probe {scalars["val/probe"]:.2f} %'
            text = f'{shown} on {len(val.values)} val images  {text}'
        if rank() > 0:
            return 0.0, 0.0
        seconds = time.perf_counter() - started
        self.progress.pause(seconds, once=untrained is not None)
        note = '  random weights' if untrained is not None else ''
        runner.logger.info(f'epoch {runner.plan.epoch(step):.1f}  {text}  ({seconds:.1f} s){note}')
        if untrained is None or runner.step == 0:
            self.progress.write(runner, step, scalars)
        measured = scalars['val/feature_std'], scalars['val/rankme']
        if untrained is None and (warning := collapse_warning(*measured, *self.start)):
            runner.logger.warning(f'warning: {warning}')
        return measured

    def reported(self, runner) -> bool:
        """Whether the figures of the end are there, or there are none to be made. All processes call it."""

        def look() -> bool:
            last = dict(
                step=runner.max_steps, weights='random weights', metric='probe_2_per_class_top1'
            )  # of the rows of a report
            return any(
                last.items() <= {key: row.get(key) for key in last}.items()
                for row in rows_of(Path(runner.work_dir, 'results.jsonl'))
            )

        return self.test is None or on_rank0(look)

    def report(self, runner) -> None:
        """k-NN and a few-label probe on the test images, beside the same backbone with random weights."""
        figures = {}
        for name, method in (
            ('trained', runner.whole_method()),
            ('random weights', self.untrained(runner)),
        ):
            bank, test = (
                self.features(runner, method, self.bank),
                self.features(runner, method, self.test),
            )
            if rank() > 0:
                continue
            per_class = np.bincount(bank.labels, minlength=len(self.bank.classes))
            if (
                not len(test.values)
                or (per_class > 0).sum() < 2
                or per_class[per_class > 0].min() < 2
            ):
                runner.logger.warning(
                    'no figures on test images: they need readable ones, and two images of each of two classes to '
                    'compare with'
                )
                return
            predicted = knn_predict(
                bank.values,
                bank.labels,
                test.values,
                len(self.bank.classes),
                self.online_eval.k,
                self.online_eval.temperature,
            )
            probe = few_label_probe(bank.values, bank.labels, test.values, test.labels)
            figures[name] = (
                accuracy(predicted, test.labels),
                float(np.mean(probe)),
                float(np.std(probe)),
            )
        if rank() > 0:
            return
        width = max(map(len, figures))
        n, n_bank = len(test.values), len(bank.values)
        runner.logger.info(f'on {n} test images, backbone features of {n_bank} training images:')
        runner.logger.info(
            f'  {"":<{width}}  k-NN, k={self.online_eval.k}  2 labels per class, mean of 5 draws'
        )
        for name, (knn, mean, std) in figures.items():
            runner.logger.info(f'  {name:<{width}}  {knn:7.2f} %    {mean:.2f} % (std {std:.2f})')
        data = self.settings.data
        common = dict(
            time=datetime.now(UTC).isoformat(timespec='seconds'),
            n=n,
            network='backbone',
            test='val' if data.test is None else data.test['type'],
            test_manifest=self.test.manifest(),
            step=runner.step,
            checkpoint=str(runner.checkpoint_hook.path or ''),
            seed=self.settings.seed,
            seconds=round(runner.train_seconds, 1),
            versions=versions(),
            config=self.settings.to_builtin(),
        )
        rows = []
        for name, (knn, mean, std) in figures.items():
            rows.append(
                dict(
                    metric='knn_top1',
                    value=knn,
                    weights=name,
                    protocol=f'k={self.online_eval.k}, '
                    f'T={self.online_eval.temperature}, cosine, bank of {n_bank}',
                    **common,
                )
            )
            rows.append(
                dict(
                    metric='probe_2_per_class_top1',
                    value=mean,
                    std=std,
                    draws=5,
                    weights=name,
                    protocol='logistic regression, L2, C=1, features standardised',
                    **common,
                )
            )
        write_row(runner.work_dir, *rows)
