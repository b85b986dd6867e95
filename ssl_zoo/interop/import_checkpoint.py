"""Foreign checkpoints become checkpoints of the zoo: read, recognised, compared name by name with the network they are for, written."""

import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.build import EVALUATION_OPTIONS, build_method, load_method
from ssl_zoo.checkpoint import FORMAT, add_digest
from ssl_zoo.config.builtin_values import to_builtin
from ssl_zoo.config.options import apply_option
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.errors import ConfigError
from ssl_zoo.interop.architecture import architecture, given_backbone, some
from ssl_zoo.interop.foreign_checkpoint import ForeignCheckpoint, ForeignNetwork, Weights
from ssl_zoo.interop.layouts import find
from ssl_zoo.interop.safe_unpickling import read_foreign
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.digest import sha256_of_file
from ssl_zoo.versions import versions

FILE = 'imported.pth'
# Of solo/data/pretrain_dataloader.py.
CIFAR = dict(
    CIFAR10=dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    CIFAR100=dict(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
)
SWAV = dict(
    mean=(0.485, 0.456, 0.406), std=(0.228, 0.224, 0.225)
)  # of facebookresearch/swav, src/multicropdataset.py
# What stands behind the features in networks that keep it with the backbone.
HEADS = re.compile(r'(fc|head|heads|head_dist|classifier|last_linear|projection_head|prototypes)\.')


@dataclass
class Report:
    """What was imported. Attributes: path: of the checkpoint; lines: what was taken, what was left out."""

    path: Path
    lines: list[str]


def import_checkpoint(
    file: str | Path,
    out: str | Path,
    layout: str = 'auto',
    backbone: str | None = None,
    options: list[str] = (),
) -> Report:
    """Write ``out``/imported.pth, a checkpoint for every evaluation tool, from the file of another library.

    The network to evaluate is the trained one, but the average that follows it where the library evaluates that: DINO, and of lightly the
    files with a student_backbone or, as its MoCo v2, a query_backbone.

    Args:
        file: a checkpoint of one of the layouts, see ssl_zoo.interop.layouts.NAMES.
        out: a folder without an imported.pth.
        layout: its layout, 'auto' to find out.
        backbone: a timm model, or keys of build_backbone written as a dict; by default as the weights' shapes show it.
        options: changes to the data part of the config, such as 'data.test.root=/data/imagenet/val'.
    Raises:
        ConfigError: a file that cannot be read, of no known layout, or whose backbone has other names or shapes than it should.
    """
    path = Path(out) / FILE
    if path.exists():
        raise ConfigError(
            f'{path} exists already, and figures beside it may be of it; choose another --out'
        )
    found = find(read_foreign(file), layout)
    shapes = {name: tuple(value.shape) for name, value in found.networks['online'].backbone.items()}
    config = architecture(shapes, found, given_backbone(backbone))
    with torch.device('meta'):  # names and shapes alone
        empty = build_backbone(**config)
    for network in found.networks.values():
        heads = {
            name
            for name in network.backbone.keys() - empty.state_dict().keys()
            if HEADS.match(name)
        }
        found.left_out += sorted(heads)
        network.backbone = {
            name: value for name, value in network.backbone.items() if name not in heads
        }
    weights = {
        role: _fitted(network.backbone, empty, f'{role} backbone')
        for role, network in found.networks.items()
    }
    layers, notes = _projector(found, empty.embed_dim)
    digest = sha256_of_file(file)
    source = dict(file=Path(file).name, sha256=digest, layout=found.layout, steps=found.steps)
    cfg = _config(config, found, layers, source)
    for option in options:
        if option.split('=')[0].split('.')[0] not in EVALUATION_OPTIONS:
            raise ConfigError(
                f'the option {option!r} would change what was trained; an import can change {", ".join(EVALUATION_OPTIONS)}'
            )
        apply_option(cfg, option)
    settings = settings_from_dict(cfg)
    method = build_method(settings)
    for role, values in weights.items():
        part = getattr(method, role)
        part.backbone.load_state_dict(values)
        if layers is not None:
            part.projector.load_state_dict(
                _fitted(found.networks[role].projector, part.projector, f'{role} projector')
            )
    state = method.state_dict()
    content = dict(
        format=FORMAT,
        config=settings.to_builtin(),
        step=found.steps,
        method=state,
        versions=versions(),
    )
    try:
        atomic_write(path, lambda opened: torch.save(add_digest(content), opened))
    except (
        OSError,
        RuntimeError,
    ) as error:  # RuntimeError: torch's, when its archive cannot be finished
        raise ConfigError(
            f'could not write {path}: {str(error).splitlines()[0]}; free some space, or choose another --out'
        ) from None
    load_method(path)  # as every tool will
    return Report(path, _lines(found, config, method, layers, notes, settings, file, digest))


def _fitted(weights: Weights, network: nn.Module, what: str) -> dict[str, Tensor]:
    """The weights as a state_dict of the network, in its types. Raises ConfigError for a name or a shape that is not the network's."""
    wanted = network.state_dict()
    counters = {name for name in wanted if name.endswith('num_batches_tracked')}
    missing, unexpected = wanted.keys() - weights.keys() - counters, weights.keys() - wanted.keys()
    if missing or unexpected:
        said = [
            f'{verb} {some(sorted(names))}'
            for verb, names in (('lacks', missing), ('has besides', unexpected))
            if names
        ]
        raise ConfigError(
            f'the {what} in the file {" and ".join(said)}; name the model with --backbone if it is another one'
        )
    for name, value in weights.items():
        if tuple(value.shape) != tuple(wanted[name].shape):
            raise ConfigError(
                f'the {what} in the file has {name} of shape {tuple(value.shape)}, and the network has it of '
                f'{tuple(wanted[name].shape)}; name the model with --backbone if it is another one'
            )
    out = {name: torch.zeros(wanted[name].shape, dtype=wanted[name].dtype) for name in counters}
    for name, value in weights.items():
        tensor = value.read()
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ConfigError(
                f'the {what} in the file has values in {name} that are not finite; take another checkpoint of that run'
            )
        out[name] = tensor.to(wanted[name].dtype)
    return out


def _projector(found: ForeignCheckpoint, width: int) -> tuple[list | None, list[str]]:
    """The layers of the projector, None where it cannot be had for every network, and why."""
    specs = []
    for role, network in found.networks.items():
        try:
            specs.append(_layers(network, width))
        except ConfigError as error:
            return None, [f'the projector of the {role} network: {error}']
    if any(spec is None for spec in specs):
        return None, [] if all(spec is None for spec in specs) else [
            'the projector, which one network alone has'
        ]
    return (
        (specs[0], [])
        if all(spec == specs[0] for spec in specs)
        else (None, ['the projectors, which differ'])
    )


def _layers(network: ForeignNetwork, width: int) -> list | None:
    """The layers of an nn.Sequential from its names and shapes: a place without weights is an activation."""
    weights = {
        (name if name.split('.')[0].isdigit() else f'0.{name}'): value
        for name, value in network.projector.items()
    }
    network.projector = weights
    if not weights:
        return None
    if not all(name.count('.') == 1 for name in weights):
        raise ConfigError(f'its layers are not a plain sequence ({some(weights)})')
    places, layers = {int(name.split('.')[0]) for name in weights}, []
    for i in range(max(places) + 1):
        shape = {
            name.split('.')[1]: tuple(value.shape)
            for name, value in weights.items()
            if name.startswith(f'{i}.')
        }
        if not shape:
            layers.append([network.activation])
        elif 'running_mean' in shape:
            layers.append(['batchnorm', shape['running_mean'][0], 'weight' in shape])
        elif len(shape.get('weight', ())) == 2:
            layers.append(['linear', shape['weight'][1], shape['weight'][0], 'bias' in shape])
        else:
            raise ConfigError(f'its layer {i} is neither a linear one nor a BatchNorm')
    if layers[0][:2] != ['linear', width]:
        raise ConfigError(f'it does not begin with a linear layer of {width} inputs')
    return layers


def _config(backbone: dict, found: ForeignCheckpoint, layers: list | None, source: dict) -> dict:
    """A config of the method Imported; its data are ImageNet's folders, or for a network with a CIFAR stem CIFAR-10, unless the file says
    CIFAR-100."""
    cifar = backbone.get('stem') == 'cifar'
    size = backbone.get('img_size', 32 if cifar else 224)
    if cifar:
        kind = 'CIFAR100' if found.dataset == 'cifar100' else 'CIFAR10'
        root = f'data/{kind.lower()}'
        data = dict(
            train=dict(type=kind, root=root),
            val=5000,
            train_on_val=True,
            test=dict(type=kind, root=root, split='test'),
            **(CIFAR[kind] if found.layout == 'solo_learn' else {}),
        )
    else:
        data = dict(
            train=dict(type='ImageFolder', root='data/imagenet/train'),
            val=10009,
            train_on_val=True,
            test=dict(type='ImageFolder', root='data/imagenet/val'),
            **(SWAV if found.layout == 'swav' else {}),
        )
    method = dict(
        type='Imported',
        backbone=backbone,
        projector=layers,
        target='target' in found.networks,
        main=found.main,
        source=source,
    )
    return to_builtin(
        dict(
            method=method,
            data=data,
            views=[dict(size=size)],
            optimizer=dict(type='SGD'),
            epochs=1,
            batch_size=256,
            base_lr=1.0,
            online_eval=dict(every=0),
        )
    )


def _lines(
    found: ForeignCheckpoint,
    config: dict,
    method: nn.Module,
    layers: list | None,
    notes: list[str],
    settings,
    file,
    digest: str,
) -> list[str]:
    """What was imported, for the terminal."""
    millions = sum(p.numel() for p in method.online.backbone.parameters()) / 1e6
    lines = [
        f'{Path(file).name}  SHA-256 {digest[:16]}, layout {found.layout}'
        + (f', {found.steps:,} steps' if found.steps else ''),
        f'backbone   {", ".join(f"{key}={value!r}" for key, value in config.items())}: {millions:.1f} M parameters',
    ]
    for role, network in found.networks.items():
        lines.append(
            f'{role:<10} {len(network.backbone)} tensors of the backbone'
            + (f', {len(network.projector)} of the projector' if layers else '')
            + (' (main)' if role == found.main else '')
        )
    if layers:
        lines.append(
            'projector  '
            + ' - '.join(str(layer[2]) if layer[0] == 'linear' else layer[0] for layer in layers)
        )
    groups = Counter(name if ' ' in name else name.split('.')[0] for name in found.left_out)
    left = [name if n == 1 else f'{name} ({n} names)' for name, n in groups.items()] + notes
    data = asdict(settings.data)
    size, resize = settings.eval_geometry()
    lines += [f'warning    {line}' for line in _warnings(found, config, data)]
    return lines + [
        f'left out   {", ".join(left) or "nothing"}',
        f'data       {data["train"]}; short side to {resize}, centre {size}; mean {tuple(data["mean"])}, '
        f'std {tuple(data["std"])}',
    ]


def _warnings(found: ForeignCheckpoint, config: dict, data: dict) -> list[str]:
    """What a reader should check before he trusts a figure."""
    others = sorted(
        {match[1] for name in found.left_out if (match := re.match(r'(\w+_backbone)\.', name))}
    )
    lines = (
        [
            f'the file also has {" and ".join(others)}, which this layout does not know and which is left out: see that the networks '
            f'above are the ones you mean, or try another --layout'
        ]
        if others
        else []
    )
    if (
        config.get('stem') == 'cifar'
        and data['train'].get('type') == 'CIFAR10'
        and found.dataset != 'cifar10'
    ):
        says = (
            f'names the data set {found.dataset!r}'
            if found.dataset
            else 'does not name its data set'
        )
        mean, std = (','.join(map(str, CIFAR['CIFAR100'][key])) for key in ('mean', 'std'))
        new = "{'type': 'CIFAR100', 'root': 'data/cifar100'}"
        lines.append(
            f'the file {says}: CIFAR-10 is assumed; for CIFAR-100 give --cfg-options data.train="{new}" '
            f'data.test="{new[:-1]}, \'split\': \'test\'}}" data.mean="({mean})" data.std="({std})"'
        )
    return lines
