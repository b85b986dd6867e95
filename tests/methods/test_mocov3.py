import math

import pytest
import torch
from torch import nn

from ssl_zoo.methods.mocov3 import MoCoV3

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method(**arguments) -> MoCoV3:
    moco = MoCoV3(
        BACKBONE, **{**dict(hidden_dim=32, proj_dim=8, base_ema=0.9), **arguments}
    ).train()
    for p in moco.momentum.parameters():
        p.data += 0.05 * torch.randn_like(p)  # as if training had moved the networks apart
    return moco


def pair():
    return [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]


def cos(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def oracle(q1, q2, k1, k2, t):
    """Algorithm 1: ctr(q1, k2) + ctr(q2, k1), each times 2T.

    The negatives are the other view's keys alone.
    """
    total = 0.0
    for q, k in (q1, k2), (q2, k1):
        for i in range(len(q)):
            candidates = sum(math.exp(cos(q[i], k[j]) / t) for j in range(len(k)))
            total -= 2 * t * math.log(math.exp(cos(q[i], k[i]) / t) / candidates) / len(q)
    return total


def array(z):
    return z.detach().double().numpy()


@pytest.mark.parametrize('t', [1.0, 0.2])
@pytest.mark.parametrize('head', [{}, dict(proj_layers=3, predictor_norm=True)])
def test_whole_loss_equals_a_slow_loop_in_float64(t, head):
    moco = method(temperature=t, **head)
    (x1, x2) = pair()
    q = [array(moco.predictor(moco.base(x))) for x in (x1, x2)]
    k = [array(moco.momentum(x)) for x in (x1, x2)]
    assert moco.loss([x1, x2])['loss'].item() == pytest.approx(oracle(*q, *k, t), rel=1e-5)


def test_gradient_reaches_the_base_network_and_the_predictor_alone():
    moco = method()
    moco.loss(pair())['loss'].backward()
    for name, p in moco.named_parameters():
        assert (p.grad is None) if name.startswith('momentum') else p.grad.isfinite().all(), name
    assert {name.split('.')[0] for name, _ in moco.named_parameters()} == {
        'base',
        'momentum',
        'predictor',
    }
    assert moco.base.backbone.conv1.weight.grad.abs().max() > 0


def test_only_after_step_moves_the_momentum_encoder_and_with_the_new_weights():
    moco = method()
    moco.progress = 0.5
    before = [p.clone() for p in moco.momentum.parameters()]
    optimizer = torch.optim.SGD([p for p in moco.parameters() if p.requires_grad], lr=0.1)
    moco.loss(pair())['loss'].backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, moco.momentum.parameters(), strict=True))
    moco.after_step()
    for old, now, base in zip(
        before, moco.momentum.parameters(), moco.base.parameters(), strict=True
    ):
        # The decay rises from 0.9 to 1 and is half way between at progress 0.5.
        torch.testing.assert_close(now, 0.95 * old + 0.05 * base)


def test_decay_follows_the_cosine_of_the_official_code():
    moco = method(base_ema=0.99)
    for progress in (0.0, 0.25, 0.5, 0.999):
        moco.progress = progress
        assert moco.decay == pytest.approx(
            1 - 0.5 * (1 + math.cos(math.pi * progress)) * (1 - 0.99), abs=1e-12
        )


def test_sizes_of_the_official_code():
    def layers(mlp):
        return [
            (m.out_features, m.in_features, m.bias is not None)
            if isinstance(m, nn.Linear)
            else ('norm', m.affine)
            if isinstance(m, nn.BatchNorm1d)
            else type(m).__name__
            for m in mlp
        ]

    with torch.device('meta'):
        resnet = MoCoV3(dict(name='resnet50'))
        vit = MoCoV3(
            dict(name='vit_small_patch16_224'), proj_layers=3, predictor_norm=True, temperature=0.2
        )
    hidden = [('norm', True), 'ReLU']
    assert layers(resnet.base.projector) == [
        (4096, 2048, False),
        *hidden,
        (256, 4096, False),
        ('norm', False),
    ]
    assert layers(resnet.predictor) == [(4096, 256, False), *hidden, (256, 4096, False)]
    assert layers(vit.base.projector) == [
        (4096, 384, False),
        *hidden,
        (4096, 4096, False),
        *hidden,
        (256, 4096, False),
        ('norm', False),
    ]
    assert layers(vit.predictor) == [
        (4096, 256, False),
        *hidden,
        (256, 4096, False),
        ('norm', False),
    ]
    assert resnet.temperature == 1.0 and resnet.base_ema == 0.99
    copy = MoCoV3(BACKBONE, hidden_dim=8, proj_dim=4)
    assert all(
        torch.equal(a, b)
        for a, b in zip(copy.base.parameters(), copy.momentum.parameters(), strict=True)
    )
