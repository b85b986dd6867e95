"""DeepMind's BYOL: a pickled named tuple of haiku's two-level mappings, module -> parameter (byol/byol_experiment.py of
deepmind-research)."""

import re

import torch
from torch import Tensor

from ssl_zoo.errors import ConfigError
from ssl_zoo.interop.foreign_checkpoint import ForeignCheckpoint, ForeignNetwork
from ssl_zoo.interop.safe_unpickling import Inert, Stored

_STATE = ('online_params', 'target_params', 'online_state', 'target_state')


def _mapping(value) -> dict | None:
    """A mapping of haiku (haiku/_src/data_structures.py: FlatMapping and frozendict are made from a dict), or a plain one."""
    if isinstance(value, Inert) and not value and value.args and isinstance(value.args[0], dict):
        return _mapping(value.args[0])
    if isinstance(value, Inert) and not value:
        state = (
            value.state[1]
            if isinstance(value.state, tuple) and len(value.state) == 2
            else value.state
        )
        inner = [
            state[key]
            for key in ('_mapping', '_storage')
            if isinstance(state, dict) and isinstance(state.get(key), dict)
        ]
        return _mapping(inner[0]) if inner else None
    return value if isinstance(value, dict) else None


def experiment_state(content) -> dict | None:
    """online_params, target_params, online_state, target_state of DeepMind's file, None if it is not one."""
    state = content.get('experiment_state') if isinstance(content, dict) else None
    if isinstance(state, Inert) and len(state.args) >= 4:  # the named tuple's order
        state = dict(zip(_STATE, state.args, strict=False))
    if not isinstance(state, dict):
        return None
    found = {key: _mapping(state.get(key)) for key in _STATE}
    return found if found['online_params'] and found['online_state'] else None


def from_haiku(content: dict, state: dict) -> ForeignCheckpoint:
    """The networks of a file whose experiment_state is this."""
    networks, left_out = {}, []
    for role in ('online', 'target'):
        params, averages = state[f'{role}_params'], state[f'{role}_state']
        if params and averages:
            networks[role], rest = _haiku(params, averages)
            left_out += [f'{role} {name.split("/")[0]}' for name in rest]
    steps = content.get('step')
    steps = (
        steps
        if isinstance(steps, int)
        else int(steps.read())
        if isinstance(steps, Stored) and steps.shape == ()
        else 0
    )
    return ForeignCheckpoint(
        'deepmind_byol',
        networks,
        'online',
        left_out + ['opt_state'],
        backbone=dict(padding='same'),
        steps=max(steps, 0),
    )


def _haiku(params: dict, averages: dict) -> tuple[ForeignNetwork, list[str]]:
    """timm's names for haiku's ResNet v1 (haiku/_src/nets/resnet.py, byol/utils/networks.py) and the projector; what is left out."""
    network, left_out = ForeignNetwork({}), []
    modules = {
        name: _mapping(value) or {}
        for name, value in {**params, **averages}.items()
        if isinstance(name, str)
    }
    for module, values in modules.items():
        if 'final_batchnorm' in module:
            raise ConfigError(
                'the file holds a ResNet v2, whose normalisation stands before the convolutions; only v1 can be imported'
            )
        average = re.fullmatch(r'(.*)/~/(mean|var)_ema', module)
        part, name = _timm_name(average[1] if average else module)
        if part is None:
            left_out.append(module)
            continue
        weights = getattr(network, part)
        for key, value in values.items():
            if (
                average and key != 'average'
            ):  # 'hidden' is the same before Adam's correction of its start
                continue
            new = (
                f'running_{average[2]}'
                if average
                else dict(w='weight', b='bias', scale='weight', offset='bias').get(key)
            )
            if new is None or not isinstance(value, Stored):
                raise ConfigError(f"the file has {module}/{key}, which haiku's ResNet does not")
            weights[f'{name}.{new}'] = _turned(value, key)
    return network, left_out


def _timm_name(path: str) -> tuple[str | None, str]:
    """('backbone' or 'projector', the module's name), (None, '') for what is neither."""
    if found := re.fullmatch(r'projector/(linear(?:_1)?|batch_norm)', path):
        return 'projector', dict(linear='0', batch_norm='1', linear_1='3')[found[1]]
    if found := re.fullmatch(r'(?:[^/]+/~/)?initial_(conv|batchnorm)(?:_1)?', path):
        return 'backbone', dict(conv='conv1', batchnorm='bn1')[found[1]]
    if found := re.fullmatch(
        r'[^/]+/~/block_group_(\d)/~/block_(\d+)/~/(shortcut_)?(conv|batchnorm)(?:_(\d))?', path
    ):
        group, block, shortcut, kind, i = found.groups()
        layer = (
            f'downsample.{int(kind == "batchnorm")}'
            if shortcut
            else f'{dict(conv="conv", batchnorm="bn")[kind]}{int(i or 0) + 1}'
        )
        return 'backbone', f'layer{int(group) + 1}.{block}.{layer}'
    return None, ''


def _turned(value: Stored, key: str) -> Stored:
    """Convolutions from height, width, in, out to out, in, height, width; linear layers from in, out; norms from (1, 1, 1, C)."""

    def turn(tensor: Tensor) -> Tensor:
        if key != 'w':
            return tensor.flatten()
        return (
            tensor.permute(3, 2, 0, 1)
            if tensor.ndim == 4
            else tensor.T
            if tensor.ndim == 2
            else tensor
        )

    shape = turn(torch.empty(value.shape, device='meta')).shape
    return Stored(tuple(shape), lambda: turn(value.read()).contiguous())
