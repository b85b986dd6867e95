"""Repeat a forward and backward pass that gave values that are not finite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_zoo.build import build_fitting, load_weights
from ssl_zoo.checkpoint import read_data
from ssl_zoo.config.settings import Settings, settings_from_dict
from ssl_zoo.data.random import mix, seed_everything
from ssl_zoo.data.views import PARAMS
from ssl_zoo.engine.hooks.trace_non_finite import FORMAT
from ssl_zoo.engine.non_finite_tracer import NonFiniteTracer
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.errors import ConfigError


def _are_named_tensors(state: object) -> bool:
    return isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**64


def _is_whole_number(value: object) -> bool:
    return isinstance(value, int) and _is_number(value)


# Items of a replay file: condition, and the condition in words.
ITEMS: dict[str, tuple[Callable[[Any], bool], str]] = dict(
    config=(lambda config: isinstance(config, dict), 'the config of a run'),
    found=(lambda found: isinstance(found, str), 'a text'),
    iter=(_is_whole_number, 'the number of a pass'),
    progress=(_is_number, 'a number of at least 0'),
    epoch=(_is_number, 'a number of at least 0'),
    seed=(_is_whole_number, 'a whole number of at least 0'),
    method=(_are_named_tensors, 'tensors by name'),
    batch=(lambda batch: isinstance(batch, dict), 'dict(views=..., params=..., index=...)'),
)


def _require(holds: bool, path: str | Path, key: str, allowed: str) -> None:
    if not holds:
        raise ConfigError(
            f'{path} is not a whole replay file: its {key!r} must be {allowed}; give a file that a '
            f'run has written'
        )


def _check_batch(batch: dict, settings: Settings, path: str | Path) -> None:
    """Check that a batch has the images and parameters of every view of the config."""
    index = batch.get('index')
    is_index = isinstance(index, Tensor) and index.ndim == 1 and index.dtype == torch.int64
    _require(is_index, path, 'batch.index', '(B,) int64')
    views = settings.build_views()
    for key in ('views', 'params'):
        tensors = batch.get(key)
        is_one_per_view = isinstance(tensors, list) and len(tensors) == len(views)
        _require(is_one_per_view, path, f'batch.{key}', f'a list of {len(views)} tensors')
    for i, view in enumerate(views):
        images, params = batch['views'][i], batch['params'][i]
        shape = (len(index), 3, view.size, view.size)
        is_images = isinstance(images, Tensor) and images.shape == shape
        _require(is_images, path, f'batch.views.{i}', f'a tensor of shape {shape}')
        is_params = (
            isinstance(params, Tensor)
            and params.shape == (len(index), len(PARAMS))
            and params.is_floating_point()
        )
        _require(is_params, path, f'batch.params.{i}', f'(B, {len(PARAMS)}) numbers')


def replay_step(path: str | Path, precision: str | None = None) -> tuple[str, str | None]:
    """Repeat the pass of a replay file on one process, with the batch of all processes.

    Nothing in the file is executed.

    Args:
        path: a file not_finite_step_XXXXXXXX.pth, which TraceHook wrote.
        precision: 'float32' or 'bf16'; None for the precision of the run.

    Returns:
        Descriptions of two tensors: the first that was not finite in the run, and the first that is
        not finite now (None if all are finite).

    Raises:
        ConfigError: the file is not a replay file, is not whole, or names an unknown method.
    """
    content = read_data(path, FORMAT, 'replay file')
    for key, (holds, allowed) in ITEMS.items():
        _require(key in content and holds(content[key]), path, key, allowed)
    config = content['config']
    if precision is not None:
        config = {**config, 'precision': precision}
    settings = settings_from_dict(config)
    batch = content['batch']
    _check_batch(batch, settings, path)
    method = build_fitting(settings, content['method'], path, len(batch['index']))
    load_weights(method, content['method'], path)
    method = method.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    method.progress = content['progress']
    method.epoch = content['epoch']
    seed_everything(mix(content['seed'], content['iter']))
    plan = Plan.of(settings, settings.batch_size)
    wrapper = ZooOptimWrapper(build_optimizer(settings, plan, method), method, settings, 1)
    tracer = NonFiniteTracer(method)
    tracer.check_state('before')
    try:
        with wrapper.optim_context(method):
            data = method.data_preprocessor(dict(batch, unreadable=[]), True)
            loss = method(**data, mode='loss')['loss']
        loss.backward()
    except Exception as error:  # a method may fail on values that are not finite, in its own way
        if tracer.description is None:
            raise ConfigError(
                f'the pass in {path} cannot be done again ({type(error).__name__}: '
                f'{(str(error) or "no message").splitlines()[0]}); give a file that a run has '
                f'written'
            ) from error
    finally:
        tracer.close()
    return content['found'], tracer.description
