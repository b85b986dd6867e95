import copy
import math

import pytest
import timm
import torch
from torch import nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.errors import ConfigError
from ssl_zoo.pretrained import random_warnings


def parameters(**arguments) -> float:
    with torch.device('meta'):
        return sum(p.numel() for p in build_backbone(**arguments).parameters()) / 1e6


@pytest.mark.long
@pytest.mark.parametrize(
    ('name', 'width', 'millions'),
    [
        ('resnet50', 1, 24),
        ('resnet50', 2, 94),
        ('resnet50', 3, 211),
        ('resnet50', 4, 375),
        ('resnet101', 1, 43),
        ('resnet101', 2, 170),
        ('resnet152', 1, 58),
        ('resnet152', 2, 232),
        ('resnet152', 3, 522),
        ('resnet200', 1, 63),
        ('resnet200', 2, 250),
    ],
)
def test_sizes_of_table_9(name, width, millions):
    """Number of parameters of BYOL's table 9, in millions."""
    assert parameters(name=name, width=width) == pytest.approx(millions, rel=0.03)


def test_width_multiplies_every_stage_and_the_stem():
    network = build_backbone('resnet50', width=2)
    assert network.conv1.weight.shape == (128, 3, 7, 7) and network.conv1.stride == (2, 2)
    assert [
        stage[-1].conv3.out_channels
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4)
    ] == [512, 1024, 2048, 4096]
    assert network.layer1[0].conv2.in_channels == 128
    assert network.embed_dim == 4096


def test_width_1_is_timms_own_network():
    names = [n for n, _ in timm.create_model('resnet50', num_classes=0).named_parameters()]
    assert [n for n, _ in build_backbone('resnet50').named_parameters()] == names


def test_cifar_stem():
    network = build_backbone('resnet18', stem='cifar')
    assert (network.conv1.kernel_size, network.conv1.stride, network.conv1.padding) == (
        (3, 3),
        (1, 1),
        (1, 1),
    )
    assert isinstance(network.maxpool, nn.Identity)
    assert network.forward_features(torch.randn(2, 3, 32, 32)).shape == (2, 512, 4, 4)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, network.embed_dim) == (2, 512)


def test_last_batchnorm_starts_at_1_in_basic_blocks_and_at_0_in_bottlenecks():
    assert build_backbone('resnet18').layer1[0].bn2.weight.min() == 1
    assert build_backbone('resnet50').layer1[0].bn3.weight.max() == 0
    assert build_backbone('resnet18', zero_init_last=True).layer1[0].bn2.weight.max() == 0
    assert build_backbone('resnet50', zero_init_last=False).layer1[0].bn3.weight.min() == 1


def test_fixed_patches_of_moco_v3():
    """Positions as in moco-v3's vits.py, by loops.

    Sines and cosines of the row, then of the column; 0 for the class token.
    """
    network = build_backbone(
        'vit_tiny_patch16_224', fixed_patches=True, weight_init='moco', img_size=48
    )
    projection = network.patch_embed.proj
    assert not any(p.requires_grad for p in (projection.weight, projection.bias, network.pos_embed))
    assert (
        projection.weight.abs().max() <= (6 / (3 * 16 * 16 + 192)) ** 0.5
        and projection.bias.abs().max() == 0
    )
    quarter = 192 // 4
    expected = torch.zeros(1, 10, 192)
    for i in range(3):
        for j in range(3):
            for d in range(quarter):
                omega = 1 / 10000 ** (d / quarter)
                values = (
                    math.sin(i * omega),
                    math.cos(i * omega),
                    math.sin(j * omega),
                    math.cos(j * omega),
                )
                for k, value in enumerate(values):
                    expected[0, 1 + 3 * i + j, k * quarter + d] = value
    torch.testing.assert_close(network.pos_embed.detach(), expected)
    assert network(torch.randn(2, 3, 48, 48)).shape == (2, 192)


def tensorflows_same(x, layer):
    """TensorFlow's documented formula for SAME.

    There are ceil(size / stride) outputs; an odd pixel of padding comes after the image.
    """
    k, s = (v[0] if isinstance(v, tuple) else v for v in (layer.kernel_size, layer.stride))
    before, after = zip(
        *(
            (total // 2, total - total // 2)
            for total in (max((math.ceil(n / s) - 1) * s + k - n, 0) for n in x.shape[-2:])
        ),
        strict=True,
    )
    pads = before[1], after[1], before[0], after[0]
    if isinstance(layer, nn.MaxPool2d):
        return nn.functional.max_pool2d(nn.functional.pad(x, pads, value=-math.inf), k, s)
    return nn.functional.conv2d(nn.functional.pad(x, pads), layer.weight, None, s)


@pytest.mark.parametrize('name', ['resnet18', 'resnet50'])
def test_same_padding_is_that_of_tensorflow_in_every_layer_of_stride_2(name):
    network = build_backbone(
        name, width=0.125, layers=[2, 1, 1, 1], padding='same', zero_init_last=False
    ).eval()
    plain = build_backbone(name, width=0.125, layers=[2, 1, 1, 1], zero_init_last=False).eval()
    plain.load_state_dict(network.state_dict())  # the same names
    seen = []

    def look(layer, inputs, output):
        torch.testing.assert_close(output, tensorflows_same(inputs[0], layer))
        seen.append(layer)

    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            layer.register_forward_hook(look)
    for size in (32, 30, 23):
        seen.clear()
        x = torch.randn(2, 3, size, size + 4)
        with torch.no_grad():
            assert network(x).shape == plain(x).shape
            assert (network(x) - plain(x)).abs().max() > 0.01
        assert {type(layer).__name__ for layer in seen} == {'Conv2d', 'Conv2dSame', 'MaxPool2dSame'}
        assert len(set(seen)) == len(
            [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.MaxPool2d))]
        )


def test_same_padding_stays_with_weight_standardisation():
    from ssl_zoo.layers import batchnorm_to_groupnorm

    network = batchnorm_to_groupnorm(
        build_backbone('resnet18', width=0.125, padding='same'), 4
    ).eval()
    names = {
        name: type(layer).__name__
        for name, layer in network.named_modules()
        if 'Conv2d' in type(layer).__name__
    }
    assert (
        names['conv1'] == names['layer2.0.conv1'] == 'StdConv2dSame'
        and names['layer1.0.conv1'] == 'StdConv2d'
    )
    assert 'Conv2d' not in names.values() and 'Conv2dSame' not in names.values()
    x = torch.randn(1, 3, 32, 32)
    conv = network.conv1
    weight = conv.weight - conv.weight.mean((1, 2, 3), keepdim=True)
    weight = weight / (conv.weight.var((1, 2, 3), unbiased=False, keepdim=True) + conv.eps).sqrt()
    padded = nn.functional.pad(x, (2, 3, 2, 3))
    torch.testing.assert_close(
        conv(x), nn.functional.conv2d(padded, weight, None, 2), atol=1e-5, rtol=1e-5
    )


def test_solo_learns_cifar_stem_pads_by_2():
    network = build_backbone('resnet18', stem='cifar', stem_padding=2)
    assert network.conv1.padding == (2, 2) and network.conv1(torch.randn(1, 3, 32, 32)).shape == (
        1,
        64,
        34,
        34,
    )


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'mobilenetv3_small_050', 'convnext_atto'])
def test_any_timm_model(name):
    network = build_backbone(name).eval()
    assert network(torch.randn(1, 3, 224, 224)).shape == (1, network.embed_dim)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (dict(name='resnet5O'), "'resnet5O' is not a timm model: did you mean .*'resnet50'"),
        (dict(name='resnet18', stem='cifr'), "stem is 'cifr': did you mean 'cifar'"),
        (dict(name='vit_tiny_patch16_224', stem='cifar'), 'works for ResNets only'),
        (dict(name='vit_tiny_patch16_224', width=2), 'width works for ResNets only'),
        (dict(name='resnet18', width=0.01), 'even number'),
        (dict(name='resnet18', fixed_patches=True), 'fixed_patches works for ViTs only'),
        (
            dict(name='vit_small_patch14_reg4_dinov2', fixed_patches=True, img_size=28),
            'needs positions of one class token and of each patch, and no others',
        ),
        (dict(name='resnet18', padding='sme'), "padding is 'sme': did you mean 'same'"),
        (
            dict(name='vit_tiny_patch16_224', padding='same'),
            "padding='same' works for ResNets only",
        ),
        (
            dict(name='resnet18', stem_padding=2),
            "stem_padding=2 with stem='imagenet'.* needs stem='cifar'",
        ),
        (dict(name='resnet18', stem='cifar', stem_padding=3), 'must be 0, 1 or 2'),
        (dict(name='resnet18', drop_pth=0.1), r"does not take these arguments \(.*drop_pth'\)$"),
        (
            dict(name='vit_tiny_patch16_224', num_heads=5),
            r'timm cannot build .* with num_heads=5 \(\w+: .*; change or leave out',
        ),
        (
            dict(name='vit_tiny_patch16_224', num_heads=0),
            r'timm cannot build .* with num_heads=0 \(',
        ),
        (
            dict(name='vit_tiny_patch16_224', patch_size=0),
            r'timm cannot build .* with patch_size=0 \(ZeroDivisionError',
        ),
        (
            dict(name='vit_tiny_patch16_224', embed_dim='8'),
            'does not take these arguments|timm cannot build',
        ),
        (dict(name='resnet18', num_classes=3), 'does not take these arguments'),
        (dict(name='resnet18', layers=[0, 1, 1, 1]), r'with layers=\[0, 1, 1, 1\]'),
        (dict(name='resnet18', features_only=True), 'with features_only=True is no backbone'),
        (dict(name='resnet18', width=2, channels=[8] * 4), 'width=2 sets channels'),
        (dict(name=5), 'name of the backbone is 5, but it must be the name of a timm model'),
        (
            dict(name='resnet18', width='2'),
            "width of the backbone is '2', but it must be a number above 0",
        ),
        (dict(name='resnet18', width=float('nan')), 'width of the backbone is nan'),
        (dict(name='resnet18', width=True), 'is True'),
        (dict(name='resnet18', width=-1), 'width of the backbone is -1'),
        (dict(name='resnet18', stem=3), 'stem of the backbone is 3'),
        (dict(name='resnet18', padding=None), 'padding of the backbone is None'),
        (dict(name='resnet18', fixed_patches=1), 'True or False'),
        (
            dict(name='resnet18', stem='cifar', stem_padding=2.0),
            'stem_padding of the backbone is 2.0',
        ),
    ],
)
def test_mistakes_get_a_sentence(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_backbone(**arguments)


@pytest.mark.parametrize('source', ['pretrained', 'checkpoint_path'])
@pytest.mark.parametrize(
    ('name', 'more'),
    [
        ('resnet18', dict(layers=[1, 1, 1, 1])),
        ('resnet18', dict(layers=[1, 1, 1, 1], padding='same')),
        ('test_resnet', {}),
        ('vit_tiny_patch16_224', dict(depth=1, img_size=32)),
    ],
)
def test_weights_that_timm_loads_arrive_bit_for_bit(tmp_path, source, name, more):
    plain = {key: value for key, value in more.items() if key != 'padding'}
    theirs = timm.create_model(name, num_classes=0, **plain)
    state = {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in theirs.state_dict().items()
    }
    file = tmp_path / 'weights.pth'
    torch.save(state, file)
    place = dict(checkpoint_path=str(file))
    if source == 'pretrained':
        place = dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(file)))
    network = build_backbone(name, **more, **place)
    assert network.state_dict().keys() == state.keys()
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize(
    ('name', 'option'),
    [
        ('resnet18', dict(stem='cifar')),
        ('resnet50', dict(width=2)),
        ('vit_tiny_patch16_224', dict(fixed_patches=True)),
    ],
)
@pytest.mark.parametrize('place', [dict(pretrained=True), dict(checkpoint_path='a.pth')])
def test_an_option_that_redraws_loaded_weights_is_refused(name, option, place):
    [(key, value)] = option.items()
    sentence = f'{key}={value!r} would draw pretrained weights of {name!r} anew.*leave out {key}'
    with pytest.raises(ConfigError, match=sentence):
        build_backbone(name, **option, **place)


def pretrained_vit(tmp_path, change=dict, **more) -> nn.Module:
    arguments = dict(depth=1, img_size=32)
    theirs = timm.create_model('vit_tiny_patch16_224', num_classes=0, **arguments)
    file = tmp_path / 'weights.pth'
    torch.save(change(theirs.state_dict()), file)
    place = dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(file)))
    return build_backbone('vit_tiny_patch16_224', **arguments, **place, **more)


def test_tensors_that_pretrained_weights_do_not_have_are_named(tmp_path):
    network = pretrained_vit(tmp_path)
    assert network.not_pretrained == () and random_warnings(nn.Sequential(network)) == []

    def without_norm(state):
        return {key: value for key, value in state.items() if not key.startswith('norm.')}

    network = pretrained_vit(tmp_path, without_norm)
    assert network.not_pretrained == ('norm.weight', 'norm.bias')
    both = nn.ModuleList([network, copy.deepcopy(network)])
    assert random_warnings(both) == [
        'the pretrained weights do not have norm.weight, norm.bias: these began with their initial '
        'values'
    ]
    assert not any(module._load_state_dict_post_hooks for module in network.modules())


def test_pretrained_weights_of_another_network_are_refused(tmp_path):
    def under_another_name(state):
        return {f'encoder.{key}': value for key, value in state.items()}

    sentence = (
        "have no parameter of 'vit_tiny_patch16_224': they have encoder.cls_token, "
        'encoder.pos_embed, .* and the network has cls_token'
    )
    with pytest.raises(ConfigError, match=sentence):
        pretrained_vit(tmp_path, under_another_name)


@pytest.mark.parametrize('channels', [1, 4])
def test_pretrained_weights_of_other_channels_are_refused(tmp_path, channels):
    def of_channels(state):
        key = 'patch_embed.proj.weight'
        return {**state, key: state[key].mean(1, keepdim=True).expand(-1, channels, -1, -1)}

    with pytest.raises(ConfigError, match=rf'patch_embed.proj.*\(192, {channels}, 16, 16\)'):
        pretrained_vit(tmp_path, of_channels)


def test_weights_that_do_not_fit_are_told_by_name(tmp_path):
    file = tmp_path / 'weights.pth'
    state = timm.create_model('resnet18', num_classes=0, layers=[1, 1, 1, 1]).state_dict()
    torch.save(dict(state, **{'conv1.weight': torch.ones(64, 1, 7, 7)}), file)
    with pytest.raises(ConfigError, match='timm cannot build .*size mismatch for conv1.weight'):
        build_backbone('resnet18', layers=[1, 1, 1, 1], checkpoint_path=str(file))
