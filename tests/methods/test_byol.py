import math

import pytest
import torch
from torch import nn

from ssl_zoo.losses import regression_loss
from ssl_zoo.methods.byol import BYOL

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def method(**arguments) -> BYOL:
    return BYOL(BACKBONE, **{**dict(hidden_dim=32, proj_dim=16, base_ema=0.9), **arguments}).train()


def test_loss_in_closed_form():
    z = torch.randn(6, 8)
    orthogonal = torch.stack(
        [-z[:, 1], z[:, 0], -z[:, 3], z[:, 2], -z[:, 5], z[:, 4], -z[:, 7], z[:, 6]], dim=1
    )
    losses = [regression_loss(p, z) + regression_loss(p, z) for p in (3 * z, orthogonal, -0.5 * z)]
    assert losses[0].item() == pytest.approx(0, abs=1e-6)
    assert losses[1].item() == pytest.approx(4, rel=1e-6)
    assert losses[2].item() == pytest.approx(8, rel=1e-6)


def test_loss_equals_a_slow_loop_in_float64():
    p = torch.randn(5, 7)
    z = torch.randn(5, 7)
    total = 0.0
    for a, b in zip(p.double().tolist(), z.double().tolist(), strict=True):
        norm_a = math.sqrt(sum(v * v for v in a))
        norm_b = math.sqrt(sum(v * v for v in b))
        total += sum((x / norm_a - y / norm_b) ** 2 for x, y in zip(a, b, strict=True))
    assert regression_loss(p, z).item() == pytest.approx(total / 5, rel=1e-5)


def test_loss_is_float32_and_finite_for_bf16_and_zero_vectors():
    loss = regression_loss(
        torch.zeros(2, 4, dtype=torch.bfloat16), torch.zeros(2, 4, dtype=torch.bfloat16)
    )
    assert loss.dtype == torch.float32
    assert loss.item() == 0


def test_whole_loss_is_the_sum_of_both_directions_with_views_forwarded_apart():
    byol = method()
    views = [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]
    # In train mode BatchNorm normalises each view by its own batch, so the order changes nothing.
    q = [byol.predictor(byol.online(x)) for x in views]
    z = [byol.target(x) for x in views]
    expected = sum((2 - 2 * nn.functional.cosine_similarity(q[i], z[1 - i])).mean() for i in (0, 1))
    assert byol.loss(views)['loss'].item() == pytest.approx(expected.item(), rel=1e-5)
    together = byol.predictor(byol.online(torch.cat(views)))
    # One batch of both views has other BatchNorm statistics.
    assert not torch.allclose(together[:6], q[0], atol=1e-3)


def test_gradient_reaches_the_online_network_and_predictor_and_not_the_target():
    byol = method()
    byol.loss([torch.randn(6, 3, 16, 16) for _ in range(2)])['loss'].backward()
    for name, parameter in byol.named_parameters():
        if name.startswith('target'):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert {name.split('.')[0] for name, _ in byol.named_parameters()} == {
        'online',
        'predictor',
        'target',
    }


def test_only_after_step_moves_the_target_and_with_the_new_online_weights():
    byol = method()
    before = [p.clone() for p in byol.target.parameters()]
    optimizer = torch.optim.SGD([p for p in byol.parameters() if p.requires_grad], lr=0.1)
    byol.loss([torch.randn(6, 3, 16, 16) for _ in range(2)])['loss'].backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, byol.target.parameters(), strict=True))
    byol.progress = 0.0
    byol.after_step()
    for old, now, online in zip(
        before, byol.target.parameters(), byol.online.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * online)


def test_batchnorm_statistics_of_the_target_are_its_own():
    byol = method()
    byol.loss([torch.randn(6, 3, 16, 16) for _ in range(2)])
    buffers = [b.clone() for b in byol.target.buffers()]
    byol.after_step()
    assert all(torch.equal(a, b) for a, b in zip(buffers, byol.target.buffers(), strict=True))
    online = byol.online.backbone.bn1.running_mean
    target = byol.target.network.backbone.bn1.running_mean
    assert online.abs().max() > 0 and target.abs().max() > 0 and not torch.equal(online, target)
    assert byol.target.network.backbone.bn1.num_batches_tracked == 2  # one per view


def test_decay_follows_the_cosine_of_the_official_code():
    byol = method(base_ema=0.996)
    steps = 1000
    for k in (0, steps // 2, steps - 1):
        byol.progress = k / steps
        assert byol.decay == pytest.approx(
            1 - (1 - 0.996) * (math.cos(math.pi * k / steps) + 1) / 2, abs=1e-12
        )
    byol.progress = 0
    assert byol.decay == 0.996
    byol.progress = (steps - 1) / steps
    assert 0.99999 < byol.decay < 1  # the target still moves at the last step


def test_heads_have_no_bias_in_their_last_layer_and_the_networks_start_apart():
    byol = method()
    assert byol.online.projector[-1].bias is None and byol.predictor[-1].bias is None
    assert byol.online.projector[0].bias is not None
    assert not torch.equal(byol.online.projector[0].weight, byol.target.network.projector[0].weight)


def test_sizes_of_the_paper():
    byol = BYOL(dict(name='resnet50'))
    shapes = {name: tuple(p.shape) for name, p in byol.named_parameters()}
    assert shapes['online.projector.0.weight'] == (4096, 2048)
    assert shapes['online.projector.3.weight'] == (256, 4096)
    assert shapes['predictor.0.weight'] == (4096, 256)
    assert shapes['predictor.3.weight'] == (256, 4096)
    assert byol.embed_dim == 2048
    assert byol.backbone is byol.online.backbone  # evaluation takes the online network
    assert byol.base_ema == 0.996
