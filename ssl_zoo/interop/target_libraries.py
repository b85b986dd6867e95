"""How timm and torchvision build a backbone of the zoo, and under which names they keep its weights.

timm's names are the zoo's own, whose backbones are timm's. torchvision's ResNets have the same names, its ViTs others.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
import torchvision
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.errors import ConfigError
from ssl_zoo.layers import StdConv2d, batchnorm_to_groupnorm

ELSEWHERE = 'use --format timm, safetensors or onnx'
ONNX_ALONE = 'use --format onnx, which holds the network itself'
# build_backbone's arguments that timm's words can express; with another one the reader is told to call build_backbone.
IN_TIMMS_WORDS = {'name', 'stem', 'width', 'fixed_patches', 'pretrained', 'timm_arguments'}


@dataclass(frozen=True)
class RebuildRecipe:
    """A network of another library, (B, 3, H, W) float32 -> (B, D), without its weights.

    Attributes:
        build: makes it.
        code: lines of Python that leave it as ``model``, in the words of that library.
        load: gives it a state dict of ``rename``'s names, and takes off a classifier that the zoo does not have.
        load_code: the same for the reader, from a dict ``weights``.
        rename: the zoo's state dict in that library's names and shapes.
    """

    build: Callable[[], nn.Module]
    code: tuple[str, ...]
    load: Callable[[nn.Module, dict], nn.Module]
    load_code: tuple[str, ...]
    rename: Callable[[dict], dict] = dict


def timm_recipe(encoder: nn.Module, backbone: dict) -> RebuildRecipe:
    """How ``timm.create_model`` builds the encoder of a method whose config has this ``backbone``.

    A CIFAR stem or another width take two or three lines more. What neither gives (weight standardisation, padding of one's own) is
    left to the zoo's ``build_backbone``, and the code says so.

    Raises:
        ConfigError: the weights are not those of the network that the config names.
    """
    if (
        not isinstance(backbone, dict)
        or 'name' not in backbone
        or not all(str(key).isidentifier() for key in backbone)
    ):
        raise ConfigError(
            f'the config of this checkpoint has no method.backbone=dict(name=...), so nobody can be told what to build; '
            f'{ONNX_ALONE}'
        )
    plain = {key: value for key, value in backbone.items() if key != 'pretrained'}
    build, code = _in_timms_words(encoder, plain)
    if _beyond_timm(plain):

        def build():
            return build_backbone(**plain)

        code = (
            'from ssl_zoo.backbones import build_backbone',
            f'model = build_backbone({_arguments(plain)})',
        )
    if _standardised(encoder) != _standardised(_meta(build)):  # BYOL without batch statistics
        groups = next(
            layer.num_groups for layer in encoder.modules() if isinstance(layer, nn.GroupNorm)
        )

        def build():
            return batchnorm_to_groupnorm(build_backbone(**plain), groups)

        code = (
            'from ssl_zoo.backbones import build_backbone',
            'from ssl_zoo.layers import batchnorm_to_groupnorm',
            f'model = batchnorm_to_groupnorm(build_backbone({_arguments(plain)}), {groups})',
        )
    recipe = RebuildRecipe(
        build, code, _load_all, ('model.load_state_dict(weights)', 'model.eval()')
    )
    _check_names(
        encoder.state_dict(), _meta(build).state_dict(), f"timm's {plain['name']}", ONNX_ALONE
    )
    return recipe


def _beyond_timm(backbone: dict) -> set[str]:
    """What a config gives build_backbone that timm does not know."""
    return (
        set(inspect.signature(build_backbone).parameters)
        .difference(IN_TIMMS_WORDS)
        .intersection(backbone)
    )


def _in_timms_words(encoder: nn.Module, backbone: dict) -> tuple[Callable, tuple[str, ...]]:
    arguments = {
        key: value
        for key, value in backbone.items()
        if key not in ('name', 'stem', 'width', 'fixed_patches')
    }
    name, cifar, wide = (
        backbone['name'],
        backbone.get('stem') == 'cifar',
        backbone.get('width', 1) != 1,
    )
    stem = {}
    if isinstance(encoder, ResNet) and (cifar or wide):
        conv = encoder.conv1
        stem = dict(kernel_size=conv.kernel_size, stride=conv.stride, padding=conv.padding)
        channels = conv.out_channels
        if (
            wide
        ):  # as in build_backbone: only timm's deep stem has a width, so it is built and replaced
            arguments |= dict(
                channels=[channels << i for i in range(4)],
                stem_type='deep',
                stem_width=channels // 2,
            )

    def build():
        model = timm.create_model(name, num_classes=0, **arguments)
        if stem:
            model.conv1 = nn.Conv2d(3, channels, bias=False, **stem)
        if cifar:
            model.maxpool = nn.Identity()
        return model

    code = [
        'import timm',
        f'model = timm.create_model({name!r}, {_arguments(dict(num_classes=0, **arguments))})',
    ]
    if stem:
        code += [f'model.conv1 = torch.nn.Conv2d(3, {channels}, bias=False, {_arguments(stem)})']
    if cifar:
        code += ['model.maxpool = torch.nn.Identity()']
    if stem:
        code += [
            f'# or, with ssl_zoo: model = ssl_zoo.backbones.build_backbone({_arguments(backbone)})'
        ]
    return build, tuple(code)


def torchvision_recipe(encoder: nn.Module, backbone: dict | None) -> RebuildRecipe:
    """How torchvision builds the encoder: its ResNet (basic blocks or bottlenecks, of any depth), or its VisionTransformer.

    Its names are from torchvision/models/resnet.py and vision_transformer.py.

    Raises:
        ConfigError: torchvision has no such network.
    """
    backbone = backbone or {}
    for key in _beyond_timm(backbone):
        raise ConfigError(f'torchvision has no network with {key}={backbone[key]!r}; {ELSEWHERE}')
    if isinstance(encoder, ResNet):
        return _torchvision_resnet(encoder, str(backbone.get('name', 'such ResNet')))
    if isinstance(encoder, VisionTransformer):
        return _torchvision_vit(encoder)
    raise ConfigError(
        f'torchvision is given ResNets and ViTs, and this backbone is a {type(encoder).__name__}; '
        f'{ELSEWHERE if "name" in backbone else ONNX_ALONE}'
    )


def _torchvision_resnet(encoder: ResNet, name: str) -> RebuildRecipe:
    stages = [encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4]
    first, conv = encoder.layer1[0], encoder.conv1
    if type(first) not in (BasicBlock, Bottleneck) or not isinstance(conv, nn.Conv2d):
        raise ConfigError(
            f'torchvision has no {name}: its ResNets have basic blocks or bottlenecks and a plain stem; {ELSEWHERE}'
        )
    if isinstance(conv, StdConv2d):
        raise ConfigError(
            f'torchvision has no weight-standardised convolutions, which this network has; {ELSEWHERE}'
        )
    if conv.out_channels != 64:
        raise ConfigError(
            f'torchvision has no ResNet of this width: its stem has 64 channels and this one {conv.out_channels} (its '
            f"wide_resnet50_2 widens the middle of each block alone, BYOL's 2x all of it); {ELSEWHERE}"
        )
    if conv.kernel_size != (7, 7):
        raise ConfigError(
            f'torchvision has no ResNet with a stem of {conv.kernel_size[0]}x{conv.kernel_size[1]}, such as that for CIFAR; '
            f'{ELSEWHERE}'
        )
    block = (
        torchvision.models.resnet.BasicBlock
        if type(first) is BasicBlock
        else torchvision.models.resnet.Bottleneck
    )
    layers = [len(stage) for stage in stages]
    groups, base = (
        (first.conv2.groups, first.conv2.out_channels // first.conv2.groups)
        if type(first) is Bottleneck
        else (1, 64)
    )
    arguments = {} if (groups, base) == (1, 64) else dict(groups=groups, width_per_group=base)
    named, same = (
        getattr(torchvision.models, name, None),
        _meta(lambda: torchvision.models.ResNet(block, layers, **arguments)).state_dict(),
    )
    if named and _shapes(_meta(named).state_dict()) == _shapes(same):
        build, code = named, f'torchvision.models.{name}()'
    else:

        def build():
            return torchvision.models.ResNet(block, layers, **arguments)

        more = ''.join(f', {key}={value}' for key, value in arguments.items())
        code = (
            f'torchvision.models.ResNet(torchvision.models.resnet.{block.__name__}, {layers}{more})'
        )
    theirs = {k: v for k, v in _meta(build).state_dict().items() if not k.startswith('fc.')}
    _check_names(encoder.state_dict(), theirs, "torchvision's ResNet", ELSEWHERE)
    return RebuildRecipe(
        build, ('import torchvision', f'model = {code}'), _loader('fc'), _loading('fc')
    )


def _torchvision_vit(encoder: VisionTransformer) -> RebuildRecipe:
    block, patch = encoder.blocks[0], encoder.patch_embed.patch_size
    size, width = encoder.patch_embed.img_size, encoder.embed_dim
    arguments = dict(
        image_size=size[0],
        patch_size=patch[0],
        num_layers=len(encoder.blocks),
        num_heads=block.attn.num_heads,
        hidden_dim=width,
        mlp_dim=block.mlp.fc1.out_features,
    )

    def build():
        return torchvision.models.VisionTransformer(**arguments)

    def rename(state: dict) -> dict:
        return {_vit_name(key): value for key, value in state.items()}

    if (
        size[0] != size[1]
        or patch[0] != patch[1]
        or encoder.global_pool != 'token'
        or not isinstance(encoder.norm, nn.LayerNorm)
    ):
        raise ConfigError(
            f"torchvision's ViT takes square images, gives the class token and norms it; this one does not; {ELSEWHERE}"
        )
    _check_names(
        rename(encoder.state_dict()),
        {k: v for k, v in _meta(build).state_dict().items() if not k.startswith('heads.')},
        "torchvision's VisionTransformer",
        ELSEWHERE,
    )
    code = f'model = torchvision.models.VisionTransformer({_arguments(arguments)})'
    return RebuildRecipe(
        build, ('import torchvision', code), _loader('heads'), _loading('heads'), rename
    )


# timm's names of what a ViT is made of, and torchvision's. Both keep q, k and v as one matrix, in this order.
VIT = dict(cls_token='class_token', pos_embed='encoder.pos_embedding')
VIT_PARTS = {'patch_embed.proj.': 'conv_proj.', 'norm.': 'encoder.ln.'}
VIT_BLOCK = {
    'norm1.': 'ln_1.',
    'attn.qkv.': 'self_attention.in_proj_',
    'attn.proj.': 'self_attention.out_proj.',
    'norm2.': 'ln_2.',
    'mlp.fc1.': 'mlp.0.',
    'mlp.fc2.': 'mlp.3.',
}


def _vit_name(name: str) -> str:
    """torchvision's name of a ViT's parameter; one that torchvision does not have stays."""
    front, parts = '', VIT_PARTS
    if name.startswith('blocks.'):
        number, rest = name.removeprefix('blocks.').split('.', 1)
        front, name, parts = f'encoder.layers.encoder_layer_{number}.', rest, VIT_BLOCK
    for ours, theirs in parts.items():
        if name.startswith(ours):
            return front + theirs + name.removeprefix(ours)
    return front + VIT.get(name, name)


def _load_all(model: nn.Module, weights: dict) -> nn.Module:
    model.load_state_dict(weights)
    return model


def _loader(head: str) -> Callable[[nn.Module, dict], nn.Module]:
    def load(model, weights):
        found = model.load_state_dict(weights, strict=False)
        strange = [
            *found.unexpected_keys,
            *(key for key in found.missing_keys if not key.startswith(f'{head}.')),
        ]
        if strange:
            raise RuntimeError(f'{strange[0]} is not in both')
        setattr(model, head, nn.Identity())
        return model

    return load


def _loading(head: str) -> tuple[str, ...]:
    return (
        f'model.load_state_dict(weights, strict=False)          # only {head} is missing',
        f'model.{head} = torch.nn.Identity()',
        'model.eval()',
    )


def _arguments(values: dict) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in values.items())


def _meta(build: Callable[[], nn.Module]) -> nn.Module:
    """A network without memory for its weights."""
    with torch.device('meta'):
        return build()


def _standardised(network: nn.Module) -> int:
    return sum(isinstance(layer, StdConv2d) for layer in network.modules())


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple]:
    return {key: tuple(value.shape) for key, value in state.items()}


def _check_names(ours: dict, theirs: dict, what: str, instead: str) -> None:
    """Raise ConfigError for the first weight that is not in both, or not of one shape."""
    ours, theirs = _shapes(ours), _shapes(theirs)
    for key in [*ours, *theirs]:
        if key not in theirs:
            raise ConfigError(f'{what} has no {key}, which this backbone has; {instead}')
        if key not in ours:
            raise ConfigError(f'{what} has {key}, which this backbone has not; {instead}')
        if ours[key] != theirs[key]:
            raise ConfigError(
                f'{what} has {key} of shape {theirs[key]}, and this backbone of {ours[key]}; {instead}'
            )
