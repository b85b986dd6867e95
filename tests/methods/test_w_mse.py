import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.errors import ConfigError
from ssl_zoo.methods.w_mse import WMSE, whiten

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def slow_whiten(v, eps=0.0):
    """Covariance, its Cholesky factor and forward substitution, each by its textbook loop."""
    n, d = v.shape
    x = v - sum(v) / n
    cov = sum(np.outer(row, row) for row in x) / (n - 1)
    lower = np.zeros((d, d))
    cov = (1 - eps) * cov + eps * np.eye(d)
    for i in range(d):
        for j in range(i + 1):
            rest = cov[i, j] - sum(lower[i, k] * lower[j, k] for k in range(j))
            lower[i, j] = math.sqrt(rest) if i == j else rest / lower[j, j]
    out = np.zeros_like(x)
    for r in range(n):
        for i in range(d):
            out[r, i] = (x[r, i] - sum(lower[i, k] * out[r, k] for k in range(i))) / lower[i, i]
    return out


def oracle(views, parts, eps=0.0):
    """2 - 2 cos of whitened vectors, mean over images and over pairs of views.

    Each part of each view is whitened by itself.
    """
    terms = []
    for i in range(len(views)):
        for j in range(i + 1, len(views)):
            for part in parts:
                for a, b in zip(
                    slow_whiten(views[i][part], eps), slow_whiten(views[j][part], eps), strict=True
                ):
                    terms.append(2 - 2 * a @ b / math.sqrt((a @ a) * (b @ b)))
    return sum(terms) / len(terms)


def array(z):
    return z.detach().double().numpy()


def parts_of(n, size, seed):
    torch.manual_seed(seed)
    return torch.randperm(n).view(-1, size).numpy()


@pytest.mark.parametrize('eps', [0.0, 0.1])
def test_whiten_equals_a_slow_loop_and_makes_the_covariance_the_identity(eps):
    v = torch.randn(9, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64) + 5
    np.testing.assert_allclose(
        array(whiten(v, eps)), slow_whiten(array(v), eps), rtol=1e-8, atol=1e-10
    )
    z = whiten(v)
    torch.testing.assert_close(z.T @ z / 8, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(z.mean(0), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize(('n_views', 'eps'), [(2, 0.0), (4, 0.0), (2, 0.2)])
def test_whole_loss_whitens_the_same_parts_of_all_views(n_views, eps):
    wmse = WMSE(BACKBONE, hidden_dim=16, proj_dim=2, whiten_size=6, eps=eps).train()
    views = [torch.randn(12, 3, 16, 16) * (i + 1) for i in range(n_views)]
    # The head forwards all views as one batch, the backbone view by view.
    v = array(wmse.projector(torch.cat([wmse.backbone(x) for x in views])))
    v = v.reshape(n_views, 12, 2)
    parts = parts_of(12, 6, seed=3)
    torch.manual_seed(3)
    loss = wmse.loss(views)['loss'].item()
    assert loss == pytest.approx(oracle(v, parts, eps), rel=1e-5)
    torch.manual_seed(4)
    assert wmse.loss(views)['loss'].item() != pytest.approx(loss, rel=1e-3)  # other parts


def test_gradient_flows_through_both_views_and_the_whitening():
    wmse = WMSE(BACKBONE, proj_dim=3, whiten_size=7).train()
    wmse.backbone = wmse.projector = nn.Identity()  # so the views are the projections
    z = torch.randn(2, 7, 3, requires_grad=True)
    wmse.loss([z[0], z[1]])['loss'].backward()
    x = array(z)
    numeric = np.zeros((2, 7, 3))
    h = 1e-5
    everything = [list(range(7))]
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        numeric[index] = (oracle(x + step, everything) - oracle(x - step, everything)) / (2 * h)
    assert (abs(numeric).max((1, 2)) > 0.01).all()
    np.testing.assert_allclose(array(z.grad), numeric, rtol=1e-3, atol=1e-5)


def test_gradient_reaches_every_parameter():
    wmse = WMSE(BACKBONE, hidden_dim=16, proj_dim=2, whiten_size=8).train()
    wmse.loss([torch.randn(8, 3, 16, 16) for _ in range(2)])['loss'].backward()
    for name, p in wmse.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
    assert wmse.backbone.conv1.weight.grad.abs().max() > 0


def test_sizes_that_cannot_be_whitened_are_named():
    with pytest.raises(ConfigError, match='whiten_size=4'):
        WMSE(BACKBONE, proj_dim=4, whiten_size=4)


def test_sizes_of_the_paper():
    with torch.device('meta'):
        wmse = WMSE(dict(name='resnet18'))
    assert [type(m).__name__ for m in wmse.projector] == ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    assert [tuple(m.weight.shape) for m in wmse.projector[::3]] == [(1024, 512), (64, 1024)]
    assert wmse.whiten_size == 128 and wmse.eps == 0
