import copy
import math

import pytest
import torch
from torch import nn

from ssl_zoo.layers import EMA, cosine, mlp


def test_cosine_at_its_ends_and_middle():
    assert cosine(0.9, 1.0, 0) == 0.9
    assert cosine(0.9, 1.0, 0.5) == pytest.approx(0.95)
    assert cosine(0.9, 1.0, 1) == 1.0


def test_mlp_layers_and_initial_weights():
    head = mlp(400, 300, 20, last_bias=False, init="haiku")
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert head[0].bias.abs().max() == 0
    assert head[3].bias is None
    # Truncated at two sigma: the bound holds, and the deviation is 0.8796 sigma.
    sigma = 400 ** -0.5
    assert head[0].weight.abs().max() <= 2 * sigma
    assert head[0].weight.std().item() == pytest.approx(0.8796 * sigma, rel=0.01)
    assert mlp(4, 3)[0].bias is not None


def test_ema_moves_parameters_as_the_formula_says_and_leaves_buffers_alone():
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    target = EMA(copy.deepcopy(online))
    with torch.no_grad():
        for p in online.parameters():
            p.add_(torch.randn_like(p))
    online[1].running_mean.fill_(7.0)
    before = [p.clone() for p in target.parameters()]
    target.update(online, decay=0.75)
    for old, now, followed in zip(before, target.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * followed)
    assert target.network[1].running_mean.abs().max() == 0


def test_ema_gets_no_gradient_and_runs_in_train_mode():
    target = EMA(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    x = torch.randn(8, 3, requires_grad=True)
    out = target(x)
    assert not out.requires_grad
    assert not any(p.requires_grad for p in target.parameters())
    torch.testing.assert_close(out.mean(0), torch.zeros(4), atol=1e-6, rtol=0)      # normalised by its own batch
    assert target.network[1].num_batches_tracked == 1


def test_ema_refuses_another_architecture():
    with pytest.raises(ValueError, match='same architecture'):
        EMA(nn.Linear(3, 4)).update(nn.Linear(3, 5), 0.9)


def test_ema_over_many_small_steps_keeps_float32_precision():
    target, online = EMA(nn.Linear(1, 1, bias=False)), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(target.network.weight)
    nn.init.ones_(online.weight)
    for _ in range(1000):
        target.update(online, decay=0.9995)
    assert target.network.weight.item() == pytest.approx(1 - 0.9995 ** 1000, rel=1e-4)
    assert not math.isclose(target.network.weight.item(), 0)
