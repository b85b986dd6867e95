"""How timm and torchvision build a backbone of ssl_zoo, and their names for its weights.

The backbones of ssl_zoo are timm's, and so are the names of their weights. torchvision's ResNets
use the same names, torchvision's ViTs use other names.
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

from ssl_zoo.backbones import build_backbone, build_timm_backbone
from ssl_zoo.errors import ConfigError
from ssl_zoo.layers import StdConv2d, batchnorm_to_groupnorm

# Ends of error messages: the formats that remain.
USE_OTHER_FORMATS = 'use --format timm, safetensors or onnx'
USE_ONNX = 'use --format onnx, which holds the network itself'

# Arguments of build_backbone that code with timm alone can express. With any other argument, the
# code calls build_backbone.
TIMM_ARGUMENTS = {'name', 'stem', 'width', 'fixed_patches', 'pretrained', 'timm_arguments'}
# The TIMM_ARGUMENTS that timm.create_model does not take.
SSL_ZOO_ARGUMENTS = {'name', 'stem', 'width', 'fixed_patches'}

# timm's names of the parts of a ViT -> torchvision's. Both store q, k and v as one matrix, in this
# order.
VIT_PARAMETERS = dict(cls_token='class_token', pos_embed='encoder.pos_embedding')
VIT_PARTS = {'patch_embed.proj.': 'conv_proj.', 'norm.': 'encoder.ln.'}
VIT_BLOCK_PARTS = {
    'norm1.': 'ln_1.',
    'attn.qkv.': 'self_attention.in_proj_',
    'attn.proj.': 'self_attention.out_proj.',
    'norm2.': 'ln_2.',
    'mlp.fc1.': 'mlp.0.',
    'mlp.fc2.': 'mlp.3.',
}

Build = Callable[[], nn.Module]
State = dict[str, Tensor]


@dataclass(frozen=True)
class RebuildRecipe:
    """How another library builds a network, (B, 3, H, W) float32 -> (B, D), and loads its weights.

    Attributes:
        build: builds the network with random weights.
        code: lines of Python for the user that build the network as ``model``.
        load: loads a state_dict with the names from ``rename``, removes a classifier that ssl_zoo
            does not have, and returns the network.
        load_code: lines of Python for the user that do the same with a dict ``weights``.
        rename: converts ssl_zoo's state_dict to the names and shapes of the library.
        arguments: arguments beside the name with which ``timm.create_model`` alone builds the
            network; None if it cannot.
        beyond_timm: what ``timm.create_model`` alone cannot build.
    """

    build: Build
    code: tuple[str, ...]
    load: Callable[[nn.Module, State], nn.Module]
    load_code: tuple[str, ...]
    rename: Callable[[State], State] = dict
    arguments: dict | None = None
    beyond_timm: str = ''


def timm_recipe(encoder: nn.Module, backbone: dict | None) -> RebuildRecipe:
    """Return how ``timm.create_model`` builds a backbone.

    A CIFAR stem or another width takes two or three more lines of code. For features that timm
    cannot express (weight standardisation, padding as in TensorFlow) the code calls ssl_zoo's
    ``build_backbone``.

    Args:
        encoder: the backbone.
        backbone: ``method.backbone`` of the config.
    Raises:
        ConfigError: the config does not name the network, or the encoder's weights are not those of
            the network that it names.
    """
    is_named = isinstance(backbone, dict) and 'name' in backbone and 'type' not in backbone
    if not is_named or not all(str(key).isidentifier() for key in backbone):
        raise ConfigError(
            'the config of this checkpoint has no method.backbone=dict(name=...), so the code that '
            f'builds the network is unknown; {USE_ONNX}'
        )
    arguments = {key: value for key, value in backbone.items() if key != 'pretrained'}
    arguments = _at_its_size(encoder, arguments)
    beyond_timm = _beyond_timm(encoder, arguments)
    if _arguments_beyond_timm(arguments):
        build, code = _ssl_zoo_network(arguments)
    else:
        build, code = _timm_network(encoder, arguments)
    if _n_standardized(encoder) != _n_standardized(_on_meta(build)):
        build, code = _groupnorm_network(encoder, arguments)  # BYOL without batch statistics
        beyond_timm = 'weight-standardised convolutions with GroupNorm'
    _check_same_weights(
        encoder.state_dict(),
        _on_meta(build).state_dict(),
        f"timm's {arguments['name']}",
        USE_ONNX,
    )
    return RebuildRecipe(
        build,
        code,
        _load_all,
        ('model.load_state_dict(weights)', 'model.eval()'),
        arguments=None if beyond_timm else _timm_arguments(arguments),
        beyond_timm=beyond_timm,
    )


def _at_its_size(encoder: nn.Module, arguments: dict) -> dict:
    """Return the arguments with the image size that ``data.eval_size`` gave the network."""
    size = _image_size(encoder)
    if size is None or size == _image_size(_on_meta(lambda: build_backbone(**arguments))):
        return arguments
    return dict(arguments, img_size=size[0])


def _image_size(network: nn.Module) -> tuple[int, int] | None:
    """Return the size that a network with a patch embedding is built for; None for others."""
    return getattr(getattr(network, 'patch_embed', None), 'img_size', None)


def _beyond_timm(encoder: nn.Module, arguments: dict) -> str:
    """Return what the arguments of a model of timm cannot express; '' if they say everything."""
    for key in sorted(_arguments_beyond_timm(arguments)):
        return f'{key}={arguments[key]!r}'
    for key, plain in (('stem', 'imagenet'), ('width', 1)):
        if isinstance(encoder, ResNet) and arguments.get(key, plain) != plain:
            return f'a ResNet with {key}={arguments[key]!r}'
    if not timm.model_entrypoint(arguments['name']).__module__.startswith('timm.models.'):
        return f'{arguments["name"]}, a model that is registered outside timm'
    return ''


def _arguments_beyond_timm(backbone: dict) -> set[str]:
    """Return the arguments in a config that code with timm alone cannot express."""
    known = set(inspect.signature(build_timm_backbone).parameters)
    return (known - TIMM_ARGUMENTS).intersection(backbone)


def _ssl_zoo_network(arguments: dict) -> tuple[Build, tuple[str, ...]]:
    def build() -> nn.Module:
        return build_backbone(**arguments)

    code = (
        'from ssl_zoo.backbones import build_backbone',
        f'model = build_backbone({_as_code(arguments)})',
    )
    return build, code


def _groupnorm_network(encoder: nn.Module, arguments: dict) -> tuple[Build, tuple[str, ...]]:
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.GroupNorm)]
    groups = norms[0].num_groups

    def build() -> nn.Module:
        return batchnorm_to_groupnorm(build_backbone(**arguments), groups)

    code = (
        'from ssl_zoo.backbones import build_backbone',
        'from ssl_zoo.layers import batchnorm_to_groupnorm',
        f'model = batchnorm_to_groupnorm(build_backbone({_as_code(arguments)}), {groups})',
    )
    return build, code


def _timm_network(encoder: nn.Module, backbone: dict) -> tuple[Build, tuple[str, ...]]:
    """Return the network and its code with timm alone.

    The stem of a ResNet is replaced if its kernel or its width is not timm's.
    """
    name = backbone['name']
    arguments = _timm_arguments(backbone)
    is_cifar = backbone.get('stem') == 'cifar'
    has_other_width = backbone.get('width', 1) != 1
    channels = 0
    stem = {}
    if isinstance(encoder, ResNet) and (is_cifar or has_other_width):
        conv = encoder.conv1
        channels = conv.out_channels
        stem = dict(kernel_size=conv.kernel_size, stride=conv.stride, padding=conv.padding)
        if has_other_width:
            # As in build_backbone: timm has a width argument only for the deep stem, so the deep
            # stem is built and then replaced.
            arguments['channels'] = [channels << i for i in range(4)]
            arguments['stem_type'] = 'deep'
            arguments['stem_width'] = channels // 2

    def build() -> nn.Module:
        model = timm.create_model(name, num_classes=0, **arguments)
        if stem:
            model.conv1 = nn.Conv2d(3, channels, bias=False, **stem)
        if is_cifar:
            model.maxpool = nn.Identity()
        return model

    code = [
        'import timm',
        f'model = timm.create_model({name!r}, {_as_code(dict(num_classes=0, **arguments))})',
    ]
    if stem:
        code.append(f'model.conv1 = torch.nn.Conv2d(3, {channels}, bias=False, {_as_code(stem)})')
    if is_cifar:
        code.append('model.maxpool = torch.nn.Identity()')
    if stem:
        call = f'ssl_zoo.backbones.build_backbone({_as_code(backbone)})'
        code.append(f'# or, with ssl_zoo: model = {call}')
    return build, tuple(code)


def torchvision_recipe(encoder: nn.Module, backbone: dict | None) -> RebuildRecipe:
    """Return how torchvision builds a backbone.

    The backbone must be a ResNet (basic blocks or bottlenecks, any depth) or a VisionTransformer.
    The names are from torchvision/models/resnet.py and vision_transformer.py.

    Args:
        encoder: the backbone.
        backbone: ``method.backbone`` of the config.
    Raises:
        ConfigError: torchvision has no such network.
    """
    backbone = backbone or {}
    for key in _arguments_beyond_timm(backbone):
        raise ConfigError(
            f'torchvision has no network with {key}={backbone[key]!r}; {USE_OTHER_FORMATS}'
        )
    if isinstance(encoder, ResNet):
        return _torchvision_resnet(encoder, str(backbone.get('name', 'such ResNet')))
    if isinstance(encoder, VisionTransformer):
        return _torchvision_vit(encoder)
    advice = USE_OTHER_FORMATS if 'name' in backbone else USE_ONNX
    raise ConfigError(
        'only ResNets and ViTs can be exported for torchvision, and this backbone is a '
        f'{type(encoder).__name__}; {advice}'
    )


def _torchvision_resnet(encoder: ResNet, name: str) -> RebuildRecipe:
    _check_torchvision_has_resnet(encoder, name)
    stages = [encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4]
    layers = [len(stage) for stage in stages]
    first = encoder.layer1[0]
    block = torchvision.models.resnet.BasicBlock
    arguments = {}
    if type(first) is Bottleneck:
        block = torchvision.models.resnet.Bottleneck
        groups = first.conv2.groups
        width_per_group = first.conv2.out_channels // groups
        if (groups, width_per_group) != (1, 64):  # ResNeXt, wide ResNet
            arguments = dict(groups=groups, width_per_group=width_per_group)

    def build() -> nn.Module:
        return torchvision.models.ResNet(block, layers, **arguments)

    call = f'ResNet(torchvision.models.resnet.{block.__name__}, {layers}'
    if arguments:
        call += f', {_as_code(arguments)}'
    call += ')'
    # If a named torchvision model has the same weights, its name makes the code shorter.
    named = getattr(torchvision.models, name, None)
    if named and _shapes(_on_meta(named).state_dict()) == _shapes(_on_meta(build).state_dict()):
        build = named
        call = f'{name}()'
    weights = _without(_on_meta(build).state_dict(), 'fc.')
    _check_same_weights(encoder.state_dict(), weights, "torchvision's ResNet", USE_OTHER_FORMATS)
    code = ('import torchvision', f'model = torchvision.models.{call}')
    return RebuildRecipe(build, code, _loader_without('fc'), _load_code_without('fc'))


def _check_torchvision_has_resnet(encoder: ResNet, name: str) -> None:
    first = encoder.layer1[0]
    conv = encoder.conv1
    if type(first) not in (BasicBlock, Bottleneck) or not isinstance(conv, nn.Conv2d):
        raise ConfigError(
            f'torchvision has no {name}: its ResNets have basic blocks or bottlenecks and a plain '
            f'stem; {USE_OTHER_FORMATS}'
        )
    if isinstance(conv, StdConv2d):
        raise ConfigError(
            'torchvision has no weight-standardised convolutions, which this network has; '
            f'{USE_OTHER_FORMATS}'
        )
    if conv.out_channels != 64:
        raise ConfigError(
            'torchvision has no ResNet of this width: its stem has 64 channels and this one '
            f'{conv.out_channels} (its '
            "wide_resnet50_2 widens only the middle of each block, BYOL's 2x the whole block); "
            f'{USE_OTHER_FORMATS}'
        )
    if conv.kernel_size != (7, 7):
        raise ConfigError(
            'torchvision has no ResNet with a stem of '
            f'{conv.kernel_size[0]}x{conv.kernel_size[1]}, such as that for CIFAR; '
            f'{USE_OTHER_FORMATS}'
        )


def _torchvision_vit(encoder: VisionTransformer) -> RebuildRecipe:
    _check_torchvision_has_vit(encoder)
    block = encoder.blocks[0]
    arguments = dict(
        image_size=encoder.patch_embed.img_size[0],
        patch_size=encoder.patch_embed.patch_size[0],
        num_layers=len(encoder.blocks),
        num_heads=block.attn.num_heads,
        hidden_dim=encoder.embed_dim,
        mlp_dim=block.mlp.fc1.out_features,
    )

    def build() -> nn.Module:
        return torchvision.models.VisionTransformer(**arguments)

    def rename(state: State) -> State:
        return {_torchvision_vit_name(key): value for key, value in state.items()}

    _check_same_weights(
        rename(encoder.state_dict()),
        _without(_on_meta(build).state_dict(), 'heads.'),
        "torchvision's VisionTransformer",
        USE_OTHER_FORMATS,
    )
    call = f'torchvision.models.VisionTransformer({_as_code(arguments)})'
    code = ('import torchvision', f'model = {call}')
    return RebuildRecipe(build, code, _loader_without('heads'), _load_code_without('heads'), rename)


def _check_torchvision_has_vit(encoder: VisionTransformer) -> None:
    height, width = encoder.patch_embed.img_size
    patch_height, patch_width = encoder.patch_embed.patch_size
    is_square = height == width and patch_height == patch_width
    gives_normed_token = encoder.global_pool == 'token' and isinstance(encoder.norm, nn.LayerNorm)
    if not is_square or not gives_normed_token:
        raise ConfigError(
            "torchvision's ViT takes square images and gives the class token after a LayerNorm; "
            'this one does not; '
            f'{USE_OTHER_FORMATS}'
        )


def _torchvision_vit_name(name: str) -> str:
    """Return torchvision's name of a ViT's parameter.

    A parameter that torchvision does not have keeps its name.
    """
    front = ''
    parts = VIT_PARTS
    if name.startswith('blocks.'):
        number, name = name.removeprefix('blocks.').split('.', 1)
        front = f'encoder.layers.encoder_layer_{number}.'
        parts = VIT_BLOCK_PARTS
    for ours, theirs in parts.items():
        if name.startswith(ours):
            return front + theirs + name.removeprefix(ours)
    return front + VIT_PARAMETERS.get(name, name)


def _load_all(model: nn.Module, weights: State) -> nn.Module:
    model.load_state_dict(weights)
    return model


def _loader_without(head: str) -> Callable[[nn.Module, State], nn.Module]:
    """Return a function that loads all weights except a classifier's, and removes the classifier.

    The classifier is replaced by the identity.
    """

    def load(model: nn.Module, weights: State) -> nn.Module:
        keys = model.load_state_dict(weights, strict=False)
        missing = [key for key in keys.missing_keys if not key.startswith(f'{head}.')]
        mismatched = [*keys.unexpected_keys, *missing]
        if mismatched:
            raise RuntimeError(f'{mismatched[0]} is not in both')
        setattr(model, head, nn.Identity())
        return model

    return load


def _load_code_without(head: str) -> tuple[str, ...]:
    return (
        f'model.load_state_dict(weights, strict=False)          # only {head} is missing',
        f'model.{head} = torch.nn.Identity()',
        'model.eval()',
    )


def _timm_arguments(backbone: dict) -> dict:
    """Return those of ``build_backbone``'s arguments that go to timm.create_model, but the name."""
    return {key: value for key, value in backbone.items() if key not in SSL_ZOO_ARGUMENTS}


def _as_code(arguments: dict) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in arguments.items())


def _on_meta(build: Build) -> nn.Module:
    """Return the network on the meta device, where its weights take no memory."""
    with torch.device('meta'):
        return build()


def _n_standardized(network: nn.Module) -> int:
    """Return the number of weight-standardised convolutions."""
    return sum(isinstance(layer, StdConv2d) for layer in network.modules())


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def _without(state: State, prefix: str) -> State:
    return {key: value for key, value in state.items() if not key.startswith(prefix)}


def _check_same_weights(ours: State, theirs: State, library: str, advice: str) -> None:
    """Raise ConfigError for the first weight that one network lacks or whose shapes differ."""
    our_shapes = _shapes(ours)
    their_shapes = _shapes(theirs)
    for key in [*our_shapes, *their_shapes]:
        if key not in their_shapes:
            raise ConfigError(f'{library} has no {key}, which this backbone has; {advice}')
        if key not in our_shapes:
            raise ConfigError(f'{library} has {key}, which this backbone does not have; {advice}')
        if our_shapes[key] != their_shapes[key]:
            raise ConfigError(
                f'{library} has {key} of shape {their_shapes[key]}, and this backbone of '
                f'{our_shapes[key]}; {advice}'
            )
