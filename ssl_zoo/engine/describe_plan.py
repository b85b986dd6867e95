"""The plan of a run as text, printed before the first step."""

from collections.abc import Iterable

from torch import nn

from ssl_zoo.config.settings import Settings
from ssl_zoo.data.views import describe
from ssl_zoo.engine.plan import Plan, uses_sync_batchnorm
from ssl_zoo.engine.precision import describe_precision
from ssl_zoo.engine.target_renewals import describe_renewals
from ssl_zoo.method import Method

STRATEGIES = dict(
    ddp='a whole network on each process',
    fsdp='parameters and optimizer state shared out',
)


def describe_plan(settings: Settings, plan: Plan, method: Method, groups: list[dict]) -> str:
    """Describe a plan, one line per fact.

    Args:
        settings: settings of the run.
        plan: plan of the run.
        method: method of the run.
        groups: parameter groups of its optimizer.
    """
    rows = [
        ('method', _describe_method(settings, method)),
        ('data', f'{plan.images:,} images from {settings.data.train["type"]}'),
        ('batch', f'{plan.batch_size} images per optimizer step{_describe_factors(plan)}'),
    ]
    if plan.processes > 1:
        rows.append(('', _describe_processes(settings, method)))
    if plan.accumulate > 1:
        rows.append(('', _describe_accumulation(plan, method)))
    rows.append(('steps', _describe_steps(settings, plan)))
    for number, line in enumerate(describe_renewals(method, plan.steps)):
        rows.append(('' if number else 'target', line))
    rows.append(('lr', _describe_schedule(settings, plan)))
    rows.append(('optimizer', _describe_optimizer(settings)))
    rows += [('', _describe_group(settings, group)) for group in groups]
    if settings.clip_grad is not None:
        rows.append(('', f'the norm of each gradient limited to {settings.clip_grad:g}'))
    for number, view in enumerate(settings.build_views(), 1):
        rows.append((f'view {number}', describe(view)))
    rows.append(('pixels', _describe_normalisation(settings)))
    if settings.hooks:
        rows.append(('hooks', ', '.join(hook['type'] for hook in settings.hooks)))
    for number, line in enumerate(describe_precision(settings)):
        rows.append(('' if number else 'precision', line))
    return '\n'.join(f'  {name:<10}{text}' for name, text in rows)


def _millions(parameters: Iterable[nn.Parameter]) -> str:
    return f'{sum(p.numel() for p in parameters) / 1e6:.2f} M'


def _describe_method(settings: Settings, method: Method) -> str:
    arguments = settings.method.get('backbone', {})
    backbone = arguments.get('name', arguments.get('type', 'its backbone'))
    trained = _millions(p for p in method.parameters() if p.requires_grad)
    return (
        f'{settings.method["type"]} on {backbone}, {_millions(method.backbone.parameters())} '
        f'parameters, {method.embed_dim} features; {trained} trained in all'
    )


def _describe_factors(plan: Plan) -> str:
    """Write the batch as passes x processes x images; '' for one pass of one process."""
    factors = []
    if plan.accumulate > 1:
        factors.append(f'{plan.accumulate} passes')
    if plan.processes > 1:
        factors.append(f'{plan.processes} processes')
    if not factors:
        return ''
    return f' = {" x ".join(factors)} x {plan.device_batch}'


def _has_batchnorm(method: Method) -> bool:
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in method.modules())


def _describe_processes(settings: Settings, method: Method) -> str:
    strategy = STRATEGIES[settings.parallel.strategy]
    if not _has_batchnorm(method):
        return strategy
    if uses_sync_batchnorm(settings, method):
        return f'{strategy}; BatchNorm over all processes'
    return f'{strategy}; BatchNorm over each process apart'


def _describe_accumulation(plan: Plan, method: Method) -> str:
    """Name the terms that a pass computes over only a part of the batch."""
    parts = []
    if method.batch_coupling:
        parts.append(method.batch_coupling)
    if _has_batchnorm(method):
        parts.append('BatchNorm')
    if not parts:
        return 'accumulation equals one pass'
    return (
        f'accumulation is not the same as one pass: {" and ".join(parts)} see '
        f'{plan.micro_batch} of {plan.batch_size} images'
    )


def _describe_steps(settings: Settings, plan: Plan) -> str:
    return (
        f'{plan.steps:,} in {settings.epochs:g} epochs '
        f'({plan.images / plan.batch_size:.1f} per epoch), {plan.warmup_steps:,} of them warm-up'
    )


def _describe_schedule(settings: Settings, plan: Plan) -> str:
    schedule = settings.schedule
    text = f'{plan.peak_lr:g} ({settings.base_lr:g} x {plan.batch_size} / 256)'
    if plan.warmup_steps:
        text = f'{plan.peak_lr * schedule.start:g} -> {text}'
    if schedule.shape == 'steps':
        milestones = ', '.join(f'{milestone:g}' for milestone in schedule.milestones)
        return f'{text}, times {schedule.gamma:g} at epochs {milestones}'
    text = f'{text} -> {plan.peak_lr * schedule.end:g}, cosine'
    if schedule.per_epoch:
        text += ' by epochs'
    return text


def _describe_normalisation(settings: Settings) -> str:
    mean, std = (
        ', '.join(f'{value:g}' for value in values)
        for values in (settings.data.mean, settings.data.std)
    )
    return f'normalised by mean {mean}; std {std}'


def _describe_optimizer(settings: Settings) -> str:
    arguments = [f'{key}={value}' for key, value in settings.optimizer.items() if key != 'type']
    return ', '.join([settings.optimizer['type'], *arguments])


def _describe_group(settings: Settings, group: dict) -> str:
    kind = 'weights' if group['adapt'] else 'norm parameters and biases'
    text = (
        f'{len(group["params"])} {kind} ({_millions(group["params"])}): '
        f'weight decay {group["weight_decay"]:g}'
    )
    if settings.weight_decay_end is not None and group['adapt']:
        text += f' -> {settings.weight_decay_end:g}'
    if settings.optimizer['type'] == 'LARS':
        text += ', LARS adaptation' if group['adapt'] else ', no LARS adaptation'
    if not group['scheduled']:
        text += ', constant lr'
    if group['lr_scale'] != 1:
        text += f', lr times {group["lr_scale"]:g}'
    return text
