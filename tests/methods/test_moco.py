import math

import pytest
import torch
from torch import nn

from ssl_zoo.methods.moco import MoCo, queue_nce

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method(**arguments) -> MoCo:
    moco = MoCo(
        BACKBONE, **{**dict(hidden_dim=32, proj_dim=8, queue_size=10, decay=0.9), **arguments}
    ).train()
    for p in moco.key.parameters():
        p.data += 0.05 * torch.randn_like(p)  # as if training had moved the networks apart
    return moco


def pair(n=6):
    return [torch.randn(n, 3, 16, 16), torch.randn(n, 3, 16, 16) * 2 + 1]


def cos(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def oracle(q, k, queue, t):
    """v1, eq. 1: a (1 + K)-way softmax whose class 0 is the own key."""
    total = 0.0
    for i in range(len(q)):
        own = math.exp(cos(q[i], k[i]) / t)
        total -= math.log(own / (own + sum(math.exp(cos(q[i], old) / t) for old in queue)))
    return total / len(q)


def array(z):
    return z.detach().double().numpy()


def unit(z):
    return nn.functional.normalize(z, dim=1)


def keys_and_loss(moco, views):
    """Keys of the second view, dealt out as the loss will deal them, and the loss."""
    torch.manual_seed(3)
    order = torch.randperm(len(views[1]))
    keys = array(moco.key(views[1][order]))[order.argsort().numpy()]
    torch.manual_seed(3)
    return keys, moco.loss(views)['loss'].item()


@pytest.mark.parametrize('t', [0.07, 0.2])
def test_loss_equals_a_slow_loop_in_float64(t):
    q, k, queue = (unit(torch.randn(n, 7)) for n in (5, 5, 11))
    assert queue_nce(q, k, queue, t).item() == pytest.approx(
        oracle(array(q), array(k), array(queue), t), rel=1e-5
    )


def test_whole_loss_has_queries_of_the_first_view_and_keys_of_the_second():
    moco = method(temperature=0.07)
    views = pair()
    q = array(moco.query(views[0]))
    queue = array(moco.queue.keys)
    k, loss = keys_and_loss(moco, views)
    # abs: near 0 float32 has no relative precision.
    assert loss == pytest.approx(oracle(q, k, queue, 0.07), rel=1e-5, abs=1e-6)


def test_keys_are_shuffled_between_the_parts_that_batchnorm_sees():
    moco = method(bn_splits=3)
    views = pair(12)
    q = array(moco.query(views[0]))
    queue = array(moco.queue.keys)
    k, loss = keys_and_loss(moco, views)
    assert loss == pytest.approx(oracle(q, k, queue, 0.2), rel=1e-5)
    # Without shuffling, query and key would share their parts.
    assert loss != pytest.approx(oracle(q, array(moco.key(views[1])), queue, 0.2), rel=1e-4)


def test_gradient_reaches_the_query_network_alone():
    moco = method()
    moco.loss(pair())['loss'].backward()
    for name, p in moco.named_parameters():
        assert (p.grad is None) if name.startswith('key') else p.grad.isfinite().all(), name
    assert (
        moco.query.backbone.conv1.weight.grad.abs().max() > 0 and not moco.queue.keys.requires_grad
    )


def test_queue_takes_the_keys_after_the_step_and_wraps_around():
    moco = method()
    # The queue starts with random directions.
    torch.testing.assert_close(moco.queue.keys.norm(dim=1), torch.ones(10))
    start = moco.queue.keys.clone()
    views = pair()
    first = unit(moco.key(views[1]))
    moco.loss(views)
    assert torch.equal(moco.queue.keys, start)  # a step does not meet its own keys
    moco.after_step()
    torch.testing.assert_close(moco.queue.keys, torch.cat([first, start[6:]]))
    second = unit(moco.key(views[1]))  # the key network has moved
    moco.loss(views)
    moco.after_step()
    torch.testing.assert_close(moco.queue.keys, torch.cat([second[4:], first[2:], second[:4]]))


@pytest.mark.parametrize('progress', [0.0, 0.7])
def test_key_network_follows_the_new_weights_with_a_constant_decay(progress):
    moco = method()
    moco.progress = progress
    before = [p.clone() for p in moco.key.parameters()]
    optimizer = torch.optim.SGD([p for p in moco.parameters() if p.requires_grad], lr=0.1)
    moco.loss(pair())['loss'].backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, moco.key.parameters(), strict=True))
    moco.after_step()
    for old, now, query in zip(before, moco.key.parameters(), moco.query.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * query)


def test_sizes_of_the_papers():
    with torch.device('meta'):
        v2 = MoCo(dict(name='resnet50'))
        v1 = MoCo(dict(name='resnet50'), hidden_dim=None, temperature=0.07)
    # The head has no BatchNorm.
    assert [type(m).__name__ for m in v2.query.projector] == [
        'Linear',
        'ReLU',
        'Linear',
    ]
    assert tuple(v2.query.projector[0].weight.shape) == (2048, 2048) and tuple(
        v2.query.projector[2].weight.shape
    ) == (128, 2048)
    assert [tuple(m.weight.shape) for m in v1.query.projector] == [(128, 2048)]
    assert all(m.bias is not None for m in (*v2.query.projector[::2], *v1.query.projector))
    assert (
        tuple(v2.queue.keys.shape) == (65536, 128) and v2.temperature == 0.2 and v2.decay == 0.999
    )
    copy = MoCo(BACKBONE, queue_size=4)
    assert all(
        torch.equal(a, b)
        for a, b in zip(copy.query.parameters(), copy.key.parameters(), strict=True)
    )
