"""Checkpoints of DeepMind's BYOL: a pickled named tuple of haiku's two-level mappings.

Each mapping is module -> parameter name -> array.

Source: byol/byol_experiment.py of deepmind-research.
"""

import re
from typing import Any

import torch
from torch import Tensor

from ssl_zoo.errors import ConfigError
from ssl_zoo.interop.foreign_checkpoint import ForeignCheckpoint, ForeignNetwork, as_steps
from ssl_zoo.interop.safe_unpickling import InertObject, LazyTensor

# The first fields of the named tuple, in its order.
STATE_FIELDS = ('online_params', 'target_params', 'online_state', 'target_state')
# haiku's names of parameters -> torch's.
PARAMETERS = dict(w='weight', b='bias', scale='weight', offset='bias')
# Modules of the projector -> their positions in an nn.Sequential. Position 2 is the ReLU.
PROJECTOR_MODULES = dict(linear='0', batch_norm='1', linear_1='3')
MOST_WRAPPERS = 8  # objects around a dict; an object of a hostile file may hold itself
STEM_MODULES = dict(conv='conv1', batchnorm='bn1')
BLOCK_MODULES = dict(conv='conv', batchnorm='bn')
SHORTCUT_MODULES = dict(conv='downsample.0', batchnorm='downsample.1')


def experiment_state(content: Any) -> dict[str, dict | None] | None:
    """Return the mappings of STATE_FIELDS in a checkpoint of DeepMind's BYOL.

    Return None for any other content.
    """
    if not isinstance(content, dict):
        return None
    state = content.get('experiment_state')
    if isinstance(state, InertObject) and len(state.args) >= len(STATE_FIELDS):
        state = dict(zip(STATE_FIELDS, state.args, strict=False))  # opt_state follows
    if not isinstance(state, dict):
        return None
    mappings = {field: _mapping(state.get(field)) for field in STATE_FIELDS}
    return mappings if mappings['online_params'] and mappings['online_state'] else None


def from_haiku(content: dict, state: dict[str, dict | None]) -> ForeignCheckpoint:
    """Return the networks of a checkpoint of DeepMind's BYOL.

    Args:
        content: content of the checkpoint, from read_foreign.
        state: mappings of the content, from experiment_state.
    Raises:
        ConfigError: a network is not a ResNet v1 of haiku.
    """
    networks = {}
    left_out = []
    for role in ('online', 'target'):
        parameters = state[f'{role}_params']
        averages = state[f'{role}_state']
        if parameters and averages:
            networks[role], unused = _to_timm(parameters, averages)
            left_out += [f'{role} {module.split("/")[0]}' for module in unused]
    return ForeignCheckpoint(
        'deepmind_byol',
        networks,
        'online',
        [*left_out, 'opt_state'],
        backbone=dict(padding='same'),
        steps=_steps(content),
    )


def _steps(content: dict) -> int:
    steps = content.get('step')
    if isinstance(steps, LazyTensor) and steps.shape == ():
        steps = steps.read().item()
    return as_steps(steps)


def _mapping(value: Any) -> dict | None:
    """Return the dict in haiku's FlatMapping or frozendict, or a plain dict; else None.

    Source: haiku/_src/data_structures.py.
    """
    for _ in range(MOST_WRAPPERS):
        if not isinstance(value, dict):
            return None
        if not isinstance(value, InertObject) or value:
            return value
        value = _wrapped(value)
    return None


def _wrapped(mapping: InertObject) -> Any:
    """Return the dict that an object of haiku was made from, or that is its state; else None."""
    if mapping.args and isinstance(mapping.args[0], dict):  # made from a dict
        return mapping.args[0]
    state = mapping.state
    if isinstance(state, tuple) and len(state) == 2:  # (attributes, slots)
        state = state[1]
    if isinstance(state, dict):
        for key in ('_mapping', '_storage'):
            if isinstance(state.get(key), dict):
                return state[key]
    return None


def _to_timm(parameters: dict, averages: dict) -> tuple[ForeignNetwork, list[str]]:
    """Return a network by timm's names, and the modules outside its backbone and projector.

    haiku's names are those of its ResNet v1 (haiku/_src/nets/resnet.py, byol/utils/networks.py).
    """
    network = ForeignNetwork({})
    unused = []
    for module, value in {**parameters, **averages}.items():
        if not isinstance(module, str):
            continue
        if 'final_batchnorm' in module:
            raise ConfigError(
                'the file holds a ResNet v2, whose normalisation stands before the convolutions; '
                'only v1 can be imported'
            )
        average = re.fullmatch(r'(.*)/~/(mean|var)_ema', module)
        part, name = _timm_name(average[1] if average else module)
        if part is None:
            unused.append(module)
            continue
        weights = getattr(network, part)
        for key, array in (_mapping(value) or {}).items():
            if not average:
                new = PARAMETERS.get(key)
            elif key == 'average':
                new = f'running_{average[2]}'
            else:
                continue  # 'hidden' is the average before bias correction, as in Adam
            if new is None or not isinstance(array, LazyTensor):
                raise ConfigError(
                    f"the file has {module}/{key}, which haiku's ResNet does not have"
                )
            weights[f'{name}.{new}'] = _in_torch_order(array, is_weight=key == 'w')
    return network, unused


def _timm_name(path: str) -> tuple[str | None, str]:
    """Return the part of the network ('backbone' or 'projector') and timm's name of a haiku module.

    Return (None, '') for a module outside both parts.
    """
    if match := re.fullmatch(r'projector/(linear(?:_1)?|batch_norm)', path):
        return 'projector', PROJECTOR_MODULES[match[1]]
    if match := re.fullmatch(r'(?:[^/]+/~/)?initial_(conv|batchnorm)(?:_1)?', path):
        return 'backbone', STEM_MODULES[match[1]]
    match = re.fullmatch(
        r'[^/]+/~/block_group_(\d)/~/block_(\d+)/~/(shortcut_)?(conv|batchnorm)(?:_(\d))?', path
    )
    if not match:
        return None, ''
    group, block, shortcut, kind, index = match.groups()
    if shortcut:
        layer = SHORTCUT_MODULES[kind]
    else:
        layer = f'{BLOCK_MODULES[kind]}{int(index or 0) + 1}'
    return 'backbone', f'layer{int(group) + 1}.{block}.{layer}'


def _in_torch_order(array: LazyTensor, is_weight: bool) -> LazyTensor:
    """Return a haiku array with its dimensions in torch's order.

    Weights of convolutions: (height, width, in, out) -> (out, in, height, width). Weights of linear
    layers: (in, out) -> (out, in). Everything else, such as a scale of (1, 1, 1, C): -> (C,).
    """

    def reorder(tensor: Tensor) -> Tensor:
        if not is_weight:
            return tensor.flatten()
        if tensor.ndim == 4:
            return tensor.permute(3, 2, 0, 1)
        return tensor.T if tensor.ndim == 2 else tensor

    shape = reorder(torch.empty(array.shape, device='meta')).shape
    return LazyTensor(tuple(shape), lambda: reorder(array.read()).contiguous())
