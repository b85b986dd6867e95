"""The sizes of images that a backbone takes: found by dry passes, changed by timm."""

import re

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import register_model
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.build import build_method
from ssl_zoo.errors import ConfigError
from ssl_zoo.input_size import fit_input_size, fitting_copy, other_sizes, size_error

pytestmark = pytest.mark.quick

VIT = dict(
    name='vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=24, num_heads=3, depth=1
)
SWIN = dict(
    name='swin_tiny_patch4_window7_224',
    img_size=32,
    window_size=4,
    embed_dim=8,
    depths=[1, 2],
    num_heads=[1, 2],
)
RESNET = dict(name='resnet18', layers=[1, 1, 1, 1], width=0.125)
CONVNEXT = dict(name='convnext_atto', depths=[1, 1, 1, 1], dims=[8, 8, 8, 8])
MIXER = dict(name='small_mixer', img_size=64)
NETWORKS = [VIT, SWIN, RESNET, CONVNEXT, MIXER]


@register_model
def small_mixer(img_size=64, **timm_arguments):
    """A network of one size, which timm cannot resize."""
    return MlpMixer(img_size=img_size, patch_size=16, num_blocks=1, embed_dim=16, num_classes=0)


def of_name(backbone: dict) -> str:
    return backbone['name'].split('_')[0]


def images(size: int) -> torch.Tensor:
    return torch.linspace(-1, 1, 2 * 3 * size * size).view(2, 3, size, size).mul(40).sin()


def features(network: nn.Module, size: int) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(images(size))


def randomised(backbone: dict) -> nn.Module:
    """A network whose biases and position embeddings are not all zero."""
    network = build_backbone(**backbone)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network


# --- dry passes


@pytest.mark.parametrize('backbone', NETWORKS, ids=of_name)
@pytest.mark.parametrize('size', [8, 20, 32, 64])
def test_a_dry_pass_finds_what_a_pass_finds(backbone, size):
    network = build_backbone(**backbone)
    try:
        features(network, size)
    except (AssertionError, RuntimeError):
        assert size_error(network, size)
    else:
        assert size_error(network, size) is None


@pytest.mark.parametrize('backbone', NETWORKS, ids=of_name)
def test_a_dry_pass_changes_nothing(backbone):
    network = build_backbone(**backbone).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    for size in (20, 32, 64):
        size_error(network, size)
        other_sizes(network, size)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in network.modules())
    after = network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not any(value.is_meta for value in network.buffers())


class OfOnesOwn(nn.Module):
    """A network with a tensor that is no buffer, for images of 16 px at least."""

    head_hidden_size = 4

    def __init__(self, only_on_gpu=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 16)
        self.offset = torch.ones(4, 1, 1)
        self.only_on_gpu = only_on_gpu

    def forward(self, x):
        if self.only_on_gpu:
            raise RuntimeError('this kernel needs a GPU')
        return (self.conv(x) + self.offset + torch.rand(1)).mean((2, 3))


def test_a_network_that_needs_numbers_is_tried_with_numbers():
    network = OfOnesOwn()
    state = torch.get_rng_state()
    assert size_error(network, 16) is None
    assert 'Kernel size' in size_error(network, 15)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_that_fails_at_every_size_is_not_blamed_on_the_size():
    assert size_error(OfOnesOwn(only_on_gpu=True), 16) is None


def test_the_nearest_sizes_that_a_network_takes():
    assert other_sizes(build_backbone(**VIT), 20) == [32]
    assert other_sizes(build_backbone(**dict(VIT, dynamic_img_size=True)), 20) == [16, 24]
    assert other_sizes(build_backbone(**dict(VIT, img_size=224)), 32) == [224]


# --- a config whose backbone cannot take its views


def settings_of(tiny, backbone, sizes, **data):
    method = dict(type='SimSiam', backbone=backbone, proj_dim=8, pred_hidden=8)
    data = dict(train=dict(type='Digits', split='val'), val=40, **data)
    return tiny(method=method, views=[dict(size=size) for size in sizes], data=data)


@pytest.mark.parametrize(
    ('backbone', 'sizes', 'sentence'),
    [
        (
            dict(SWIN, img_size=224),
            (32, 32),
            r'swin_tiny_patch4_window7_224 cannot take views of 32 x 32 px \(.*224.*\); give the '
            r'backbone img_size=32, or give the views size=224',
        ),
        (dict(name='vit_tiny_patch16_224', depth=1), (20, 20), 'give the backbone img_size=20'),
        (VIT, (32, 16), 'views of 16 x 16 px .*give the backbone img_size=32, dynamic_img_size'),
        (
            dict(VIT, dynamic_img_size=True),
            (32, 20),
            'views of 20 x 20 px .*dynamic_img_pad=True, or give the views size=16 or 24',
        ),
        (MIXER, (32, 32), 'views of 32 x 32 px .*give the backbone img_size=32'),
        (
            dict(name='edgenext_xx_small'),
            (8, 8),
            'edgenext_xx_small cannot take views of 8 x 8 px .*; give the views size=32',
        ),
    ],
    ids=str,
)
def test_a_backbone_that_cannot_take_the_views(tiny, backbone, sizes, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        build_method(settings_of(tiny, backbone, sizes))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('backbone', 'sizes'),
    [
        (dict(SWIN, img_size=224), (32, 32)),
        (dict(name='vit_tiny_patch16_224', depth=1), (20, 20)),
        (VIT, (32, 16)),
        (dict(VIT, dynamic_img_size=True), (32, 20)),
        (MIXER, (96, 96)),
    ],
    ids=str,
)
def test_the_advice_is_taken(tiny, backbone, sizes):
    with pytest.raises(ConfigError) as caught:
        build_method(settings_of(tiny, backbone, sizes))
    advice = re.search(r'give the backbone (.*?)(, or give|$)', str(caught.value))[1]
    arguments = eval(f'dict({advice})')  # noqa: S307
    build_method(settings_of(tiny, {**backbone, **arguments}, sizes))


@pytest.mark.parametrize('backbone', [VIT, SWIN, RESNET, CONVNEXT], ids=of_name)
def test_weights_and_random_numbers_are_those_of_a_method_that_was_not_tried(
    tiny, monkeypatch, backbone
):
    settings = settings_of(tiny, backbone, (32, 32), eval_size=64)
    tried = build_method(settings).state_dict()
    state = torch.get_rng_state()
    monkeypatch.setattr('ssl_zoo.build._check_image_sizes', lambda *_: None)
    plain = build_method(settings).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tried[key], plain[key]) for key in plain)


# --- another size


@pytest.mark.parametrize(('size', 'tokens'), [(64, 8), (16, 2), (40, 5)])
@pytest.mark.parametrize('more', [{}, dict(class_token=False, global_pool='avg')], ids=str)
def test_position_embeddings_are_interpolated_by_timm(size, tokens, more):
    network = randomised(dict(VIT, **more))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    prefixes = 0 if more else 1
    expected = resample_abs_pos_embed(
        before['pos_embed'], [tokens, tokens], [4, 4], num_prefix_tokens=prefixes
    )
    warning = fit_input_size(network, size, {32})
    assert warning == (
        f'position embeddings were interpolated from 4 x 4 to {tokens} x {tokens} tokens: the '
        f'network was not trained at this size'
    )
    after = network.state_dict()
    assert torch.equal(after.pop('pos_embed'), expected)
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert features(network, size).isfinite().all()


def test_fixed_positions_stay_fixed():
    network = build_backbone(**VIT, fixed_patches=True)
    fit_input_size(network, 64, {32})
    assert not network.pos_embed.requires_grad and network.pos_embed.shape == (1, 65, 24)


def test_windows_are_scaled():
    network = randomised(SWIN)
    arguments = {key: value for key, value in SWIN.items() if key != 'name'}
    plain = timm.create_model(SWIN['name'], num_classes=0, **arguments)
    plain.load_state_dict(network.state_dict())
    plain.set_input_size(img_size=(64, 64))
    warning = fit_input_size(network, 64, {32})
    assert warning == (
        'windows and relative positions were scaled to 64 x 64 px: the network was not trained at '
        'this size'
    )
    assert torch.equal(features(network, 64), features(plain, 64))


@pytest.mark.parametrize('backbone', NETWORKS, ids=of_name)
def test_the_size_of_training_changes_no_bit(backbone):
    network = randomised(backbone)
    size = backbone.get('img_size', 32)
    before = features(network, size)
    keys = list(network.state_dict())
    assert fit_input_size(network, size, {size}) is None
    assert list(network.state_dict()) == keys
    assert torch.equal(features(network, size), before)
    assert fitting_copy(network, size) is network


@pytest.mark.parametrize('backbone', [RESNET, CONVNEXT], ids=of_name)
def test_of_convolutions_nothing_is_said(backbone):
    assert fit_input_size(build_backbone(**backbone), 64, {32}) is None


def test_a_network_that_interpolates_by_itself_is_told_of_only_at_sizes_it_did_not_see():
    network = randomised(dict(VIT, dynamic_img_size=True))
    assert fit_input_size(network, 16, {32, 16}) is None
    assert fit_input_size(network, 64, {32, 16}) == (
        'position embeddings were interpolated from 4 x 4 to 8 x 8 tokens: the network was not '
        'trained at this size'
    )
    assert network.pos_embed.shape == (1, 17, 24)


def test_a_network_that_timm_cannot_resize():
    sentence = (
        r'MlpMixer cannot take images of 32 x 32 px \(.*\), and timm cannot resize it to them; '
        r'choose data.eval_size=64$'
    )
    with pytest.raises(ConfigError, match=sentence):
        fit_input_size(build_backbone(**MIXER), 32, {64})


def test_a_copy_leaves_the_network_as_it_is():
    network = randomised(VIT)
    before = features(network, 32)
    copied = fitting_copy(network, 64)
    assert features(copied, 64).shape == (2, 24)
    assert torch.equal(features(network, 32), before)


def test_a_run_says_that_its_evaluation_interpolates(tiny):
    method = build_method(settings_of(tiny, VIT, (32, 32), eval_size=64))
    [warning] = method.warnings
    assert warning.startswith('position embeddings were interpolated from 4 x 4 to 8 x 8 tokens')
    assert build_method(settings_of(tiny, VIT, (32, 32))).warnings == ()
    with pytest.raises(ConfigError, match=r'choose data.eval_size=64$'):
        build_method(settings_of(tiny, MIXER, (64, 64), eval_size=32))


# --- channels


def test_images_are_rgb(tiny):
    for backbone in (RESNET, dict(RESNET, stem='cifar'), VIT, SWIN, CONVNEXT):
        for channels in (1, 4, '3'):
            sentence = f'in_chans={channels!r} of the backbone, but it must be 3: images are read'
            with pytest.raises(ConfigError, match=sentence):
                build_backbone(**backbone, in_chans=channels)
    assert build_backbone(**dict(RESNET, in_chans=3)).conv1.in_channels == 3


def test_channels_that_another_argument_sets(tiny):
    overlay = dict(name='resnet18', pretrained_cfg_overlay=dict(input_size=(1, 32, 32)))
    with pytest.raises(ConfigError, match='cannot take views of 32 x 32 px .*1 channels'):
        build_method(settings_of(tiny, overlay, (32, 32)))
