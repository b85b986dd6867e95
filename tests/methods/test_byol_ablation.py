import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.errors import ConfigError
from ssl_zoo.methods.byol import BYOL
from ssl_zoo.methods.byol_ablation import BYOLAblation, attraction

pytestmark = pytest.mark.quick

BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=(1, 1, 1, 1))
SIZES = dict(hidden_dim=32, proj_dim=8, base_ema=0.9)


def method(**arguments) -> BYOLAblation:
    return BYOLAblation(BACKBONE, **{**SIZES, **arguments}).train()


def pair():
    return [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 2 + 1]


def cos(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def array(z):
    return z.detach().double().numpy()


def oracle(phi, psi, beta, alpha):
    """Minus the InfoNCE of sec. 5, plus 2 per direction: L(v, v') + L(v', v)."""
    n = len(phi[0])
    total = 0.0
    for v, other in (0, 1), (1, 0):
        for i in range(n):
            same_view = sum(math.exp(cos(phi[v][i], psi[v][j]) / alpha) for j in range(n) if j != i)
            other_view = sum(math.exp(cos(phi[v][i], psi[other][j]) / alpha) for j in range(n))
            total += (2 - 2 * cos(phi[v][i], psi[other][i])) / n + beta * 2 * alpha / n * math.log(
                same_view + other_view
            )
    return total


@pytest.mark.parametrize('beta', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('target', ['ema', 'stop_gradient', 'gradient'])
@pytest.mark.parametrize('pred_layers', [0, 2])
def test_whole_loss_equals_a_slow_loop_in_float64(beta, target, pred_layers):
    ablation = method(target=target, pred_layers=pred_layers, negatives=beta, temperature=0.3)
    views = pair()
    z = [ablation.online(x) for x in views]
    phi = [array(ablation.predictor(v)) if pred_layers else array(v) for v in z]
    psi = [array(ablation.target(x)) for x in views] if target == 'ema' else [array(v) for v in z]
    assert ablation.loss(views)['loss'].item() == pytest.approx(
        oracle(phi, psi, beta, 0.3), rel=1e-5
    )


def test_default_is_byol_step_for_step():
    byol = BYOL(BACKBONE, **SIZES).train()
    ablation = method()
    ablation.load_state_dict(byol.state_dict())
    for _ in range(3):
        views = pair()
        losses = [m.loss(views)['loss'] for m in (byol, ablation)]
        assert losses[0].item() == losses[1].item()
        for m, loss in zip((byol, ablation), losses, strict=True):
            optimizer = torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            m.progress += 0.3
            m.after_step()
    for a, b in zip(byol.parameters(), ablation.parameters(), strict=True):
        assert torch.equal(a, b)


def test_without_predictor_and_target_and_with_negatives_it_is_simclr():
    ablation = method(target='gradient', pred_layers=0, negatives=1.0)
    views = pair()
    alpha = 0.1
    z = np.concatenate([array(ablation.online(x)) for x in views])
    nt_xent = 0.0  # mean over the 2N vectors, as in SimCLR's eq. 1
    for i in range(12):
        others = sum(math.exp(cos(z[i], z[k]) / alpha) for k in range(12) if k != i)
        nt_xent -= math.log(math.exp(cos(z[i], z[(i + 6) % 12]) / alpha) / others) / 12
    assert ablation.loss(views)['loss'].item() == pytest.approx(
        4 + 2 * alpha * 2 * nt_xent, rel=1e-5
    )


@pytest.mark.parametrize('target', ['stop_gradient', 'gradient'])
def test_gradient_flows_through_psi_only_if_it_is_to(target):
    ablation = method(target=target, pred_layers=0, negatives=0.5, temperature=0.4)
    ablation.online = nn.Identity()  # so the views are the projections
    z = torch.randn(2, 6, 5, requires_grad=True)
    ablation.loss([z[0], z[1]])['loss'].backward()
    x = array(z)
    d = np.random.default_rng(0).normal(size=(2, 6, 5))
    h = 1e-5

    def loss(phi):
        return oracle(phi, phi if target == 'gradient' else x, 0.5, 0.4)

    assert (array(z.grad) * d).sum() == pytest.approx(
        (loss(x + h * d) - loss(x - h * d)) / (2 * h), rel=1e-4
    )


@pytest.mark.parametrize('target', ['ema', 'stop_gradient', 'gradient'])
def test_gradient_reaches_what_is_trained_and_removed_parts_are_not_built(target):
    for pred_layers in (0, 2):
        ablation = method(target=target, pred_layers=pred_layers, negatives=1.0)
        ablation.loss(pair())['loss'].backward()
        for name, p in ablation.named_parameters():
            assert (p.grad is None) if name.startswith('target') else p.grad.isfinite().all(), name
        expected = (
            {'online'}
            | ({'target'} if target == 'ema' else set())
            | ({'predictor'} if pred_layers else set())
        )
        assert {name.split('.')[0] for name, _ in ablation.named_parameters()} == expected
        ablation.after_step()  # nothing to move is no error
        assert ablation.online.backbone.conv1.weight.grad.abs().max() > 0


@pytest.mark.parametrize('normalise', ['l2', 'layer', 'batch', 'raw'])
def test_normalisers_equal_slow_loops_in_float64(normalise):
    def scaled(z):
        n, d = z.shape
        if normalise == 'l2':
            return np.stack([row / math.sqrt(row @ row) for row in z])
        if normalise == 'layer':
            return np.stack(
                [
                    (row - row.mean()) / math.sqrt(((row - row.mean()) ** 2).mean() + 1e-5)
                    for row in z
                ]
            ) / math.sqrt(d)
        if normalise == 'batch':
            return np.stack(
                [(c - c.mean()) / math.sqrt(((c - c.mean()) ** 2).mean() + 1e-5) for c in z.T],
                axis=1,
            ) / math.sqrt(d)
        return z

    p = torch.randn(6, 5)
    z = 2 * torch.randn(6, 5) + 1
    a = scaled(array(p))
    b = scaled(array(z))
    expected = sum((a[i, j] - b[i, j]) ** 2 for i in range(6) for j in range(5)) / 6
    assert attraction(p, z, normalise).item() == pytest.approx(expected, rel=1e-5)
    ablation = method(normalise=normalise)
    views = pair()
    phi = [ablation.predictor(ablation.online(x)) for x in views]
    psi = [ablation.target(x) for x in views]
    expected_loss = attraction(phi[0], psi[1], normalise) + attraction(phi[1], psi[0], normalise)
    assert ablation.loss(views)['loss'].item() == pytest.approx(expected_loss.item(), rel=1e-5)


def test_options_that_make_no_sense_are_named():
    wrong = (
        dict(target='exa'),
        dict(normalise='l3'),
        dict(negatives=1.0, normalise='batch'),
        dict(proj_layers=0),
        dict(pred_layers=-1),
    )
    for arguments in wrong:
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            method(**arguments)


def test_depth_and_sizes_of_the_paper():
    with torch.device('meta'):
        built = {
            (g, q): BYOLAblation(
                dict(name='resnet50'), proj_layers=g, pred_layers=q, predictor_lr=10.0
            )
            for g, q in ((2, 2), (1, 3))
        }
    shapes = {
        depth: [
            [tuple(m.weight.shape) for m in head if isinstance(m, nn.Linear)]
            for head in (a.online.projector, a.predictor)
        ]
        for depth, a in built.items()
    }
    assert shapes[2, 2] == [[(4096, 2048), (256, 4096)], [(4096, 256), (256, 4096)]]
    assert shapes[1, 3] == [[(256, 2048)], [(4096, 256), (4096, 4096), (256, 4096)]]
    ablation = built[2, 2]
    assert (
        ablation.online.projector[-1].bias is None
        and ablation.predictor[-1].bias is None
        and ablation.predictor[0].bias is not None
    )
    assert ablation.lr_scale == {'predictor': 10.0} and (
        ablation.base_ema,
        ablation.temperature,
    ) == (0.99, 0.1)
