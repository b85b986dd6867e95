"""Hooks that a config names: ``hooks=[dict(type='MyHook', every=100)]``."""

from typing import TYPE_CHECKING, Any

from mmengine import hooks as mmengine_hooks
from mmengine.hooks import Hook
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.runner import Priority, get_priority
from torch import Tensor

from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import HOOKS

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer

# mmengine's hooks whose work a run does itself, or that act on what a run does not have.
REPLACED = dict(
    CheckpointHook='a run writes its checkpoints itself; set checkpoint=dict(every=...)',
    LoggerHook='a run writes its log itself; set log_every=...',
    RuntimeInfoHook='a run logs learning rate and losses itself; set log_every=...',
    IterTimerHook='a run logs images per second itself; set log_every=...',
    ParamSchedulerHook='a run sets the learning rate itself; set schedule=dict(...)',
    DistSamplerSeedHook='the order of images follows from seed, step and batch size',
    EMAHook='a method keeps its averages itself, such as BYOL its target; set method.base_ema',
    EarlyStoppingHook='it acts on validation epochs, and a run has none',
    NaiveVisualizationHook='it acts on test iterations, and a run has none',
    PrepareTTAHook='it acts on test iterations, and a run has none',
    NPUProfilerHook='it needs an NPU; take ProfilerHook',
)
for _name in ('EmptyCacheHook', 'ProfilerHook', 'SyncBuffersHook'):
    HOOKS.register_module(name=_name, module=getattr(mmengine_hooks, _name))


def build_custom_hooks(configs: list[Any]) -> list[Hook]:
    """Build the hooks that a config names.

    Args:
        configs: dicts with 'type', a name in HOOKS or in mmengine's registry of hooks, and
            arguments of the hook; 'priority' is mmengine's, a name such as 'LOW' or 0 to 100.

    Raises:
        ConfigError: a hook is unknown or cannot be built, or a run does its work itself.
    """
    return [_build(config) for config in configs]


def _build(config: Any) -> Hook:
    arguments = dict(config) if isinstance(config, dict) else config
    name = arguments.get('type') if isinstance(arguments, dict) else None
    name = name if isinstance(name, str) else None
    if name in REPLACED and name not in HOOKS.names():
        raise ConfigError(f"hooks names mmengine's {name}, but {REPLACED[name]}")
    if name in MMENGINE_HOOKS.module_dict and name not in HOOKS.names():
        HOOKS.register_module(name=name, module=MMENGINE_HOOKS.module_dict[name])
    priority = arguments.pop('priority', None) if isinstance(arguments, dict) else None
    hook = HOOKS.create(arguments)
    if not isinstance(hook, Hook):
        raise ConfigError(
            f'hook {name!r} is a {type(hook).__name__}, but not a mmengine.hooks.Hook'
        )
    if priority is not None:
        hook.priority = priority
    try:
        get_priority(hook.priority)
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f'hook {name!r} has priority={hook.priority!r}, but it must be one of '
            f'{", ".join(each.name for each in Priority)}, or a number from 0 to 100'
        ) from None
    return hook


def state_to_save(hooks: list[Hook], runner: 'Trainer') -> dict[str, Any]:
    """Collect what the hooks put into a checkpoint. All ranks call it.

    Each hook's ``before_save_checkpoint(runner, checkpoint)`` puts its values into the dict
    ``checkpoint``, which all hooks share. Values that a checkpoint cannot hold are left out, and an
    error names them.
    """
    state: dict[str, Any] = {}
    for hook in hooks:
        hook.before_save_checkpoint(runner, state)
    for name, value in list(state.items()):
        if not isinstance(name, str) or not _is_plain(value):
            runner.logger.error(
                f'{name!r} of a hook is not saved: a checkpoint holds tensors, numbers, texts, '
                f'None, and lists, tuples and dicts of these'
            )
            del state[name]
    return state


def load_saved_state(hooks: list[Hook], runner: 'Trainer', state: dict[str, Any]) -> None:
    """Give the hooks of a resumed run what they put into its checkpoint."""
    for hook in hooks:
        hook.after_load_checkpoint(runner, state)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) and _is_plain(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor)
