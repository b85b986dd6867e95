"""A pass that gave values which are not finite, done again."""

from pathlib import Path

import torch

from ssl_zoo.build import build_method
from ssl_zoo.checkpoint import read_data
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.data.random import mix, seed_everything
from ssl_zoo.engine.hooks.non_finite import FORMAT
from ssl_zoo.engine.non_finite_tracer import NonFiniteTracer
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.runner import build_optimizer


def replayed(path: str | Path, precision: str | None = None) -> tuple[str, str | None]:
    """Do the pass of a dump again, on one process. The file is read as data.

    Args:
        path: what ``explain`` wrote; precision: None for the run's.
    Returns:
        What the run found, and what is found now (None if all is finite).
    Raises:
        ConfigError: not such a file, an unknown method.
    """
    content = read_data(path, FORMAT, 'replay file')
    config = (
        content['config'] if precision is None else {**content['config'], 'precision': precision}
    )
    settings, batch = settings_from_dict(config), content['batch']
    method = build_method(settings, pretrained=False, microbatch_images=len(batch['index']))
    method.load_state_dict(content['method'])
    method = method.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    method.progress, method.epoch = content['progress'], content['epoch']
    seed_everything(mix(content['seed'], content['iter']))
    wrapper = ZooOptimWrapper(
        build_optimizer(settings, Plan.of(settings, settings.batch_size), method),
        method,
        settings,
        1,
    )
    glass = NonFiniteTracer(method)
    glass.weights()
    with wrapper.optim_context(method):
        data = method.data_preprocessor(dict(batch, unreadable=[]), True)
        loss = method(**data, mode='loss')['loss']
    loss.backward()
    glass.close()
    return content['found'], glass.first and glass.first[1]
