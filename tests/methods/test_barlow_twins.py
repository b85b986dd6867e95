import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.methods.barlow_twins import BarlowTwins, redundancy

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def correlation(z1, z2):
    """Of standardised columns, with BatchNorm's 1e-5 and the biased variance, over N."""
    n, d = z1.shape
    c = np.zeros((d, d))
    for i in range(d):
        for j in range(d):
            a = z1[:, i] - sum(z1[:, i]) / n
            b = z2[:, j] - sum(z2[:, j]) / n
            c[i, j] = sum(a * b) / n / np.sqrt((sum(a * a) / n + 1e-5) * (sum(b * b) / n + 1e-5))
    return c


def penalty(c, lambd):
    """Eq. 1."""
    total = 0.0
    for i in range(len(c)):
        for j in range(len(c)):
            total += (1 - c[i, j]) ** 2 if i == j else lambd * c[i, j] ** 2
    return total


def array(z):
    return z.detach().double().numpy()


def pair():
    return [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]


def bare(**arguments) -> BarlowTwins:
    """Of which the views are the projections."""
    barlow = BarlowTwins(BACKBONE, proj_dim=5, **arguments).train()
    barlow.backbone = barlow.projector = nn.Identity()
    return barlow


def test_redundancy_equals_a_slow_loop_in_float64():
    c = torch.randn(6, 6)
    assert redundancy(c, 0.0051).item() == pytest.approx(penalty(array(c), 0.0051), rel=1e-5)
    assert redundancy(c, 3.0).item() == pytest.approx(penalty(array(c), 3.0), rel=1e-5)
    assert redundancy(torch.eye(6), 1.0).item() == 0


@pytest.mark.parametrize('settings', [{}, dict(lambd=2.0, scale=0.024)])
def test_whole_loss_equals_a_slow_loop_in_float64(settings):
    barlow = BarlowTwins(BACKBONE, proj_dim=8, **settings).train()
    views = pair()
    # BatchNorm takes its statistics per view.
    z1, z2 = (array(barlow.projector(barlow.backbone(x))) for x in views)
    expected = settings.get('scale', 1.0) * penalty(
        correlation(z1, z2), settings.get('lambd', 0.0051)
    )
    assert barlow.loss(views)['loss'].item() == pytest.approx(expected, rel=1e-5)


def test_gradient_flows_through_both_views_and_their_standardisation():
    z = torch.randn(2, 7, 5, requires_grad=True)
    bare(lambd=0.5).loss([3 * z[0], z[1]])['loss'].backward()

    def loss(x):
        return penalty(correlation(3 * x[0], x[1]), 0.5)

    x = array(z)
    d = np.random.default_rng(0).normal(size=(2, 7, 5))
    h = 1e-5
    for direction in (d * [[[1]], [[0]]], d * [[[0]], [[1]]]):
        slope = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
        assert (array(z.grad) * direction).sum() == pytest.approx(slope, rel=1e-4)


def test_gradient_reaches_every_parameter():
    barlow = BarlowTwins(BACKBONE, proj_dim=8).train()
    barlow.loss(pair())['loss'].backward()
    for name, p in barlow.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
    assert barlow.backbone.conv1.weight.grad.abs().max() > 0
    assert not list(barlow.norm.parameters())  # a norm without scale and offset


def test_half_precision_projections_are_correlated_in_float32():
    z = torch.randn(2, 64, 5).bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = bare().loss([z[0], z[0] + z[1]])['loss']
    z = array(z.float())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        penalty(correlation(z[0], array(torch.tensor(z[0] + z[1]).bfloat16())), 0.0051), rel=1e-4
    )


def test_sizes_of_the_paper():
    with torch.device('meta'):
        barlow = BarlowTwins(dict(name='resnet50'))
    hidden = ['Linear', 'BatchNorm1d', 'ReLU']
    assert [type(m).__name__ for m in barlow.projector] == [*hidden, *hidden, 'Linear']
    assert [tuple(m.weight.shape) for m in barlow.projector[::3]] == [
        (8192, 2048),
        (8192, 8192),
        (8192, 8192),
    ]
    assert all(m.bias is None for m in barlow.projector[::3])
    assert barlow.norm.num_features == 8192 and barlow.lambd == 0.0051 and barlow.scale == 1
