"""Checkpoints of lightly's own classes, where lightly is installed (the extra bench)."""

import copy

import pytest
import torch
from torch import nn

from ssl_zoo.build import load_method
from ssl_zoo.interop.import_checkpoint import import_checkpoint

heads = pytest.importorskip('lightly.models.modules.heads')


class Byol(nn.Module):
    """As lightly's examples write it (examples/pytorch_lightning/byol.py)."""

    def __init__(self):
        super().__init__()
        import torchvision

        self.backbone = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
        self.projection_head = heads.BYOLProjectionHead(512, 32, 16)
        self.prediction_head = heads.BYOLPredictionHead(16, 32, 16)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)


class Dino(nn.Module):
    def __init__(self):
        super().__init__()
        import torchvision

        self.backbone = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
        self.projection_head = heads.DINOProjectionHead(512, 32, 16, 24, freeze_last_layer=1)
        self.student_backbone = copy.deepcopy(self.backbone)
        self.student_projection_head = heads.DINOProjectionHead(512, 32, 16, 24)


@pytest.mark.parametrize(('cls', 'main'), [(Byol, 'online'), (Dino, 'target')])
def test_lightlys_own_networks(tmp_path, cls, main):
    network = cls()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(('running_mean', 'bias')):
                value.normal_(std=0.2)
    network.eval()
    torch.save(
        {
            'epoch': 1,
            'global_step': 8,
            'pytorch-lightning_version': '2.5.0',
            'state_dict': network.state_dict(),
            'hyper_parameters': {},
        },
        tmp_path / 'last.ckpt',
    )
    method, settings, step = load_method(
        import_checkpoint(tmp_path / 'last.ckpt', tmp_path / 'out').path
    )
    assert (
        settings.method['source']['layout'] == 'lightly'
        and method.main_network == main
        and step == 8
    )
    x = torch.randn(2, 3, 64, 64)
    target = (
        dict(
            online=('student_backbone', 'student_projection_head'),
            target=('backbone', 'projection_head'),
        )
        if cls is Dino
        else dict(
            online=('backbone', 'projection_head'),
            target=('backbone_momentum', 'projection_head_momentum'),
        )
    )
    with torch.no_grad():
        for role, (backbone, head) in target.items():
            features = getattr(network, backbone)(x).flatten(1)
            torch.testing.assert_close(method.encoder(role)(x), features, atol=1e-5, rtol=1e-5)
            layers = getattr(network, head).layers
            torch.testing.assert_close(
                method.encoder(role, 'projector')(x), layers(features), atol=1e-5, rtol=1e-5
            )
