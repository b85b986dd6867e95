"""Backbones that are registered under a type: those of torchvision, and a user's own."""

import pytest
import torch
import torchvision
from torch import nn

from ssl_zoo import torchvision_backbones
from ssl_zoo.architecture_keys import architecture_only
from ssl_zoo.backbones import build_backbone
from ssl_zoo.build import build_method, load_method
from ssl_zoo.checkpoint import add_digest, checkpoints_in, read_checkpoint
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError
from ssl_zoo.registry import BACKBONES


@BACKBONES.register_module(force=True)
class Pooled(nn.Module):
    """A convolution and an average pool."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.embed_dim = width
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, images):
        return self.norm(self.conv(images)).relu().mean((2, 3))


@pytest.mark.parametrize(
    ('name', 'size', 'classifier'),
    [
        ('resnet18', 32, 'fc'),
        ('mobilenet_v3_small', 32, 'classifier.3'),
        ('convnext_tiny', 32, 'classifier.2'),
        ('swin_t', 32, 'head'),
        ('vit_b_16', 224, 'heads.head'),
        ('densenet121', 32, 'classifier'),
    ],
)
def test_features_are_the_input_of_torchvisions_classifier(name, size, classifier):
    if name == 'vit_b_16':
        with torch.device('meta'):
            network = build_backbone(type='torchvision', name=name)
            features = network.eval()(torch.empty(2, 3, size, size))
        assert features.shape == (2, network.embed_dim) == (2, 768)
        return
    torch.manual_seed(0)
    network = build_backbone(type='torchvision', name=name).eval()
    torch.manual_seed(0)
    whole = torchvision.models.get_model(name).eval()
    given = []
    whole.get_submodule(classifier).register_forward_pre_hook(
        lambda module, inputs: given.append(inputs[0])
    )
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        whole(images)
        features = network(images)
    assert features.shape == (2, network.embed_dim)
    assert torch.equal(features, given[0])


def test_a_network_of_ones_own_trains_and_loads(tiny, tmp_path):
    method = dict(type='SimCLR', backbone=dict(type='Pooled', width=12), proj_dim=8)
    trainer = build_trainer(tiny(method=method, epochs=1), tmp_path)
    trainer.fit()
    loaded, settings, step = load_method(checkpoints_in(tmp_path)[0])
    assert step == 7 and loaded.embed_dim == 12
    images = torch.randn(2, 3, 20, 20)
    assert torch.equal(loaded.embed(images), trainer.method.eval().embed(images))
    assert 'SimCLR on Pooled' in (tmp_path / 'train.log').read_text()


def test_weights_are_asked_for_by_a_config_and_never_by_a_file(tiny, tmp_path, monkeypatch):
    asked = []
    real = torchvision.models.get_model

    def get_model(name, weights=None, **arguments):
        asked.append(weights)
        return real(name, weights=None, **arguments)

    monkeypatch.setattr(torchvision_backbones.torchvision.models, 'get_model', get_model)
    backbone = dict(type='torchvision', name='resnet18', weights='DEFAULT')
    settings = tiny(method=dict(type='SimCLR', backbone=backbone, proj_dim=8), epochs=1)
    method = build_method(settings)
    assert set(asked) == {'DEFAULT'}
    asked.clear()
    build_method(settings, pretrained=False)
    content = dict(
        format='ssl_zoo checkpoint 1',
        config=settings.to_builtin(),
        step=1,
        method=method.state_dict(),
    )
    run = tmp_path / 'run'
    trainer = build_trainer(tiny(epochs=1), run)
    trainer.save_checkpoint()
    content['format'] = read_checkpoint(checkpoints_in(run)[0])['format']
    torch.save(add_digest(content), tmp_path / 'file.pth')
    asked.clear()
    load_method(tmp_path / 'file.pth')
    assert set(asked) == {None}


@pytest.mark.parametrize(
    ('backbone', 'sentence'),
    [
        (dict(), "neither 'name', that of a timm model, nor 'type'"),
        (dict(type='Poled'), "'Poled' is not a registered backbone: did you mean 'Pooled'"),
        (dict(type='Pooled', widht=3), "has no argument 'widht': did you mean 'width'"),
        (dict(type='torchvision', name='resnet19'), 'not a classification network of torchvision'),
        (dict(type='torchvision', name='resnet18', depth=3), "'resnet18' cannot be built"),
        (dict(type='torchvision', name='squeezenet1_0'), 'has no linear layer at its end'),
    ],
)
def test_mistakes_get_a_sentence(backbone, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_backbone(**backbone)


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='Pooled', cache_dir='/tmp/x'),
        dict(type='Pooled', width=10**9),
        dict(type='torchvision', name='resnet18', progress=True),
        dict(type='torchvision', name='resnet18', norm_layer=print),
    ],
)
def test_a_file_sets_sizes_alone(backbone):
    with architecture_only(), pytest.raises(ConfigError, match='in the file'):
        build_backbone(**backbone)


def test_a_network_without_a_width_is_refused():
    @BACKBONES.register_module(force=True)
    class Widthless(nn.Module):
        pass

    with pytest.raises(ConfigError, match='has embed_dim=None, but it must be the width'):
        build_backbone(type='Widthless')


def test_an_image_size_that_a_network_cannot_take_is_said(tiny):
    method = dict(type='SimCLR', backbone=dict(type='torchvision', name='vit_b_16'), proj_dim=8)
    settings = settings_from_dict({**tiny().to_builtin(), 'method': method})
    with pytest.raises(ConfigError, match='vit_b_16 cannot take views of 20 x 20 px'):
        build_method(settings)
