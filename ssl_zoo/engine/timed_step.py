"""Time one optimizer step on random pixels."""

import time
from dataclasses import dataclass

import torch

from ssl_zoo.build import build_method
from ssl_zoo.config.settings import Settings
from ssl_zoo.data.views import sample
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.method import Method

CPU_IMAGES = 16  # enough to time a step on a CPU, where the batch of a config may take hours


@dataclass(frozen=True)
class TimedStep:
    """A timed optimizer step.

    Attributes:
        passes: number of forward passes.
        images: number of images of each pass.
        seconds: time of the step.
        loss: loss of the warm-up step, which comes before the timed step.
    """

    passes: int
    images: int
    seconds: float
    loss: float

    @property
    def images_per_second(self) -> float:
        """Training speed in images per second."""
        return self.passes * self.images / self.seconds


def timed_step(
    settings: Settings,
    plan: Plan,
    method: Method | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    cpu_images: int = CPU_IMAGES,
) -> TimedStep:
    """Run two optimizer steps on random pixels and time the second one.

    Args:
        settings: settings of the run.
        plan: plan of the run.
        method: method of the run on its device; None to build it.
        optimizer: optimizer of ``method``; None with ``method=None``.
        cpu_images: number of images of the step on a CPU, rounded up to a number that the method
            accepts.
    """
    if method is None:
        method, optimizer = build_method_and_optimizer(settings, plan)
    passes, images = _step_size(plan, method, cpu_images)
    wrapper = ZooOptimWrapper(optimizer, method, settings, passes)
    batch = synthetic_batch(settings, images)
    # Terms of the loss that start after some epochs are active.
    method.progress = 0.5
    method.epoch = settings.epochs
    seconds = []
    losses = []
    for _ in range(2):  # the first step allocates memory and tunes kernels
        started = time.perf_counter()
        for _ in range(passes):
            outputs = method.train_step(batch, optim_wrapper=wrapper)
        method.after_step()
        losses.append(outputs['loss'].item())  # waits for the device
        seconds.append(time.perf_counter() - started)
    return TimedStep(passes, images, seconds[-1], losses[0])


def build_method_and_optimizer(
    settings: Settings, plan: Plan
) -> tuple[Method, torch.optim.Optimizer]:
    """Build the method of a run on the GPU, or the CPU if there is none, and its optimizer."""
    method = build_method(settings, microbatch_images=plan.micro_batch)
    method = method.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    return method, build_optimizer(settings, plan, method)


def _step_size(plan: Plan, method: Method, cpu_images: int) -> tuple[int, int]:
    """Return passes and images per pass: the plan's, or on a CPU one pass of ``cpu_images``."""
    if method.data_preprocessor.mean.device.type != 'cpu':
        return plan.accumulate, plan.device_batch
    multiple = method.microbatch_multiple
    wanted = max(cpu_images, method.microbatch_minimum)
    rounded_up = -(-wanted // multiple) * multiple
    return 1, min(plan.device_batch, rounded_up)


def synthetic_batch(settings: Settings, n: int) -> dict:
    """Make a batch of random pixels in the form of the loader's batches.

    Returns:
        views: list of (n, 3, H, W) uint8; params: list of (n, P) float32, the numbers that were
        drawn for each view; index: (n,) int64; unreadable: [].
    """
    views = settings.build_views()
    index = torch.arange(n)
    epochs = index.numpy() * 0
    return dict(
        views=[
            torch.randint(0, 256, (n, 3, view.size, view.size), dtype=torch.uint8) for view in views
        ],
        params=[
            torch.from_numpy(sample(view, number, epochs, index.numpy(), settings.seed))
            for number, view in enumerate(views)
        ],
        index=index,
        unreadable=[],
    )
