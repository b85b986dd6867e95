"""The plan of a run: the numbers that follow from its config, its data and its processes."""

from dataclasses import dataclass, replace

from ssl_zoo.config.settings import Settings
from ssl_zoo.engine.target_renewals import automatic_base_ema
from ssl_zoo.errors import ConfigError
from ssl_zoo.layers import cosine_schedule
from ssl_zoo.method import Method


@dataclass(frozen=True)
class Plan:
    """The numbers of a run.

    Attributes:
        images: number of images to train on.
        batch_size: images per optimizer step, over all processes.
        accumulate: forward passes per optimizer step.
        processes: number of processes that share each pass.
        steps: optimizer steps of the run.
        warmup_steps: optimizer steps of the warm-up.
        peak_lr: learning rate at the end of the warm-up.
        settings: settings of the run, with a number in place of base_ema='auto'.
    """

    images: int
    batch_size: int
    accumulate: int
    processes: int
    steps: int
    warmup_steps: int
    peak_lr: float
    settings: Settings

    @classmethod
    def of(cls, settings: Settings, images: int, processes: int = 1) -> 'Plan':
        """Make the plan with the formulas of BYOL's official code.

        steps = epochs * images // batch_size, peak_lr = base_lr * batch_size / 256.

        Raises:
            ConfigError: the run has less than one step, or the batch cannot be divided evenly.
        """
        steps = int(settings.epochs * images) // settings.batch_size
        if steps < 1:
            raise ConfigError(
                f'{settings.epochs:g} epochs of {images} images are less than one '
                f'batch_size={settings.batch_size}; make batch_size smaller or train longer'
            )
        return cls(
            images=images,
            batch_size=settings.batch_size,
            accumulate=_passes_per_step(settings, processes),
            processes=processes,
            steps=steps,
            warmup_steps=int(settings.warmup_epochs * images) // settings.batch_size,
            peak_lr=settings.base_lr * settings.batch_size / 256,
            settings=_with_base_ema(settings, steps),
        )

    @property
    def micro_batch(self) -> int:
        """Images of a forward pass, over all processes."""
        return self.batch_size // self.accumulate

    @property
    def device_batch(self) -> int:
        """Images of a forward pass on one process."""
        return self.micro_batch // self.processes

    def lr(self, step: int) -> float:
        """Return the learning rate of optimizer step 0, 1, ..., steps - 1.

        Linear warm-up, then half a cosine (BYOL, SimCLR) or steps (MoCo v1).
        """
        schedule = self.settings.schedule
        if step < self.warmup_steps:
            return self.peak_lr * (schedule.start + (1 - schedule.start) * step / self.warmup_steps)
        if schedule.shape == 'steps':
            passed = sum(self.epoch(step) >= milestone for milestone in schedule.milestones)
            return self.peak_lr * schedule.gamma**passed
        if schedule.per_epoch:
            epoch = step * self.batch_size // self.images
            warmup = self.settings.warmup_epochs
            progress = max(epoch - warmup, 0) / (self.settings.epochs - warmup)
        else:
            progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return cosine_schedule(self.peak_lr, self.peak_lr * schedule.end, progress)

    def weight_decay(self, step: int) -> float:
        """Return the weight decay of a step: constant, or half a cosine to its end (DINO)."""
        start = self.settings.weight_decay
        end = self.settings.weight_decay_end
        if end is None:
            return start
        return cosine_schedule(start, end, step / self.steps)

    def epoch(self, step: int) -> float:
        """Return the epochs done after ``step`` optimizer steps."""
        return step * self.batch_size / self.images


def _with_base_ema(settings: Settings, steps: int) -> Settings:
    """Replace base_ema='auto' by the number that fits the number of steps."""
    if settings.method.get('base_ema') != 'auto':
        return settings
    return replace(settings, method={**settings.method, 'base_ema': automatic_base_ema(steps)})


def _passes_per_step(settings: Settings, processes: int) -> int:
    n = settings.batch_size
    if n % processes:
        raise ConfigError(
            f'batch_size={n} cannot be shared out evenly over {processes} processes; '
            f'make it a multiple of them'
        )
    passes = settings.accumulate
    if isinstance(passes, str):  # 'auto'
        device_images = n // processes
        return next(
            n_passes
            for n_passes in range(1, device_images + 1)
            if device_images % n_passes == 0
            and device_images // n_passes <= settings.max_device_batch
        )
    if n % (passes * processes):
        raise ConfigError(
            f'batch_size={n} cannot be shared out evenly over {processes} processes x '
            f'accumulate={passes}; make it a multiple of {processes * passes}'
        )
    return passes


def uses_sync_batchnorm(settings: Settings, method: Method) -> bool:
    """Whether BatchNorm takes its statistics over all processes."""
    if settings.sync_batchnorm is None:
        return method.sync_batchnorm
    return settings.sync_batchnorm
