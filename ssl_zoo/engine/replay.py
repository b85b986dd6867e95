"""A pass that gave values which are not finite, done again."""
from pathlib import Path

import torch

from ..data.random import mix, seed_everything
from .checkpoint import build_method, read_data
from .guard import FORMAT, Glass
from .loop import ZooOptimWrapper
from .plan import Plan
from .runner import build_optimizer
from .settings import check


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
    config = content['config'] if precision is None else {**content['config'], 'precision': precision}
    settings, batch = check(config), content['batch']
    method = build_method(settings, pretrained=False, pass_images=len(batch['index']))
    method.load_state_dict(content['method'])
    method = method.to('cuda' if torch.cuda.is_available() else 'cpu').train()
    method.progress, method.epoch = content['progress'], content['epoch']
    seed_everything(mix(content['seed'], content['iter']))
    wrapper = ZooOptimWrapper(build_optimizer(settings, Plan.of(settings, settings.batch_size), method), method, settings, 1)
    glass = Glass(method)
    glass.weights()
    with wrapper.optim_context(method):
        data = method.data_preprocessor(dict(batch, unreadable=[]), True)
        loss = method(**data, mode='loss')['loss']
    loss.backward()
    glass.close()
    return content['found'], glass.first and glass.first[1]
