"""What the folder of a study holds, and what follows from it: arms over seeds, differences, what failed and what is missing.

An arm is a method under one setting of the axes. Whatever is not there yet is named in ``missing``; nothing is filled in.
"""

import itertools
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.studies.statistics import Difference, Estimate, estimate, holm, paired

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
    """Attributes: method; axes: label by axis; runs: records that are done, by seed, each with its 'folder'; trained: False for
    random weights."""

    method: str
    axes: dict[str, str]
    runs: dict[int, dict] = field(default_factory=dict)
    trained: bool = True

    @property
    def name(self) -> str:
        return ', '.join([self.method, *(f'{axis} {label}' for axis, label in self.axes.items())])

    def values(self, metric: str) -> dict[int, float]:
        """Figure by seed, in percent."""
        figures = {seed: (run.get('figures') or {}).get(metric) for seed, run in self.runs.items()}
        return {seed: float(value) for seed, value in figures.items() if number(value)}

    def estimate(self, metric: str) -> Estimate | None:
        return estimate(self.values(metric).values())

    def cost(self, key: str) -> float | None:
        """Mean over the runs of an item of COSTS, None where none has it."""
        found = estimate(
            value for run in self.runs.values() if number(value := (run.get('cost') or {}).get(key))
        )
        return found and found.mean

    def said(self, *keys: str) -> str:
        """What the runs say at this place of their records, each thing once."""
        found = []
        for run in self.runs.values():
            for key in keys:
                run = run.get(key) if isinstance(run, dict) else None
            if run is not None and str(run) not in found:
                found.append(f'{run:g}' if isinstance(run, float) else str(run))
        return ', '.join(dict.fromkeys(found))


@dataclass(frozen=True)
class PairedComparison:
    """Attributes: arm, other: arm - other is what ``difference`` is of, None without a seed in common; p_holm: adjusted over the family."""

    arm: ArmResults
    other: ArmResults
    metric: str
    difference: Difference | None
    p_holm: float | None


@dataclass
class StudyResults:
    """Attributes: plan: study.json; arms: in its order, also those without a run; trials, failures: records; missing, problems: texts."""

    out: Path
    plan: dict
    arms: list[ArmResults]
    trials: list[dict]
    failures: list[dict]
    missing: list[str]
    problems: list[str]

    @property
    def metrics(self) -> list[dict]:
        return self.plan['metrics']

    @property
    def axes(self) -> dict[str, list[str]]:
        return self.plan['axes']

    @property
    def trained(self) -> list[ArmResults]:
        return [arm for arm in self.arms if arm.trained]

    def find(self, method: str, axes: dict[str, str]) -> ArmResults | None:
        return next(
            (arm for arm in self.trained if arm.method == method and arm.axes == axes), None
        )

    def at_baseline(self, arm: ArmResults, but: str | None = None) -> bool:
        """Whether the arm has the first label of every axis, ``but`` one."""
        return all(label == self.axes[axis][0] for axis, label in arm.axes.items() if axis != but)

    def against_reference(self, metric: str) -> list[PairedComparison]:
        """Every method beside the reference under the same labels of the axes; a family of tests is the methods under these labels."""
        pairs = [
            (arm, self.find(self.plan['reference'], arm.axes))
            for arm in self.trained
            if arm.method != self.plan['reference']
        ]
        return compared(metric, pairs, lambda arm: tuple(arm.axes.items()))

    def against_baseline(self, metric: str) -> list[PairedComparison]:
        """Every arm beside the same method with the first label of every axis; a family of tests is the labels of a method."""
        first = {axis: labels[0] for axis, labels in self.axes.items()}
        pairs = [(arm, self.find(arm.method, first)) for arm in self.trained if arm.axes != first]
        return compared(metric, pairs, lambda arm: arm.method)


def number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def axes_of(record: dict) -> dict[str, str]:
    return {str(axis): str(label) for axis, label in (record.get('axes') or {}).items()}


def compared(
    metric: str, pairs: list[tuple[ArmResults, ArmResults | None]], family
) -> list[PairedComparison]:
    """Comparisons of the pairs whose second arm exists, p values adjusted within each ``family(arm)``."""
    differences = [
        (arm, other, paired(arm.values(metric), other.values(metric)))
        for arm, other in pairs
        if other is not None
    ]
    adjusted: dict[int, float | None] = {}
    for key in {family(arm) for arm, _, _ in differences}:
        members = [i for i, (arm, _, _) in enumerate(differences) if family(arm) == key]
        ps = holm([differences[i][2] and differences[i][2].p for i in members])
        adjusted.update(zip(members, ps, strict=True))
    return [
        PairedComparison(arm, other, metric, found, adjusted[i])
        for i, (arm, other, found) in enumerate(differences)
    ]


def read_study(out: str | Path) -> StudyResults:
    """The study in a folder, finished or not.

    Raises:
        ConfigError: there is no study.json, or it cannot be read.
    """
    out = Path(out)
    try:
        plan = json.loads((out / 'study.json').read_text())
        plan = {'title': plan['name'], 'caveats': [], 'axes': {}, 'seeds': [], 'tune': None, **plan}
        plan['axes'] = {
            str(axis): [str(label) for label in labels]
            for axis, labels in (plan['axes'] or {}).items()
        }
        plan['methods'], plan['metrics'], plan['reference'] = (
            dict(plan['methods']),
            list(plan['metrics']),
            str(plan['reference']),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'{out} holds no study that can be read ({type(error).__name__}: {error}); '
            f'give the folder that tools/study.py made'
        ) from None
    problems: list[str] = []
    trials, runs = (
        [record for path in sorted(out.glob(pattern)) if (record := _read(path, problems))]
        for pattern in ('trials/*/*/record.json', 'runs/*/*/record.json')
    )
    for trial in trials:
        if trial.get('status') == 'done' and not number(trial.get('val_knn')):
            trial['status'] = 'no figure'
    study = StudyResults(
        out,
        plan,
        _expected(plan),
        [t for t in trials if number(t.get('factor')) and number(t.get('value'))],
        [record for record in trials + runs if record.get('status') == 'failed'],
        [],
        problems,
    )
    for run in runs:
        if run.get('status') == 'done':
            _place(study, run)
    failed = [(r['kind'], r.get('method'), axes_of(r), r.get('seed')) for r in study.failures]
    for arm in study.trained:
        lacking = [
            seed
            for seed in plan['seeds']
            if seed not in arm.runs and ('run', arm.method, arm.axes, seed) not in failed
        ]
        if lacking:
            study.missing.append(f'{arm.name}: not finished for {_seeds(lacking)}')
        for metric in study.metrics:
            if absent := [seed for seed in arm.runs if seed not in arm.values(metric['key'])]:
                study.missing.append(f'{arm.name}: no {metric["name"]} for {_seeds(absent)}')
    if not any(arm.runs for arm in study.arms if not arm.trained):
        study.missing.append('random weights: the untrained network is not measured')
    manifests = {
        str(run['test_manifest'])
        for arm in study.arms
        for run in arm.runs.values()
        if run.get('test_manifest')
    }
    if len(manifests) > 1:
        problems.append(
            f'the runs were measured on different test images (manifests {", ".join(sorted(manifests))}): do not compare them'
        )
    return study


def _seeds(seeds: list[int]) -> str:
    return f'seed{"s" if len(seeds) > 1 else ""} {", ".join(map(str, seeds))}'


def _read(path: Path, problems: list[str]) -> dict | None:
    try:
        record = json.loads(path.read_text())
        return {**record, 'kind': record['kind'], 'folder': path.parent}
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(
            f'{path.parent.parent.name}/{path.parent.name}: its record cannot be read ({type(error).__name__})'
        )
        return None


def _expected(plan: dict) -> list[ArmResults]:
    """The arms that the plan names under 'arms', or else every method under every combination of labels."""
    if 'arms' in plan:
        return [ArmResults(arm['method'], axes_of(arm)) for arm in plan['arms']]
    return [
        ArmResults(method, dict(zip(plan['axes'], labels, strict=True)))
        for labels in itertools.product(*plan['axes'].values())
        for method in plan['methods']
    ]


def _place(study: StudyResults, run: dict) -> None:
    """Put a finished run into its arm; one that the plan does not name gets an arm of its own."""
    trained, method, axes = run['kind'] != 'baseline', str(run.get('method')), axes_of(run)
    if run.get('seed') not in study.plan['seeds']:
        study.problems.append(
            f"{ArmResults(method, axes).name}: seed {run.get('seed')} is none of the study's, and left out"
        )
        return
    arm = next(
        (
            arm
            for arm in study.arms
            if (arm.trained, arm.method, arm.axes) == (trained, method, axes)
        ),
        None,
    )
    if arm is None:
        arm = ArmResults(method, axes, trained=trained)
        study.arms.append(arm)
        if trained:
            study.problems.append(f'{arm.name}: measured, but study.json does not name it')
    if run.get('seed') in arm.runs:
        study.problems.append(
            f'{arm.name}: there are two runs of seed {run["seed"]}; that in {run["folder"].parent.name} is left out'
        )
        return
    arm.runs[run.get('seed')] = run
    arm.runs = dict(sorted(arm.runs.items(), key=lambda item: str(item[0]).zfill(9)))
