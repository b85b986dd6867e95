"""Piece c: where the time of BYOL's CIFAR-10 step goes, and what share of it the views take."""

import time
from collections.abc import Iterator

import torch
from session import DEVICE, ROOT, Session, wait
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from training import SMALL, image_options

from ssl_zoo.config.loading import load_config
from ssl_zoo.engine.trainer import Trainer, build_trainer

ENTRY = 'configs/speedrun/byol_cifar10.py'
WARM_UP = 20  # steps: compilation, tuning of kernels
STEPS = 50
VIEWS = 'views: parameters, crops, colours'


def run(session: Session) -> None:
    loop = CifarStep(session)
    session.part('times', 60, lambda: times(loop, session))
    session.part('profile', 30, lambda: profiled(loop, session))


class CifarStep:
    """The step of the entry for the race: batch, views, losses, update, average.

    Attributes:
        make_views: makes the views of the next batch, without the step that follows.
    """

    def __init__(self, session: Session):
        options = [*image_options(session, 'cifar10'), 'hooks=[]', 'data.test=None']
        options += ['epochs=1000'] if not session.small else [*SMALL, 'epochs=20']
        folder = session.out / f'c_{time.time_ns()}'
        self.runner: Trainer = build_trainer(load_config(ROOT / ENTRY, options), folder)
        self.runner.model.train()
        self.method = self.runner.method
        self.method.progress = 0.5
        for group in self.runner.optim_wrapper.optimizer.param_groups:
            group['lr'] = 0.01
        self.batches: Iterator[dict] = iter(self.runner.make_loader(0))

    def make_views(self) -> dict:
        return self.method.data_preprocessor(next(self.batches))

    def __call__(self) -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with record_function(VIEWS):
            views = self.make_views()
        preprocessor = self.method.data_preprocessor
        self.method.data_preprocessor = _Ready()
        try:
            self.runner.model.train_step(views, optim_wrapper=self.runner.optim_wrapper)
        finally:
            self.method.data_preprocessor = preprocessor
        self.method.after_step()


class _Ready(torch.nn.Module):
    """Stands in for the preprocessor: the views are made already."""

    def forward(self, data: dict, training: bool = True) -> dict:
        return data


def times(loop: CifarStep, session: Session) -> dict:
    """Time steps, and views alone; the loop waits for the device only at the ends."""
    steps = 3 if session.small else STEPS
    step = _seconds(loop, steps, 1 if session.small else WARM_UP)
    views = _seconds(loop.make_views, steps, 1)
    batch = loop.runner.plan.batch_size
    return dict(
        batch=batch,
        step_milliseconds=1e3 * step,
        images_per_second=batch / step,
        views_alone_milliseconds=1e3 * views,
        views_alone_of_step=views / step,
    )


def _seconds(function, steps: int, warm_up: int) -> float:
    for _ in range(warm_up):
        function()
    wait()
    started = time.perf_counter()
    for _ in range(steps):
        function()
    wait()
    return (time.perf_counter() - started) / steps


def profiled(loop: CifarStep, session: Session) -> dict:
    """Profile steps: the costliest kernels, and the device's time in the views."""
    steps = 2 if session.small else 10
    activities = [ProfilerActivity.CPU]
    if DEVICE.type == 'cuda':
        activities.append(ProfilerActivity.CUDA)
    for _ in range(1 if session.small else WARM_UP):
        loop()
    wait()
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            loop()
        wait()
    events = profiler.key_averages()
    on_gpu = DEVICE.type == 'cuda'
    # The mark of the views has the time of the kernels that its operations have started.
    [mark] = [e for e in events if e.key == VIEWS and e.device_type == DeviceType.CPU]
    of_views = mark.device_time_total if on_gpu else mark.cpu_time_total  # microseconds
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    kernels = [e for e in events if e.device_type == kind and e.key != VIEWS]

    def own(event) -> float:
        return event.self_device_time_total if on_gpu else event.self_cpu_time_total

    total = sum(map(own, kernels))
    costliest = sorted(kernels, key=own, reverse=True)[:15]
    return dict(
        steps=steps,
        device_milliseconds_per_step=total / 1e3 / steps,
        views_milliseconds_per_step=of_views / 1e3 / steps,
        views_of_step=of_views / total,
        views_host_milliseconds_per_step=mark.cpu_time_total / 1e3 / steps,
        kernels=[
            dict(name=e.key[:120], milliseconds_per_step=own(e) / 1e3 / steps, calls=e.count)
            for e in costliest
        ],
    )
