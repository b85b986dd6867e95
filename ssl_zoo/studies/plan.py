"""The units of a study, what each needs before it can start, and the plan in words with its cost."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ssl_zoo.config.loading import load_config
from ssl_zoo.data.splits import data_sources
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.timed_step import timed_step
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.studies.job import read_json, write_json
from ssl_zoo.studies.study import RANDOM, Arm, Study, fingerprint_of, number_in, slug
from ssl_zoo.versions import versions


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
        kind: 'trial', 'run' or 'baseline' (the untrained network).
        arm: the row it is of; seed; factor: of a trial.
        folder: where it works.
        needs: the folders of the units that come before it.
    """

    kind: str
    arm: Arm
    seed: int
    folder: Path
    factor: float | None = None
    needs: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        if self.kind == 'trial':
            return f'{self.arm.method}  trial x {self.factor:g}'
        return '  '.join(
            [
                *(
                    (RANDOM,)
                    if self.kind == 'baseline'
                    else (self.arm.method, *self.arm.place.values())
                ),
                f'seed {self.seed}',
            ]
        )


class Jobs:
    """All units of a study in a folder, in the order in which they are best done.

    Args:
        study; out: the folder.
    """

    def __init__(self, study: Study, out: Path):
        self.study, self.out, self.prints = study, out, {}
        arms = study.arms()
        self.first = {
            name: next(arm for arm in arms if arm.method == name) for name in study.methods
        }  # at the baseline of the axes
        self.trials = [
            Job('trial', arm, study.tune.seed, out / 'trials' / slug(name) / f'{n}', factor)
            for n, factor in enumerate(study.tune.factors if study.tune else ())
            for name, arm in self.first.items()
        ]
        trials_of = {
            name: tuple(unit.folder for unit in self.trials if unit.arm.method == name)
            for name in study.methods
        }
        self.runs = [
            Job(
                'run',
                arm,
                seed,
                out / 'runs' / arm.id / f'seed_{seed}',
                None,
                trials_of[arm.method],
            )
            for seed in study.seeds
            for arm in arms
        ]
        self.baselines = [
            Job(
                'baseline',
                self.first[study.reference],
                seed,
                out / 'runs' / slug(RANDOM) / f'seed_{seed}',
                None,
                (out / 'runs' / self.first[study.reference].id / f'seed_{seed}',),
            )
            for seed in study.seeds
        ]

    def __iter__(self) -> Iterator[Job]:
        return iter([*self.trials, *self.runs, *self.baselines])

    def __len__(self) -> int:
        return len(self.trials) + len(self.runs) + len(self.baselines)

    def chosen(self, method: str) -> dict | None:
        """The number that the method's trials chose: key, factor, value; of several the first. None without tuning.

        All trials must have come to their end, or a later call might choose otherwise for runs of the same method. One that diverged has.

        Raises:
            ConfigError: a trial has failed, or all of them diverged.
        """
        if self.study.tune is None:
            return None
        records = {
            unit.folder: read_json(unit.folder / 'record.json') or {}
            for unit in self.trials
            if unit.arm.method == method
        }
        failed = [folder for folder, record in records.items() if record.get('status') != 'done']
        if failed:
            raise ConfigError(
                f'{len(failed)} of the {len(records)} trials of {method} failed, and a choice needs all of them; see '
                f'{failed[0] / "console.log"}'
            )
        done = [record for record in records.values() if record['val_knn'] is not None]
        if not done:
            raise ConfigError(
                f'all {len(records)} trials of {method} diverged; give tune.factors smaller numbers'
            )
        best = max(done, key=lambda record: record['val_knn'])
        return {key: best[key] for key in ('key', 'factor', 'value')}

    def fingerprint(self, unit: Job) -> str:
        """Of all that the unit's figures depend on: the resolved config, the tuning and the evaluation."""
        plain = self.study.to_builtin()
        more = dict(
            tune=plain['tune'], evaluate=None if unit.kind == 'trial' else plain['evaluate']
        )
        return fingerprint_of(
            dict(
                more,
                kind=unit.kind,
                factor=unit.factor,
                seed=unit.seed,
                config=unit.arm.settings().to_builtin(),
            )
        )

    def check_done(self) -> None:
        """Raise ConfigError if a folder holds a unit with other settings."""
        for unit in self:
            self._check(unit)

    def _check(self, unit: Job) -> str:
        """The unit's fingerprint. Raises ConfigError if it is another than before."""
        now, before = self.fingerprint(unit), read_json(unit.folder / 'unit.json')
        if before and before['fingerprint'] != now:
            raise ConfigError(
                f'{unit.folder} holds a run with other settings than the study has now; choose another --out, or remove it'
            )
        if self.prints.setdefault(unit.folder, now) != now:
            raise ConfigError(
                f'the config of {unit.label} has changed since the study was started; set it back, or start another study'
            )
        return now

    def prepare(self, unit: Job) -> None:
        """Write unit.json. Raises ConfigError if what it needs has failed, or if its config is no longer what it was."""
        study, arm, fingerprint = self.study, unit.arm, self._check(unit)
        number = None
        options = [*arm.options, f'seed={unit.seed}']
        if unit.kind == 'trial':
            number = dict(
                key=study.tune.key,
                factor=unit.factor,
                value=number_in(arm.settings(), study.tune.key) * unit.factor,
            )
            options = study.trial_options(arm)
        elif unit.kind == 'run' and (chosen := self.chosen(arm.method)):
            number = dict(chosen, value=number_in(arm.settings(), chosen['key']) * chosen['factor'])
        if number:
            options.append(f'{number["key"]}={number["value"]!r}')
        content = dict(
            kind=unit.kind,
            method=RANDOM if unit.kind == 'baseline' else arm.method,
            axes={} if unit.kind == 'baseline' else arm.place,
            seed=unit.seed,
            config_file=str(arm.config.absolute()),
            options=options,
            evaluate=study.to_builtin()['evaluate'],
            draw_map=unit.kind != 'trial' and unit.seed == study.seeds[0],
            of=str(unit.needs[0].absolute()) if unit.kind == 'baseline' else None,
            fingerprint=fingerprint,
            lr=number,
            **(number or {}),
        )
        content['recorded'] = [
            'kind',
            'method',
            'seed',
            'options',
            *(number if unit.kind == 'trial' else ('axes', 'lr')),
        ]
        write_json(unit.folder / 'unit.json', content)

    def write_study(self) -> None:
        """study.json, for the report."""
        study, found = self.study, versions()
        write_json(
            self.out / 'study.json',
            dict(
                study.to_builtin(),
                metrics=study.evaluate.metrics(),
                versions=found,
                machine=found['device'],
                command=shlex.join(['python', *sys.argv]),
                file=study.path.name,
                source=study.path.read_text(),
            ),
        )


def images_of(arm: Arm, known: dict) -> int:
    """How many images the arm trains on; without the data, what its config expects."""
    settings = arm.settings()
    key = fingerprint_of(settings.to_builtin()['data'])
    if key not in known:
        try:
            known[key] = len(data_sources(settings.data)['train'])
        except MissingData:
            if settings.data.expected_images is None:
                raise
            known[key] = settings.data.expected_images
    return known[key]


def describe(units: Jobs, jobs: int, threads: int, tell=print) -> dict[tuple[str, str], float]:
    """Print the plan with its cost. Returns the expected seconds of a training by kind of unit and arm id, from a timed step of each."""
    study, known, seconds, lines = units.study, {}, {}, []
    left = [
        unit
        for unit in units
        if (read_json(unit.folder / 'record.json') or {}).get('status') != 'done'
    ]
    tell(f'{study.title}  ({study.path}{", small" if study.small else ""})')
    axes = ''.join(f' x {len(labels)} {axis}' for axis, labels in study.axes.items())
    tune = study.tune
    trials = (
        ''
        if tune is None
        else (
            f', {len(units.trials)} trials ({tune.key} x {", ".join(f"{f:g}" for f in tune.factors)} for each '
            f'method, seed {tune.seed})'
        )
    )
    tell(
        f'  {len(study.methods)} methods{axes} x {len(study.seeds)} seeds = {len(units.runs)} runs{trials}, the untrained network on '
        f'{len(study.seeds)} seeds; {len(units) - len(left)} of {len(units)} done before'
    )
    for metric in study.evaluate.metrics():
        tell(f'  {metric["name"]}: {metric["protocol"]}')
    speeds: dict[str, float] = {}
    for arm in study.arms():
        settings = arm.settings()
        plan = Plan.of(settings, images_of(arm, known))
        kind = fingerprint_of(
            [
                settings.to_builtin()['method'],
                settings.to_builtin()['views'],
                settings.precision,
                plan.device_batch,
            ]
        )
        if kind not in speeds:
            speeds[kind] = timed_step(
                settings, plan, cpu_images=min(plan.device_batch, 64)
            ).images_per_second
        seconds['run', arm.id] = plan.steps * plan.batch_size / speeds[kind]
        if tune and arm in units.first.values():
            shorter = Plan.of(load_config(arm.config, study.trial_options(arm)), plan.images)
            seconds['trial', arm.id] = shorter.steps * shorter.batch_size / speeds[kind]
        lines.append(
            (
                ' '.join([arm.method, *arm.place.values()]),
                f'{settings.epochs:g}',
                f'{plan.images:,}',
                f'{plan.batch_size}',
                f'{plan.steps:,}',
                f'{speeds[kind]:,.0f}',
                f'{seconds["run", arm.id] / 60:.1f}',
            )
        )
    head = ('', 'epochs', 'images', 'batch', 'steps', 'images/s', 'min')
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    for line in (head, *lines):
        tell(
            '  '
            + '  '.join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
        )
    total = sum(seconds[unit.kind, unit.arm.id] for unit in left if unit.kind != 'baseline') / jobs
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the units need it
    tell(
        f'  images/s from one synthetic step on {threads} thread{"s" * (threads > 1)}; training alone, {jobs} at a time: about '
        f'{spoken(total)} from here; evaluation, start and what else the machine does come on top'
    )
    return seconds


def spoken(seconds: float) -> str:
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 2 * 3600 else f'{seconds / 3600:.1f} h'
