import copy

import pytest
import torch
from torch import nn

from ssl_zoo import optim
from ssl_zoo.optim import LARS, parameter_groups


def literal_lars(p, g, mu, lr, momentum, weight_decay, adapt, eta=1e-3):
    """The formulas of deepmind-research byol/utils/optimizers.py, in float64, for one tensor: new (p, mu)."""
    p, g, mu = p.double(), g.double(), mu.double()
    g = g + weight_decay * p
    trust = 1.0
    if adapt:
        p_norm, g_norm = (p ** 2).sum().sqrt().item(), (g ** 2).sum().sqrt().item()
        trust = eta * p_norm / g_norm if p_norm > 0 and g_norm > 0 else 1.0
    mu = momentum * mu + trust * g
    return p - lr * mu, mu


@pytest.mark.parametrize('update', ['_step_in_cache', '_step_foreach'])
def test_lars_equals_its_formulas(update, monkeypatch):
    monkeypatch.setattr(optim, '_step_in_cache', getattr(optim, update))
    weights = [nn.Parameter(torch.randn(5, 7)), nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.randn(6, 2, 3, 3))]
    biases = [nn.Parameter(torch.randn(5))]
    groups = [dict(params=weights, weight_decay=0.1, adapt=True), dict(params=biases, weight_decay=0.0, adapt=False)]
    optimizer = LARS(groups, lr=0.5, momentum=0.9)
    state = {p: (p.detach().double(), torch.zeros_like(p).double()) for p in weights + biases}
    for step, lr in enumerate((0.0, 0.5, 0.3)):                       # the first step of a warm-up moves nothing but the buffer
        for group in optimizer.param_groups:
            group['lr'] = lr
        for p in weights + biases:
            p.grad = torch.randn_like(p) if step != 1 or p is not weights[2] else torch.zeros_like(p)
        before = {p: p.grad.clone() for p in state}
        optimizer.step()
        for p in state:
            state[p] = literal_lars(*(state[p][0], before[p], state[p][1]), lr, 0.9, 0.1 if p.ndim > 1 else 0.0, p.ndim > 1)
            torch.testing.assert_close(p.detach().double(), state[p][0], rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(p.grad, before[p])             # gradients are left as they are


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

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
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
