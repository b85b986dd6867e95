"""Find the backbone and the projector of a checkpoint from the names and shapes of its weights."""

import ast
import math
import re
from itertools import pairwise
from typing import Any

import timm

from ssl_zoo.errors import ConfigError
from ssl_zoo.interop.foreign_checkpoint import (
    ForeignCheckpoint,
    ForeignNetwork,
    Weights,
    abbreviate,
)

Shapes = dict[str, tuple[int, ...]]

# timm's names of ResNets, by kind of block and blocks per stage.
RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ('basic', (2, 2, 2, 2)): 'resnet18',
    ('basic', (3, 4, 6, 3)): 'resnet34',
    ('bottleneck', (3, 4, 6, 3)): 'resnet50',
    ('bottleneck', (3, 4, 23, 3)): 'resnet101',
    ('bottleneck', (3, 8, 36, 3)): 'resnet152',
    ('bottleneck', (3, 24, 36, 3)): 'resnet200',
}
# Names of the ResNets with twice the channels inside a block, torchvision's wide ResNets.
WIDE_RESNETS = dict(resnet50='wide_resnet50_2', resnet101='wide_resnet101_2')
# Names for ResNets of any other depths, by kind of block; ``layers`` gives the depths.
ANY_RESNET = dict(bottleneck='resnet50', basic='resnet18')
# timm's names of ViTs and their numbers of heads, by embedding dimension.
VITS = {192: ('tiny', 3), 384: ('small', 6), 768: ('base', 12), 1024: ('large', 16)}
VIT_DEPTHS = dict(tiny=12, small=12, base=12, large=24)
LAYER_NUMBER = re.compile(r'[0-9]{1,9}\.')  # the start of a name in an nn.Sequential
# Arguments that are fixed by timm's model when the user names a model.
NAMED_MODEL_ARGUMENTS = ('layers', 'depth', 'embed_dim', 'patch_size')


def parse_backbone(text: str | None) -> dict:
    """Return the arguments of build_backbone that --backbone gives; {} for None.

    The text is the name of a timm model, or a dict written in Python.

    Raises:
        ConfigError: the text begins like a dict but is not one, or a key is not a string.
    """
    if text is None:
        return {}
    if not text.lstrip().startswith('{'):
        return dict(name=text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(
            f'--backbone {text!r} is neither a model of timm nor a dict such as '
            f"\"{{'name': 'vit_small_patch16_224', 'num_heads': 12}}\""
        )
    return value


def backbone_arguments(shapes: Shapes, found: ForeignCheckpoint, given: dict) -> dict:
    """Return the arguments of build_backbone for a backbone whose weights have these shapes.

    Args:
        shapes: shapes of the weights, by timm's names.
        found: the checkpoint, for the arguments that its layout implies.
        given: arguments from the user; they replace the arguments found.
    Raises:
        ConfigError: the names are not those of a ResNet or ViT, or the weights do not determine
            all arguments.
    """
    if found.has_unknown_stem and 'stem_padding' not in given:
        raise ConfigError(
            'the first convolution has 3 px, and nothing shows which library wrote the file: '
            'solo-learn pads it by 2, others by 1; give --backbone "{\'stem_padding\': 1}" or 2'
        )
    if _is_resnet(shapes):
        arguments = _resnet_arguments(shapes, found)
    elif _is_vit(shapes):
        arguments = _vit_arguments(shapes, found, given)
    elif 'name' in given:
        arguments = {key: value for key, value in found.backbone.items() if key == 'padding'}
    else:
        raise ConfigError(
            "the backbone's names are neither those of a plain ResNet nor of a ViT: "
            f'{abbreviate(shapes)}; name the model with '
            f'--backbone if timm has it under these names'
        )
    if 'name' in given:
        for key in NAMED_MODEL_ARGUMENTS:
            arguments.pop(key, None)
    return {**arguments, **given}


def _rank(shapes: Shapes, name: str) -> int:
    return len(shapes.get(name, ()))


def _is_resnet(shapes: Shapes) -> bool:
    return _rank(shapes, 'conv1.weight') == _rank(shapes, 'layer1.0.conv1.weight') == 4


def _is_vit(shapes: Shapes) -> bool:
    return (
        _rank(shapes, 'cls_token') == 3
        and _rank(shapes, 'patch_embed.proj.weight') == 4
        and _rank(shapes, 'pos_embed') in (0, 3)
    )


def _resnet_arguments(shapes: Shapes, found: ForeignCheckpoint) -> dict:
    blocks = _blocks_per_stage(shapes)
    kind = 'bottleneck' if 'layer1.0.conv3.weight' in shapes else 'basic'
    channels, _, kernel_size, _ = shapes['conv1.weight']
    name = RESNETS.get((kind, tuple(blocks)))
    arguments: dict[str, Any] = dict(name=name or ANY_RESNET[kind])
    if not name:
        arguments['layers'] = blocks
    if kind == 'bottleneck' and shapes['layer1.0.conv1.weight'][0] == 2 * channels:
        arguments['name'] = WIDE_RESNETS.get(arguments['name'], arguments['name'])
    if channels != 64:
        arguments['width'] = channels / 64
    if kernel_size == 3:
        arguments['stem'] = 'cifar'
    for key, value in found.backbone.items():
        if key == 'padding' or (key == 'stem_padding' and kernel_size == 3):
            arguments[key] = value
    return arguments


def _blocks_per_stage(shapes: Shapes) -> list[int]:
    blocks: list[int] = []
    while True:
        stage = f'layer{len(blocks) + 1}.'
        indices = {name.split('.')[1] for name in shapes if name.startswith(stage)}
        if not indices:
            return blocks
        blocks.append(len(indices))


def _vit_arguments(shapes: Shapes, found: ForeignCheckpoint, given: dict) -> dict:
    embed_dim = shapes['cls_token'][-1]
    patch_size = shapes['patch_embed.proj.weight'][-1]
    size, usual_heads = VITS.get(embed_dim, ('tiny', None))
    heads = found.backbone.get('num_heads', usual_heads)
    _check_heads_are_known(embed_dim, heads, found, given)
    name = f'vit_{size}_patch{patch_size}_224'
    arguments: dict[str, Any] = dict(name=name)
    if not timm.is_model(name):
        arguments = dict(name=f'vit_{size}_patch16_224', patch_size=patch_size)
    if embed_dim not in VITS:
        arguments['embed_dim'] = embed_dim
    if heads not in (None, usual_heads):
        arguments['num_heads'] = heads
    depth = len({name.split('.')[1] for name in shapes if name.startswith('blocks.')})
    if depth != VIT_DEPTHS[size]:
        arguments['depth'] = depth
    # pos_embed is (1, 1 + patches, D), with one position for the class token. Without pos_embed,
    # 197 positions are assumed: 224 px and patches of 16 px.
    n_positions = (shapes.get('pos_embed') or (1, 197, 0))[1]
    img_size = math.isqrt(max(n_positions - 1, 0)) * patch_size
    if img_size != 224:
        arguments['img_size'] = img_size
    return arguments


def _check_heads_are_known(
    embed_dim: int, heads: int | None, found: ForeignCheckpoint, given: dict
) -> None:
    """Raise ConfigError if neither the weights nor the user give the number of heads of a ViT.

    No shape depends on the number of heads.
    """
    if 'num_heads' in given:
        return
    if heads is None and 'name' not in given:
        raise ConfigError(
            f'the file holds a ViT of width {embed_dim}, whose number of heads the weights do not '
            f'show; give it, such as --backbone "{{\'num_heads\': 4}}"'
        )
    if embed_dim in (192, 384) and found.ambiguous_heads:
        raise ConfigError(
            f'a ViT of width {embed_dim} has 12 heads in MoCo v3 ({found.ambiguous_heads}) and '
            f'{heads} elsewhere, and the weights do not show the number; give it with --backbone '
            f'"{{\'num_heads\': 12}}" or "{{\'num_heads\': {heads}}}"'
        )


def projector_layers(found: ForeignCheckpoint, width: int) -> tuple[list | None, list[str]]:
    """Return the layers of the projector, and lines for the report on what was not imported.

    Args:
        found: the checkpoint. Projectors of a single layer get names that begin with its number.
        width: number of features of the backbone.
    Returns:
        layers: for ssl_zoo.interop.imported_method.build_projector; None if a network has no
            projector, or one that cannot be built, or if the projectors differ.
        notes: a line for the report if a projector could not be imported.
    """
    for network in found.networks.values():
        network.projector = _with_layer_numbers(network.projector)
    layers = []
    for role, network in found.networks.items():
        try:
            layers.append(_sequential_layers(network, width))
        except ConfigError as error:
            return None, [f'the projector of the {role} network: {error}']
    if all(each is None for each in layers):
        return None, []
    if any(each is None for each in layers):
        return None, ['the projector, which one network alone has']
    if any(each != layers[0] for each in layers):
        return None, ['the projectors, which differ']
    return layers[0], []


def _with_layer_numbers(weights: Weights) -> Weights:
    """Return the weights under the names of an nn.Sequential.

    The names of a single layer ('weight') become those of layer 0 ('0.weight').
    """
    return {
        (name if LAYER_NUMBER.match(name) else f'0.{name}'): value
        for name, value in weights.items()
    }


def _sequential_layers(network: ForeignNetwork, width: int) -> list | None:
    """Return the layers of a projector; None if there is no projector.

    A layer without weights is an activation function.
    """
    weights = network.projector
    if not weights:
        return None
    if not all(name.count('.') == 1 for name in weights):
        raise ConfigError(f'its layers are not a plain sequence ({abbreviate(weights)})')
    shapes: dict[int, Shapes] = {}
    for name, value in weights.items():
        number, parameter = name.split('.')
        shapes.setdefault(int(number), {})[parameter] = tuple(value.shape)
    numbers = sorted(shapes)
    for before, after in pairwise([-1, *numbers]):
        if after > before + 3:  # an activation function and, in necks without a norm, a gap
            raise ConfigError(
                f'its layers {before + 1} to {after - 1} have no weights, and no library writes so '
                f'many in a row'
            )
    layers = [_layer(i, shapes.get(i, {}), network.activation) for i in range(numbers[-1] + 1)]
    if layers[0][:2] != ['linear', width]:
        raise ConfigError(f'it does not begin with a linear layer of {width} inputs')
    return layers


def _layer(i: int, shapes: Shapes, activation: str) -> list:
    if not shapes:
        return [activation]
    if 'running_mean' in shapes:
        return ['batchnorm', shapes['running_mean'][0], 'weight' in shapes]
    if len(shapes.get('weight', ())) == 2:
        outputs, inputs = shapes['weight']
        return ['linear', inputs, outputs, 'bias' in shapes]
    raise ConfigError(f'its layer {i} is neither a linear layer nor a BatchNorm')
