"""The plan of a run: what the config's numbers come to, worked out and printed before the first step."""

from dataclasses import dataclass

from torch import nn

from ssl_zoo.config.settings import Settings
from ssl_zoo.data.views import describe
from ssl_zoo.errors import ConfigError
from ssl_zoo.layers import cosine_schedule


@dataclass(frozen=True)
class Plan:
    """Attributes: images: of the training set; batch_size: per optimiser step; accumulate: forward passes per optimiser step;
    processes: that share each pass; steps, warmup_steps: optimiser steps; peak_lr: at the end of warm-up; settings: what it was worked
    out from."""

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
        """As BYOL's official code counts: epochs * images // batch_size steps, base_lr * batch_size / 256."""
        steps = int(settings.epochs * images) // settings.batch_size
        if steps < 1:
            raise ConfigError(
                f'{settings.epochs:g} epochs of {images} images are less than one batch_size={settings.batch_size}; '
                f'make batch_size smaller or train longer'
            )
        return cls(
            images,
            settings.batch_size,
            _passes(settings, processes),
            processes,
            steps,
            int(settings.warmup_epochs * images) // settings.batch_size,
            settings.base_lr * settings.batch_size / 256,
            settings,
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
        """Learning rate of optimiser step 0, 1, ..., steps - 1: linear warm-up, then half a cosine (BYOL, SimCLR) or steps (MoCo v1)."""
        schedule = self.settings.schedule
        if step < self.warmup_steps:
            return self.peak_lr * (schedule.start + (1 - schedule.start) * step / self.warmup_steps)
        if schedule.shape == 'steps':
            return self.peak_lr * schedule.gamma ** sum(
                self.epoch(step) >= milestone for milestone in schedule.milestones
            )
        if schedule.per_epoch:
            epoch, warmup = step * self.batch_size // self.images, self.settings.warmup_epochs
            progress = max(epoch - warmup, 0) / (self.settings.epochs - warmup)
        else:
            progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return cosine_schedule(self.peak_lr, self.peak_lr * schedule.end, progress)

    def weight_decay(self, step: int) -> float:
        """Weight decay of an optimiser step, where there is one: constant, or half a cosine to its end (DINO)."""
        start, end = self.settings.weight_decay, self.settings.weight_decay_end
        return start if end is None else cosine_schedule(start, end, step / self.steps)

    def epoch(self, step: int) -> float:
        """Epochs done after ``step`` steps."""
        return step * self.batch_size / self.images


def _passes(settings: Settings, processes: int) -> int:
    """Forward passes per optimiser step."""
    n, limit = settings.batch_size, settings.max_device_batch
    if n % processes:
        raise ConfigError(
            f'batch_size={n} cannot be shared out evenly over {processes} processes; make it a multiple of them'
        )
    if settings.accumulate == 'auto':
        return next(
            a
            for a in range(1, n // processes + 1)
            if n % (a * processes) == 0 and n // (a * processes) <= limit
        )
    if n % (settings.accumulate * processes):
        raise ConfigError(
            f'batch_size={n} cannot be shared out evenly over {processes} processes x accumulate={settings.accumulate}; '
            f'make it a multiple of {processes * settings.accumulate}'
        )
    return settings.accumulate


def _describe_schedule(settings: Settings, plan: Plan) -> str:
    schedule, peak = (
        settings.schedule,
        f'{plan.peak_lr:g} ({settings.base_lr:g} x {plan.batch_size} / 256)',
    )
    warmup = f'{plan.peak_lr * schedule.start:g} -> ' if plan.warmup_steps else ''
    if schedule.shape == 'steps':
        return f'{warmup}{peak}, times {schedule.gamma:g} at epochs {", ".join(f"{m:g}" for m in schedule.milestones)}'
    return f'{warmup}{peak} -> {plan.peak_lr * schedule.end:g}, cosine{" by epochs" if schedule.per_epoch else ""}'


def _describe_passes(settings: Settings, plan: Plan, method) -> list[str]:
    """What each pass and each process sees of the batch, where it is not all of it."""
    norms = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in method.modules())
    synchronised = (
        method.sync_batchnorm if settings.sync_batchnorm is None else settings.sync_batchnorm
    )
    lines = []
    if plan.processes > 1:
        shared = dict(
            ddp='a whole network on each process', fsdp='parameters and optimiser state shared out'
        )[settings.parallel.strategy]
        lines.append(
            shared
            + f'; BatchNorm over {"all processes" if synchronised else "each process apart"}'
            * norms
        )
    if plan.accumulate > 1:
        parts = [method.batch_coupling] * bool(method.batch_coupling) + ['BatchNorm'] * norms
        lines.append(
            'accumulation equals one pass'
            if not parts
            else f'accumulation is not the same as one pass: {" and ".join(parts)} see {plan.micro_batch} of {plan.batch_size} images'
        )
    return lines


def describe_plan(settings: Settings, plan: Plan, method, groups: list[dict]) -> str:
    """The plan in words, one line per subject."""

    def millions(parameters):
        return f'{sum(p.numel() for p in parameters) / 1e6:.2f} M'

    backbone = settings.method.get('backbone', {})
    factors = [f'{plan.accumulate} passes'] * (plan.accumulate > 1) + [
        f'{plan.processes} processes'
    ] * (plan.processes > 1)
    shared = f' = {" x ".join(factors)} x {plan.device_batch}' if factors else ''
    lines = [
        (
            'method',
            f'{settings.method["type"]} on {backbone.get("name", "its backbone")}, '
            f'{millions(method.backbone.parameters())} parameters, {method.embed_dim} features; '
            f'{millions(p for p in method.parameters() if p.requires_grad)} trained in all',
        ),
        ('data', f'{plan.images:,} images from {settings.data.train["type"]}'),
        ('batch', f'{plan.batch_size} images per optimiser step{shared}'),
        *[('', line) for line in _describe_passes(settings, plan, method)],
        (
            'steps',
            f'{plan.steps:,} in {settings.epochs:g} epochs ({plan.images / plan.batch_size:.1f} per epoch), '
            f'{plan.warmup_steps:,} of them warm-up',
        ),
        ('lr', _describe_schedule(settings, plan)),
        (
            'optimizer',
            ', '.join(
                [
                    settings.optimizer['type'],
                    *(f'{k}={v}' for k, v in settings.optimizer.items() if k != 'type'),
                ]
            ),
        ),
    ]
    for group in groups:
        kind = 'weights' if group['adapt'] else 'norm parameters and biases'
        lars = ', LARS adaptation' if group['adapt'] else ', no LARS adaptation'
        end = (
            ''
            if settings.weight_decay_end is None or not group['adapt']
            else f' -> {settings.weight_decay_end:g}'
        )
        factor = '' if group['lr_scale'] == 1 else f', lr times {group["lr_scale"]:g}'
        lines.append(
            (
                '',
                f'{len(group["params"])} {kind} ({millions(group["params"])}): weight decay {group["weight_decay"]:g}{end}'
                f'{lars if settings.optimizer["type"] == "LARS" else ""}{"" if group["scheduled"] else ", constant lr"}{factor}',
            )
        )
    if settings.clip_grad is not None:
        lines.append(('', f'the norm of each gradient limited to {settings.clip_grad:g}'))
    for i, view in enumerate(settings.build_views()):
        lines.append((f'view {i + 1}', describe(view)))
    lines.append(
        ('precision', settings.precision + (', channels_last' if settings.channels_last else ''))
    )
    return '\n'.join(f'  {name:<10}{text}' for name, text in lines)
