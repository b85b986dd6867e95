"""The results of a study, read from the records in its folder.

An arm is a method under one combination of axis labels. Runs that do not exist yet are listed in
``StudyResults.missing``; nothing is filled in.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.printable import printable
from ssl_zoo.studies.records import is_number, read_definition, read_record
from ssl_zoo.studies.statistics import (
    Difference,
    Estimate,
    estimate,
    holm,
    paired_difference,
)

DATA_PARTS = dict(train='training', bank='bank', val='held-out', test='test')


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
        """Return the mean over seeds of an item of ``AMOUNTS``; None if no run has it."""
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
        left_out: records of trials and runs with other images than the others.
        missing: sentences about figures that do not exist yet.
        problems: sentences about records that cannot be used or compared.
    """

    out: Path
    definition: dict
    arms: list[ArmResults]
    trials: list[dict] = field(default_factory=list)
    failures: list[dict] = field(default_factory=list)
    left_out: list[dict] = field(default_factory=list)
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
    study.failures = [record for record in trials + runs if record.get('status') == 'failed']
    for method in dict.fromkeys(trial.get('method') for trial in trials):
        of_method = [trial for trial in trials if trial.get('method') == method]
        _add_trials(study, _without_other_data(study, of_method))
    # A run that failed in its evaluation has the figures from before.
    measured = [run for run in runs if run.get('status') == 'done' or run.get('figures')]
    for run in _without_other_data(study, measured):
        _add_run(study, run)
    _find_missing(study)
    _check_test_images(study)
    return study


def _add_trials(study: StudyResults, trials: list[dict]) -> None:
    """Add the trials of a method that have a factor and a value."""
    for trial in trials:
        if trial.get('status') == 'done' and not is_number(trial.get('val_knn')):
            trial['status'] = 'no figure'
        if is_number(trial.get('factor')) and is_number(trial.get('value')):
            study.trials.append(trial)


def _read_definition(out: Path) -> dict:
    try:
        return read_definition(out)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ConfigError(
            f'{out} holds no study that can be read (study.json: {reason}); give the folder that '
            f'tools/study.py made'
        ) from None


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
            records.append({**read_record(folder), 'folder': folder})
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            name = printable(f'{folder.parent.name}/{folder.name}')
            problems.append(f'{name}: its record cannot be read ({reason})')
    return records


def _add_run(study: StudyResults, run: dict) -> None:
    """Add a finished run to its arm; a run that the study does not list gets a new arm."""
    trained = run['kind'] != 'baseline'
    method = str(run.get('method'))
    axes = axis_labels(run) if trained else {}
    seed = run.get('seed')
    if trained and axes.keys() != study.axes.keys():
        study.problems.append(
            f"{record_name(run)}: its axes are {', '.join(axes) or 'none'}, and the study's are "
            f'{", ".join(study.axes) or "none"}; it is left out'
        )
        return
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
    named = [
        (record['kind'], record.get('method'), axis_labels(record), record.get('seed'))
        for record in study.failures + study.left_out
    ]
    for arm in study.trained:
        unfinished = [
            seed
            for seed in study.definition['seeds']
            if seed not in arm.runs and ('run', arm.method, arm.axes, seed) not in named
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
    """Say that arms of different data, such as labels of an axis, have different test images."""
    manifests = {
        manifest
        for arm in study.arms
        for run in arm.runs.values()
        if (manifest := data_of(run).get('test'))
    }
    if len(manifests) > 1:
        study.problems.append(
            'the runs were measured on different test images '
            f'(manifests {", ".join(sorted(manifests))}): do not compare them'
        )


def data_of(record: dict) -> dict[str, str]:
    """Return the hashes of a record's images: part of ``DATA_PARTS`` -> hash, if recorded."""
    data = {'test': record.get('test_manifest'), **(record.get('data') or {})}
    return {part: data[part] for part in DATA_PARTS if data.get(part)}


def _without_other_data(study: StudyResults, records: list[dict]) -> list[dict]:
    """Return the records with the images of most records; add a problem for every other one."""
    kept = []
    for record, parts in zip(records, differing_data(records), strict=True):
        if not parts:
            kept.append(record)
            continue
        study.left_out.append(record)
        study.problems.append(
            f'{record_name(record)}: its {" and ".join(parts)} images are not those of the other '
            f'{record["kind"]}s; it is left out'
        )
    return kept


def differing_data(records: list[dict]) -> list[list[str]]:
    """Name for each record the images that most records do not share: 'bank', 'test' ...

    Records whose configs name different data are not compared.

    Args:
        records: records of runs, or of the trials of a method.
    """
    counts: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for record in records:
        for part, manifest in data_of(record).items():
            counts[_data_config(record), part][manifest] += 1
    usual = {key: counter.most_common(1)[0][0] for key, counter in counts.items()}
    return [
        [
            DATA_PARTS[part]
            for part, manifest in data_of(record).items()
            if usual[_data_config(record), part] != manifest
        ]
        for record in records
    ]


def _data_config(record: dict) -> str:
    """Return the section data of a record's config as text, '' if it is not recorded."""
    data = (record.get('config') or {}).get('data')
    return '' if data is None else json.dumps(data, sort_keys=True)


def record_name(record: dict) -> str:
    """Return the name of a record for people."""
    name = ArmResults(str(record.get('method')), axis_labels(record)).name
    if record['kind'] == 'trial':
        return f'trial of {name}, factor {record.get("factor")}'
    return f'{name}, seed {record.get("seed")}'


def _seed_list(seeds: list[int]) -> str:
    plural = 's' if len(seeds) > 1 else ''
    return f'seed{plural} {", ".join(map(str, seeds))}'
