import copy

import pytest
import torch
from torch import nn

from ssl_zoo import optim
from ssl_zoo.engine.resume import check_optimizer_state
from ssl_zoo.errors import ConfigError
from ssl_zoo.optim import LARS, parameter_groups

pytestmark = pytest.mark.quick


def literal_lars(p, g, mu, lr, momentum, weight_decay, adapt, kind, eta):
    """Compute a step of one tensor in float64 as the official codes do; return the new (p, mu).

    'byol': deepmind-research byol/utils/optimizers.py. 'simclr': google-research/simclr
    lars_optimizer.py. 'larc': NVIDIA apex LARC, clip=False, over SGD. 'solo': solo-learn
    solo/utils/lars.py with clip_lr.
    """
    p = p.double()
    gradient = g.double()
    mu = mu.double()
    g = gradient + weight_decay * p
    trust = 1.0
    if adapt:
        p_norm = (p**2).sum().sqrt().item()
        g_norm = ((gradient if kind in ('larc', 'solo') else g) ** 2).sum().sqrt().item()
        if p_norm > 0 and g_norm > 0:
            if kind in ('larc', 'solo'):
                g_norm += weight_decay * p_norm + 1e-8
            trust = eta * p_norm / g_norm
            if kind == 'solo':
                trust = min(trust / lr, 1) if lr else 1
    if kind == 'simclr':
        mu = momentum * mu + lr * trust * g
        return p - mu, mu
    mu = momentum * mu + trust * g
    return p - lr * mu, mu


@pytest.mark.parametrize(
    ('kind', 'eta'),
    [
        ('byol', 1e-3),
        ('simclr', 1e-3),
        ('larc', 1e-3),
        ('solo', 0.02),
        ('solo', 2.0),
        ('solo', 0.6),
    ],
)
@pytest.mark.parametrize('update', ['_step_in_cache', '_step_foreach'])
def test_lars_equals_its_formulas(update, kind, eta, monkeypatch):
    monkeypatch.setattr(optim, '_step_in_cache', getattr(optim, update))
    weights = [
        nn.Parameter(torch.randn(5, 7)),
        nn.Parameter(torch.zeros(4, 3)),
        nn.Parameter(torch.randn(6, 2, 3, 3)),
    ]
    biases = [nn.Parameter(torch.randn(5))]
    groups = [
        dict(params=weights, weight_decay=0.1, adapt=True),
        dict(params=biases, weight_decay=0.0, adapt=False),
    ]
    optimizer = LARS(
        groups,
        lr=0.5,
        momentum=0.9,
        trust_coefficient=eta,
        classic_momentum=kind == 'simclr',
        larc=kind in ('larc', 'solo'),
        clip_lr=kind == 'solo',
    )
    state = {p: (p.detach().double(), torch.zeros_like(p).double()) for p in weights + biases}
    # lr 0: the first step of a warm-up changes the momentum buffer alone.
    for step, lr in enumerate((0.0, 0.5, 0.3)):
        for group in optimizer.param_groups:
            group['lr'] = lr
        for p in weights + biases:
            p.grad = (
                torch.randn_like(p) if step != 1 or p is not weights[2] else torch.zeros_like(p)
            )
        before = {p: p.grad.clone() for p in state}
        optimizer.step()
        for p in state:
            state[p] = literal_lars(
                *(state[p][0], before[p], state[p][1]),
                lr,
                0.9,
                0.1 if p.ndim > 1 else 0.0,
                p.ndim > 1,
                kind,
                eta,
            )
            torch.testing.assert_close(p.detach().double(), state[p][0], rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(p.grad, before[p])  # gradients are left as they are


def test_clip_lr_at_its_ends():
    """The step of a tensor is min(trust, lr) times the gradient, and lr = 0 leaves it in place."""
    for lr, expected in ((1.0, 0.4), (0.4, 0.4), (0.1, 0.1), (1e-30, 1e-30), (0.0, 0.0)):
        p = nn.Parameter(torch.full((4, 4), 5.0))  # |p| = 20
        p.grad = torch.full((4, 4), 0.25)  # |g| = 1: trust = 0.02 * 20 = 0.4
        optimizer = LARS([p], lr=lr, trust_coefficient=0.02, clip_lr=True)
        optimizer.step()
        torch.testing.assert_close(p.detach(), torch.full((4, 4), 5.0 - expected * 0.25))
        # The buffer holds min(trust / lr, 1) g: the whole gradient at lr = 0, the limit.
        factor = 1.0 if lr < 0.4 else 0.4 / lr
        buffer = optimizer.state[p]['momentum_buffer']
        torch.testing.assert_close(buffer, torch.full((4, 4), factor * 0.25))


@pytest.mark.parametrize('update', ['_step_in_cache', '_step_foreach'])
def test_clip_lr_leaves_tensors_without_norm_to_sgd(update, monkeypatch):
    monkeypatch.setattr(optim, '_step_in_cache', getattr(optim, update))
    zero = nn.Parameter(torch.zeros(3, 3))
    zero.grad = torch.ones(3, 3)
    LARS([zero], lr=2.0, clip_lr=True).step()
    torch.testing.assert_close(zero.detach(), torch.full((3, 3), -2.0))


def test_lars_resumes_from_a_state_that_is_older_than_an_option():
    p = nn.Parameter(torch.ones(3, 3))
    state = LARS([p], lr=0.1).state_dict()
    del state['param_groups'][0]['clip_lr']
    new = LARS([p], lr=0.1)
    check_optimizer_state(state, new)
    new.load_state_dict(state)
    p.grad = torch.ones(3, 3)
    new.step()
    with pytest.raises(ConfigError, match='clip_lr of group 0'):
        check_optimizer_state(state, LARS([p], lr=0.1, clip_lr=True))


def test_lars_adapts_without_weight_decay_too():
    p = nn.Parameter(torch.full((4, 4), 5.0))
    p.grad = torch.full((4, 4), 0.25)
    LARS([p], lr=1.0, weight_decay=0.0).step()
    # |p| = 20 and |g| = 1: trust 0.02, step 0.02 * 0.25. Plain SGD would move by 0.25.
    torch.testing.assert_close(p.detach(), torch.full((4, 4), 5.0 - 0.005))


def test_lars_resumes_from_its_state():
    torch.manual_seed(1)
    p = nn.Parameter(torch.randn(3, 3))
    first = LARS([p], lr=0.1)
    p.grad = torch.randn(3, 3)
    first.step()
    q = nn.Parameter(p.detach().clone())
    second = LARS([q], lr=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    p.grad = torch.randn(3, 3)
    q.grad = p.grad.clone()
    first.step()
    second.step()
    assert torch.equal(p, q)


class Toy(nn.Module):
    fixed_lr = ('head',)
    lr_scale = {}

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_parameter_groups_by_dimension_and_schedule():
    groups = {(g['adapt'], g['scheduled']): g for g in parameter_groups(Toy(), 1e-4)}
    assert groups[True, True]['names'] == ['conv.weight']
    assert groups[False, True]['names'] == ['conv.bias', 'norm.weight', 'norm.bias']
    assert groups[True, False]['names'] == ['head.weight']
    assert groups[False, False]['names'] == ['head.bias']
    assert [groups[key]['weight_decay'] for key in ((True, True), (False, True))] == [1e-4, 0.0]


def test_parameter_groups_with_decay_on_all():
    groups = parameter_groups(Toy(), 1e-4, decay_norm_and_bias=True)
    assert {g['weight_decay'] for g in groups} == {1e-4}
    assert sum(len(g['params']) for g in groups) == 6


def test_parameter_groups_with_factors_on_the_learning_rate():
    toy = Toy()
    toy.lr_scale = {'head': 10.0}
    scale = {
        name: g['lr_scale']
        for g in parameter_groups(toy, 1e-4, norm_and_bias_lr=0.5)
        for name in g['names']
    }
    assert scale == {
        'conv.weight': 1.0,
        'conv.bias': 0.5,
        'norm.weight': 0.5,
        'norm.bias': 0.5,
        'head.weight': 10.0,
        'head.bias': 5.0,
    }
