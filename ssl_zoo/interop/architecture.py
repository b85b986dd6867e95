"""The network that weights belong to, as their names and shapes show it."""

import ast
import math

import timm

from ssl_zoo.errors import ConfigError
from ssl_zoo.interop.foreign_checkpoint import ForeignCheckpoint

RESNETS = {
    ('basic', (2, 2, 2, 2)): 'resnet18',
    ('basic', (3, 4, 6, 3)): 'resnet34',
    ('bottleneck', (3, 4, 6, 3)): 'resnet50',
    ('bottleneck', (3, 4, 23, 3)): 'resnet101',
    ('bottleneck', (3, 8, 36, 3)): 'resnet152',
    ('bottleneck', (3, 24, 36, 3)): 'resnet200',
}
WIDE = dict(resnet50='wide_resnet50_2', resnet101='wide_resnet101_2')
VITS = {
    192: ('tiny', 3),
    384: ('small', 6),
    768: ('base', 12),
    1024: ('large', 16),
}  # timm's names, and heads


def given_backbone(backbone: str | None) -> dict:
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
        raise ConfigError(
            f'--backbone {backbone!r} is neither a model of timm nor a dict such as '
            f"\"{{'name': 'vit_small_patch16_224', 'num_heads': 12}}\""
        )
    return value


def architecture(shapes: dict[str, tuple[int, ...]], found: ForeignCheckpoint, given: dict) -> dict:
    """Keys of build_backbone for weights of these shapes; what is given goes before what the shapes show."""

    def rank(name):
        return len(shapes.get(name, ()))

    if rank('conv1.weight') == rank('layer1.0.conv1.weight') == 4:
        seen = _resnet(shapes, found)
    elif (
        rank('cls_token') == 3
        and rank('patch_embed.proj.weight') == 4
        and rank('pos_embed') in (0, 3)
    ):
        seen = _vit(shapes, found, given)
    elif 'name' in given:
        seen = {key: value for key, value in found.backbone.items() if key == 'padding'}
    else:
        raise ConfigError(
            f"the backbone's names are neither those of a plain ResNet nor of a ViT: {some(shapes)}; name the model with "
            f'--backbone if timm has it under these names'
        )
    if 'name' in given:  # what a named model has itself is not asked of the weights
        seen = {
            key: value
            for key, value in seen.items()
            if key not in ('layers', 'depth', 'embed_dim', 'patch_size')
        }
    return {**seen, **given}


def _resnet(shapes: dict, found: ForeignCheckpoint) -> dict:
    depths = []
    while any(name.startswith(f'layer{len(depths) + 1}.') for name in shapes):
        i = len(depths) + 1
        depths.append(len({name.split('.')[1] for name in shapes if name.startswith(f'layer{i}.')}))
    kind = 'bottleneck' if 'layer1.0.conv3.weight' in shapes else 'basic'
    channels, _, kernel, _ = shapes['conv1.weight']
    name = RESNETS.get((kind, tuple(depths)))
    seen = (
        dict(name=name)
        if name
        else dict(name=dict(bottleneck='resnet50', basic='resnet18')[kind], layers=depths)
    )
    if (
        kind == 'bottleneck' and shapes['layer1.0.conv1.weight'][0] == 2 * channels
    ):  # torchvision's, wide inside of the blocks
        seen['name'] = WIDE.get(seen['name'], seen['name'])
    if channels != 64:
        seen['width'] = channels / 64
    if kernel == 3:
        seen['stem'] = 'cifar'
    return {
        **seen,
        **{
            key: value
            for key, value in found.backbone.items()
            if key == 'padding' or key == 'stem_padding' and kernel == 3
        },
    }


def _vit(shapes: dict, found: ForeignCheckpoint, given: dict) -> dict:
    width, patch = shapes['cls_token'][-1], shapes['patch_embed.proj.weight'][-1]
    depth = len({name.split('.')[1] for name in shapes if name.startswith('blocks.')})
    size, heads = VITS.get(width, ('tiny', None))
    heads = found.backbone.get('num_heads', heads)
    if 'num_heads' not in given and 'name' not in given and heads is None:
        raise ConfigError(
            f'the file holds a ViT of width {width}, whose number of heads the weights do not show; give it, such as '
            f'--backbone "{{\'num_heads\': 4}}"'
        )
    if 'num_heads' not in given and width in (192, 384) and found.ambiguous_heads:
        raise ConfigError(
            f'a ViT of width {width} has 12 heads in MoCo v3 ({found.ambiguous_heads}) and {heads} elsewhere, and the '
            f'weights do not show which; say it with --backbone "{{\'num_heads\': 12}}" or "{{\'num_heads\': {heads}}}"'
        )
    name = f'vit_{size}_patch{patch}_224'
    usual = (
        dict(name=name)
        if timm.is_model(name)
        else dict(name=f'vit_{size}_patch16_224', patch_size=patch)
    )
    seen = dict(usual)
    if width not in VITS:
        seen['embed_dim'] = width
    if heads not in (None, VITS.get(width, (None, None))[1]):
        seen['num_heads'] = heads
    if depth != (24 if size == 'large' else 12):
        seen['depth'] = depth
    side = math.isqrt(max((shapes.get('pos_embed') or (1, 197, 0))[1] - 1, 0))
    if side * patch != 224:
        seen['img_size'] = side * patch
    return seen


def some(names) -> str:
    """The first few of many names."""
    names = list(names)
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')
