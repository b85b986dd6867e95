"""Repeat a forward and backward pass that gave values that are not finite."""

from pathlib import Path

import torch

from ssl_zoo.build import build_method
from ssl_zoo.checkpoint import read_data
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.data.random import mix, seed_everything
from ssl_zoo.engine.hooks.trace_non_finite import FORMAT
from ssl_zoo.engine.non_finite_tracer import NonFiniteTracer
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper, build_optimizer
from ssl_zoo.engine.plan import Plan


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
        ConfigError: the file is not a replay file, or names an unknown method.
    """
    content = read_data(path, FORMAT, 'replay file')
    config = content['config']
    if precision is not None:
        config = {**config, 'precision': precision}
    settings = settings_from_dict(config)
    batch = content['batch']
    method = build_method(settings, pretrained=False, microbatch_images=len(batch['index']))
    method.load_state_dict(content['method'])
    method = method.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    method.progress = content['progress']
    method.epoch = content['epoch']
    seed_everything(mix(content['seed'], content['iter']))
    plan = Plan.of(settings, settings.batch_size)
    wrapper = ZooOptimWrapper(build_optimizer(settings, plan, method), method, settings, 1)
    tracer = NonFiniteTracer(method)
    tracer.check_state('before')
    with wrapper.optim_context(method):
        data = method.data_preprocessor(dict(batch, unreadable=[]), True)
        loss = method(**data, mode='loss')['loss']
    loss.backward()
    tracer.close()
    return content['found'], tracer.description
