"""--dry-run: the plan, and one synthetic step with its speed and memory. No work directory is made."""

import math
import resource
import time
from dataclasses import dataclass

import torch

from ssl_zoo.build import build_method
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.splits import data_sources
from ssl_zoo.data.views import sample
from ssl_zoo.distributed.process_group import rank_info
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper
from ssl_zoo.engine.plan import Plan, describe_plan
from ssl_zoo.engine.runner import build_optimizer
from ssl_zoo.errors import MissingData

CPU_IMAGES = (
    16  # about so many: enough to time a step on a CPU, where a recipe's own batch may take hours
)


def dry_run(settings: Settings, report=print) -> None:
    """Print the plan and the cost of a step. Without the data, the plan uses data.expected_images and says so.

    Raises:
        ConfigError: as build_runner does.
    """
    try:
        images = len(data_sources(settings.data)['train'])
    except MissingData as error:
        if settings.data.expected_images is None:
            raise
        images = settings.data.expected_images
        report(f'note: {error}\n      The plan assumes the {images:,} images of the recipe.')
    plan = Plan.of(settings, images, rank_info().size)
    if rank_info().rank > 0:
        return
    method, optimizer = _built(settings, plan)
    report('plan\n' + describe_plan(settings, plan, method, optimizer.param_groups))
    step = timed_step(settings, plan, method, optimizer)
    if not math.isfinite(step.loss):
        raise FloatingPointError(
            f'the loss of the synthetic step is {step.loss}; check the values of the method'
        )
    device = method.data_preprocessor.mean.device
    if device.type == 'cuda':
        memory = f'{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB of GPU memory at most'
    else:
        memory = f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB of memory at most, the process in all'
    processes = f'{plan.processes} x ' if plan.processes > 1 else ''
    smaller = (
        ''
        if step.passes * step.images == plan.batch_size
        else f' (the run has {processes}{plan.accumulate} x {plan.device_batch})'
    )
    report(
        f'one synthetic step (after one to warm up) of {step.passes} x {step.images} images{smaller} on {device.type}: '
        f'loss {step.loss:.4f}, {step.images_per_second:.1f} images/s, {memory}'
    )


@dataclass(frozen=True)
class Step:
    """A timed step. Attributes: passes, images: of how many images each; seconds; loss: of the step to warm up."""

    passes: int
    images: int
    seconds: float
    loss: float

    @property
    def images_per_second(self) -> float:
        return self.passes * self.images / self.seconds


def _built(settings: Settings, plan: Plan):
    method = build_method(settings, microbatch_images=plan.micro_batch)
    method = method.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    return method, build_optimizer(settings, plan, method)


def timed_step(
    settings: Settings, plan: Plan, method=None, optimizer=None, most: int = CPU_IMAGES
) -> Step:
    """One optimiser step on random pixels, after one to warm up.

    Args:
        settings, plan: of the run; method, optimizer: its own, by default built here.
        most: about so many images on a CPU.
    """
    if method is None:
        method, optimizer = _built(settings, plan)
    device = method.data_preprocessor.mean.device
    passes, n = plan.accumulate, plan.device_batch
    if device.type == 'cpu':
        multiple = method.microbatch_multiple
        passes, n = 1, min(n, -(-max(most, method.microbatch_minimum) // multiple) * multiple)
    wrapper = ZooOptimWrapper(optimizer, method, settings, passes)
    batch = synthetic_batch(settings, n)
    method.progress, method.epoch = 0.5, settings.epochs  # late, when what joins in later does
    seconds, losses = [], []
    for _ in range(2):  # the first one allocates and tunes, the second is timed
        started = time.perf_counter()
        for _ in range(passes):
            outputs = method.train_step(batch, optim_wrapper=wrapper)
        method.after_step()
        losses.append(outputs['loss'].item())  # waits for the device
        seconds.append(time.perf_counter() - started)
    return Step(passes, n, seconds[-1], losses[0])


def synthetic_batch(settings: Settings, n: int) -> dict:
    """A batch as the loader gives it, of random pixels: views [(n, 3, H, W) uint8], params [(n, P)], index (n,)."""
    views, index = settings.build_views(), torch.arange(n)
    return dict(
        views=[
            torch.randint(0, 256, (n, 3, view.size, view.size), dtype=torch.uint8) for view in views
        ],
        params=[
            torch.from_numpy(sample(view, i, index.numpy() * 0, index.numpy(), settings.seed))
            for i, view in enumerate(views)
        ],
        index=index,
        unreadable=[],
    )
