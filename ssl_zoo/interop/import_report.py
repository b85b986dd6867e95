"""The text that an import prints: imported parts, parts left out, and points to check."""

import re
from collections import Counter
from dataclasses import asdict

from torch import nn

from ssl_zoo.config.settings import Settings
from ssl_zoo.interop.foreign_checkpoint import ForeignCheckpoint
from ssl_zoo.interop.import_config import SOLO_LEARN_NORMALISATION


def report_lines(
    found: ForeignCheckpoint,
    method: nn.Module,
    settings: Settings,
    backbone: dict,
    notes: list[str],
) -> list[str]:
    """Return the lines for the terminal.

    Args:
        found: the foreign checkpoint.
        method: the method Imported with the weights.
        settings: settings of the imported checkpoint.
        backbone: arguments of build_backbone.
        notes: parts that could not be imported, and why.
    """
    source = settings.method['source']
    layers = settings.method['projector']
    data = asdict(settings.data)
    first = f'{source["file"]}  SHA-256 {source["sha256"][:16]}, layout {found.layout}'
    if found.prefix is not None:
        first += f', backbone found under {found.prefix!r}'
    if found.steps:
        first += f', {found.steps:,} steps'
    arguments = ', '.join(f'{key}={value!r}' for key, value in backbone.items())
    parameters = sum(p.numel() for p in method.online.backbone.parameters())
    lines = [first, f'backbone   {arguments}: {parameters / 1e6:.1f} M parameters']
    lines += [_network_line(found, role, layers) for role in found.networks]
    if layers:
        kinds = [str(layer[2]) if layer[0] == 'linear' else layer[0] for layer in layers]
        lines.append(f'projector  {" - ".join(kinds)}')
    lines += [f'warning    {warning}' for warning in _warnings(found, backbone, data)]
    lines.append(f'left out   {_left_out(found, notes)}')
    size, resize = settings.eval_geometry()
    lines.append(
        f'data       {data["train"]}; short side to {resize}, centre {size}; mean '
        f'{tuple(data["mean"])}, std {tuple(data["std"])}'
    )
    return lines


def _network_line(found: ForeignCheckpoint, role: str, layers: list | None) -> str:
    network = found.networks[role]
    line = f'{role:<10} {len(network.backbone)} tensors of the backbone'
    if layers:
        line += f', {len(network.projector)} of the projector'
    if role == found.main:
        line += ' (main)'
    return line


def _left_out(found: ForeignCheckpoint, notes: list[str]) -> str:
    """Return the names that were not imported, grouped by their first part, and the notes."""
    groups = Counter(name if ' ' in name else name.split('.')[0] for name in found.left_out)
    parts = [name if n == 1 else f'{name} ({n} names)' for name, n in groups.items()]
    return ', '.join(parts + notes) or 'nothing'


def _warnings(found: ForeignCheckpoint, backbone: dict, data: dict) -> list[str]:
    """Return warnings: points that the user should check before trusting a figure."""
    warnings = []
    matches = [re.match(r'(\w+_backbone)\.', name) for name in found.left_out]
    others = sorted({match[1] for match in matches if match})
    if others:
        warnings.append(
            f'the file also has {" and ".join(others)}, unknown to this layout and left out: '
            'check that the networks above are the ones you mean, or try another '
            '--layout'
        )
    if backbone.get('stem') == 'cifar':
        warnings.append(
            f'the first convolution of 3 px is padded by {backbone.get("stem_padding", 1)}, as in '
            f'{found.layout}, which the weights do not show (solo-learn pads by 2, others by 1); '
            'another --layout changes it'
        )
    is_cifar10 = backbone.get('stem') == 'cifar' and data['train'].get('type') == 'CIFAR10'
    if is_cifar10 and found.dataset != 'cifar10':
        warnings.append(_cifar10_is_assumed(found))
    return warnings


def _cifar10_is_assumed(found: ForeignCheckpoint) -> str:
    if found.dataset:
        statement = f'names the data set {found.dataset!r}'
    else:
        statement = 'does not name its data set'
    constants = SOLO_LEARN_NORMALISATION['CIFAR100']
    mean = ','.join(map(str, constants['mean']))
    std = ','.join(map(str, constants['std']))
    train = "{'type': 'CIFAR100', 'root': 'data/cifar100'}"
    test = "{'type': 'CIFAR100', 'root': 'data/cifar100', 'split': 'test'}"
    return (
        f'the file {statement}: CIFAR-10 is assumed; for CIFAR-100 give --cfg-options '
        f'data.train="{train}" data.test="{test}" data.mean="({mean})" data.std="({std})"'
    )
