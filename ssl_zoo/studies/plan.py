"""The jobs of a study: their folders, their order, and what each job must do."""

import math
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.digest import sha256_of_json
from ssl_zoo.studies.json_files import read_json, write_json
from ssl_zoo.studies.records import is_done, measured_figures, record_or_none
from ssl_zoo.studies.results import differing_data
from ssl_zoo.studies.study import RANDOM_WEIGHTS, Arm, Study, number_in, slug
from ssl_zoo.versions import versions

COMMAND = (sys.executable, '-m', 'ssl_zoo.studies')


@dataclass(frozen=True)
class Job:
    """The work of one process.

    Attributes:
        kind: 'trial', 'run' or 'baseline' (the untrained network).
        arm: the arm that the job belongs to.
        seed: seed of the training, or of the untrained network.
        folder: folder of the job's files.
        factor: tuning factor of a trial; None for other jobs.
        variant: label of the method's variant in a trial; '' for other jobs.
        needs: folders of the jobs that must end first.
    """

    kind: str
    arm: Arm
    seed: int
    folder: Path
    factor: float | None = None
    variant: str = ''
    needs: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """Name for people."""
        if self.kind == 'trial':
            parts = [self.arm.method, self.variant, f'trial x {self.factor:g}']
            return '  '.join(part for part in parts if part)
        if self.kind == 'baseline':
            return f'{RANDOM_WEIGHTS}  seed {self.seed}'
        labels = self.arm.labels.values()
        return '  '.join([self.arm.method, *labels, f'seed {self.seed}'])


class Jobs:
    """All jobs of a study, in the order in which they should start.

    Args:
        study: the study.
        out: folder of the study.

    Attributes:
        trials: the trials of every method.
        runs: the runs of every arm and seed.
        baselines: one job on the untrained network for every seed.
        baseline_arms: method -> arm with the first label of every axis.
    """

    def __init__(self, study: Study, out: Path) -> None:
        self.study = study
        self.out = out
        self.baseline_arms = {arm.method: arm for arm in study.arms() if study.is_baseline(arm)}
        self.trials = self._make_trials()
        self.runs = self._make_runs()
        self.baselines = self._make_baselines()
        self._fingerprints: dict[Path, str] = {}

    def _make_trials(self) -> list[Job]:
        if self.study.tune is None:
            return []
        trials = []
        for method, arm in self.baseline_arms.items():
            pairs = product(self.study.tune.factors, self.study.variants_of(method))
            for number, (factor, variant) in enumerate(pairs):
                folder = self.out / 'trials' / slug(method) / str(number)
                trials.append(Job('trial', arm, self.study.tune.seed, folder, factor, variant))
        # The first trial of every method comes before the second of any.
        return sorted(trials, key=lambda job: int(job.folder.name))

    def _make_runs(self) -> list[Job]:
        runs = []
        for seed in self.study.seeds:
            for arm in self.study.arms():
                folder = self._run_folder(arm.id, seed)
                trials = tuple(job.folder for job in self.trials_of(arm.method))
                runs.append(Job('run', arm, seed, folder, needs=trials))
        return runs

    def _make_baselines(self) -> list[Job]:
        """Make jobs that take their network from a run of the reference method."""
        arm = self.baseline_arms[self.study.reference]
        folder_name = slug(RANDOM_WEIGHTS)
        return [
            Job(
                'baseline',
                arm,
                seed,
                self._run_folder(folder_name, seed),
                needs=(self._run_folder(arm.id, seed),),
            )
            for seed in self.study.seeds
        ]

    def _run_folder(self, name: str, seed: int) -> Path:
        return self.out / 'runs' / name / f'seed_{seed}'

    def __iter__(self) -> Iterator[Job]:
        return iter([*self.trials, *self.runs, *self.baselines])

    def __len__(self) -> int:
        return len(self.trials) + len(self.runs) + len(self.baselines)

    def trials_of(self, method: str) -> list[Job]:
        """Return the trials of a method."""
        return [job for job in self.trials if job.arm.method == method]

    def chosen_number(self, method: str) -> dict | None:
        """Return key, factor, value and variant of the method's best trial; None without tuning.

        Of equally good trials the first is chosen. All trials must have ended: otherwise a later
        call could choose another factor for runs of the same method. A trial that diverged has
        ended.

        Raises:
            ConfigError: a trial has failed, saw other images than the others, or all of them
                diverged.
        """
        if self.study.tune is None:
            return None
        records = {job.folder: record_or_none(job.folder) or {} for job in self.trials_of(method)}
        failed = [folder for folder, record in records.items() if record.get('status') != 'done']
        if failed:
            raise ConfigError(
                f'{len(failed)} of the {len(records)} trials of {method} failed, and a choice '
                f'needs all of them; see {failed[0] / "console.log"}'
            )
        parts = differing_data(list(records.values()))
        for folder, differing in zip(records, parts, strict=True):
            if differing:
                raise ConfigError(
                    f'the {" and ".join(differing)} images of a trial of {method} are not those of '
                    f'its other trials, so they do not compare; remove {folder}, and the same '
                    'command repeats the trial'
                )
        converged = [record for record in records.values() if record.get('val_knn') is not None]
        if not converged:
            raise ConfigError(
                f'all {len(records)} trials of {method} diverged; give tune.factors smaller numbers'
            )
        best = max(converged, key=lambda record: record['val_knn'])
        chosen = {key: best.get(key) for key in ('key', 'factor', 'value')}
        return dict(chosen, variant=best.get('variant') or '')

    def fingerprint(self, job: Job, evaluate: object = None) -> str:
        """Return a hash of all that a job's figures depend on: config, tuning and evaluation.

        Args:
            job: the job.
            evaluate: settings of the evaluation; None for those of the study.
        """
        study = self.study.to_builtin()
        variants = self.study.variants_of(job.arm.method)
        if job.kind == 'trial':
            variants = {job.variant: variants[job.variant]}
        return fingerprint(
            dict(
                tune=study['tune'],
                variants=variants,
                evaluate=None if job.kind == 'trial' else evaluate or study['evaluate'],
                kind=job.kind,
                factor=job.factor,
                seed=job.seed,
                config=job.arm.settings().to_builtin(),
            )
        )

    def check_folders(self) -> None:
        """Check that the folders hold no jobs with settings that differ from the study's.

        The settings of the evaluation may differ: the job is then evaluated anew.

        Raises:
            ConfigError: a folder holds a job whose settings differ from the study's.
        """
        for job in self:
            self._checked_fingerprint(job)

    def _checked_fingerprint(self, job: Job) -> str:
        current = self.fingerprint(job)
        previous_job = read_json(job.folder / 'job.json')
        if previous_job and previous_job.get('fingerprint') != self.fingerprint(
            job, previous_job.get('evaluate')
        ):
            raise ConfigError(
                f'{job.folder} holds a run with other settings than the study has now; '
                'choose another --out, or remove it'
            )
        if self._fingerprints.setdefault(job.folder, current) != current:
            raise ConfigError(
                f'the config of {job.label} has changed since the study was started; '
                'set it back, or start another study'
            )
        return current

    def prepare(self, job: Job) -> None:
        """Write the job.json of a job.

        Raises:
            ConfigError: a trial that the job needs has failed, or the config has changed since the
                study was started.
            OSError: the file cannot be written.
        """
        arm = job.arm
        job_fingerprint = self._checked_fingerprint(job)
        if self._has_other_evaluation(job):
            self._forget_figures(job)
        is_trial = job.kind == 'trial'
        is_baseline = job.kind == 'baseline'
        number = self._tuned_number(job)
        variant = number['variant'] if number else next(iter(self.study.variants_of(arm.method)))
        options = [*self.study.with_variant(arm, variant).options, f'seed={job.seed}']
        if is_trial:
            options = self.study.trial_options(arm, job.variant)
        if number:
            options.append(f'{number["key"]}={number["value"]!r}')
        content = dict(
            kind=job.kind,
            method=RANDOM_WEIGHTS if is_baseline else arm.method,
            axes={} if is_baseline else arm.labels,
            seed=job.seed,
            config_file=str(arm.config.absolute()),
            options=options,
            evaluate=self.study.to_builtin()['evaluate'],
            draw_map=not is_trial and job.seed == self.study.seeds[0],
            of=str(job.needs[0].absolute()) if is_baseline else None,
            fingerprint=job_fingerprint,
            lr=number,
            **(number or {}),
        )
        # The keys of job.json that the job copies into its record.
        content['recorded'] = ['kind', 'method', 'seed', 'options']
        content['recorded'] += list(number) if is_trial else ['axes', 'lr']
        write_json(job.folder / 'job.json', content)

    def _has_other_evaluation(self, job: Job) -> bool:
        """Return whether the figures in a job's folder come from other evaluation settings."""
        previous_job = read_json(job.folder / 'job.json')
        if previous_job is None or job.kind == 'trial':
            return False
        return previous_job.get('evaluate') != self.study.to_builtin()['evaluate']

    def _forget_figures(self, job: Job) -> None:
        """Make a job go on after its training. Its earlier figures stay in results.jsonl."""
        progress = read_json(job.folder / 'partial.json') or {}
        record = record_or_none(job.folder) or {}
        cost = record.get('cost') or progress.get('cost')
        config = record.get('config') or progress.get('config')
        progress = dict(progress, figures={}, seconds=progress.get('seconds', 0.0))
        if cost and config:
            progress |= dict(cost=cost, config=config)
            progress['seconds'] = max(progress['seconds'], cost.get('total_seconds') or 0.0)
        write_json(job.folder / 'partial.json', progress)
        (job.folder / 'record.json').unlink(missing_ok=True)

    def is_trained(self, job: Job) -> bool:
        """Return whether a job whose training is done lacks figures only."""
        record = record_or_none(job.folder) or {}
        progress = read_json(job.folder / 'partial.json') or {}
        return job.kind == 'run' and bool(record.get('cost') or progress.get('cost'))

    def _tuned_number(self, job: Job) -> dict | None:
        """Return what tuning changes in a job's config: key, factor and value; and the variant."""
        if job.kind == 'trial':
            key = self.study.tune.key
            factor = job.factor
            variant = job.variant
        elif job.kind == 'run' and self.study.tune is not None:
            chosen = self.chosen_number(job.arm.method)
            key = chosen['key']
            factor = chosen['factor']
            variant = chosen['variant']
        else:
            return None
        # An axis may have changed the number: the factor multiplies the arm's own number.
        arm = self.study.with_variant(job.arm, variant)
        value = number_in(arm.settings(), key) * factor
        return dict(key=key, factor=factor, value=value, variant=variant)

    def command(self, job: Job) -> list[str]:
        """Return the command that does a job."""
        return [*COMMAND, str(job.folder)]

    def record(self, job: Job) -> dict | None:
        """Return the record of a job that is done or has failed; None for the others.

        A job that was evaluated with other settings is not done.
        """
        return None if self._has_other_evaluation(job) else record_or_none(job.folder)

    def finished_record(self, job: Job, exit_code: int) -> dict | None:
        """Return the record that a job's process has left; None if the job is not done."""
        record = record_or_none(job.folder)
        return record if record is not None and is_done(record) else None

    def failed_record(self, job: Job, error: str, write: bool = True) -> dict:
        """Return the record of a job that failed, and write it to its folder."""
        content = read_json(job.folder / 'job.json') or {}
        record = {key: content.get(key) for key in content.get('recorded') or ()}
        record |= dict(
            kind=job.kind,
            method=content.get('method', job.arm.method),
            seed=job.seed,
            status='failed',
            error=error,
            time=time.time(),
        )
        progress = read_json(job.folder / 'partial.json') or {}
        if progress.get('figures'):
            record |= measured_figures(progress['figures'])
        record |= {key: progress[key] for key in ('cost', 'config') if progress.get(key)}
        if write:
            with suppress(OSError):  # a full disk may be the reason for the failure
                write_json(job.folder / 'record.json', record)
        return record

    def describe_record(self, record: dict) -> str:
        """Return the figures of a job that is done, for people."""
        if record['kind'] != 'trial':
            figures = (record.get('figures') or {}).items()
            return '  '.join(f'{key} {value:.2f} %' for key, value in figures if value is not None)
        result = 'diverged'
        if record.get('val_knn') is not None:
            result = f'k-NN {record["val_knn"]:.2f} % on the hold-out'
        return f'{record.get("key")} {record.get("value", math.nan):g}: {result}'

    def write_study(self) -> None:
        """Write study.json, for the report.

        Raises:
            OSError: the file cannot be written.
        """
        current_versions = versions()
        content = dict(
            self.study.to_builtin(),
            metrics=self.study.evaluate.metrics(),
            versions=current_versions,
            machine=current_versions['device'],
            command=shlex.join(['python', *sys.argv]),
            file=self.study.path.name,
            source=self.study.path.read_text(),
        )
        write_json(self.out / 'study.json', content)


def fingerprint(value: object) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of nested plain values."""
    return sha256_of_json(value)[:16]
