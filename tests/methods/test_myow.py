import math

import pytest
import torch

from ssl_zoo.errors import ConfigError
from ssl_zoo.methods.myow import MYOW, mine

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method(**arguments) -> MYOW:
    sizes = dict(hidden_dim=32, proj_dim=16, mined_hidden=16, mined_dim=8, base_ema=0.9)
    myow = MYOW(BACKBONE, **{**sizes, **arguments}).train()
    for p in myow.target.parameters():
        p.data += 0.05 * torch.randn_like(p)  # as if training had moved the networks apart
    return myow


def four():
    return [torch.randn(6, 3, 16, 16) * (i + 1) for i in range(4)]


def cos(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def array(z):
    return z.detach().double().numpy()


def distance(p, z):
    """Mean over images of 2 - 2 cos."""
    return sum(2 - 2 * cos(a, b) for a, b in zip(p, z, strict=True)) / len(p)


def others_by_nearness(y, pool, i):
    return sorted((j for j in range(len(pool)) if j != i), key=lambda j: -cos(y[i], pool[j]))


def test_mining_takes_one_of_the_k_nearest_others():
    y = torch.randn(7, 5)
    pool = y + 0.5 * torch.randn(7, 5)  # so an image is often nearest to itself
    order = [others_by_nearness(array(y), array(pool), i) for i in range(7)]
    itself = [
        max(range(7), key=lambda j, i=i: cos(array(y)[i], array(pool)[j])) == i for i in range(7)
    ]
    assert any(itself)
    assert mine(y, pool, 1).tolist() == [near[0] for near in order]
    drawn = [
        set(rows) for rows in zip(*(mine(y, pool, 3).tolist() for _ in range(60)), strict=True)
    ]
    assert drawn == [set(near[:3]) for near in order]  # all of them, nothing else


@pytest.mark.parametrize(('epoch', 'w'), [(0, 0), (100, 0), (105, 0.5), (110, 1), (800, 1)])
def test_whole_loss_equals_a_slow_loop_in_float64(epoch, w):
    myow = method()
    views = four()
    myow.epoch = epoch
    x1, x2, x, pool = views
    online = myow.online
    target = myow.target.network
    p1, p2 = (array(myow.predictor(online.g(online.f(v)))) for v in (x1, x2))
    z1, z2 = (array(target.g(target.f(v))) for v in (x1, x2))
    byol = (distance(p1, z2) + distance(p2, z1)) / 2
    y = online.f(x)
    candidates = target.f(pool)
    mined = [others_by_nearness(array(y), array(candidates), i)[0] for i in range(6)]
    across = distance(
        array(myow.predictor_mined(online.g_mined(online.g(y)))),
        array(target.g_mined(target.g(candidates[mined]))),
    )
    terms = myow.loss(views)
    assert terms['mined_weight'] == pytest.approx(w)
    assert terms['loss'].item() == pytest.approx(byol / (1 + w) + w / (1 + w) * across, rel=1e-5)
    assert w == 0 or terms['mined'].item() == pytest.approx(across, rel=1e-5)


def test_weight_rises_linearly_to_its_maximum():
    myow = method(max_weight=0.5, from_epoch=2, full_epoch=4)
    for epoch, w in (0, 0), (2, 0), (2.5, 0.125), (3, 0.25), (4, 0.5), (9, 0.5):
        myow.epoch = epoch
        assert myow.weight == pytest.approx(w)
    with pytest.raises(ConfigError, match='full_epoch=2'):
        method(from_epoch=2, full_epoch=2)


def test_gradient_reaches_all_but_the_target_and_at_first_not_the_mined_heads():
    for epoch in (0, 105):
        myow = method()
        myow.epoch = epoch
        myow.loss(four())['loss'].backward()
        for name, p in myow.named_parameters():
            idle = name.startswith('target') or epoch == 0 and 'mined' in name
            assert (p.grad is None) if idle else p.grad.isfinite().all(), name
        assert myow.online.f.conv1.weight.grad.abs().max() > 0
    assert {name.split('.')[0] for name, _ in myow.named_parameters()} == {
        'online',
        'target',
        'predictor',
        'predictor_mined',
    }


def test_only_after_step_moves_the_target_and_with_the_new_weights():
    myow = method()
    myow.progress = 0.5
    myow.epoch = 105
    before = [p.clone() for p in myow.target.parameters()]
    optimizer = torch.optim.SGD([p for p in myow.parameters() if p.requires_grad], lr=0.1)
    myow.loss(four())['loss'].backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, myow.target.parameters(), strict=True))
    myow.after_step()
    for old, now, online in zip(
        before, myow.target.parameters(), myow.online.parameters(), strict=True
    ):
        # The decay rises from 0.9 to 1 and is half way between at progress 0.5.
        torch.testing.assert_close(now, 0.95 * old + 0.05 * online)


def test_sizes_of_the_paper():
    with torch.device('meta'):
        myow = MYOW(dict(name='resnet50'))
    heads = myow.online.g, myow.predictor, myow.online.g_mined, myow.predictor_mined
    shapes = [[(m.in_features, m.out_features) for m in head[::3]] for head in heads]
    assert shapes == [
        [(2048, 4096), (4096, 256)],
        [(256, 4096), (4096, 256)],
        [(256, 1024), (1024, 64)],
        [(64, 1024), (1024, 64)],
    ]
    assert all(
        [type(m).__name__ for m in head] == ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
        for head in heads
    )
    assert (myow.k, myow.max_weight, myow.base_ema, myow.n_views) == (1, 1.0, 0.98, 4)
    copy = MYOW(BACKBONE, hidden_dim=8, proj_dim=4)
    assert all(
        torch.equal(a, b)
        for a, b in zip(copy.online.parameters(), copy.target.parameters(), strict=True)
    )
