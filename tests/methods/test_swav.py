import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.methods.swav import SwAV, sinkhorn

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method(**arguments) -> SwAV:
    return SwAV(BACKBONE, **{**dict(hidden_dim=32, proj_dim=8, prototypes=5), **arguments}).train()


def crops(*sizes):
    return [torch.randn(6, 3, size, size) * (i + 1) for i, size in enumerate(sizes)]


def slow_sinkhorn(scores, eps, iterations):
    """The official order: prototypes first, images last; Q is (K, B) and sums to 1."""
    b = len(scores)
    k = len(scores[0])
    q = np.array([[math.exp(scores[i][j] / eps) for i in range(b)] for j in range(k)])
    q = q / sum(q[j, i] for i in range(b) for j in range(k))
    for _ in range(iterations):
        for j in range(k):
            q[j] = q[j] / sum(q[j]) / k
        for i in range(b):
            q[:, i] = q[:, i] / sum(q[:, i]) / b
    return [[q[j, i] * b for j in range(k)] for i in range(b)]


def dots(z, prototypes):
    return [[row @ c / math.sqrt(row @ row) for c in prototypes] for row in z]


def codes_of(z, prototypes, older=None):
    queued = [] if older is None else dots(older, prototypes)
    return slow_sinkhorn(queued + dots(z, prototypes), 0.05, 3)[len(queued) :]


def oracle(z, codes, prototypes, t=0.1):
    """Mean over codes, over the other views and over images, as in the official main loop."""
    loss = 0.0
    for i in range(2):
        others = [v for v in range(len(z)) if v != i]
        for v in others:
            for code, row in zip(codes[i], dots(z[v], prototypes), strict=True):
                log_sum = math.log(sum(math.exp(s / t) for s in row))
                loss -= (
                    sum(q * (s / t - log_sum) for q, s in zip(code, row, strict=True))
                    / len(z[v])
                    / len(others)
                )
    return loss / 2


def array(z):
    return z.detach().double().numpy()


def projections(swav, views, large=2):
    runs = [views[:large], views[large:]] if views[large:] else [views]
    z = array(swav.projector(torch.cat([swav.backbone(torch.cat(run)) for run in runs])))
    return z.reshape(len(views), -1, z.shape[1])


def test_sinkhorn_equals_a_slow_loop_and_shares_out_evenly():
    scores = torch.rand(12, 5) * 0.4
    np.testing.assert_allclose(
        array(sinkhorn(scores, 0.05, 3)), slow_sinkhorn(array(scores), 0.05, 3), rtol=1e-4
    )
    for iterations, tolerance in (3, 0.3), (300, 1e-4):
        q = sinkhorn(scores, 0.05, iterations)
        torch.testing.assert_close(q.sum(1), torch.ones(12))
        assert (q.sum(0) / (12 / 5) - 1).abs().max() < tolerance
    assert not sinkhorn(scores.requires_grad_(), 0.05, 3).requires_grad


@pytest.mark.parametrize('sizes', [(20, 20), (20, 20, 12, 12)])
def test_whole_loss_equals_a_slow_loop_in_float64(sizes):
    swav = method()
    views = crops(*sizes)
    z = projections(swav, views)
    c = array(swav.prototypes.weight)
    expected = oracle(z, [codes_of(z[i], c) for i in range(2)], c)
    assert swav.loss(views)['loss'].item() == pytest.approx(expected, rel=1e-5)


def test_gradient_flows_through_predictions_and_not_through_codes():
    swav = method()
    swav.backbone = swav.projector = nn.Identity()  # so the views are the projections
    z = torch.randn(3, 6, 8, requires_grad=True)
    swav.loss(list(z))['loss'].backward()
    x = array(z)
    d = np.random.default_rng(0).normal(size=(3, 6, 8))
    h = 1e-5
    c = array(swav.prototypes.weight)
    e = np.random.default_rng(1).normal(size=c.shape)
    codes = [codes_of(x[i], c) for i in range(2)]  # held fixed
    slope = (oracle(x + h * d, codes, c + h * e) - oracle(x - h * d, codes, c - h * e)) / (2 * h)
    assert (array(z.grad) * d).sum() + (
        array(swav.prototypes.weight.grad) * e
    ).sum() == pytest.approx(slope, rel=1e-4)


def test_gradient_reaches_every_parameter():
    swav = method(queue_size=6)
    swav.loss(crops(20, 20))['loss'].backward()
    for name, p in swav.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
    assert (
        swav.backbone.conv1.weight.grad.abs().max() > 0
        and swav.prototypes.weight.grad.abs().max() > 0
    )


def test_queue_feeds_the_codes_once_it_is_full_from_its_epoch_on():
    swav = method(queue_size=10)
    views = crops(20, 20)
    z = projections(swav, views)
    c = array(swav.prototypes.weight)
    alone = oracle(z, [codes_of(z[i], c) for i in range(2)], c)
    start = [array(queue.keys) for queue in swav.queues]
    for epoch, written in (14.9, 0), (15.0, 6), (15.1, 12):  # too early, empty, not yet full
        swav.epoch = epoch
        assert swav.loss(views)['loss'].item() == pytest.approx(alone, rel=1e-5)
        swav.after_step()
        assert [queue.written.item() for queue in swav.queues] == [written] * 2
    for i, queue in enumerate(swav.queues):  # each holds its own view's, newest over oldest
        own = z[i] / np.sqrt((z[i] ** 2).sum(1, keepdims=True))
        np.testing.assert_allclose(
            array(queue.keys), np.concatenate([own[4:], own[2:], own[:4]]), atol=1e-5
        )
        queue.keys.copy_(torch.tensor(start[i]))  # other than this batch
    expected = oracle(z, [codes_of(z[i], c, older=start[i]) for i in range(2)], c)
    assert swav.loss(views)['loss'].item() == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(alone, rel=1e-3)


def test_prototypes_rest_in_the_first_epoch_and_have_unit_length():
    swav = method()
    torch.testing.assert_close(swav.prototypes.weight.norm(dim=1), torch.ones(5))
    for epoch, frozen in (0.0, True), (0.99, True), (1.0, False), (7.5, False):
        swav.epoch = epoch
        assert {name for name, _ in swav.named_parameters() if name.startswith(swav.frozen)} == (
            {'prototypes.weight'} if frozen else set()
        )
    before = swav.prototypes.weight.detach().clone()
    swav.prototypes.weight.data *= torch.arange(1, 6)[:, None]
    swav.after_step()
    torch.testing.assert_close(swav.prototypes.weight, before)


def test_sizes_of_the_paper():
    with torch.device('meta'):
        swav = SwAV(dict(name='resnet50'))
        queued = SwAV(dict(name='resnet50'), queue_size=3840)
    assert [type(m).__name__ for m in swav.projector] == ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    assert [tuple(m.weight.shape) for m in swav.projector[::3]] == [(2048, 2048), (128, 2048)]
    assert tuple(swav.prototypes.weight.shape) == (3000, 128) and swav.prototypes.bias is None
    assert (
        len(swav.queues) == 0
        and [tuple(queue.keys.shape) for queue in queued.queues] == [(3840, 128)] * 2
    )
    assert (swav.temperature, swav.eps, swav.iterations, swav.queue_from_epoch) == (
        0.1,
        0.05,
        3,
        15,
    )
