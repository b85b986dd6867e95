"""--dry-run: print the plan, and the speed and memory of one synthetic step. Nothing is written."""

import math
import resource
from collections.abc import Callable

import torch

from ssl_zoo.config.settings import Settings
from ssl_zoo.data.overlap import warn_of_overlap
from ssl_zoo.data.splits import data_notes, data_sources, data_warnings
from ssl_zoo.distributed.process_group import rank_info
from ssl_zoo.engine.custom_hooks import build_custom_hooks
from ssl_zoo.engine.describe_plan import describe_plan
from ssl_zoo.engine.initial_weights import read_initial_weights
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.timed_step import TimedStep, build_method_and_optimizer, timed_step
from ssl_zoo.engine.writers import build_writers
from ssl_zoo.errors import MissingData


def dry_run(settings: Settings, report: Callable[[str], object] = print) -> None:
    """Print the plan of a run and the cost of a step.

    If the data is missing, the plan uses data.expected_images, and a note is printed.

    Raises:
        ConfigError: a mistake in the settings, or missing data without data.expected_images.
        FloatingPointError: the loss of the step is not finite.
    """
    info = rank_info()
    build_custom_hooks(settings.hooks)  # raises for a mistake
    build_writers(settings.writers, '.')
    read_initial_weights(settings)
    plan = Plan.of(settings, _count_images(settings, report), info.size)
    settings = plan.settings
    if info.rank > 0:
        return
    method, optimizer = build_method_and_optimizer(settings, plan)
    report('plan\n' + describe_plan(settings, plan, method, optimizer.param_groups))
    for warning in method.warnings:
        report(f'warning: {warning}')
    step = timed_step(settings, plan, method, optimizer)
    if not math.isfinite(step.loss):
        raise FloatingPointError(
            f'the loss of the synthetic step is {step.loss}; check the values of the method'
        )
    report(_describe_step(step, plan, method.data_preprocessor.mean.device))


def _count_images(settings: Settings, report: Callable[[str], object]) -> int:
    try:
        sources = data_sources(settings.data)
    except MissingData as error:
        images = settings.data.expected_images
        if images is None:
            raise
        report(f'note: {error}\n      The plan assumes the {images:,} images of the recipe.')
        return images
    warn_of_overlap(sources, settings.data)
    for note in data_notes(sources):
        report(f'note: {note}')
    for warning in data_warnings(sources):
        report(f'warning: {warning}')
    return len(sources['train'])


def _describe_step(step: TimedStep, plan: Plan, device: torch.device) -> str:
    text = (
        f'one synthetic step (after one to warm up) of {step.passes} x {step.images} images'
        f'{_describe_difference(step, plan)} on {device.type}: loss {step.loss:.4f}, '
        f'{step.images_per_second:.1f} images/s, '
    )
    if device.type == 'cuda':
        peak = torch.cuda.max_memory_allocated() / 2**30
        return text + f'{peak:.2f} GiB of GPU memory at most'
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # from KiB
    return text + f'{peak:.2f} GiB of memory at most, the process in all'


def _describe_difference(step: TimedStep, plan: Plan) -> str:
    """Describe the size of the run's step, if the synthetic step is smaller."""
    if step.passes * step.images == plan.batch_size:
        return ''
    processes = f'{plan.processes} x ' if plan.processes > 1 else ''
    return f' (the run has {processes}{plan.accumulate} x {plan.device_batch})'
