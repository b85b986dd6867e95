"""The plan of a run: what the config's numbers come to, worked out and printed before the first step."""
from dataclasses import dataclass

from ..data.views import describe
from ..layers import cosine
from ..registry import ConfigError
from .settings import Settings


@dataclass(frozen=True)
class Plan:
    """Attributes: images: of the training set; batch_size: per optimiser step; micro_batch: per forward pass;
    steps, warmup_steps: optimiser steps; peak_lr: at the end of warm-up; settings: what it was worked out from."""
    images: int
    batch_size: int
    micro_batch: int
    steps: int
    warmup_steps: int
    peak_lr: float
    settings: Settings

    @classmethod
    def of(cls, settings: Settings, images: int) -> 'Plan':
        """As BYOL's official code counts: epochs * images // batch_size steps, base_lr * batch_size / 256."""
        steps = int(settings.epochs * images) // settings.batch_size
        if steps < 1:
            raise ConfigError(f'{settings.epochs:g} epochs of {images} images are less than one batch_size={settings.batch_size}; '
                              f'make batch_size smaller or train longer')
        return cls(images, settings.batch_size, settings.batch_size // settings.accumulate, steps,
                   int(settings.warmup_epochs * images) // settings.batch_size, settings.base_lr * settings.batch_size / 256,
                   settings)

    def lr(self, step: int) -> float:
        """Learning rate of optimiser step 0, 1, ..., steps - 1: linear warm-up, then half a cosine (BYOL, SimCLR) or steps (MoCo v1)."""
        schedule = self.settings.schedule
        if step < self.warmup_steps:
            return self.peak_lr * (schedule.start + (1 - schedule.start) * step / self.warmup_steps)
        if schedule.shape == 'steps':
            return self.peak_lr * schedule.gamma ** sum(self.epoch(step) >= milestone for milestone in schedule.milestones)
        if schedule.per_epoch:
            epoch, warmup = step * self.batch_size // self.images, self.settings.warmup_epochs
            progress = max(epoch - warmup, 0) / (self.settings.epochs - warmup)
        else:
            progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return cosine(self.peak_lr, self.peak_lr * schedule.end, progress)

    def weight_decay(self, step: int) -> float:
        """Weight decay of an optimiser step, where there is one: constant, or half a cosine to its end (DINO)."""
        start, end = self.settings.weight_decay, self.settings.weight_decay_end
        return start if end is None else cosine(start, end, step / self.steps)

    def epoch(self, step: int) -> float:
        """Epochs done after ``step`` steps."""
        return step * self.batch_size / self.images


def _describe_schedule(settings: Settings, plan: Plan) -> str:
    schedule, peak = settings.schedule, f'{plan.peak_lr:g} ({settings.base_lr:g} x {plan.batch_size} / 256)'
    warmup = f'{plan.peak_lr * schedule.start:g} -> ' if plan.warmup_steps else ''
    if schedule.shape == 'steps':
        return f'{warmup}{peak}, times {schedule.gamma:g} at epochs {", ".join(f"{m:g}" for m in schedule.milestones)}'
    return f'{warmup}{peak} -> {plan.peak_lr * schedule.end:g}, cosine{" by epochs" if schedule.per_epoch else ""}'


def describe_plan(settings: Settings, plan: Plan, method, groups: list[dict]) -> str:
    """The plan in words, one line per subject."""
    def millions(parameters):
        return f'{sum(p.numel() for p in parameters) / 1e6:.2f} M'
    backbone = settings.method.get('backbone', {})
    accumulation = f' = {settings.accumulate} passes of {plan.micro_batch}' if settings.accumulate > 1 else ''
    lines = [
        ('method', f'{settings.method["type"]} on {backbone.get("name", "its backbone")}, '
                   f'{millions(method.backbone.parameters())} parameters, {method.embed_dim} features; '
                   f'{millions(p for p in method.parameters() if p.requires_grad)} trained in all'),
        ('data', f'{plan.images:,} images from {settings.data.train["type"]}'),
        ('batch', f'{plan.batch_size} images per optimiser step{accumulation}'),
        ('steps', f'{plan.steps:,} in {settings.epochs:g} epochs ({plan.images / plan.batch_size:.1f} per epoch), '
                  f'{plan.warmup_steps:,} of them warm-up'),
        ('lr', _describe_schedule(settings, plan)),
        ('optimizer', ', '.join([settings.optimizer['type'], *(f'{k}={v}' for k, v in settings.optimizer.items() if k != 'type')])),
    ]
    for group in groups:
        kind = 'weights' if group['adapt'] else 'norm parameters and biases'
        lars = ', LARS adaptation' if group['adapt'] else ', no LARS adaptation'
        end = '' if settings.weight_decay_end is None or not group['adapt'] else f' -> {settings.weight_decay_end:g}'
        factor = '' if group['lr_scale'] == 1 else f', lr times {group["lr_scale"]:g}'
        lines.append(('', f'{len(group["params"])} {kind} ({millions(group["params"])}): weight decay {group["weight_decay"]:g}{end}'
                          f'{lars if settings.optimizer["type"] == "LARS" else ""}{"" if group["scheduled"] else ", constant lr"}{factor}'))
    if settings.clip_grad is not None:
        lines.append(('', f'the norm of each gradient limited to {settings.clip_grad:g}'))
    for i, view in enumerate(settings.recipes()):
        lines.append((f'view {i + 1}', describe(view)))
    lines.append(('precision', settings.precision + (', channels_last' if settings.channels_last else '')))
    return '\n'.join(f'  {name:<10}{text}' for name, text in lines)
