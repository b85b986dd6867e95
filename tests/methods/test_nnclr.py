import math

import pytest
import torch
from torch import nn

from ssl_zoo.methods.nnclr import NNCLR, nearest_neighbour

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method(**arguments) -> NNCLR:
    return NNCLR(
        BACKBONE, **{**dict(proj_hidden=32, proj_dim=8, pred_hidden=16, queue_size=10), **arguments}
    ).train()


def pair():
    return [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]


def cos(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def neighbour(z, support):
    best = support[0]
    for candidate in support:
        if cos(z, candidate) > cos(z, best):
            best = candidate
    return best


def oracle(z1, z2, p1, p2, support, t):
    """Algorithm 1: L(NN(z1), p2)/2 + L(NN(z2), p1)/2.

    Neighbours are the anchors, predictions the candidates.
    """
    total = 0.0
    for z, p in (z1, p2), (z2, p1):
        for i in range(len(z)):
            anchor = neighbour(z[i], support)
            candidates = sum(math.exp(cos(anchor, p[k]) / t) for k in range(len(p)))
            total -= math.log(math.exp(cos(anchor, p[i]) / t) / candidates) / len(z) / 2
    return total


def array(z):
    return z.detach().double().numpy()


def unit(z):
    return nn.functional.normalize(z, dim=1)


def test_nearest_neighbour_equals_a_slow_loop_and_has_no_gradient():
    z = unit(torch.randn(6, 5, requires_grad=True))
    support = unit(torch.randn(9, 5))
    neighbours = nearest_neighbour(z, support)
    assert not neighbours.requires_grad
    for row, vector in zip(array(neighbours), array(z), strict=True):
        assert (row == neighbour(vector, array(support))).all()


@pytest.mark.parametrize('t', [0.1, 0.5])
def test_whole_loss_equals_a_slow_loop_in_float64(t):
    nnclr = method(temperature=t)
    views = pair()
    z = [nnclr.projector(nnclr.backbone(x)) for x in views]
    p = [array(nnclr.predictor(v)) for v in z]
    expected = oracle(*map(array, z), *p, array(nnclr.queue.keys), t)
    assert nnclr.loss(views)['loss'].item() == pytest.approx(expected, rel=1e-5)


def test_gradient_reaches_all_parameters_through_the_predictions_alone():
    nnclr = method()
    nnclr.loss(pair())['loss'].backward()
    for name, p in nnclr.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
    assert nnclr.backbone.conv1.weight.grad.abs().max() > 0

    class Cut(nn.Module):
        def forward(self, z):
            return z.detach()

    nnclr.predictor = Cut()
    assert not nnclr.loss(pair())['loss'].requires_grad


def test_queue_takes_the_first_view_after_the_step_and_wraps_around():
    nnclr = method()
    views = pair()
    start = nnclr.queue.keys.clone()
    torch.testing.assert_close(start.norm(dim=1), torch.ones(10))
    z = unit(nnclr.projector(nnclr.backbone(views[0]))).detach()
    nnclr.loss(views)
    assert torch.equal(nnclr.queue.keys, start)  # a step does not meet its own projections
    nnclr.after_step()
    torch.testing.assert_close(nnclr.queue.keys, torch.cat([z, start[6:]]))
    nnclr.loss(views)
    nnclr.after_step()
    torch.testing.assert_close(nnclr.queue.keys, torch.cat([z[4:], z[2:], z[:4]]))
    assert nnclr.loss(views)['neighbour_cos'].item() == pytest.approx(1, rel=1e-5)


def test_sizes_of_the_paper():
    with torch.device('meta'):
        nnclr = NNCLR(dict(name='resnet50'))
    norm = ['Linear', 'BatchNorm1d']
    # BatchNorm follows every layer.
    assert [type(m).__name__ for m in nnclr.projector] == [
        *norm,
        'ReLU',
        *norm,
        'ReLU',
        *norm,
    ]
    assert [tuple(m.weight.shape) for m in nnclr.projector[::3]] == [
        (2048, 2048),
        (2048, 2048),
        (256, 2048),
    ]
    assert [type(m).__name__ for m in nnclr.predictor] == [*norm, 'ReLU', 'Linear']
    assert [tuple(m.weight.shape) for m in nnclr.predictor[::3]] == [(4096, 256), (256, 4096)]
    assert (
        nnclr.projector[-1].affine
        and nnclr.temperature == 0.1
        and tuple(nnclr.queue.keys.shape) == (98304, 256)
    )
