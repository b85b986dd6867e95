import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.methods.simclr import SimCLR, nt_xent

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))


def cos(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def oracle(z1, z2, t):
    """Eq. 1, summed over the 2N vectors and divided by N: the official code adds both means."""
    z = np.concatenate([z1, z2])
    n = len(z1)
    total = 0.0
    for i in range(2 * n):
        others = sum(math.exp(cos(z[i], z[k]) / t) for k in range(2 * n) if k != i)
        total -= math.log(math.exp(cos(z[i], z[(i + n) % (2 * n)]) / t) / others)
    return total / n


def array(z):
    return z.detach().double().numpy()


@pytest.mark.parametrize('t', [0.1, 0.5])
def test_loss_equals_a_slow_loop_in_float64(t):
    z1 = torch.randn(5, 7)
    z2 = 3 * torch.randn(5, 7)
    assert nt_xent(z1, z2, t).item() == pytest.approx(oracle(array(z1), array(z2), t), rel=1e-5)


def test_loss_in_closed_form():
    one = torch.ones(4, 3)
    # 7 equal candidates.
    assert nt_xent(one, one, 0.1).item() == pytest.approx(2 * math.log(7), rel=1e-6)
    apart = torch.eye(4)
    assert nt_xent(apart, apart, 0.5).item() == pytest.approx(
        2 * math.log(1 + 6 * math.exp(-2)), rel=1e-6
    )
    assert nt_xent(one.bfloat16(), torch.zeros(4, 3).bfloat16(), 0.1).dtype == torch.float32


def test_gradient_flows_through_anchors_partners_and_negatives():
    z = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    nt_xent(z[0], z[1], 0.5).backward()
    x = array(z)
    d = np.random.default_rng(0).normal(size=(2, 5, 4))
    h = 1e-5
    slope = (oracle(*(x + h * d), 0.5) - oracle(*(x - h * d), 0.5)) / (2 * h)
    assert (array(z.grad) * d).sum() == pytest.approx(slope, rel=1e-6)


def test_whole_loss_forwards_both_views_as_one_batch():
    simclr = SimCLR(BACKBONE, proj_dim=16, temperature=0.2).train()
    views = [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]
    z = array(simclr.projector(simclr.backbone(torch.cat(views))))
    loss = simclr.loss(views)['loss'].item()
    assert loss == pytest.approx(oracle(z[:6], z[6:], 0.2), rel=1e-5)
    # One pass per view has other BatchNorm statistics.
    apart = [array(simclr.projector(simclr.backbone(x))) for x in views]
    assert loss != pytest.approx(oracle(*apart, 0.2), rel=1e-3)


def test_gradient_reaches_all_but_the_offset_of_the_last_norm():
    simclr = SimCLR(BACKBONE, proj_dim=16).train()
    simclr.loss([torch.randn(6, 3, 16, 16) for _ in range(2)])['loss'].backward()
    frozen = {name for name, p in simclr.named_parameters() if not p.requires_grad}
    assert frozen == {'projector.4.bias'}
    for name, p in simclr.named_parameters():
        assert (p.grad is None) if name in frozen else p.grad.isfinite().all(), name
    assert simclr.backbone.conv1.weight.grad.abs().max() > 0


def test_sizes_of_the_paper():
    with torch.device('meta'):
        v1 = SimCLR(dict(name='resnet50'))
        v2 = SimCLR(dict(name='resnet50'), proj_layers=3)
    for simclr, widths in (v1, [2048, 2048, 128]), (v2, [2048, 2048, 2048, 128]):
        layers = list(simclr.projector)
        linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
        assert [(m.in_features, m.out_features) for m in linears] == list(
            zip(widths, widths[1:], strict=False)
        )
        assert all(m.bias is None for m in linears)
        assert all(
            isinstance(behind, nn.BatchNorm1d)
            for m, behind in zip(layers, layers[1:], strict=False)
            if m in linears
        )
        assert sum(isinstance(m, nn.ReLU) for m in layers) == len(linears) - 1 and isinstance(
            layers[-1], nn.BatchNorm1d
        )
        assert (
            layers[-1].weight.requires_grad
            and not layers[-1].bias.requires_grad
            and layers[1].bias.requires_grad
        )
    assert v1.temperature == 0.1 and v1.embed_dim == 2048
