"""The results of a study, read from the records in its folder.

An arm is a method under one combination of axis labels. Runs that do not exist yet are listed in
``StudyResults.missing``; nothing is filled in.
"""

import itertools
import json
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.studies.statistics import (
    Difference,
    Estimate,
    estimate,
    holm,
    paired_difference,
)

COSTS = (
    'epochs',
    'steps',
    'images',
    'train_seconds',
    'total_seconds',
    'images_per_second',
    'peak_memory_bytes',
    'devices',
    'device_hours',
    'parameters',
)


@dataclass
class ArmResults:
    """The finished runs of an arm.

    Attributes:
        method: name of the method in the study.
        axes: axis -> label.
        runs: seed -> record of the run, with the run's folder under 'folder'.
        trained: False for random weights.
    """

    method: str
    axes: dict[str, str]
    runs: dict[int, dict] = field(default_factory=dict)
    trained: bool = True

    @property
    def name(self) -> str:
        """Method and labels, for people."""
        labels = [f'{axis} {label}' for axis, label in self.axes.items()]
        return ', '.join([self.method, *labels])

    def values(self, metric: str) -> dict[int, float]:
        """Return the values of a metric in percent: seed -> value."""
        values = {}
        for seed, run in self.runs.items():
            value = (run.get('figures') or {}).get(metric)
            if is_number(value):
                values[seed] = float(value)
        return values

    def estimate(self, metric: str) -> Estimate | None:
        """Return the mean of a metric over seeds; None if no run has it."""
        return estimate(self.values(metric).values())

    def cost(self, key: str) -> float | None:
        """Return the mean over seeds of an item of ``COSTS``; None if no run has it."""
        costs = [(run.get('cost') or {}).get(key) for run in self.runs.values()]
        mean = estimate(value for value in costs if is_number(value))
        return mean.mean if mean else None

    def recorded_values(self, *keys: str) -> str:
        """Return the distinct values of a nested key of the records, separated by commas.

        Args:
            keys: path of the nested key: 'cost', 'memory_of' for ``record['cost']['memory_of']``.
        """
        texts = []
        for run in self.runs.values():
            value = run
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, float):
                texts.append(f'{value:g}')
            elif value is not None:
                texts.append(str(value))
        return ', '.join(dict.fromkeys(texts))


@dataclass(frozen=True)
class PairedComparison:
    """An arm compared with another one.

    Attributes:
        arm: the arm.
        other: the arm that is subtracted from it.
        metric: key of the metric.
        difference: arm - other; None if they have no seed in common.
        p_holm: p value adjusted over the family of comparisons; None without a p value.
    """

    arm: ArmResults
    other: ArmResults
    metric: str
    difference: Difference | None
    p_holm: float | None


@dataclass
class StudyResults:
    """All results of a study.

    Attributes:
        out: folder of the study.
        definition: content of study.json.
        arms: in the order of the study, with or without runs.
        trials: records of trials that have a factor and a value.
        failures: records of trials and runs that failed.
        missing: sentences about figures that do not exist yet.
        problems: sentences about records that cannot be used or compared.
    """

    out: Path
    definition: dict
    arms: list[ArmResults]
    trials: list[dict] = field(default_factory=list)
    failures: list[dict] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def metrics(self) -> list[dict]:
        """Key, name and protocol of each metric."""
        return self.definition['metrics']

    @property
    def axes(self) -> dict[str, list[str]]:
        """Axis -> labels; the first label is the baseline."""
        return self.definition['axes']

    @property
    def reference(self) -> str:
        """The method that the others are compared with."""
        return self.definition['reference']

    @property
    def trained(self) -> list[ArmResults]:
        """The arms without random weights."""
        return [arm for arm in self.arms if arm.trained]

    def find(self, method: str, axes: dict[str, str]) -> ArmResults | None:
        """Return the trained arm of a method with these labels; None if there is none."""
        for arm in self.trained:
            if arm.method == method and arm.axes == axes:
                return arm
        return None

    def at_baseline(self, arm: ArmResults, except_axis: str | None = None) -> bool:
        """Return whether an arm has the first label of every axis other than ``except_axis``."""
        return all(
            label == self.axes[axis][0] for axis, label in arm.axes.items() if axis != except_axis
        )

    def against_reference(self, metric: str) -> list[PairedComparison]:
        """Compare every method with the reference under the same axis labels.

        The comparisons under the same labels are one family of tests.
        """
        pairs = [
            (arm, self.find(self.reference, arm.axes))
            for arm in self.trained
            if arm.method != self.reference
        ]
        return compare_pairs(metric, pairs, family=lambda arm: tuple(arm.axes.items()))

    def against_baseline(self, metric: str) -> list[PairedComparison]:
        """Compare every arm with the same method under the first label of every axis.

        The comparisons of the same method are one family of tests.
        """
        baseline = {axis: labels[0] for axis, labels in self.axes.items()}
        pairs = [
            (arm, self.find(arm.method, baseline)) for arm in self.trained if arm.axes != baseline
        ]
        return compare_pairs(metric, pairs, family=lambda arm: arm.method)


def is_number(value: object) -> bool:
    """Return whether a value of a record is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def axis_labels(record: dict) -> dict[str, str]:
    """Return the axis labels of a record as text."""
    axes = record.get('axes') or {}
    return {str(axis): str(label) for axis, label in axes.items()}


def compare_pairs(
    metric: str,
    pairs: list[tuple[ArmResults, ArmResults | None]],
    family: Callable[[ArmResults], Hashable],
) -> list[PairedComparison]:
    """Compare the arms of each pair whose second arm exists.

    Args:
        metric: key of the metric.
        pairs: (arm, other).
        family: function of an arm; arms with equal return values form a family, and p values are
            adjusted within a family.
    """
    existing_pairs = [(arm, other) for arm, other in pairs if other is not None]
    differences = [
        paired_difference(arm.values(metric), other.values(metric)) for arm, other in existing_pairs
    ]
    members_of: dict[Hashable, list[int]] = {}
    for index, (arm, _) in enumerate(existing_pairs):
        members_of.setdefault(family(arm), []).append(index)
    adjusted: dict[int, float | None] = {}
    for members in members_of.values():
        p_values = [differences[i].p if differences[i] else None for i in members]
        adjusted.update(zip(members, holm(p_values), strict=True))
    return [
        PairedComparison(arm, other, metric, differences[index], adjusted[index])
        for index, (arm, other) in enumerate(existing_pairs)
    ]


def read_study(out: str | Path) -> StudyResults:
    """Read the results of a study, finished or not.

    Args:
        out: folder of the study.

    Raises:
        ConfigError: the folder has no study.json, or study.json cannot be read.
    """
    out = Path(out)
    definition = _read_definition(out)
    study = StudyResults(out, definition, _arms_of(definition))
    trials = _read_records(out, 'trials/*/*/record.json', study.problems)
    runs = _read_records(out, 'runs/*/*/record.json', study.problems)
    for trial in trials:
        if trial.get('status') == 'done' and not is_number(trial.get('val_knn')):
            trial['status'] = 'no figure'
        if is_number(trial.get('factor')) and is_number(trial.get('value')):
            study.trials.append(trial)
    study.failures = [record for record in trials + runs if record.get('status') == 'failed']
    for run in runs:
        if run.get('status') == 'done':
            _add_run(study, run)
    _find_missing(study)
    _check_test_images(study)
    return study


def _read_definition(out: Path) -> dict:
    try:
        content = json.loads((out / 'study.json').read_text())
        definition = {
            'title': content['name'],
            'caveats': [],
            'axes': {},
            'seeds': [],
            'tune': None,
            **content,
        }
        definition['axes'] = {
            str(axis): [str(label) for label in labels]
            for axis, labels in (definition['axes'] or {}).items()
        }
        definition['methods'] = dict(definition['methods'])
        definition['metrics'] = list(definition['metrics'])
        definition['reference'] = str(definition['reference'])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'{out} holds no study that can be read ({type(error).__name__}: {error}); '
            f'give the folder that tools/study.py made'
        ) from None
    return definition


def _arms_of(definition: dict) -> list[ArmResults]:
    """Return the arms listed under 'arms'; without that key, all methods under all labels."""
    if 'arms' in definition:
        return [ArmResults(arm['method'], axis_labels(arm)) for arm in definition['arms']]
    axes = definition['axes']
    return [
        ArmResults(method, dict(zip(axes, labels, strict=True)))
        for labels in itertools.product(*axes.values())
        for method in definition['methods']
    ]


def _read_records(out: Path, pattern: str, problems: list[str]) -> list[dict]:
    records = []
    for path in sorted(out.glob(pattern)):
        folder = path.parent
        try:
            record = json.loads(path.read_text())
            records.append({**record, 'kind': record['kind'], 'folder': folder})
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(
                f'{folder.parent.name}/{folder.name}: its record cannot be read '
                f'({type(error).__name__})'
            )
    return records


def _add_run(study: StudyResults, run: dict) -> None:
    """Add a finished run to its arm; a run that the study does not list gets a new arm."""
    trained = run['kind'] != 'baseline'
    method = str(run.get('method'))
    axes = axis_labels(run)
    seed = run.get('seed')
    if seed not in study.definition['seeds']:
        study.problems.append(
            f"{ArmResults(method, axes).name}: seed {seed} is none of the study's; its run is left "
            'out'
        )
        return
    arm = None
    for existing in study.arms:
        if (existing.trained, existing.method, existing.axes) == (trained, method, axes):
            arm = existing
            break
    if arm is None:
        arm = ArmResults(method, axes, trained=trained)
        study.arms.append(arm)
        if trained:
            study.problems.append(f'{arm.name}: measured, but study.json does not name it')
    if seed in arm.runs:
        study.problems.append(
            f'{arm.name}: there are two runs of seed {seed}; '
            f'the one in {run["folder"].parent.name} is left out'
        )
        return
    arm.runs[seed] = run
    seeds = sorted(arm.runs, key=lambda seed: str(seed).zfill(9))
    arm.runs = {seed: arm.runs[seed] for seed in seeds}


def _find_missing(study: StudyResults) -> None:
    failed = [
        (record['kind'], record.get('method'), axis_labels(record), record.get('seed'))
        for record in study.failures
    ]
    for arm in study.trained:
        unfinished = [
            seed
            for seed in study.definition['seeds']
            if seed not in arm.runs and ('run', arm.method, arm.axes, seed) not in failed
        ]
        if unfinished:
            study.missing.append(f'{arm.name}: not finished for {_seed_list(unfinished)}')
        for metric in study.metrics:
            values = arm.values(metric['key'])
            absent = [seed for seed in arm.runs if seed not in values]
            if absent:
                study.missing.append(f'{arm.name}: no {metric["name"]} for {_seed_list(absent)}')
    if not any(arm.runs for arm in study.arms if not arm.trained):
        study.missing.append('random weights: the untrained network is not measured')


def _check_test_images(study: StudyResults) -> None:
    manifests = {
        str(run['test_manifest'])
        for arm in study.arms
        for run in arm.runs.values()
        if run.get('test_manifest')
    }
    if len(manifests) > 1:
        study.problems.append(
            'the runs were measured on different test images '
            f'(manifests {", ".join(sorted(manifests))}): do not compare them'
        )


def _seed_list(seeds: list[int]) -> str:
    plural = 's' if len(seeds) > 1 else ''
    return f'seed{plural} {", ".join(map(str, seeds))}'
