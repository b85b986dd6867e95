"""Foreign checkpoints become checkpoints of the zoo: read, recognised, compared name by name with the network they are for, written."""
import ast
import hashlib
import math
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from ..atomic import write_atomically
from ..backbones import build_backbone
from ..engine.checkpoint import EVALUATION_OPTIONS, FORMAT, build_method, load_method, sealed, versions
from ..engine.config import apply_option
from ..engine.settings import check, plain
from ..registry import ConfigError
from .layouts import Found, Network, Weights, find
from .unpickling import read_foreign

FILE = 'imported.pth'
RESNETS = {('basic', (2, 2, 2, 2)): 'resnet18', ('basic', (3, 4, 6, 3)): 'resnet34', ('bottleneck', (3, 4, 6, 3)): 'resnet50',
           ('bottleneck', (3, 4, 23, 3)): 'resnet101', ('bottleneck', (3, 8, 36, 3)): 'resnet152',
           ('bottleneck', (3, 24, 36, 3)): 'resnet200'}
WIDE = dict(resnet50='wide_resnet50_2', resnet101='wide_resnet101_2')
VITS = {192: ('tiny', 3), 384: ('small', 6), 768: ('base', 12), 1024: ('large', 16)}          # timm's names, and heads
CIFAR10 = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))           # of solo/data/pretrain_dataloader.py
# What stands behind the features in networks that keep it with the backbone.
HEADS = re.compile(r'(fc|head|heads|head_dist|classifier|last_linear|projection_head|prototypes)\.')


@dataclass
class Report:
    """What was imported. Attributes: path: of the checkpoint; lines: what was taken, what was left out."""
    path: Path
    lines: list[str]


def import_checkpoint(file: str | Path, out: str | Path, layout: str = 'auto', backbone: str | None = None,
                      options: list[str] = ()) -> Report:
    """Write ``out``/imported.pth, a checkpoint for every evaluation tool, from the file of another library.

    Args:
        file: a checkpoint of one of the layouts, see ssl_zoo.exchange.layouts.NAMES.
        out: a folder without an imported.pth.
        layout: its layout, 'auto' to find out.
        backbone: a timm model, or keys of build_backbone written as a dict; by default as the weights' shapes show it.
        options: changes to the data part of the config, such as 'data.test.root=/data/imagenet/val'.
    Raises:
        ConfigError: a file that cannot be read, of no known layout, or whose backbone has other names or shapes than it should.
    """
    path = Path(out) / FILE
    if path.exists():
        raise ConfigError(f'{path} exists already, and figures beside it may be of it; choose another --out')
    found = find(read_foreign(file), layout)
    config = dict(architecture({name: value.shape for name, value in found.networks['online'].backbone.items()}, found, _given(backbone)))
    with torch.device('meta'):                                       # names and shapes alone
        empty = build_backbone(**config)
    for network in found.networks.values():
        heads = {name for name in network.backbone.keys() - empty.state_dict().keys() if HEADS.match(name)}
        found.left_out += sorted(heads)
        network.backbone = {name: value for name, value in network.backbone.items() if name not in heads}
    weights = {role: _fitted(network.backbone, empty, f'{role} backbone') for role, network in found.networks.items()}
    layers, notes = _projector(found, empty.embed_dim)
    with open(file, 'rb') as opened:
        digest = hashlib.file_digest(opened, 'sha256').hexdigest()
    source = dict(file=Path(file).name, sha256=digest, layout=found.layout, steps=found.steps)
    cfg = _config(config, found, layers, source)
    for option in options:
        if option.split('=')[0].split('.')[0] not in EVALUATION_OPTIONS:
            raise ConfigError(f'the option {option!r} would change what was trained; an import can change {", ".join(EVALUATION_OPTIONS)}')
        apply_option(cfg, option)
    settings = check(cfg)
    method = build_method(settings)
    for role, values in weights.items():
        part = getattr(method, role)
        part.backbone.load_state_dict(values)
        if layers is not None:
            part.projector.load_state_dict(_fitted(found.networks[role].projector, part.projector, f'{role} projector'))
    state = method.state_dict()
    content = dict(format=FORMAT, config=settings.plain(), step=found.steps, method=state, versions=versions(), imported=source)
    try:
        write_atomically(path, lambda opened: torch.save(sealed(content), opened))
    except (OSError, RuntimeError) as error:                         # RuntimeError: torch's, when its archive cannot be finished
        raise ConfigError(f'could not write {path}: {str(error).splitlines()[0]}; free some space, or choose another --out') from None
    load_method(path)                                                # as every tool will
    return Report(path, _lines(found, config, method, layers, notes, settings, file, digest))


def _given(backbone: str | None) -> dict:
    """What --backbone says."""
    if backbone is None:
        return {}
    if not backbone.lstrip().startswith('{'):
        return dict(name=backbone)
    try:
        value = ast.literal_eval(backbone)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f'--backbone {backbone!r} is neither a model of timm nor a dict such as '
                          f'"{{\'name\': \'vit_small_patch16_224\', \'num_heads\': 12}}"')
    return value


def architecture(shapes: dict[str, tuple[int, ...]], found: Found, given: dict) -> dict:
    """Keys of build_backbone for weights of these shapes; what is given goes before what the shapes show."""
    if 'conv1.weight' in shapes and 'layer1.0.conv1.weight' in shapes:
        seen = _resnet(shapes, found)
    elif 'cls_token' in shapes and 'patch_embed.proj.weight' in shapes and len(shapes['patch_embed.proj.weight']) == 4:
        seen = _vit(shapes, found, given)
    elif 'name' in given:
        seen = {key: value for key, value in found.backbone.items() if key == 'padding'}
    else:
        raise ConfigError(f'the backbone\'s names are neither those of a plain ResNet nor of a ViT: {_some(shapes)}; name the model with '
                          f'--backbone if timm has it under these names')
    if 'name' in given:                                              # what a named model has itself is not asked of the weights
        seen = {key: value for key, value in seen.items() if key not in ('layers', 'depth', 'embed_dim', 'patch_size')}
    return {**seen, **given}


def _resnet(shapes: dict, found: Found) -> dict:
    depths = []
    while any(name.startswith(f'layer{len(depths) + 1}.') for name in shapes):
        i = len(depths) + 1
        depths.append(len({name.split('.')[1] for name in shapes if name.startswith(f'layer{i}.')}))
    kind = 'bottleneck' if 'layer1.0.conv3.weight' in shapes else 'basic'
    channels, _, kernel, _ = shapes['conv1.weight']
    name = RESNETS.get((kind, tuple(depths)))
    seen = dict(name=name) if name else dict(name=dict(bottleneck='resnet50', basic='resnet18')[kind], layers=depths)
    if kind == 'bottleneck' and shapes['layer1.0.conv1.weight'][0] == 2 * channels:          # torchvision's, wide inside of the blocks
        seen['name'] = WIDE.get(seen['name'], seen['name'])
    if channels != 64:
        seen['width'] = channels / 64
    if kernel == 3:
        seen['stem'] = 'cifar'
    return {**seen, **{key: value for key, value in found.backbone.items()
                       if key == 'padding' or key == 'stem_padding' and kernel == 3}}


def _vit(shapes: dict, found: Found, given: dict) -> dict:
    width, patch = shapes['cls_token'][-1], shapes['patch_embed.proj.weight'][-1]
    depth = len({name.split('.')[1] for name in shapes if name.startswith('blocks.')})
    size, heads = VITS.get(width, ('tiny', None))
    heads = found.backbone.get('num_heads', heads)
    if 'num_heads' not in given and 'name' not in given and heads is None:
        raise ConfigError(f'the file holds a ViT of width {width}, whose number of heads the weights do not show; give it, such as '
                          f'--backbone "{{\'num_heads\': 4}}"')
    if 'num_heads' not in given and width == 384 and found.ambiguous_heads:
        raise ConfigError(f'{found.ambiguous_heads}; say it with --backbone "{{\'num_heads\': 12}}" or 6')
    name = f'vit_{size}_patch{patch}_224'
    usual = dict(name=name) if timm.is_model(name) else dict(name=f'vit_{size}_patch16_224', patch_size=patch)
    seen = dict(usual)
    if width not in VITS:
        seen['embed_dim'] = width
    if heads not in (None, VITS.get(width, (None, None))[1]):
        seen['num_heads'] = heads
    if depth != (24 if size == 'large' else 12):
        seen['depth'] = depth
    side = math.isqrt(max(shapes.get('pos_embed', (1, 197, 0))[1] - 1, 0))
    if side * patch != 224:
        seen['img_size'] = side * patch
    return seen


def _some(names) -> str:
    names = list(names)
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


def _fitted(weights: Weights, network: nn.Module, what: str) -> dict[str, Tensor]:
    """The weights as a state_dict of the network, in its types. Raises ConfigError for a name or a shape that is not the network's."""
    wanted = network.state_dict()
    counters = {name for name in wanted if name.endswith('num_batches_tracked')}
    missing, unexpected = wanted.keys() - weights.keys() - counters, weights.keys() - wanted.keys()
    if missing or unexpected:
        said = [f'{verb} {_some(sorted(names))}' for verb, names in (('lacks', missing), ('has besides', unexpected)) if names]
        raise ConfigError(f'the {what} in the file {" and ".join(said)}; name the model with --backbone if it is another one')
    for name, value in weights.items():
        if tuple(value.shape) != tuple(wanted[name].shape):
            raise ConfigError(f'the {what} in the file has {name} of shape {tuple(value.shape)}, and the network has it of '
                              f'{tuple(wanted[name].shape)}; name the model with --backbone if it is another one')
    out = {name: torch.zeros(wanted[name].shape, dtype=wanted[name].dtype) for name in counters}
    for name, value in weights.items():
        tensor = value.read()
        if not isinstance(tensor, Tensor) or tensor.shape != wanted[name].shape:
            raise ConfigError(f'the {what} in the file holds {name}, which is not the tensor that it says; fetch the file again')
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ConfigError(f'the {what} in the file has values in {name} that are not finite; take another checkpoint of that run')
        out[name] = tensor.to(wanted[name].dtype)
    return out


def _projector(found: Found, width: int) -> tuple[list | None, list[str]]:
    """The layers of the projector, None where it cannot be had for every network, and why."""
    specs = []
    for role, network in found.networks.items():
        try:
            specs.append(_layers(network, width))
        except ConfigError as error:
            return None, [f'the projector of the {role} network: {error}']
    if any(spec is None for spec in specs):
        return None, [] if all(spec is None for spec in specs) else ['the projector, which one network alone has']
    return (specs[0], []) if all(spec == specs[0] for spec in specs) else (None, ['the projectors, which differ'])


def _layers(network: Network, width: int) -> list | None:
    """The layers of an nn.Sequential from its names and shapes: a place without weights is an activation."""
    weights = {(name if name.split('.')[0].isdigit() else f'0.{name}'): value for name, value in network.projector.items()}
    network.projector = weights
    if not weights:
        return None
    if not all(name.count('.') == 1 for name in weights):
        raise ConfigError(f'its layers are not a plain sequence ({_some(weights)})')
    places, layers = {int(name.split('.')[0]) for name in weights}, []
    for i in range(max(places) + 1):
        shape = {name.split('.')[1]: tuple(value.shape) for name, value in weights.items() if name.startswith(f'{i}.')}
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


def _config(backbone: dict, found: Found, layers: list | None, source: dict) -> dict:
    """A config of the method Imported; its data are ImageNet's folders, or CIFAR-10 for a network with a CIFAR stem."""
    cifar = backbone.get('stem') == 'cifar'
    size = backbone.get('img_size', 32 if cifar else 224)
    if cifar:
        data = dict(train=dict(type='CIFAR10', root='data/cifar10'), val=5000, train_on_val=True,
                    test=dict(type='CIFAR10', root='data/cifar10', split='test'), **(CIFAR10 if found.layout == 'solo_learn' else {}))
    else:
        data = dict(train=dict(type='ImageFolder', root='data/imagenet/train'), val=10009, train_on_val=True,
                    test=dict(type='ImageFolder', root='data/imagenet/val'))
    method = dict(type='Imported', backbone=backbone, projector=layers, target='target' in found.networks, main=found.main, source=source)
    return plain(dict(method=method, data=data, views=[dict(size=size)], optimizer=dict(type='SGD'), epochs=1, batch_size=256, base_lr=1.0,
                      watch=dict(every=0)))


def _lines(found: Found, config: dict, method: nn.Module, layers: list | None, notes: list[str], settings, file, digest: str) -> list[str]:
    """What was imported, for the terminal."""
    millions = sum(p.numel() for p in method.online.backbone.parameters()) / 1e6
    lines = [f'{Path(file).name}  SHA-256 {digest[:16]}, layout {found.layout}' + (f', {found.steps:,} steps' if found.steps else ''),
             f'backbone   {", ".join(f"{key}={value!r}" for key, value in config.items())}: {millions:.1f} M parameters']
    for role, network in found.networks.items():
        lines.append(f'{role:<10} {len(network.backbone)} tensors of the backbone'
                     + (f', {len(network.projector)} of the projector' if layers else '') + (' (main)' if role == found.main else ''))
    if layers:
        lines.append('projector  ' + ' - '.join(str(layer[2]) if layer[0] == 'linear' else layer[0] for layer in layers))
    groups = Counter(name if ' ' in name else name.split('.')[0] for name in found.left_out)
    left = [name if n == 1 else f'{name} ({n} names)' for name, n in groups.items()] + notes
    data = asdict(settings.data)
    size, resize = settings.eval_geometry()
    return lines + [f'left out   {", ".join(left) or "nothing"}',
                    f'data       {data["train"]}; short side to {resize}, centre {size}; mean {tuple(data["mean"])}, '
                    f'std {tuple(data["std"])}']


