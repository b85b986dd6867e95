import math

import pytest
import torch
from torch import nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.registry import ConfigError


def parameters(**arguments) -> float:
    with torch.device('meta'):
        return sum(p.numel() for p in build_backbone(**arguments).parameters()) / 1e6


@pytest.mark.parametrize(('name', 'width', 'millions'), [
    ('resnet50', 1, 24), ('resnet50', 2, 94), ('resnet50', 3, 211), ('resnet50', 4, 375),
    ('resnet101', 1, 43), ('resnet101', 2, 170), ('resnet152', 1, 58), ('resnet152', 2, 232), ('resnet152', 3, 522),
    ('resnet200', 1, 63), ('resnet200', 2, 250)])
def test_sizes_of_table_9(name, width, millions):
    """Number of parameters of BYOL's table 9, in millions."""
    assert parameters(name=name, width=width) == pytest.approx(millions, rel=0.03)


def test_width_multiplies_every_stage_and_the_stem():
    network = build_backbone('resnet50', width=2)
    assert network.conv1.weight.shape == (128, 3, 7, 7) and network.conv1.stride == (2, 2)
    assert [stage[-1].conv3.out_channels for stage in (network.layer1, network.layer2, network.layer3, network.layer4)] == \
        [512, 1024, 2048, 4096]
    assert network.layer1[0].conv2.in_channels == 128
    assert network.embed_dim == 4096


def test_width_1_is_timms_own_network():
    import timm
    names = [n for n, _ in timm.create_model('resnet50', num_classes=0).named_parameters()]
    assert [n for n, _ in build_backbone('resnet50').named_parameters()] == names


def test_cifar_stem():
    network = build_backbone('resnet18', stem='cifar')
    assert (network.conv1.kernel_size, network.conv1.stride, network.conv1.padding) == ((3, 3), (1, 1), (1, 1))
    assert isinstance(network.maxpool, nn.Identity)
    assert network.forward_features(torch.randn(2, 3, 32, 32)).shape == (2, 512, 4, 4)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, network.embed_dim) == (2, 512)


def test_last_batchnorm_starts_at_1_in_basic_blocks_and_at_0_in_bottlenecks():
    assert build_backbone('resnet18').layer1[0].bn2.weight.min() == 1
    assert build_backbone('resnet50').layer1[0].bn3.weight.max() == 0
    assert build_backbone('resnet18', zero_init_last=True).layer1[0].bn2.weight.max() == 0
    assert build_backbone('resnet50', zero_init_last=False).layer1[0].bn3.weight.min() == 1


def test_fixed_patches_of_moco_v3():
    """Positions as moco-v3's vits.py builds them, by loops: sines and cosines of the row, then of the column; 0 for the class token."""
    network = build_backbone('vit_tiny_patch16_224', fixed_patches=True, weight_init='moco', img_size=48)
    projection = network.patch_embed.proj
    assert not any(p.requires_grad for p in (projection.weight, projection.bias, network.pos_embed))
    assert projection.weight.abs().max() <= (6 / (3 * 16 * 16 + 192)) ** 0.5 and projection.bias.abs().max() == 0
    quarter = 192 // 4
    expected = torch.zeros(1, 10, 192)
    for i in range(3):
        for j in range(3):
            for d in range(quarter):
                omega = 1 / 10000 ** (d / quarter)
                values = math.sin(i * omega), math.cos(i * omega), math.sin(j * omega), math.cos(j * omega)
                for k, value in enumerate(values):
                    expected[0, 1 + 3 * i + j, k * quarter + d] = value
    torch.testing.assert_close(network.pos_embed.detach(), expected)
    assert network(torch.randn(2, 3, 48, 48)).shape == (2, 192)


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'mobilenetv3_small_050', 'convnext_atto'])
def test_any_timm_model(name):
    network = build_backbone(name).eval()
    assert network(torch.randn(1, 3, 224, 224)).shape == (1, network.embed_dim)


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (dict(name='resnet5O'), "'resnet5O' is not a timm model: did you mean .*'resnet50'"),
    (dict(name='resnet18', stem='cifr'), "stem is 'cifr': did you mean 'cifar'"),
    (dict(name='vit_tiny_patch16_224', stem='cifar'), 'works for ResNets only'),
    (dict(name='vit_tiny_patch16_224', width=2), 'width works for ResNets only'),
    (dict(name='resnet18', width=0.01), 'even number'),
    (dict(name='resnet18', fixed_patches=True), 'fixed_patches works for ViTs only'),
    (dict(name='vit_small_patch14_reg4_dinov2', fixed_patches=True, img_size=28), 'a position for each patch and nothing else'),
    (dict(name='resnet18', drop_pth=0.1), 'does not take these arguments'),
])
def test_mistakes_get_a_sentence(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_backbone(**arguments)
