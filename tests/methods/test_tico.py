import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.methods.tico import TiCo, tico_loss

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method(**arguments) -> TiCo:
    tico = TiCo(BACKBONE, **{**dict(hidden_dim=16, proj_dim=5, base_ema=0.9), **arguments}).train()
    for p in tico.target.parameters():
        p.data += 0.05 * torch.randn_like(p)  # as if training had moved the networks apart
    return tico


def pair():
    return [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]


def unit(z):
    z = z.detach().double().numpy()
    return np.stack([row / math.sqrt(row @ row) for row in z])


def moments(*views):
    """Mean over images of z z^T, then over views."""
    return sum(np.outer(row, row) / len(z) for z in views for row in z) / len(views)


def oracle(z1, z2, c, rho):
    """The paper's loss, plus 1: image by image and, for z^T C z, dimension by dimension."""
    total = 0.0
    d = z1.shape[1]
    for a, b in zip(z1, z2, strict=True):
        total += 1 - a @ b + rho * sum(a[i] * c[i, j] * a[j] for i in range(d) for j in range(d))
    return total / len(z1)


def outputs(tico, views):
    return [unit(tico.online(x)) for x in views], [unit(tico.target(x)) for x in views]


def test_loss_equals_a_slow_loop_in_float64_and_its_gradient_leaves_c_alone():
    z1, z2 = (nn.functional.normalize(torch.randn(6, 5), dim=1) for _ in range(2))
    z1.requires_grad_()
    c = torch.tensor(moments(unit(torch.randn(9, 5)))).float()
    loss = tico_loss(z1, z2, c, 8.0)
    x1, x2, x3 = (x.detach().double().numpy() for x in (z1, z2, c))
    assert loss.item() == pytest.approx(oracle(x1, x2, x3, 8.0), rel=1e-5)
    loss.backward()
    for i in range(6):
        np.testing.assert_allclose(
            z1.grad[i].numpy(), (-x2[i] + 16 * x3 @ x1[i]) / 6, rtol=1e-4, atol=1e-5
        )


def test_whole_loss_has_both_directions_and_a_c_that_already_holds_this_batch():
    tico = method(rho=20.0)
    views = pair()
    tico.c.value.copy_(torch.tensor(moments(unit(torch.randn(9, 5)))))
    (z1, z2), (t1, t2) = outputs(tico, views)
    c = 0.9 * tico.c.value.double().numpy() + 0.1 * moments(z1, z2)
    expected = oracle(z1, t2, c, 20.0) / 2 + oracle(z2, t1, c, 20.0) / 2
    assert tico.loss(views)['loss'].item() == pytest.approx(expected, rel=1e-5)


def test_no_gradient_flows_into_c():
    tico = method(beta=0.0)  # so C is this batch's moments alone
    tico.online = nn.Identity()
    tico.target = nn.Identity()
    z = torch.randn(2, 6, 5, requires_grad=True)
    tico.loss([z[0], z[1]])['loss'].backward()
    x = z.detach().double().numpy()
    d = np.random.default_rng(0).normal(size=(2, 6, 5))
    h = 1e-5
    c = moments(unit(z[0]), unit(z[1]))

    def loss(x):
        z1, z2 = (unit(torch.tensor(v)) for v in x)
        return oracle(z1, z2, c, 8.0) / 2 + oracle(z2, z1, c, 8.0) / 2  # c held fixed while z moves

    slope = (loss(x + h * d) - loss(x - h * d)) / (2 * h)
    assert (z.grad.double().numpy() * d).sum() == pytest.approx(slope, rel=1e-4)


def test_gradient_reaches_the_online_network_alone():
    tico = method()
    tico.loss(pair())['loss'].backward()
    for name, p in tico.named_parameters():
        assert (p.grad is None) if name.startswith('target') else p.grad.isfinite().all(), name
    assert tico.online.backbone.conv1.weight.grad.abs().max() > 0


def test_c_and_the_momentum_network_move_only_after_the_step():
    tico = method()
    views = pair()
    tico.progress = 0.5
    (z1, z2), _ = outputs(tico, views)
    before = [p.clone() for p in tico.target.parameters()]
    optimizer = torch.optim.SGD([p for p in tico.parameters() if p.requires_grad], lr=0.1)
    tico.loss(views)['loss'].backward()
    optimizer.step()
    assert (
        all(torch.equal(a, b) for a, b in zip(before, tico.target.parameters(), strict=True))
        and not tico.c.value.any()
    )
    tico.after_step()
    np.testing.assert_allclose(tico.c.value.numpy(), 0.1 * moments(z1, z2), rtol=1e-4, atol=1e-7)
    for old, now, online in zip(
        before, tico.target.parameters(), tico.online.parameters(), strict=True
    ):
        # The decay rises from 0.9 to 1 and is half way between at progress 0.5.
        torch.testing.assert_close(now, 0.95 * old + 0.05 * online)
    c = tico.c.value.numpy().copy()
    ((z1, z2), _) = outputs(tico, views)
    tico.loss(views)
    tico.after_step()
    np.testing.assert_allclose(
        tico.c.value.numpy(), 0.9 * c + 0.1 * moments(z1, z2), rtol=1e-4, atol=1e-7
    )


def test_sizes_of_the_paper():
    with torch.device('meta'):
        tico = TiCo(dict(name='resnet50'))
    assert [type(m).__name__ for m in tico.online.projector] == [
        'Linear',
        'BatchNorm1d',
        'ReLU',
        'Linear',
    ]
    assert [tuple(m.weight.shape) for m in tico.online.projector[::3]] == [
        (4096, 2048),
        (256, 4096),
    ]
    assert tuple(tico.c.value.shape) == (256, 256) and (tico.c.decay, tico.rho, tico.base_ema) == (
        0.9,
        8.0,
        0.99,
    )
    copy = TiCo(BACKBONE, hidden_dim=8, proj_dim=4)
    assert all(
        torch.equal(a, b)
        for a, b in zip(copy.online.parameters(), copy.target.parameters(), strict=True)
    )
