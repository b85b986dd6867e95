"""The layouts of other libraries' checkpoints: the names under which each library stores networks.

Nearly all of these libraries build on torchvision's ResNets and on the original ViTs, and timm uses
the same names. So a layout consists mostly of prefixes. ``LAYOUTS`` gives the prefixes of each
library's networks and the source of the names. ``RECOGNITION`` lists the names by which a layout is
recognised. DeepMind's BYOL does not fit a table of prefixes: see ssl_zoo.interop.haiku.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.interop.foreign_checkpoint import (
    ForeignCheckpoint,
    ForeignNetwork,
    Weights,
    abbreviate,
    as_steps,
)
from ssl_zoo.interop.haiku import experiment_state, from_haiku
from ssl_zoo.interop.safe_unpickling import InertObject, LazyTensor
from ssl_zoo.interop.solo_learn import has_own_settings, training_set_name

# Pairs of pattern and replacement for re.sub, applied in order to every name.
Renaming = tuple[tuple[str, str | Callable[[re.Match], str]], ...]


@dataclass(frozen=True)
class Prefixes:
    """Prefixes of one network's names in a file.

    Attributes:
        backbone: prefix of the backbone's names.
        projectors: possible prefixes of the projector's names; the first prefix in the file counts.
    """

    backbone: str
    projectors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The names under which a library stores its networks.

    Attributes:
        source: source of the names.
        online: possible prefixes of the trained network; the first prefix in the file counts.
        target: possible prefixes of the target network, the moving average of the online network.
        backbone_renaming: from the library's names of a backbone to timm's.
        projector_renaming: from the library's names of a projector to those of an
            ``nn.Sequential``.
        main: role of the network that the library evaluates.
        ambiguous_heads: see ForeignCheckpoint.
    """

    source: str
    online: tuple[Prefixes, ...]
    target: tuple[Prefixes, ...] = ()
    backbone_renaming: Renaming = ()
    projector_renaming: Renaming = ()
    main: str = 'online'
    ambiguous_heads: str = ''


@dataclass(frozen=True)
class Sign:
    """A sign that a file has a layout.

    Attributes:
        layout: the layout's name.
        prefixes: alternative sets of prefixes. The file has the layout if, for one alternative,
            every prefix begins a name in the file.
        key: key that the file's content must have as well, '' for none.
    """

    layout: str
    prefixes: tuple[tuple[str, ...], ...]
    key: str = ''


# --- Renamings

# nn.Sequential(*list(resnet.children())[:-1]) counts torchvision's conv1, bn1, relu, maxpool,
# layer1 ... layer4.
_RESNET_PART = r'\.(?=\d+\.(conv|bn|downsample)|weight|bias|running|num_batches)'
LIGHTLY_BACKBONE: Renaming = (
    (rf'^0{_RESNET_PART}', 'conv1.'),
    (rf'^1{_RESNET_PART}', 'bn1.'),
    (rf'^4{_RESNET_PART}', 'layer1.'),
    (rf'^5{_RESNET_PART}', 'layer2.'),
    (rf'^6{_RESNET_PART}', 'layer3.'),
    (rf'^7{_RESNET_PART}', 'layer4.'),
)
# lightly/models/modules/heads.py
LIGHTLY_PROJECTOR: Renaming = ((r'^layers\.', ''),)
# mmpretrain's ViT (mmpretrain/models/backbones/vision_transformer.py). Its ResNet has torchvision's
# names.
MMPRETRAIN_BACKBONE: Renaming = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^layers\.(\d+)\.ln(\d)\.', r'blocks.\1.norm\2.'),
    (r'^layers\.(\d+)\.ffn\.layers\.0\.0\.', r'blocks.\1.mlp.fc1.'),
    (r'^layers\.(\d+)\.ffn\.layers\.1\.', r'blocks.\1.mlp.fc2.'),
    (r'^layers\.(\d+)\.', r'blocks.\1.'),
    (r'^ln1\.', 'norm.'),
)
# mmpretrain/models/necks/nonlinear_neck.py: fc0, bn0, relu, fc1 ... are layers 0, 1, 2, 3 ...;
# mocov2_neck.py and others: an nn.Sequential named mlp.
MMPRETRAIN_PROJECTOR: Renaming = (
    (r'^fc(\d{1,6})\.', lambda match: f'{3 * int(match[1])}.'),
    (r'^bn(\d{1,6})\.', lambda match: f'{3 * int(match[1]) + 1}.'),
    (r'^mlp\.', ''),
)

# --- Layouts

NO_PREFIX = Prefixes('')
MOCO_V3_VITS = (
    'facebookresearch/moco-v3, vits.py; vturrisi/solo-learn, solo/backbones/vit/vit_mocov3.py'
)
LAYOUTS = {
    'dino': Layout(
        source='facebookresearch/dino, main_dino.py',
        online=(Prefixes('student.backbone.', ('student.head.mlp.',)), NO_PREFIX),
        target=(Prefixes('teacher.backbone.', ('teacher.head.mlp.',)),),
        main='target',
    ),
    'moco': Layout(
        source='facebookresearch/moco, moco/builder.py',
        online=(Prefixes('encoder_q.', ('encoder_q.fc.',)),),
        target=(Prefixes('encoder_k.', ('encoder_k.fc.',)),),
    ),
    'mocov3': Layout(
        source='facebookresearch/moco-v3, moco/builder.py',
        online=(Prefixes('base_encoder.', ('base_encoder.fc.', 'base_encoder.head.')),),
        target=(Prefixes('momentum_encoder.', ('momentum_encoder.fc.', 'momentum_encoder.head.')),),
    ),
    'simsiam': Layout(
        source='facebookresearch/simsiam, simsiam/builder.py',
        online=(Prefixes('encoder.', ('encoder.fc.',)),),
    ),
    'swav': Layout(
        source='facebookresearch/swav, src/resnet50.py',
        online=(Prefixes('', ('projection_head.',)),),
    ),
    'lightly': Layout(
        source='lightly-ai/lightly, benchmarks/imagenet/resnet50 and examples',
        # MoCo v2 (benchmarks/imagenet/resnet50/mocov2.py) trains query_backbone; ``backbone`` is
        # the moving average of query_backbone.
        online=(
            Prefixes('query_backbone.', ('query_projection_head.',)),
            Prefixes('student_backbone.', ('student_projection_head.', 'student_head.')),
            Prefixes('backbone.', ('projection_head.',)),
        ),
        target=(
            Prefixes('teacher_backbone.', ('teacher_projection_head.', 'teacher_head.')),
            Prefixes('backbone_momentum.', ('projection_head_momentum.',)),
            Prefixes('backbone.', ('projection_head.',)),
        ),
        backbone_renaming=LIGHTLY_BACKBONE,
        projector_renaming=LIGHTLY_PROJECTOR,
        ambiguous_heads=MOCO_V3_VITS,
    ),
    'solo_learn': Layout(
        source='vturrisi/solo-learn, solo/methods/base.py',
        online=(Prefixes('backbone.', ('projector.',)), Prefixes('encoder.', ('projector.',))),
        target=(
            Prefixes('momentum_backbone.', ('momentum_projector.',)),
            Prefixes('momentum_encoder.', ('momentum_projector.',)),
        ),
        ambiguous_heads=MOCO_V3_VITS,
    ),
    'barlow_twins': Layout(
        source='facebookresearch/barlowtwins, main.py',
        online=(Prefixes('backbone.', ('projector.',)), NO_PREFIX),
    ),
    'vicreg': Layout(
        source='facebookresearch/vicreg, main_vicreg.py',
        online=(Prefixes('backbone.', ('projector.',)), NO_PREFIX),
    ),
    'mmpretrain': Layout(
        source='open-mmlab/mmpretrain, mmpretrain/models/selfsup; open-mmlab/mmselfsup',
        online=(
            Prefixes('backbone.', ('neck.',)),
            Prefixes('online_net.0.', ('online_net.1.',)),
            Prefixes('encoder_q.0.', ('encoder_q.1.',)),
        ),
        target=(
            Prefixes('target_net.module.0.', ('target_net.module.1.',)),
            Prefixes('target_net.0.', ('target_net.1.',)),
            Prefixes('encoder_k.module.0.', ('encoder_k.module.1.',)),
            Prefixes('encoder_k.0.', ('encoder_k.1.',)),
            Prefixes('momentum_encoder.module.0.', ('momentum_encoder.module.1.',)),
            Prefixes('momentum_encoder.0.', ('momentum_encoder.1.',)),
            Prefixes('teacher.module.0.', ('teacher.module.1.',)),
            Prefixes('teacher.0.', ('teacher.1.',)),
        ),
        backbone_renaming=MMPRETRAIN_BACKBONE,
        projector_renaming=MMPRETRAIN_PROJECTOR,
        ambiguous_heads=MOCO_V3_VITS,
    ),
    'torchvision': Layout(
        source='pytorch/vision, torchvision/models/resnet.py', online=(NO_PREFIX,)
    ),
    'timm': Layout(source='huggingface/pytorch-image-models', online=(NO_PREFIX,)),
    # A backbone under any other prefix, which _under_prefix has taken away.
    'prefix': Layout(
        source='a backbone under a prefix',
        online=(NO_PREFIX,),
        backbone_renaming=LIGHTLY_BACKBONE,
        ambiguous_heads=MOCO_V3_VITS,
    ),
}
NAMES = ('auto', *(name for name in LAYOUTS if name != 'prefix'), 'deepmind_byol')

# Beginnings of the first names of a backbone, in every library.
BACKBONE_STARTS = (
    'conv1.',
    'cls_token',
    'patch_embed.',
    'layer1.',
    '0.',
    'stem.',
    'downsample_layers.',
)
# The first sign that a file shows decides: a later layout may share names with an earlier one.
RECOGNITION = (
    Sign('dino', (('student.', 'teacher.'),)),
    Sign('moco', (('encoder_q.conv1.',),)),
    Sign('mocov3', (('base_encoder.',),)),
    Sign('simsiam', (('encoder.conv1.', 'encoder.fc.'),)),
    Sign('swav', (('conv1.', 'projection_head.'),)),
    Sign(
        'lightly',
        (
            ('query_backbone.',),
            ('student_backbone.',),
            ('teacher_backbone.',),
            ('backbone_momentum.',),
            ('backbone.', 'projection_head.'),
            ('backbone.0.weight',),
        ),
    ),
    Sign('solo_learn', (('backbone.',), ('encoder.',)), key='pytorch-lightning_version'),
    Sign('barlow_twins', (('backbone.', 'projector.', 'bn.running_mean'),), key='model'),
    Sign('vicreg', (('backbone.', 'projector.'),), key='model'),
    # Weights alone, without Lightning's key.
    Sign(
        'solo_learn',
        (
            ('backbone.', 'projector.'),
            ('backbone.', 'momentum_backbone.'),
            ('encoder.', 'projector.'),
            ('encoder.', 'momentum_encoder.'),
        ),
    ),
    Sign(
        'mmpretrain',
        tuple(
            (prefixes.backbone + start,)
            for prefixes in LAYOUTS['mmpretrain'].online
            for start in BACKBONE_STARTS
        ),
    ),
    Sign('torchvision', (('conv1.', 'layer1.'),)),
    Sign('timm', (('blocks.0.',), ('patch_embed.',), ('stages.0.',))),
)
# Layouts whose names are also those of other libraries, with another padding of the CIFAR stem.
STEMS_OF_SEVERAL = ('solo_learn', 'barlow_twins', 'vicreg', 'mmpretrain')
# Names beside a backbone that only solo-learn has.
SOLO_LEARN_PARTS = ('momentum_projector.', 'momentum_encoder.', 'momentum_classifier.')
# Names beside a backbone that only mmpretrain has.
MMPRETRAIN_PARTS = ('neck.', 'head.', 'target_net.', 'data_preprocessor.')

# Keys below which a file may hold a state_dict, and the keys of DINO's two networks.
STATE_DICT_KEYS = ('state_dict', 'model', 'model_state_dict')
# The last names of what only a backbone has: the first convolution of a first residual block, plain
# or in an nn.Sequential, and the patch embedding of a ViT.
PLACES = re.compile(r'(|.*\.)(layer1\.0\.conv1|4\.0\.conv1|patch_embed\.proj)\.weight')
DEEPEST_MAPPING = 8  # mappings in mappings that are searched for tensors
DINO_KEYS = ('student', 'teacher')
# Prefixes of trained networks whose moving average, called backbone, is the network that lightly's
# own benchmarks evaluate (forward of its dino.py and mocov2.py).
AVERAGE_IS_EVALUATED = ('student_backbone.', 'query_backbone.')
# DINO's prototypes: lightly stores them in its heads, but they are not part of the projector.
PROTOTYPES = 'last_layer'


# --- From a file's content to its networks


def find_networks(
    content: Any, layout: str = 'auto', prefix: str | None = None
) -> ForeignCheckpoint:
    """Return the networks in a foreign checkpoint.

    Args:
        content: content of the checkpoint, from read_foreign.
        layout: one of NAMES; 'auto' recognises the layout by the names in the file.
        prefix: start of the backbone's names, such as 'model.resnet.'; None to find it.
    Raises:
        ConfigError: there is no layout of this name, the file does not have this layout, or (with
            'auto') the file has no known layout.
    """
    if layout not in NAMES:
        raise ConfigError(f'the layout is {layout!r}: {nearest(layout, NAMES)}')
    if prefix is not None:
        if layout != 'auto':
            raise ConfigError(f'--prefix is given beside --layout {layout}; leave one of them out')
        return _under_prefix(content, _tensors_at_any_depth(content), prefix)
    state = experiment_state(content)
    if state is not None and layout in ('auto', 'deepmind_byol'):
        return from_haiku(content, state)
    if layout == 'deepmind_byol':
        raise ConfigError(
            'the file has no experiment_state with online_params and online_state, which the '
            'layout deepmind_byol needs; try --layout auto'
        )
    weights = _named_tensors(content)
    if layout == 'auto' and _is_of_no_layout(content, weights):
        tensors = _tensors_at_any_depth(content)
        places = _places(tensors)
        if places:
            return _under_prefix(content, tensors, _only_place(places))
    if not weights:
        raise ConfigError(
            f'the file holds no tensors by name ({_describe(content)}); none of the layouts fits: '
            f'{", ".join(NAMES[1:])}'
        )
    if layout == 'auto':
        layout = _recognize(content, weights)
    return _extract_networks(layout, weights, content)


def _is_of_no_layout(content: Any, weights: Weights) -> bool:
    layout = _shown_layout(content, weights) if weights else None
    return layout is None or (layout != 'timm' and not _chosen_prefixes(layout, weights))


def _tensors_at_any_depth(content: Any, depth: int = 0) -> Weights:
    """Return the tensors in mappings of mappings, by their keys joined with dots."""
    if not isinstance(content, dict) or depth > DEEPEST_MAPPING:
        return {}
    tensors = {}
    for key, value in _without_wrappers(content).items():
        if isinstance(value, LazyTensor):
            tensors[key] = value
        for name, tensor in _tensors_at_any_depth(value, depth + 1).items():
            tensors[f'{key}.{name}'] = tensor
    return tensors


def _places(tensors: Weights) -> list[str]:
    """Return the prefixes under which the names are those of a backbone."""
    matches = [PLACES.fullmatch(name) for name in tensors]
    return sorted({match[1] for match in matches if match})


def _only_place(places: list[str]) -> str:
    if len(places) > 1:
        raise ConfigError(
            f'the file holds {len(places)} networks that look like a backbone, under '
            f'{abbreviate(places)}; name one with --prefix {places[0]}'
        )
    return places[0]


def _under_prefix(content: Any, tensors: Weights, prefix: str) -> ForeignCheckpoint:
    prefix = prefix if not prefix or prefix.endswith('.') else f'{prefix}.'
    places = _places(tensors)
    # The keys of the mappings around the names, such as 'state_dict.', may be left out.
    longer = [place for place in places if place.endswith(f'.{prefix}')]
    if prefix not in places and len(longer) == 1:
        prefix = longer[0]
    inner = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    if prefix not in places:
        listing = abbreviate(places) or 'nowhere'
        raise ConfigError(
            f'no backbone begins under the prefix {prefix!r}; the file has names of a backbone '
            f'under: {listing}'
        )
    stem = inner.get('conv1.weight', inner.get('0.weight'))
    found = _extract_networks('prefix', inner, content)
    found.prefix = prefix
    found.left_out += [name for name in tensors if not name.startswith(prefix)]
    found.has_unknown_stem = stem is not None and tuple(stem.shape[-1:]) == (3,)
    return found


def _describe(content: Any) -> str:
    if isinstance(content, InertObject) and not content:
        return 'it is a whole object; its authors can save its state_dict()'
    if isinstance(content, dict):
        keys = list(content)[:6]
        return f'it is a mapping with {", ".join(map(str, keys)) or "nothing"}'
    return f'it is {type(content).__name__}'


def _named_tensors(content: Any) -> Weights:
    """Return the tensors of a checkpoint by name.

    The names of DINO's two networks begin with 'student.' and 'teacher.'.
    """
    if not isinstance(content, dict):
        return {}
    if all(isinstance(content.get(key), dict) for key in DINO_KEYS):
        values = {
            f'{key}.{name}': value
            for key in DINO_KEYS
            for name, value in _without_wrappers(content[key]).items()
        }
    else:
        state_dicts = [
            content[key] for key in STATE_DICT_KEYS if isinstance(content.get(key), dict)
        ]
        values = _without_wrappers(state_dicts[0] if state_dicts else content)
    return {name: value for name, value in values.items() if isinstance(value, LazyTensor)}


def _without_wrappers(state: dict) -> dict:
    """Return the state without the prefixes of wrappers.

    DataParallel adds 'module.', torch.compile adds '_orig_mod.', around any part of a network.
    """
    return {
        re.sub(r'(?:(?<=\.)|^)(?:(?:module|_orig_mod)\.)+', '', name): value
        for name, value in state.items()
        if isinstance(name, str)
    }


def _has_prefix(weights: Weights, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in weights)


def _recognize(content: dict, weights: Weights) -> str:
    """Return the name of a file's layout."""
    layout = _shown_layout(content, weights)
    if layout is not None:
        if layout in STEMS_OF_SEVERAL:
            _check_stem_is_known(content, weights)
        return layout
    starts = sorted({name.split('.')[0] for name in weights})
    raise ConfigError(
        'none of the layouts fits the names in the file, which begin with '
        f'{", ".join(starts[:8])}; tried: {", ".join(NAMES[1:])}'
    )


def _shown_layout(content: dict, weights: Weights) -> str | None:
    for sign in RECOGNITION:
        if sign.key and sign.key not in content:
            continue
        for prefixes in sign.prefixes:
            if all(_has_prefix(weights, prefix) for prefix in prefixes):
                return sign.layout
    return None


def _check_stem_is_known(content: dict, weights: Weights) -> None:
    """Raise ConfigError for a CIFAR stem if the library that wrote the file is unknown.

    The padding of the stem depends on the library, and the weights do not show the padding.
    """
    stem = weights.get('backbone.conv1.weight', weights.get('encoder.conv1.weight'))
    if stem is None or stem.shape[-1:] != (3,):
        return
    parts = (*SOLO_LEARN_PARTS, *MMPRETRAIN_PARTS)
    is_known = (
        has_own_settings(content)
        or 'meta' in content
        or any(_has_prefix(weights, prefix) for prefix in parts)
    )
    if not is_known:
        raise ConfigError(
            'the file holds a backbone whose first convolution has 3 px, and nothing that shows '
            'which library wrote it: solo-learn pads it by 2, others by 1; name the library with '
            '--layout solo_learn, lightly or mmpretrain'
        )


def _extract_networks(layout_name: str, weights: Weights, content: dict) -> ForeignCheckpoint:
    layout = LAYOUTS[layout_name]
    prefixes = _choose_prefixes(layout_name, weights)
    networks = {}
    used: set[str] = set()
    for role, chosen in prefixes.items():
        backbone, projector, prototypes = _split_names(weights, chosen)
        networks[role] = ForeignNetwork(
            _renamed(weights, backbone, chosen.backbone, layout.backbone_renaming),
            _renamed(
                weights, projector, _projector_prefix(weights, chosen), layout.projector_renaming
            ),
            # No file stores the activation function: DINO's heads have GELU.
            'gelu' if layout_name == 'dino' or prototypes else 'relu',
        )
        used.update(backbone, projector)
    found = ForeignCheckpoint(
        layout_name,
        networks,
        _main_role(layout, prefixes),
        _unused_names(content, weights, used),
        ambiguous_heads=layout.ambiguous_heads,
        steps=_steps(content),
    )
    _add_known_facts(found, content)
    return found


def _choose_prefixes(layout_name: str, weights: Weights) -> dict[str, Prefixes]:
    """Return for each role the first prefixes of the layout that occur in the file.

    Raises:
        ConfigError: the file has no online network.
    """
    chosen = _chosen_prefixes(layout_name, weights)
    if not chosen:
        layout = LAYOUTS[layout_name]
        starts = sorted({'.'.join(name.split('.')[:2]) for name in weights})
        expected = ' or '.join(repr(prefixes.backbone or 'conv1.') for prefixes in layout.online)
        raise ConfigError(
            f'the file does not look like {layout_name} ({layout.source}): no backbone under '
            f'{expected}, its names begin with {", ".join(starts[:6])}; try --layout auto, or name '
            'the start of its names with --prefix'
        )
    return chosen


def _chosen_prefixes(layout_name: str, weights: Weights) -> dict[str, Prefixes]:
    """Return the prefixes of each role; {} if the file has no online network."""
    layout = LAYOUTS[layout_name]
    chosen: dict[str, Prefixes] = {}
    for role, alternatives in (('online', layout.online), ('target', layout.target)):
        for prefixes in alternatives:
            # lightly's ``backbone`` is either the online network or its moving average, not both.
            is_taken = prefixes in chosen.values()
            if not is_taken and (layout_name == 'timm' or _has_backbone(weights, prefixes)):
                chosen[role] = prefixes
                break
    return chosen if 'online' in chosen else {}


def _has_backbone(weights: Weights, prefixes: Prefixes) -> bool:
    starts = tuple(prefixes.backbone + start for start in BACKBONE_STARTS)
    return any(name.startswith(starts) for name in weights)


def _projector_prefix(weights: Weights, prefixes: Prefixes) -> str | None:
    for prefix in prefixes.projectors:
        if _has_prefix(weights, prefix):
            return prefix
    return None


def _split_names(weights: Weights, prefixes: Prefixes) -> tuple[list[str], list[str], list[str]]:
    """Return the names of a network's backbone, of its projector, and of its prototypes."""
    head = _projector_prefix(weights, prefixes)
    backbone = []
    projector = []
    prototypes = []
    for name in weights:
        if head is not None and name.startswith(head):
            if name.startswith(head + PROTOTYPES):
                prototypes.append(name)
            else:
                projector.append(name)
        elif name.startswith(prefixes.backbone):
            backbone.append(name)
    return backbone, projector, prototypes


def _renamed(weights: Weights, names: list[str], prefix: str | None, renaming: Renaming) -> Weights:
    """Return the weights ``names``, without ``prefix`` and under their new names."""
    out = {}
    for name in names:
        new = name.removeprefix(prefix or '')
        for pattern, replacement in renaming:
            new = re.sub(pattern, replacement, new)
        out[new] = weights[name]
    return out


def _main_role(layout: Layout, prefixes: dict[str, Prefixes]) -> str:
    evaluates_average = (
        layout.main == 'target' or prefixes['online'].backbone in AVERAGE_IS_EVALUATED
    )
    return 'target' if evaluates_average and 'target' in prefixes else 'online'


def _unused_names(content: dict, weights: Weights, used: set[str]) -> list[str]:
    """Return the names of tensors that no network uses, and keys of the file without weights."""
    tensors = [name for name in weights if name not in used]
    keys = [
        f'{key} (of the file)'
        for key, value in content.items()
        if isinstance(value, (dict, list)) and key not in (*STATE_DICT_KEYS, *DINO_KEYS)
    ]
    return tensors + keys


def _steps(content: dict) -> int:
    """Return the optimizer steps that Lightning has counted; 0 if the file has no count."""
    return as_steps(content.get('global_step'))


def _add_known_facts(found: ForeignCheckpoint, content: dict) -> None:
    """Add facts about the backbones that the layout implies and the shapes do not show."""
    if found.layout == 'mocov3':
        found.backbone = dict(num_heads=12)
    elif found.layout == 'solo_learn':
        found.backbone = dict(stem_padding=2)
        found.dataset = training_set_name(content)
    elif found.layout == 'timm' and _has_fixed_positions(found.networks['online']):
        found.ambiguous_heads = MOCO_V3_VITS


def _has_fixed_positions(network: ForeignNetwork) -> bool:
    """Return whether a ViT may be MoCo v3's: its position embedding is 0 at the class token."""
    positions = network.backbone.get('pos_embed')
    if positions is None or len(positions.shape) != 3 or 0 in positions.shape:
        return False
    return not positions.read()[0, 0].any()
