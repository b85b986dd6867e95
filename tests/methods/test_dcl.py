import math

import numpy as np
import pytest
import torch

from ssl_zoo.methods.dcl import DCL, dcl_loss

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def cos(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def weights(z1, z2, sigma):
    """DCLW's: far pairs above 1, near ones below, 1 on average."""
    agreement = [math.exp(cos(a, b) / sigma) for a, b in zip(z1, z2, strict=True)]
    return [2 - e / (sum(agreement) / len(agreement)) for e in agreement]


def oracle(z1, z2, t, w):
    views = (z1, z2)
    n = len(z1)
    total = 0.0
    for anchor in views:
        for i in range(n):
            negatives = sum(
                math.exp(cos(anchor[i], view[j]) / t) for view in views for j in range(n) if j != i
            )
            total += -w[i] * cos(z1[i], z2[i]) / t + math.log(negatives)
    return total / n


def array(z):
    return z.detach().double().numpy()


@pytest.mark.parametrize('sigma', [None, 0.5, 2.0])
def test_loss_equals_a_slow_loop_in_float64(sigma):
    z1 = torch.randn(5, 7)
    z2 = 3 * torch.randn(5, 7)
    w = [1.0] * 5 if sigma is None else weights(array(z1), array(z2), sigma)
    # The test needs weights that differ from 1.
    assert sum(w) == pytest.approx(5) and (sigma is None or max(w) > 1.01)
    assert dcl_loss(z1, z2, 0.1, sigma).item() == pytest.approx(
        oracle(array(z1), array(z2), 0.1, w), rel=1e-5
    )


def test_positive_pair_is_not_in_the_denominator():
    z = torch.eye(4)
    # With the positive in the denominator the loss would be at least 0.
    assert dcl_loss(z, z, 0.1).item() == pytest.approx(2 * (math.log(6) - 10), rel=1e-6)


@pytest.mark.parametrize('sigma', [None, 0.5])
def test_gradient_flows_through_both_views_and_not_through_the_weights(sigma):
    z = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    dcl_loss(z[0], z[1], 0.5, sigma).backward()
    x = array(z)
    d = np.random.default_rng(0).normal(size=(2, 5, 4))
    h = 1e-5
    w = [1.0] * 5 if sigma is None else weights(*x, sigma)  # held fixed while z moves
    slope = (oracle(*(x + h * d), 0.5, w) - oracle(*(x - h * d), 0.5, w)) / (2 * h)
    assert (array(z.grad) * d).sum() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize('sigma', [None, 0.5])
def test_whole_loss_forwards_both_views_as_one_batch(sigma):
    dcl = DCL(BACKBONE, proj_dim=16, temperature=0.2, sigma=sigma).train()
    views = [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]
    z = array(dcl.projector(dcl.backbone(torch.cat(views))))
    w = [1.0] * 6 if sigma is None else weights(z[:6], z[6:], sigma)
    assert dcl.loss(views)['loss'].item() == pytest.approx(oracle(z[:6], z[6:], 0.2, w), rel=1e-5)


def test_gradient_reaches_all_but_the_offset_of_the_last_norm():
    dcl = DCL(BACKBONE, proj_dim=16, sigma=0.5).train()
    dcl.loss([torch.randn(6, 3, 16, 16) for _ in range(2)])['loss'].backward()
    assert {name for name, p in dcl.named_parameters() if not p.requires_grad} == {
        'projector.4.bias'
    }
    for name, p in dcl.named_parameters():
        assert p.grad.isfinite().all() if p.requires_grad else p.grad is None, name
    assert dcl.backbone.conv1.weight.grad.abs().max() > 0


def test_sizes_of_the_paper():
    with torch.device('meta'):
        dcl = DCL(dict(name='resnet50'))
    assert [type(m).__name__ for m in dcl.projector] == [
        'Linear',
        'BatchNorm1d',
        'ReLU',
        'Linear',
        'BatchNorm1d',
    ]
    assert tuple(dcl.projector[0].weight.shape) == (2048, 2048) and tuple(
        dcl.projector[3].weight.shape
    ) == (128, 2048)
    assert dcl.projector[0].bias is None and dcl.projector[3].bias is None
    assert dcl.temperature == 0.1 and dcl.sigma is None
