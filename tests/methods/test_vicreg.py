import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.methods.vicreg import VICReg, covariance, variance

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def moment(z, i, j):
    """Unbiased covariance of dimensions i and j."""
    n = len(z)
    return sum((z[k, i] - sum(z[:, i]) / n) * (z[k, j] - sum(z[:, j]) / n) for k in range(n)) / (
        n - 1
    )


def slow_variance(z):
    return (
        sum(max(0.0, 1 - math.sqrt(moment(z, j, j) + 1e-4)) for j in range(z.shape[1])) / z.shape[1]
    )


def slow_covariance(z):
    d = z.shape[1]
    return sum(moment(z, i, j) ** 2 for i in range(d) for j in range(d) if i != j) / d


def oracle(za, zb, weights=(25, 25, 1)):
    """The loss as in the official code.

    The invariance term is the mean square over all elements, the variance terms of the two views
    are averaged, the covariance terms are added.
    """
    n, d = za.shape
    invariance = sum((za[k, j] - zb[k, j]) ** 2 for k in range(n) for j in range(d)) / (n * d)
    terms = (
        invariance,
        (slow_variance(za) + slow_variance(zb)) / 2,
        slow_covariance(za) + slow_covariance(zb),
    )
    return sum(w * term for w, term in zip(weights, terms, strict=True))


def array(z):
    return z.detach().double().numpy()


def pair():
    return [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]


def test_terms_equal_slow_loops_in_float64():
    # Some standard deviations are below 1, some above.
    z = torch.randn(6, 5) * torch.tensor([0.1, 0.5, 1, 2, 4]) + 3
    assert variance(z).item() == pytest.approx(slow_variance(array(z)), rel=1e-5)
    assert covariance(z).item() == pytest.approx(slow_covariance(array(z)), rel=1e-5)
    # 1 - sqrt(1e-4) when all projections are equal.
    assert variance(torch.ones(4, 3)).item() == pytest.approx(0.99, rel=1e-6)


@pytest.mark.parametrize('weights', [(25, 25, 1), (0, 3, 0), (2, 0, 7)])
def test_whole_loss_equals_a_slow_loop_in_float64(weights):
    names = 'invariance_weight', 'variance_weight', 'covariance_weight'
    vicreg = VICReg(BACKBONE, proj_dim=8, **dict(zip(names, weights, strict=True))).train()
    views = pair()
    # BatchNorm takes its statistics per view.
    za, zb = (array(vicreg.expander(vicreg.backbone(x))) for x in views)
    assert slow_variance(za) > 0.1  # else the hinge would not be tested
    assert vicreg.loss(views)['loss'].item() == pytest.approx(oracle(za, zb, weights), rel=1e-5)


def test_defaults_are_the_papers_weights():
    vicreg = VICReg(BACKBONE, proj_dim=8).train()
    views = pair()
    za, zb = (array(vicreg.expander(vicreg.backbone(x))) for x in views)
    assert vicreg.loss(views)['loss'].item() == pytest.approx(oracle(za, zb), rel=1e-5)


def test_gradient_flows_through_both_views():
    vicreg = VICReg(BACKBONE, proj_dim=5).train()
    vicreg.backbone = vicreg.expander = nn.Identity()  # so the views are the projections
    z = (0.8 * torch.randn(2, 6, 5)).requires_grad_()
    vicreg.loss([z[0], z[1]])['loss'].backward()
    x = array(z)
    d = np.random.default_rng(0).normal(size=(2, 6, 5))
    h = 1e-5
    for direction in (d * [[[1]], [[0]]], d * [[[0]], [[1]]]):
        slope = (oracle(*(x + h * direction)) - oracle(*(x - h * direction))) / (2 * h)
        assert (array(z.grad) * direction).sum() == pytest.approx(slope, rel=1e-4)


def test_gradient_reaches_every_parameter():
    vicreg = VICReg(BACKBONE, proj_dim=8).train()
    vicreg.loss(pair())['loss'].backward()
    for name, p in vicreg.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
    assert vicreg.backbone.conv1.weight.grad.abs().max() > 0


def test_sizes_of_the_paper():
    with torch.device('meta'):
        vicreg = VICReg(dict(name='resnet50'))
    hidden = ['Linear', 'BatchNorm1d', 'ReLU']
    assert [type(m).__name__ for m in vicreg.expander] == [*hidden, *hidden, 'Linear']
    assert [tuple(m.weight.shape) for m in vicreg.expander[::3]] == [
        (8192, 2048),
        (8192, 8192),
        (8192, 8192),
    ]
    assert [m.bias is None for m in vicreg.expander[::3]] == [False, False, True]
