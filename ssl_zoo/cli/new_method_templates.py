"""The texts that ``new-method`` writes: a method file with a toy loss, its config and its test."""

METHOD = '''"""{title}: what it is (authors, year, arXiv number).

If the paper and its official code differ, say here whether this file follows the paper or the code,
and what deviates from both.
"""

from torch import Tensor

from ssl_zoo.backbones import build_backbone
from ssl_zoo.layers import mlp
from ssl_zoo.losses import feature_std
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS


def toy_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """Pull the two views of an image together; keep each dimension's standard deviation at 1.

    Put your formula here.

    Args:
        z1: (B, D) projections of the first view.
        z2: (B, D) projections of the second view.

    Returns:
        Scalar.
    """
    pull = (z1 - z2).square().mean()
    keep = (1 - z1.std(0)).relu().mean() + (1 - z2.std(0)).relu().mean()
    return pull + keep


@METHODS.register_module()
class {cls}(Method):
    """One sentence that says what the method does.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of the projector.
        proj_dim: width of the projection.
    """

    n_views = 2

    def __init__(self, backbone: dict, hidden_dim: int = 512, proj_dim: int = 128):
        super().__init__()
        self.backbone = build_backbone(**backbone)
        self.embed_dim = self.backbone.embed_dim
        self.projector = mlp(self.embed_dim, hidden_dim, proj_dim)

    def loss(self, views: list[Tensor], **batch) -> dict[str, Tensor | float]:
        x1, x2 = views  # each (B, 3, H, W)
        z1 = self.projector(self.backbone(x1)).float()  # (B, proj_dim)
        z2 = self.projector(self.backbone(x2)).float()
        # 'loss' is minimised, all other values are logged.
        return dict(loss=toy_loss(z1, z2), feature_std=feature_std(z1))

    # Updates once per optimizer step (EMA, queue, centre) go into after_step(self).
    # Name the attributes that after_step changes: updated_after_step = ('target',)
'''

CONFIG = '''"""{title} on scikit-learn's digits: a short run that shows whether the method learns.

    python tools/train.py {config}

Cost: a minute or two on two CPU cores.
Accuracy: not measured yet.
"""

{base}
method = dict(
    type='{cls}',
    backbone=dict(name='resnet18', layers=(1, 1, 1, 1), width=0.5),
    hidden_dim=512,
    proj_dim=128,
)

_view = dict(size=32, crop=(0.6, 1.0), flip_p=0.0, blur_p=1.0, blur_sigma=(0.1, 2.5))
views = [_view, _view]

optimizer = dict(type='SGD', momentum=0.9)
epochs = 30
batch_size = 64
base_lr = 0.5
weight_decay = 1e-4
warmup_epochs = 2
workers = 1
online_eval = dict(every=5)
checkpoint = dict(every=10)
'''

BASE_INSIDE = "_base_ = '../_base_/digits.py'\n"
BASE_OUTSIDE = """imports = ['{name}.py']

data = dict(
    train=dict(type='Digits', split='train'),
    val=dict(type='Digits', split='val'),
    test=dict(type='Digits', split='test'),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
"""

TEST = '''"""{title}: its loss by hand, its gradients, a short run."""

import sys
from pathlib import Path

import pytest
import torch

from ssl_zoo.build import build_method
from ssl_zoo.config.loading import load_config
from ssl_zoo.engine.trainer import build_trainer

CONFIG = Path(__file__).{config_from_test}
SMALL = [
    'method.backbone.width=0.125',
    'method.hidden_dim=32',
    'method.proj_dim=16',
    'data.train.split=val',
    'data.val=40',
    'data.test=None',
    'views.0.size=20',
    'views.1.size=20',
    'batch_size=20',
    'workers=0',
    'epochs=2',
    'warmup_epochs=0',
    'online_eval.every=0',
]


@pytest.fixture
def method():
    return build_method(load_config(CONFIG, SMALL)).train()


def test_loss_equals_its_formula_by_loops(method):
    toy_loss = sys.modules[type(method).__module__].toy_loss
    z1 = torch.randn(5, 3, dtype=torch.float64)
    z2 = torch.randn(5, 3, dtype=torch.float64)
    pull = sum((z1[i, d] - z2[i, d]).item() ** 2 for i in range(5) for d in range(3)) / 15
    keep = 0.0
    for z in (z1, z2):
        for d in range(3):
            values = z[:, d].tolist()
            mean = sum(values) / 5
            deviation = (sum((value - mean) ** 2 for value in values) / 4) ** 0.5
            keep += max(0.0, 1 - deviation) / 3
    assert toy_loss(z1, z2).item() == pytest.approx(pull + keep, rel=1e-9)


def test_gradient_reaches_every_trained_parameter_and_nothing_else(method):
    method.loss([torch.randn(6, 3, 20, 20) for _ in range(2)])['loss'].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_a_short_run(tmp_path):
    trainer = build_trainer(load_config(CONFIG, SMALL), tmp_path / 'run')
    trainer.fit()
    assert trainer.step == trainer.max_steps == 14
    assert (tmp_path / 'run' / 'checkpoints' / 'step_00000014.pth').exists()
'''
