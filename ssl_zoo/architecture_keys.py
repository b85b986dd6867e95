"""The keys of a backbone that a file may set: its architecture, never a place to get weights from.

timm.create_model takes, beside the sizes of a network, arguments that fetch an address, open a file
or write into a folder (``pretrained_cfg_overlay``, ``checkpoint_path``, ``cache_dir``). The config
of a user is a program that the user trusts, and may give any argument. The config in a checkpoint
is not: ``architecture_only`` is active while a network is built from it.
"""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import timm
from huggingface_hub import constants as hub

from ssl_zoo.errors import ConfigError, nearest
from ssl_zoo.registry import BACKBONES

# Keys of ``build_backbone`` itself.
BUILD_KEYS = ('name', 'stem', 'width', 'fixed_patches', 'padding', 'stem_padding')
# Constructor arguments of timm's models, by the module of the family; no others are taken.
COMMON_KEYS = (
    'in_chans',  # 3 alone: build_backbone says why
    'drop_rate',
    'drop_path_rate',
    'global_pool',
    'act_layer',
    'norm_layer',
    'norm_eps',
)
FAMILY_KEYS: dict[str, tuple[str, ...]] = {
    'resnet': (
        'layers',
        'channels',
        'cardinality',
        'base_width',
        'stem_width',
        'stem_type',
        'replace_stem_pool',
        'block_reduce_first',
        'down_kernel_size',
        'avg_down',
        'aa_layer',
        'drop_block_rate',
        'output_stride',
        'zero_init_last',
    ),
    'vision_transformer': (
        'img_size',
        'patch_size',
        'embed_dim',
        'depth',
        'num_heads',
        'mlp_ratio',
        'qkv_bias',
        'qk_norm',
        'scale_attn_norm',
        'scale_mlp_norm',
        'proj_bias',
        'init_values',
        'class_token',
        'pos_embed',
        'no_embed_class',
        'reg_tokens',
        'pre_norm',
        'final_norm',
        'fc_norm',
        'pool_include_prefix',
        'dynamic_img_size',
        'dynamic_img_pad',
        'pos_drop_rate',
        'patch_drop_rate',
        'proj_drop_rate',
        'attn_drop_rate',
        'weight_init',
        'fix_init',
    ),
}
# Of every other family: the sizes and switches that several of timm's families share.
OTHER_KEYS = (
    'img_size',
    'patch_size',
    'embed_dim',
    'embed_dims',
    'depth',
    'depths',
    'dims',
    'layers',
    'channels',
    'num_heads',
    'num_features',
    'window_size',
    'head_dim',
    'kernel_size',
    'kernel_sizes',
    'mlp_ratio',
    'mlp_ratios',
    'expand_ratio',
    'sr_ratios',
    'qkv_bias',
    'qk_norm',
    'conv_bias',
    'conv_mlp',
    'use_grn',
    'init_values',
    'ls_init_value',
    'layer_scale_init_value',
    'head_init_scale',
    'head_norm_first',
    'stem_type',
    'stem_size',
    'stem_width',
    'stem_chs',
    'pad_type',
    'fix_stem',
    'downsamples',
    'output_stride',
    'zero_init_last',
    'class_token',
    'final_norm',
    'pre_norm',
    'fc_norm',
    'no_embed_class',
    'dynamic_img_size',
    'dynamic_img_pad',
    'strict_img_size',
    'pos_drop_rate',
    'patch_drop_rate',
    'proj_drop_rate',
    'attn_drop_rate',
    'weight_init',
    'fix_init',
)
# Arguments of timm.create_model that say where initial weights come from. A checkpoint has weights.
WEIGHT_SOURCES = (
    'pretrained',
    'pretrained_cfg',
    'pretrained_cfg_overlay',
    'checkpoint_path',
    'cache_dir',
)
LARGEST_NUMBER = 10**6  # beyond every size of a network; timm makes lists of this length

_only_architecture: ContextVar[bool] = ContextVar('only_architecture', default=False)


@contextmanager
def architecture_only() -> Iterator[None]:
    """Within the block ``build_backbone`` takes architecture keys alone, and no hub is asked.

    The block is for configs that come from a file.
    """
    token = _only_architecture.set(True)
    before = hub.HF_HUB_OFFLINE, os.environ.get('HF_HUB_OFFLINE')
    hub.HF_HUB_OFFLINE = True
    os.environ['HF_HUB_OFFLINE'] = '1'
    try:
        yield
    finally:
        _only_architecture.reset(token)
        hub.HF_HUB_OFFLINE, variable = before
        if variable is None:
            del os.environ['HF_HUB_OFFLINE']
        else:
            os.environ['HF_HUB_OFFLINE'] = variable


def is_architecture_only() -> bool:
    """Whether a block of ``architecture_only`` is active."""
    return _only_architecture.get()


def without_weight_sources(config: dict) -> dict:
    """Return a config without the places that initial weights came from, for a file to be written.

    ``pretrained`` stays, because it tells how the run began; a reader does not follow it.
    """
    backbone = config['method'].get('backbone')
    if not isinstance(backbone, dict):
        return config
    dropped = [key for key in WEIGHT_SOURCES if key != 'pretrained']
    kept = {key: value for key, value in backbone.items() if key not in dropped}
    return {**config, 'method': {**config['method'], 'backbone': kept}}


def architecture(backbone: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``build_backbone`` in a file, checked, without ``pretrained``.

    Raises:
        ConfigError: a key is not one of the family's architecture keys, or a value is not a number
            of at most 1,000,000, a truth value, a text, or a list of these.
    """
    backbone = {key: value for key, value in backbone.items() if key != 'pretrained'}
    name = backbone.get('type', backbone.get('name'))
    if 'type' in backbone:
        backbone = {key: value for key, value in backbone.items() if key != 'weights'}
        allowed = _registered_keys(backbone)
    else:
        allowed = (*BUILD_KEYS, *COMMON_KEYS, *_family_keys(name))
    for key, value in backbone.items():
        if key not in allowed:
            raise ConfigError(
                f'the backbone in the file has {key}={_shorten(value)}, which is not a key of the '
                f'architecture of {name!r}, and a file may set no other: {nearest(key, allowed)}'
            )
        if not _is_plain(value):
            raise ConfigError(
                f'the backbone in the file has {key}={_shorten(value)}, but it must be a number of '
                f'at most {LARGEST_NUMBER:,}, True, False, a text, or a list of these'
            )
    return backbone


def _registered_keys(backbone: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys of a registered backbone: the arguments that its class or function names.

    One that takes any arguments (``**arguments``) gets those of the file; it must itself refuse
    places to get weights from, as ssl_zoo.torchvision_backbones does.
    """
    kind = backbone['type']
    if kind not in BACKBONES.names():
        return ('type',)  # build_backbone says what is wrong with it
    parameters = inspect.signature(BACKBONES.find(kind)).parameters
    own = [key for key in parameters if key not in (*WEIGHT_SOURCES, 'weights')]
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        own += [key for key in backbone if key not in WEIGHT_SOURCES]
    return ('type', *own)


def _family_keys(name: object) -> tuple[str, ...]:
    if not isinstance(name, str) or not timm.is_model(name):
        return ()  # build_backbone says what is wrong with the name
    entrypoint = timm.model_entrypoint(name)
    package, _, family = entrypoint.__module__.rpartition('.')
    if package == 'timm.models':
        return FAMILY_KEYS.get(family, OTHER_KEYS)
    # A model of the user's own: the arguments that its function names.
    parameters = inspect.signature(entrypoint).parameters
    own = [key for key in parameters if key not in WEIGHT_SOURCES]
    return (*OTHER_KEYS, *own)


def _is_plain(value: object, depth: int = 3) -> bool:
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    if isinstance(value, (int, float)):
        return abs(value) <= LARGEST_NUMBER
    return value is None or isinstance(value, str)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + '...'
