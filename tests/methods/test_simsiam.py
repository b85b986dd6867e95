import math

import pytest
import torch
from torch import nn

from ssl_zoo.methods.simsiam import SimSiam, negative_cosine

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method() -> SimSiam:
    return SimSiam(BACKBONE, proj_dim=16, pred_hidden=8).train()


def pair():
    return [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]


def oracle(p, z):
    """Eq. 1, dimension by dimension."""
    total = 0.0
    for a, b in zip(p.tolist(), z.tolist(), strict=True):
        norms = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
        total -= sum(x * y for x, y in zip(a, b, strict=True)) / norms
    return total / len(p)


def test_loss_equals_a_slow_loop_in_float64():
    p = torch.randn(5, 7)
    z = 3 * torch.randn(5, 7)
    assert negative_cosine(p, z).item() == pytest.approx(oracle(p.double(), z.double()), rel=1e-5)
    assert negative_cosine(p, 2 * p).item() == pytest.approx(-1) and negative_cosine(
        p, -p
    ).item() == pytest.approx(1)
    assert negative_cosine(p.bfloat16(), z.bfloat16()).dtype == torch.float32


def test_whole_loss_is_the_mean_of_both_directions_with_views_forwarded_apart():
    simsiam = method()
    views = pair()
    z = [simsiam.projector(simsiam.backbone(x)) for x in views]
    p = [simsiam.predictor(v) for v in z]
    expected = oracle(p[0].double(), z[1].double()) / 2 + oracle(p[1].double(), z[0].double()) / 2
    assert simsiam.loss(views)['loss'].item() == pytest.approx(expected, rel=1e-5)


def test_gradient_stops_at_the_projection_and_flows_through_the_prediction():
    p = torch.randn(5, 7, requires_grad=True)
    z = torch.randn(5, 7, requires_grad=True)
    negative_cosine(p, z).backward()
    assert z.grad is None and p.grad.abs().max() > 0
    # The slope of -cos(p, z) in p is -(z/|z| - cos p/|p|)/|p|, over the batch of 5.
    for i in range(5):
        a = p[i].detach()
        b = z[i].detach()
        length = a.norm()
        a = a / length
        b = b / b.norm()
        torch.testing.assert_close(p.grad[i], -(b - (a @ b) * a) / length / 5)


def test_gradient_reaches_all_parameters_and_only_by_way_of_the_predictor():
    simsiam = method()
    simsiam.loss(pair())['loss'].backward()
    for name, parameter in simsiam.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert simsiam.backbone.conv1.weight.grad.abs().max() > 0

    class Cut(nn.Module):
        def forward(self, z):
            return z.detach()

    simsiam.predictor = Cut()
    assert not simsiam.loss(pair())['loss'].requires_grad


def test_sizes_of_the_paper_and_a_predictor_at_a_constant_rate():
    with torch.device('meta'):
        simsiam = SimSiam(dict(name='resnet50'))
        cifar = SimSiam(dict(name='resnet18'), proj_layers=2)
    norm = ['Linear', 'BatchNorm1d']
    assert [type(m).__name__ for m in simsiam.projector] == [*norm, 'ReLU', *norm, 'ReLU', *norm]
    assert [tuple(m.weight.shape) for m in simsiam.projector[::3]] == [(2048, 2048)] * 3
    assert [m.affine for m in simsiam.projector[1::3]] == [True, True, False]
    assert [type(m).__name__ for m in simsiam.predictor] == [*norm, 'ReLU', 'Linear']
    assert [tuple(m.weight.shape) for m in simsiam.predictor[::3]] == [(512, 2048), (2048, 512)]
    assert simsiam.predictor[0].bias is None and simsiam.predictor[3].bias is not None
    assert [tuple(m.weight.shape) for m in cifar.projector[::3]] == [(2048, 512), (2048, 2048)]
    assert simsiam.fixed_lr == ('predictor',)
    # All parameters of h, and no others.
    assert sum(name.startswith(simsiam.fixed_lr) for name, _ in simsiam.named_parameters()) == 5
