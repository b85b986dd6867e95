"""Backbones: any timm model by name, without its classifier, or a registered network by type.

ResNets can also have a CIFAR stem, wider stages and TensorFlow's padding; ViTs can have MoCo v3's
fixed patch embedding.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.layers import Conv2dSame, create_pool2d
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_zoo.architecture_keys import architecture, is_architecture_only
from ssl_zoo.errors import ConfigError, nearest, reason
from ssl_zoo.pretrained import note_missing, recorded_loading
from ssl_zoo.registry import BACKBONES

STEMS = ('imagenet', 'cifar')
PADDINGS = ('symmetric', 'same')
RGB = 3  # channels of all images


def build_backbone(name: str | None = None, **arguments: Any) -> nn.Module:
    """Build a backbone, (B, 3, H, W) -> (B, embed_dim).

    Args:
        name: a timm model, see build_timm_backbone.
        arguments: those of build_timm_backbone; or 'type', a name in BACKBONES, and the arguments
            of what is registered there.

    Returns:
        The network; its attribute ``embed_dim`` is the width of its output.

    Raises:
        ConfigError: neither name nor type, an unknown one, or arguments that do not fit.
    """
    if name is not None:
        arguments = dict(arguments, name=name)
    if 'type' in arguments:
        return _build_registered(arguments)
    if 'name' not in arguments:
        raise ConfigError(
            "the backbone has neither 'name', that of a timm model, nor 'type', one of "
            f'{", ".join(BACKBONES.names())}; write dict(name=...) or dict(type=...)'
        )
    return build_timm_backbone(**arguments)


def _build_registered(arguments: dict[str, Any]) -> nn.Module:
    if is_architecture_only():
        arguments = architecture(arguments)
    network = BACKBONES.create(arguments)
    kind = arguments['type']
    if not isinstance(network, nn.Module):
        raise ConfigError(f'backbone {kind!r} is a {type(network).__name__}, but not a nn.Module')
    width = getattr(network, 'embed_dim', None)
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise ConfigError(
            f'backbone {kind!r} has embed_dim={width!r}, but it must be the width of its output: '
            f'set self.embed_dim in its __init__'
        )
    return network


def build_timm_backbone(
    name: str,
    stem: str = 'imagenet',
    width: float = 1,
    fixed_patches: bool = False,
    padding: str = 'symmetric',
    stem_padding: int = 1,
    **timm_arguments: Any,
) -> nn.Module:
    """Build a timm model without its classifier, (B, 3, H, W) -> (B, embed_dim).

    Args:
        name: a timm model, such as 'resnet50', 'resnet200', 'vit_small_patch16_224'.
        stem: 'imagenet' (the model's own) or 'cifar': a 3x3 convolution with stride 1 and padding 1
            and no max-pool (ResNets only).
        width: factor on the channels of the stem and of every stage, as in BYOL's ResNet-50 2x
            (ResNets only). Values below 1 make the small networks of quick runs.
        fixed_patches: whether the patch embedding keeps its random weights and the position
            embedding is fixed sines and cosines, both as in moco-v3's vits.py (arXiv 2104.02057,
            sec. 4.1; ViTs only).
        padding: 'symmetric', or 'same' for the padding that TensorFlow and haiku call SAME. With a
            stride of 2 and an even size, SAME pads one pixel less at the top and left. DeepMind's
            weights need it (deepmind-research #84; ResNets only).
        stem_padding: padding of the CIFAR stem's convolution; solo-learn's weights need 2
            (solo/methods/base.py).
        timm_arguments: passed to timm.create_model (``drop_path_rate``, ``pretrained``, ``layers``
            ...). Weights that timm loads stay as they are, bit for bit. While a network is built
            from a file, those of its architecture only, see ssl_zoo.architecture_keys.

    Returns:
        The network; its attribute ``embed_dim`` is the width of its output.

    Raises:
        ConfigError: an unknown name, stem or padding; a stem, width or padding that the model
            cannot have, or that would redraw weights that timm loads; another number of channels
            than 3; arguments that timm refuses.
    """
    _check_types(name, stem, width, fixed_patches, padding, stem_padding)
    _check_values(name, stem, padding, stem_padding)
    _check_channels(timm_arguments)
    if is_architecture_only():
        timm_arguments = architecture(dict(timm_arguments, name=name, width=width))
        timm_arguments = {k: v for k, v in timm_arguments.items() if k not in ('name', 'width')}
    is_loaded = bool(timm_arguments.get('pretrained') or timm_arguments.get('checkpoint_path'))
    if is_loaded:
        _check_loaded_weights_stay(name, stem, width, fixed_patches)
    stem_channels = round(64 * width)
    if width != 1:
        timm_arguments = _add_width(width, stem_channels, timm_arguments)
    with recorded_loading() as loaded:
        network = _create_timm_model(name, timm_arguments, width)
    if network in loaded:
        note_missing(name, network, loaded[network])

    if isinstance(network, ResNet):
        if width != 1 or stem == 'cifar':
            _replace_stem(network, stem, stem_channels, stem_padding)
        if not is_loaded and 'zero_init_last' not in timm_arguments:
            _init_last_norm_to_one(network)
        if padding == 'same':
            _pad_same(network)
    else:
        _check_resnet_options_unused(name, network, stem, padding)
    if fixed_patches:
        _check_fixed_patches_fit(name, network)
        _fix_patches(network)

    network.embed_dim = network.head_hidden_size
    return network


def _check_types(
    name: object,
    stem: object,
    width: object,
    fixed_patches: object,
    padding: object,
    stem_padding: object,
) -> None:
    expected = (
        ('name', name, str, 'the name of a timm model'),
        ('stem', stem, str, "'imagenet' or 'cifar'"),
        ('fixed_patches', fixed_patches, bool, 'True or False'),
        ('padding', padding, str, "'symmetric' or 'same'"),
        ('stem_padding', stem_padding, int, '0, 1 or 2'),
    )
    for key, value, kind, allowed in expected:
        bool_for_int = kind is int and isinstance(value, bool)
        if not isinstance(value, kind) or bool_for_int:
            raise ConfigError(f'{key} of the backbone is {value!r}, but it must be {allowed}')
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width < math.inf:
        raise ConfigError(f'width of the backbone is {width!r}, but it must be a number above 0')


def _check_values(name: str, stem: str, padding: str, stem_padding: int) -> None:
    if not timm.is_model(name):
        raise ConfigError(f'{name!r} is not a timm model: {_nearest_timm_model(name)}')
    if stem not in STEMS:
        raise ConfigError(f'stem is {stem!r}: {nearest(stem, STEMS)}')
    if padding not in PADDINGS:
        raise ConfigError(f'padding is {padding!r}: {nearest(padding, PADDINGS)}')
    if stem_padding != 1 and (stem != 'cifar' or stem_padding not in (0, 2)):
        raise ConfigError(
            f'stem_padding={stem_padding!r} with stem={stem!r}, but it must be 0, 1 or 2, and it '
            f"needs stem='cifar'"
        )


def _check_channels(timm_arguments: dict[str, Any]) -> None:
    channels = timm_arguments.get('in_chans', RGB)
    if channels != RGB:
        raise ConfigError(
            f'in_chans={channels!r} of the backbone, but it must be {RGB}: images are read as RGB '
            f'here, also grayscale ones; leave it out'
        )


def _check_loaded_weights_stay(name: str, stem: str, width: float, fixed_patches: bool) -> None:
    """Raise ConfigError for an option that draws anew what timm loads."""
    for key, value, allowed in (
        ('stem', stem, 'imagenet'),
        ('width', width, 1),
        ('fixed_patches', fixed_patches, False),
    ):
        if value != allowed:
            raise ConfigError(
                f'{key}={value!r} would draw pretrained weights of {name!r} anew; with pretrained '
                f'weights it must be {allowed!r}: leave out {key}, or give pretrained=False'
            )


def _nearest_timm_model(name: str) -> str:
    """Suggest similar names. ``nearest`` would also list all of timm's more than 1000 models."""
    similar = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
    listing = 'timm.list_models() names all of them.'
    if not similar:
        return listing
    return f'did you mean {" or ".join(map(repr, similar))}? {listing}'


def _check_resnet_options_unused(name: str, network: nn.Module, stem: str, padding: str) -> None:
    kind = type(network).__name__
    if padding == 'same':
        raise ConfigError(f"padding='same' works for ResNets only, and {name!r} is a {kind}")
    if stem == 'cifar':
        raise ConfigError(f"stem='cifar' works for ResNets only, and {name!r} is a {kind}")


def _add_width(width: float, stem_channels: int, timm_arguments: dict[str, Any]) -> dict[str, Any]:
    """Add timm's arguments that multiply the channels of a ResNet by ``width``."""
    if stem_channels < 2 or stem_channels % 2:
        raise ConfigError(
            f'width={width} gives a stem of {64 * width:g} channels; choose a width that gives an '
            f'even number'
        )
    # timm fixes a plain stem at 64 channels, but a deep stem (three 3x3 convolutions) is
    # 2 * stem_width wide. With a deep stem the stages fit; _replace_stem then puts a plain one in.
    wide = dict(
        channels=[stem_channels * 2**stage for stage in range(4)],
        stem_type='deep',
        stem_width=stem_channels // 2,
    )
    for key in timm_arguments.keys() & wide.keys():
        raise ConfigError(
            f'width={width} sets {key}, which is given as {timm_arguments[key]!r} too; leave one '
            f'of them out'
        )
    return {**wide, **timm_arguments}


def _create_timm_model(name: str, arguments: dict[str, Any], width: float) -> nn.Module:
    """Build timm's model without a classifier.

    Raises:
        ConfigError: timm raised an exception of any type. timm checks few arguments, so that a
            wrong value fails where timm first uses it.
    """
    remark = ''
    if width != 1:
        remark = '; width works for ResNets only'
    listing = ', '.join(f'{key}={value!r}' for key, value in arguments.items())
    listing = listing or 'its own arguments'
    try:
        network = timm.create_model(name, num_classes=0, **arguments)
    except TypeError as error:
        raise ConfigError(
            f'{name!r} does not take these arguments ({reason(error)}){remark}'
        ) from None
    except Exception as error:
        raise ConfigError(
            f'timm cannot build {name!r} with {listing} ({type(error).__name__}: '
            f'{reason(error)}){remark}; change or leave out what does not fit'
        ) from None
    if not _gives_one_vector_per_image(network):
        raise ConfigError(
            f'{name!r} with {listing} is no backbone with a feature vector for each image; leave '
            f'out what does not fit'
        )
    return network


def _gives_one_vector_per_image(network: nn.Module) -> bool:
    """Whether the model tells the width of its features and, as a ResNet, has four stages."""
    if not hasattr(network, 'head_hidden_size'):
        return False
    if not isinstance(network, ResNet):
        return True
    return all(len(getattr(network, f'layer{stage}', ())) for stage in range(1, 5))


def _replace_stem(network: ResNet, stem: str, channels: int, stem_padding: int) -> None:
    """Put one convolution in place of the stem, and for CIFAR remove the max-pool behind it."""
    if network.bn1.num_features != channels:
        raise ConfigError(
            f'a stem of {channels} channels does not fit this model, whose first stage takes '
            f'{network.bn1.num_features}; use a plain ResNet (resnet18, resnet50, resnet200 ...)'
        )
    if stem == 'cifar':
        conv = nn.Conv2d(3, channels, kernel_size=3, stride=1, padding=stem_padding, bias=False)
        network.maxpool = nn.Identity()
    else:
        conv = nn.Conv2d(3, channels, kernel_size=7, stride=2, padding=3, bias=False)
    # timm's initial weights of the other convolutions.
    nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
    network.conv1 = conv


def _init_last_norm_to_one(network: ResNet) -> None:
    """Start the scale of the last BatchNorm of basic blocks (ResNet-18, 34) at 1.

    haiku and torchvision start it at 1. timm starts it at 0, and ``zero_init_last=True`` in the
    config keeps 0. Bottlenecks keep timm's 0, as in BYOL's released code. (The paper's numbers were
    made with 1; the README of the code finds no difference for ResNet-50 1x and 2x.)
    """
    for block in network.modules():
        if isinstance(block, BasicBlock):
            nn.init.ones_(block.bn2.weight)


def _pad_same(module: nn.Module) -> None:
    """Give convolutions and max-pools of stride 2 the padding SAME.

    The amount of padding depends on the image size. Layers of stride 1 need no change: SAME pads
    them symmetrically.
    """
    for name, layer in list(module.named_children()):
        if type(layer) is nn.Conv2d and layer.stride[0] > 1:
            setattr(module, name, _conv_same(layer))
        elif isinstance(layer, nn.MaxPool2d):
            pool = create_pool2d('max', layer.kernel_size, layer.stride, padding='same')
            setattr(module, name, pool)
        else:
            _pad_same(layer)


def _conv_same(conv: nn.Conv2d) -> Conv2dSame:
    """Copy a convolution, weights included, as one with the padding SAME."""
    same = Conv2dSame(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    same.load_state_dict(conv.state_dict())
    return same


def _check_fixed_patches_fit(name: str, network: nn.Module) -> None:
    if not isinstance(network, VisionTransformer):
        raise ConfigError(
            f'fixed_patches works for ViTs only, and {name!r} is a {type(network).__name__}'
        )
    positions = math.prod(network.patch_embed.grid_size) + 1  # the last one for the class token
    if (
        network.cls_token is None
        or network.pos_embed is None
        or network.pos_embed.shape[1] != positions
    ):
        raise ConfigError(
            f'fixed_patches needs positions of one class token and of each patch, and no others; '
            f'{name!r} has other positions; use a plain ViT (vit_small_patch16_224, '
            f'vit_base_patch16_224 ...)'
        )


def _fix_patches(network: VisionTransformer) -> None:
    """Draw the patch embedding as a linear layer (Xavier), freeze it, and set fixed positions."""
    projection = network.patch_embed.proj
    fan_in = projection.weight[0].numel()
    bound = math.sqrt(6 / (fan_in + projection.out_channels))
    nn.init.uniform_(projection.weight, -bound, bound)
    nn.init.zeros_(projection.bias)
    projection.requires_grad_(False)
    nn.init.normal_(network.cls_token, std=1e-6)
    rows, columns = network.patch_embed.grid_size
    patches = _sine_cosine_positions(rows, columns, network.embed_dim)
    class_token = torch.zeros(network.num_prefix_tokens, network.embed_dim)
    positions = torch.cat([class_token, patches])  # (1 + patches, embed_dim)
    network.pos_embed = nn.Parameter(positions.unsqueeze(0), requires_grad=False)


def _sine_cosine_positions(height: int, width: int, dim: int) -> Tensor:
    """Compute sines and cosines of the row, then of the column, as in moco-v3's vits.py.

    Returns:
        (height * width, dim) float32, patches in row-major order.
    """
    quarter = dim // 4
    frequency = 10000.0 ** (-torch.arange(quarter) / quarter)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    row_angles = rows.reshape(-1, 1) * frequency  # (height * width, quarter)
    column_angles = columns.reshape(-1, 1) * frequency
    parts = [row_angles.sin(), row_angles.cos(), column_angles.sin(), column_angles.cos()]
    return torch.cat(parts, dim=1)


def other_channels(
    expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> str | None:
    """Say that a file's first convolution takes another number of channels than RGB has.

    Args:
        expected: the state_dict of the network.
        shapes: name -> shape of each tensor of the file.

    Returns:
        None if the file has no such convolution.
    """
    for name, tensor in expected.items():
        shape = shapes.get(name, ())
        if tensor.ndim != 4 or len(shape) != 4 or tensor.shape[1] != RGB:
            continue
        if shape[1] != RGB and (shape[0], *shape[2:]) == (tensor.shape[0], *tensor.shape[2:]):
            return (
                f'its {name} takes images of {shape[1]} channels, and images are read as RGB here, '
                f'{RGB} channels, also grayscale ones; give weights that were trained on RGB'
            )
    return None
