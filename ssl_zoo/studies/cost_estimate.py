"""Estimate the cost of a study before it starts: steps of each arm, images per second, time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ssl_zoo.config.loading import load_config
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.label_lists import OFFICIAL, is_imagenet, number_of_labels
from ssl_zoo.data.sources import Source
from ssl_zoo.data.sources.multi_labels import check_one_class
from ssl_zoo.data.splits import data_sources
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.timed_step import timed_step
from ssl_zoo.errors import ConfigError, MissingData
from ssl_zoo.studies.plan import Job, Jobs, fingerprint
from ssl_zoo.studies.records import is_done
from ssl_zoo.studies.scheduler import format_duration
from ssl_zoo.studies.study import Arm

TIMED_IMAGES = 64  # largest batch of a timed step
BASELINE_SECONDS = 10.0
UNKNOWN_SECONDS = 1.0
TABLE_HEAD = ('', 'epochs', 'images', 'batch', 'steps', 'images/s', 'min')


@dataclass
class CostEstimate:
    """The expected training times of a study.

    Attributes:
        seconds: (kind of job, id of the arm) -> seconds of a training.
        table: the cells under ``TABLE_HEAD`` for each arm.
    """

    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    table: list[tuple[str, ...]] = field(default_factory=list)

    def seconds_of(self, job: Job) -> float:
        """Return the expected seconds of a job."""
        if job.kind == 'baseline':
            return BASELINE_SECONDS
        seconds = self.seconds.get((job.kind, job.arm.id), UNKNOWN_SECONDS)
        return max(seconds, 1e-3)


def estimate_cost(jobs: Jobs) -> CostEstimate:
    """Time one step on synthetic images for each kind of training, and count the steps.

    Raises:
        ConfigError: the images cannot be used, or a label subset cannot be drawn from them.
    """
    study = jobs.study
    estimate = CostEstimate()
    image_counts: dict[str, int] = {}
    speeds: dict[str, float] = {}
    for arm in study.arms():
        settings = arm.settings()
        plan = Plan.of(settings, _count_images(settings, study.evaluate.labels, image_counts))
        speed = _images_per_second(plan.settings, plan, speeds)
        seconds = plan.steps * plan.batch_size / speed
        estimate.seconds['run', arm.id] = seconds
        if study.tune and arm in jobs.baseline_arms.values():
            variant = next(iter(study.variants_of(arm.method)))
            options = study.trial_options(arm, variant)
            trial = Plan.of(load_config(arm.config, options), plan.images)
            estimate.seconds['trial', arm.id] = trial.steps * trial.batch_size / speed
        estimate.table.append(_table_row(arm, settings, plan, speed, seconds))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the jobs need the memory
    return estimate


def _count_images(settings: Settings, label_sets: tuple[str, ...], known: dict[str, int]) -> int:
    """Return the number of training images; if the data is missing, the number in the config.

    Raises:
        ConfigError: the evaluation of the runs could not draw its labels from the images.
    """
    key = fingerprint(settings.to_builtin()['data'])
    if key not in known:
        try:
            sources = data_sources(settings.data, labelled=True)
        except MissingData:
            if settings.data.expected_images is None:
                raise
            known[key] = settings.data.expected_images
        else:
            check_one_class(sources['bank'], 'train')
            _check_label_sets(sources['bank'], label_sets)
            known[key] = len(sources['train'])
    return known[key]


def _check_label_sets(bank: Source, label_sets: tuple[str, ...]) -> None:
    for labels in label_sets:
        if is_imagenet(bank) and labels in OFFICIAL:
            continue  # a published list, which is not drawn
        try:
            number_of_labels(bank, labels)
        except ConfigError as error:
            raise ConfigError(f'evaluate.labels: {error}') from None


def _images_per_second(settings: Settings, plan: Plan, known: dict[str, float]) -> float:
    """Return the training images per second, measured once for all arms with equal steps."""
    content = settings.to_builtin()
    key = fingerprint([content['method'], content['views'], settings.precision, plan.device_batch])
    if key not in known:
        step = timed_step(settings, plan, cpu_images=min(plan.device_batch, TIMED_IMAGES))
        known[key] = step.images_per_second
    return known[key]


def _table_row(
    arm: Arm, settings: Settings, plan: Plan, speed: float, seconds: float
) -> tuple[str, ...]:
    return (
        arm.name,
        f'{settings.epochs:g}',
        f'{plan.images:,}',
        f'{plan.batch_size}',
        f'{plan.steps:,}',
        f'{speed:,.0f}',
        f'{seconds / 60:.1f}',
    )


def print_plan(
    jobs: Jobs, processes: int, threads: int, print_line: Callable[[str], object] = print
) -> CostEstimate:
    """Print what the study will do and how long it will take.

    Args:
        jobs: jobs of the study.
        processes: number of jobs that run at the same time.
        threads: number of threads of each process.
        print_line: prints a line.
    """
    study = jobs.study
    unfinished = [job for job in jobs if not _is_done(jobs, job)]
    small = ', small' if study.small else ''
    print_line(f'{study.title}  ({study.path}{small})')
    print_line(f'  {_describe_jobs(jobs, len(jobs) - len(unfinished))}')
    for metric in study.evaluate.metrics():
        print_line(f'  {metric["name"]}: {metric["protocol"]}')
    estimate = estimate_cost(jobs)
    for line in _format_table([TABLE_HEAD, *estimate.table]):
        print_line(f'  {line}')
    trainings = [job for job in unfinished if job.kind != 'baseline' and not jobs.is_trained(job)]
    total = sum(estimate.seconds[job.kind, job.arm.id] for job in trainings) / processes
    plural = 's' if threads > 1 else ''
    print_line(
        f'  images/s from one synthetic step on {threads} thread{plural}; training alone, '
        f'{processes} at a time: about {format_duration(total)} from here; evaluation, start and '
        'other work of the machine come on top'
    )
    return estimate


def _is_done(jobs: Jobs, job: Job) -> bool:
    record = jobs.record(job)
    return record is not None and is_done(record)


def _describe_jobs(jobs: Jobs, done: int) -> str:
    study = jobs.study
    axes = ''.join(f' x {len(labels)} {axis}' for axis, labels in study.axes.items())
    trials = ''
    if study.tune is not None:
        factors = ', '.join(f'{factor:g}' for factor in study.tune.factors)
        trials = (
            f', {len(jobs.trials)} trials ({study.tune.key} x {factors} for each method, '
            f'seed {study.tune.seed})'
        )
    return (
        f'{len(study.methods)} methods{axes} x {len(study.seeds)} seeds = {len(jobs.runs)} runs'
        f'{trials}, the untrained network on {len(study.seeds)} seeds; '
        f'{done} of {len(jobs)} done before'
    )


def _format_table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return lines with the first column left-aligned and all others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        lines.append('  '.join(cells))
    return lines
