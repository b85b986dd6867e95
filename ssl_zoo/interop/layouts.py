"""Layouts: under which names other libraries keep their networks, and how these names become timm's.

Each layout says where its names are from. timm's ResNets and ViTs have the names of torchvision's ResNets and of the original ViTs, which
nearly all of these libraries build on, so most of a layout is prefixes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.interop.foreign_checkpoint import ForeignCheckpoint, ForeignNetwork, Weights
from ssl_zoo.interop.haiku import experiment_state, from_haiku
from ssl_zoo.interop.safe_unpickling import Inert, Stored

WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'student', 'teacher')
# lightly's trained networks whose average, called backbone, is what its own benchmarks evaluate (forward of dino.py and mocov2.py there).
AVERAGE_EVALUATED = ('student_backbone.', 'query_backbone.')
FIRST = ('conv1.', 'cls_token', 'patch_embed.', 'layer1.', '0.', 'stem.', 'downsample_layers.')


@dataclass(frozen=True)
class Place:
    """Where a network is: prefixes of its backbone's names, and of its projector's, of which the first that is there counts."""

    backbone: str
    projectors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Attributes: source: of the names; marks: of which auto needs all; online, target: places, of which the first that is there counts;
    backbone_name, projector_name: timm's and nn.Sequential's for theirs; main, heads: see ForeignCheckpoint."""

    source: str
    online: tuple[Place, ...]
    target: tuple[Place, ...] = ()
    marks: tuple[str, ...] = ()
    backbone_name: Callable[[str], str] = str
    projector_name: Callable[[str], str] = str
    main: str = 'online'
    heads: str = ''


def _lightly_backbone(name: str) -> str:
    """nn.Sequential(*list(resnet.children())[:-1]) counts torchvision's conv1, bn1, relu, maxpool, layer1 ... layer4."""
    found = re.match(
        r'([014567])\.(?=\d+\.(conv|bn|downsample)|weight|bias|running|num_batches)(.*)', name
    )
    if not found:
        return name
    i = int(found[1])
    return f'{("conv1", "bn1")[i] if i < 2 else f"layer{i - 3}"}.{found[3]}'


def _lightly_projector(name: str) -> str:
    return name.removeprefix('layers.')  # lightly/models/modules/heads.py


def _mm_backbone(name: str) -> str:
    """mmpretrain's ViT (mmpretrain/models/backbones/vision_transformer.py); its ResNet has torchvision's names."""
    for pattern, new in (
        (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
        (r'^layers\.(\d+)\.ln(\d)\.', r'blocks.\1.norm\2.'),
        (r'^layers\.(\d+)\.ffn\.layers\.0\.0\.', r'blocks.\1.mlp.fc1.'),
        (r'^layers\.(\d+)\.ffn\.layers\.1\.', r'blocks.\1.mlp.fc2.'),
        (r'^layers\.(\d+)\.', r'blocks.\1.'),
        (r'^ln1\.', 'norm.'),
    ):
        name = re.sub(pattern, new, name)
    return name


def _mm_projector(name: str) -> str:
    """mmpretrain/models/necks/nonlinear_neck.py: fc0, bn0, relu, fc1 ...; mocov2_neck.py and others: an nn.Sequential called mlp."""
    found = re.match(r'(fc|bn)(\d+)\.(.*)', name)
    return (
        f'{3 * int(found[2]) + (found[1] == "bn")}.{found[3]}'
        if found
        else name.removeprefix('mlp.')
    )


_PLAIN = Place('')
_MOCOV3_HEADS = (
    'facebookresearch/moco-v3, vits.py; vturrisi/solo-learn, solo/backbones/vit/vit_mocov3.py'
)
LAYOUTS = {
    'dino': Layout(
        'facebookresearch/dino, main_dino.py',
        main='target',
        marks=('student.', 'teacher.'),
        online=(Place('student.backbone.', ('student.head.mlp.',)), _PLAIN),
        target=(Place('teacher.backbone.', ('teacher.head.mlp.',)),),
    ),
    'moco': Layout(
        'facebookresearch/moco, moco/builder.py',
        marks=('encoder_q.conv1.',),
        online=(Place('encoder_q.', ('encoder_q.fc.',)),),
        target=(Place('encoder_k.', ('encoder_k.fc.',)),),
    ),
    'mocov3': Layout(
        'facebookresearch/moco-v3, moco/builder.py',
        marks=('base_encoder.',),
        online=(Place('base_encoder.', ('base_encoder.fc.', 'base_encoder.head.')),),
        target=(Place('momentum_encoder.', ('momentum_encoder.fc.', 'momentum_encoder.head.')),),
    ),
    'simsiam': Layout(
        'facebookresearch/simsiam, simsiam/builder.py',
        marks=('encoder.conv1.', 'encoder.fc.'),
        online=(Place('encoder.', ('encoder.fc.',)),),
    ),
    'swav': Layout(
        'facebookresearch/swav, src/resnet50.py',
        marks=('conv1.', 'projection_head.'),
        online=(Place('', ('projection_head.',)),),
    ),
    'lightly': Layout(
        'lightly-ai/lightly, benchmarks/imagenet/resnet50 and examples',
        heads=_MOCOV3_HEADS,
        backbone_name=_lightly_backbone,
        projector_name=_lightly_projector,
        # MoCo v2 (benchmarks/imagenet/resnet50/mocov2.py) trains query_backbone, and backbone is the average that follows it.
        online=(
            Place('query_backbone.', ('query_projection_head.',)),
            Place('student_backbone.', ('student_projection_head.', 'student_head.')),
            Place('backbone.', ('projection_head.',)),
        ),
        target=(
            Place('teacher_backbone.', ('teacher_projection_head.', 'teacher_head.')),
            Place('backbone_momentum.', ('projection_head_momentum.',)),
            Place('backbone.', ('projection_head.',)),
        ),
    ),
    'solo_learn': Layout(
        'vturrisi/solo-learn, solo/methods/base.py',
        heads=_MOCOV3_HEADS,
        online=(Place('backbone.', ('projector.',)), Place('encoder.', ('projector.',))),
        target=(
            Place('momentum_backbone.', ('momentum_projector.',)),
            Place('momentum_encoder.', ('momentum_projector.',)),
        ),
    ),
    'barlow_twins': Layout(
        'facebookresearch/barlowtwins, main.py',
        marks=('backbone.', 'projector.', 'bn.running_mean'),
        online=(Place('backbone.', ('projector.',)), _PLAIN),
    ),
    'vicreg': Layout(
        'facebookresearch/vicreg, main_vicreg.py',
        marks=('backbone.', 'projector.'),
        online=(Place('backbone.', ('projector.',)), _PLAIN),
    ),
    'mmpretrain': Layout(
        'open-mmlab/mmpretrain, mmpretrain/models/selfsup; open-mmlab/mmselfsup',
        heads=_MOCOV3_HEADS,
        backbone_name=_mm_backbone,
        projector_name=_mm_projector,
        online=(
            Place('backbone.', ('neck.',)),
            Place('online_net.0.', ('online_net.1.',)),
            Place('encoder_q.0.', ('encoder_q.1.',)),
        ),
        target=tuple(
            Place(f'{name}.{inner}0.', (f'{name}.{inner}1.',))
            for name in ('target_net', 'encoder_k', 'momentum_encoder', 'teacher')
            for inner in ('module.', '')
        ),
    ),
    'torchvision': Layout(
        'pytorch/vision, torchvision/models/resnet.py',
        online=(_PLAIN,),
        marks=('conv1.', 'layer1.'),
    ),
    'timm': Layout('huggingface/pytorch-image-models', online=(_PLAIN,)),
}
NAMES = ('auto', *LAYOUTS, 'deepmind_byol')


def find(content, layout: str = 'auto') -> ForeignCheckpoint:
    """The networks in a file's content.

    Args:
        content: from read_foreign; layout: one of NAMES.
    Raises:
        ConfigError: the layout is unknown or not that of the file; for auto: it has none of them.
    """
    if layout not in NAMES:
        raise ConfigError(f'the layout is {layout!r}: {nearest(layout, NAMES)}')
    state = experiment_state(content)
    if state is not None and layout in ('auto', 'deepmind_byol'):
        return from_haiku(content, state)
    if layout == 'deepmind_byol':
        raise ConfigError(
            'the file has no experiment_state with online_params and online_state, which the layout deepmind_byol needs; '
            'try --layout auto'
        )
    weights = _tensors(content)
    if not weights:
        raise ConfigError(
            f'the file holds no tensors by name ({_kind(content)}); none of the layouts fits: {", ".join(NAMES[1:])}'
        )
    name = _recognised(content, weights) if layout == 'auto' else layout
    return _take(name, weights, content)


def _kind(content) -> str:
    if isinstance(content, Inert) and not content:
        return 'it is a whole object; its authors can save its state_dict()'
    if isinstance(content, dict):
        return f'it is a mapping with {", ".join(map(str, list(content)[:6])) or "nothing"}'
    return f'it is {type(content).__name__}'


def _tensors(content) -> Weights:
    """The tensors of a checkpoint by name, without what wrappers put in front ('module.' of DataParallel, '_orig_mod.' of compile)."""
    if not isinstance(content, dict):
        return {}
    if all(isinstance(content.get(key), dict) for key in ('student', 'teacher')):
        found = {
            f'{key}.{name}': value
            for key in ('student', 'teacher')
            for name, value in _clean(content[key]).items()
        }
    else:
        inner = next(
            (
                content[key]
                for key in ('state_dict', 'model', 'model_state_dict')
                if isinstance(content.get(key), dict)
            ),
            content,
        )
        found = _clean(inner)
    return {name: value for name, value in found.items() if isinstance(value, Stored)}


def _clean(weights: dict) -> dict:
    return {
        re.sub(r'^((module|_orig_mod)\.)+', '', name): value
        for name, value in weights.items()
        if isinstance(name, str)
    }


def _recognised(content: dict, weights: Weights) -> str:
    """The layout of a file. Where several have the same names, what else is in the file decides."""

    def has(*prefixes):
        return all(any(name.startswith(prefix) for name in weights) for prefix in prefixes)

    for name in ('dino', 'moco', 'mocov3', 'simsiam', 'swav'):
        if has(*LAYOUTS[name].marks):
            return name
    if (
        any(
            has(f'{name}.')
            for name in (
                'query_backbone',
                'student_backbone',
                'teacher_backbone',
                'backbone_momentum',
            )
        )
        or has('backbone.', 'projection_head.')
        or has('backbone.0.weight')
    ):
        return 'lightly'
    if 'pytorch-lightning_version' in content and (has('backbone.') or has('encoder.')):
        return 'solo_learn'
    if 'model' in content:
        for name in ('barlow_twins', 'vicreg'):
            if has(*LAYOUTS[name].marks):
                return name
    # Without Lightning's key: weights alone.
    if any(
        has(f'{name}.', other)
        for name in ('backbone', 'encoder')
        for other in ('projector.', f'momentum_{name}.')
    ):
        return 'solo_learn'
    if any(_present(weights, place) for place in LAYOUTS['mmpretrain'].online):
        first = weights.get('backbone.conv1.weight')
        if (
            first is not None
            and first.shape[-1:] == (3,)
            and 'meta' not in content
            and not any(
                has(prefix) for prefix in ('neck.', 'head.', 'target_net.', 'data_preprocessor.')
            )
        ):
            raise ConfigError(
                'the file holds a backbone with a first convolution of 3 px and nothing that says who wrote it: solo-learn '
                'pads it by 2, others by 1; say which with --layout solo_learn, lightly or mmpretrain'
            )
        return 'mmpretrain'
    if has(*LAYOUTS['torchvision'].marks):
        return 'torchvision'
    if has('blocks.0.') or has('patch_embed.') or has('stages.0.'):
        return 'timm'
    firsts = sorted({name.split('.')[0] for name in weights})
    raise ConfigError(
        f'none of the layouts fits the names in the file, which begin with {", ".join(firsts[:8])}; tried: '
        f'{", ".join(NAMES[1:])}'
    )


def _solo_dataset(content: dict) -> str:
    """The name of the data set in the settings that Lightning keeps, '' if it does not stand there as text.

    solo-learn had it as a setting of its own, later below ``data``, of omegaconf's mappings (main_pretrain.py, solo/args).
    """
    places = [_opened(content.get('hyper_parameters'))]
    for keys in (('cfg', 'extra_args'), ('data',)):
        places += [
            _opened(place[key])
            for place in places
            if isinstance(place, dict)
            for key in keys
            if key in place
        ]
    names = [_opened(place.get('dataset')) for place in places if isinstance(place, dict)]
    return next((name.lower() for name in names if isinstance(name, str)), '')


def _opened(value):
    """What is in one of omegaconf's containers or nodes (omegaconf/base.py: _content, _val) or in a namespace; any other value itself."""
    if isinstance(value, Inert) and not value and isinstance(value.state, dict):
        return next(
            (value.state[key] for key in ('_content', '_val') if key in value.state), value.state
        )
    return value


def _present(weights: Weights, place: Place) -> bool:
    return any(
        name.startswith(tuple(place.backbone + first for first in FIRST)) for name in weights
    )


def _take(layout: str, weights: Weights, content: dict) -> ForeignCheckpoint:
    spec, places = LAYOUTS[layout], {}
    for role, choice in (('online', spec.online), ('target', spec.target)):
        there = [
            place
            for place in choice
            if (layout == 'timm' or _present(weights, place)) and place not in places.values()
        ]
        if there:
            places[role] = there[0]
    if 'online' not in places:
        firsts = sorted({'.'.join(name.split('.')[:2]) for name in weights})
        wanted = ' or '.join(repr(place.backbone or 'conv1.') for place in spec.online)
        raise ConfigError(
            f'the file does not look like {layout} ({spec.source}): no backbone under {wanted}, its names begin with '
            f'{", ".join(firsts[:6])}; try --layout auto'
        )
    networks, taken = {}, set()
    for role, place in places.items():
        head = next(
            (p for p in place.projectors if any(name.startswith(p) for name in weights)), None
        )
        in_head = {name for name in weights if head is not None and name.startswith(head)}
        in_backbone = {name for name in weights if name.startswith(place.backbone)} - in_head
        last = {
            name for name in in_head if name.startswith(f'{head}last_layer')
        }  # DINO's prototypes, in lightly's heads
        gelu = layout == 'dino' or bool(last)
        networks[role] = ForeignNetwork(
            {
                spec.backbone_name(name.removeprefix(place.backbone)): weights[name]
                for name in weights
                if name in in_backbone
            },
            {
                spec.projector_name(name.removeprefix(head)): weights[name]
                for name in weights
                if name in in_head - last
            },
            'gelu' if gelu else 'relu',
        )
        taken |= in_backbone | in_head - last
    teacher = 'target' in networks and (
        spec.main == 'target' or places['online'].backbone in AVERAGE_EVALUATED
    )
    steps = content.get('global_step')
    left_out = [name for name in weights if name not in taken] + [
        f'{key} (of the file)'
        for key, value in content.items()
        if isinstance(value, (dict, list)) and key not in WRAPPERS
    ]
    found = ForeignCheckpoint(
        layout,
        networks,
        'target' if teacher else 'online',
        left_out,
        ambiguous_heads=spec.heads,
        steps=steps if type(steps) is int and steps > 0 else 0,
    )
    if layout == 'mocov3':
        found.backbone = dict(num_heads=12)
    elif layout == 'solo_learn':
        found.backbone = dict(stem_padding=2)
        found.dataset = _solo_dataset(content)
    elif layout == 'timm':
        positions = networks['online'].backbone.get('pos_embed')
        if (
            positions is not None
            and len(positions.shape) == 3
            and 0 not in positions.shape
            and not positions.read()[0, 0].any()
        ):
            found.ambiguous_heads = (
                _MOCOV3_HEADS  # its fixed positions have zeros at the class token
            )
    return found
