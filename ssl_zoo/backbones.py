"""Backbones: any timm model by name; ResNets also with a CIFAR stem, wider stages and TensorFlow's padding, ViTs with MoCo v3's fixed
patches."""

import math

import timm
import torch
from timm.layers import Conv2dSame, create_pool2d
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ssl_zoo.errors import ConfigError, nearest


def build_backbone(
    name: str,
    stem: str = 'imagenet',
    width: float = 1,
    fixed_patches: bool = False,
    padding: str = 'symmetric',
    stem_padding: int = 1,
    **timm_arguments,
) -> nn.Module:
    """A timm model without its classifier, (B, 3, H, W) -> (B, embed_dim).

    Args:
        name: a timm model, such as 'resnet50', 'resnet200', 'vit_small_patch16_224'.
        stem: 'imagenet' (the model's own) or 'cifar': 3x3 convolution, stride 1, padding 1, no max-pool (ResNets only).
        width: factor on the channels of every stage and of the stem, as in BYOL's ResNet-50 2x (ResNets only).
            Below 1 it makes the small networks of quick runs.
        fixed_patches: a random patch embedding that is not trained, and fixed sine-cosine positions, both as in moco-v3's
            vits.py (arXiv 2104.02057, sec. 4.1; ViTs only).
        padding: 'symmetric', or 'same' for what TensorFlow and haiku call SAME, which with a stride of 2 and an even size pads one
            pixel less at the top and left; DeepMind's weights need it (deepmind-research #84; ResNets only).
        stem_padding: of the CIFAR stem's convolution; solo-learn's weights need 2 (solo/methods/base.py).
        timm_arguments: passed to timm.create_model (``drop_path_rate``, ``pretrained``, ``layers`` ...).

    Returns:
        The network, with its output width as the attribute ``embed_dim``.

    Raises:
        ConfigError: an unknown name, stem or padding, a stem, width or padding that the model cannot have, what timm refuses.
    """
    _check_types(name, stem, width, fixed_patches, padding, stem_padding)
    if not timm.is_model(name):
        raise ConfigError(f'{name!r} is not a timm model: {_near(name)}')
    if stem not in ('imagenet', 'cifar'):
        raise ConfigError(f'stem is {stem!r}: {nearest(stem, ("imagenet", "cifar"))}')
    if padding not in ('symmetric', 'same'):
        raise ConfigError(f'padding is {padding!r}: {nearest(padding, ("symmetric", "same"))}')
    if stem_padding != 1 and (stem != 'cifar' or stem_padding not in (0, 2)):
        raise ConfigError(
            f"stem_padding={stem_padding!r} with stem={stem!r}, but it must be 0, 1 or 2, and it needs stem='cifar'"
        )
    stem_channels = round(64 * width)
    if width != 1:
        if stem_channels < 2 or stem_channels % 2:
            raise ConfigError(
                f'width={width} gives a stem of {64 * width:g} channels; choose one that gives an even number'
            )
        # timm fixes a plain stem at 64 channels but lets a deep one (three 3x3 convolutions) be 2 * stem_width wide;
        # built so, the stages fit, and the deep stem is replaced below by the plain one.
        wide = dict(
            channels=[stem_channels << i for i in range(4)],
            stem_type='deep',
            stem_width=stem_channels // 2,
        )
        for key in timm_arguments.keys() & wide.keys():
            raise ConfigError(
                f'width={width} sets {key}, which is given as {timm_arguments[key]!r} too; leave one of them out'
            )
        timm_arguments = {**wide, **timm_arguments}
    network = _created(name, timm_arguments, '; width works for ResNets only' if width != 1 else '')
    if isinstance(network, ResNet):
        if width != 1 or stem == 'cifar':
            _plain_stem(network, stem, stem_channels, stem_padding)
        if isinstance(network.layer1[0], BasicBlock) and 'zero_init_last' not in timm_arguments:
            _unit_gamma(network)
        if padding == 'same':
            _pad_same(network)
    elif padding == 'same':
        raise ConfigError(
            f"padding='same' works for ResNets only, and {name!r} is a {type(network).__name__}"
        )
    elif stem == 'cifar':
        raise ConfigError(
            f"stem='cifar' works for ResNets only, and {name!r} is a {type(network).__name__}"
        )
    if fixed_patches:
        if not isinstance(network, VisionTransformer):
            raise ConfigError(
                f'fixed_patches works for ViTs only, and {name!r} is a {type(network).__name__}'
            )
        patches = math.prod(network.patch_embed.grid_size)
        if (
            network.cls_token is None
            or network.pos_embed is None
            or network.pos_embed.shape[1] != patches + 1
        ):
            raise ConfigError(
                f'fixed_patches needs a class token and a position for each patch and nothing else, which {name!r} has not; '
                f'use a plain ViT (vit_small_patch16_224, vit_base_patch16_224 ...)'
            )
        _fix_patches(network)
    network.embed_dim = network.head_hidden_size
    return network


def _check_types(name, stem, width, fixed_patches, padding, stem_padding) -> None:
    for key, value, kind, what in (
        ('name', name, str, 'the name of a timm model'),
        ('stem', stem, str, "'imagenet' or 'cifar'"),
        ('fixed_patches', fixed_patches, bool, 'True or False'),
        ('padding', padding, str, "'symmetric' or 'same'"),
        ('stem_padding', stem_padding, int, '0, 1 or 2'),
    ):
        if not isinstance(value, kind) or kind is int and isinstance(value, bool):
            raise ConfigError(f'{key} of the backbone is {value!r}, but it must be {what}')
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width < math.inf:
        raise ConfigError(f'width of the backbone is {width!r}, but it must be a number above 0')


def _created(name: str, arguments: dict, remark: str) -> nn.Module:
    """timm's model. Raises ConfigError for whatever timm answers: it checks little, and values fail where they are first used."""
    said = ', '.join(f'{key}={value!r}' for key, value in arguments.items())
    try:
        network = timm.create_model(name, num_classes=0, **arguments)
    except TypeError as error:
        raise ConfigError(
            f'{name!r} does not take these arguments ({_first_line(error)}){remark}'
        ) from None
    except Exception as error:
        raise ConfigError(
            f'timm cannot build {name!r} with {said or "its own arguments"} ({type(error).__name__}: {_first_line(error)})'
            f'{remark}; change or leave out what does not fit'
        ) from None
    if (
        not hasattr(network, 'head_hidden_size')
        or isinstance(network, ResNet)
        and not all(len(getattr(network, f'layer{i}', ())) for i in range(1, 5))
    ):
        raise ConfigError(
            f'{name!r} with {said or "its own arguments"} is no backbone with a feature vector for each image; leave out '
            f'what does not fit'
        )
    return network


def _first_line(error: Exception) -> str:
    return (str(error) or 'it does not say why').splitlines()[0]


def _near(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
    return (
        f'did you mean {" or ".join(map(repr, close))}? ' if close else ''
    ) + 'timm.list_models() names all of them.'


def _plain_stem(network: ResNet, stem: str, channels: int, stem_padding: int) -> None:
    """One convolution in front, and for CIFAR no max-pool behind it."""
    if network.bn1.num_features != channels:
        raise ConfigError(
            f'a stem of {channels} channels does not fit this model, whose first stage takes '
            f'{network.bn1.num_features}; use a plain ResNet (resnet18, resnet50, resnet200 ...)'
        )
    shape = (
        dict(kernel_size=3, stride=1, padding=stem_padding)
        if stem == 'cifar'
        else dict(kernel_size=7, stride=2, padding=3)
    )
    network.conv1 = nn.Conv2d(3, channels, bias=False, **shape)
    nn.init.kaiming_normal_(
        network.conv1.weight, mode='fan_out', nonlinearity='relu'
    )  # as timm draws the others
    if stem == 'cifar':
        network.maxpool = nn.Identity()


def _pad_same(module: nn.Module) -> None:
    """Convolutions and max-pools of stride 2 find out with each image how much to pad; those of stride 1 pad the same either way."""
    for name, layer in list(module.named_children()):
        if type(layer) is nn.Conv2d and layer.stride[0] > 1:
            new = Conv2dSame(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,
                layer.stride,
                dilation=layer.dilation,
                groups=layer.groups,
                bias=layer.bias is not None,
            )
            new.load_state_dict(layer.state_dict())
            setattr(module, name, new)
        elif isinstance(layer, nn.MaxPool2d):
            setattr(
                module, name, create_pool2d('max', layer.kernel_size, layer.stride, padding='same')
            )
        else:
            _pad_same(layer)


def _unit_gamma(network: ResNet) -> None:
    """Start the last BatchNorm of basic blocks (ResNet-18, 34) at 1, as haiku and torchvision do; timm starts it at 0, which
    ``zero_init_last=True`` asks for.

    Bottlenecks keep timm's 0, which is also what BYOL's released code has. (The paper's numbers were made with 1; its
    README finds no difference for ResNet-50 1x and 2x.)
    """
    for block in network.modules():
        if isinstance(block, BasicBlock):
            nn.init.ones_(block.bn2.weight)


def _fix_patches(network: VisionTransformer) -> None:
    """Draw the patch embedding as a linear layer (Xavier) and freeze it; positions: sines and cosines of row and column."""
    projection = network.patch_embed.proj
    bound = math.sqrt(6 / (projection.weight[0].numel() + projection.out_channels))
    nn.init.uniform_(projection.weight, -bound, bound)
    nn.init.zeros_(projection.bias)
    projection.requires_grad_(False)
    nn.init.normal_(network.cls_token, std=1e-6)
    height, width = network.patch_embed.grid_size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    quarter = network.embed_dim // 4
    frequency = 10000.0 ** (-torch.arange(quarter) / quarter)
    angles = [
        place.reshape(-1, 1) * frequency for place in (y, x)
    ]  # (patches, quarter) each; rows first, as there
    positions = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)
    positions = torch.cat([torch.zeros(network.num_prefix_tokens, network.embed_dim), positions])
    network.pos_embed = nn.Parameter(positions.unsqueeze(0), requires_grad=False)
