"""The contract, for every registered method: tiny, on the CPU, two steps."""
import copy

import pytest
import torch

from ssl_zoo.engine.checkpoint import build_method
from ssl_zoo.engine.dry_run import synthetic_batch
from ssl_zoo.engine.loop import ZooOptimWrapper
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.runner import build_optimizer
from ssl_zoo.engine.settings import check
from ssl_zoo.registry import METHODS

NAMES = [name for name in METHODS.names() if METHODS.find(name).__module__.startswith('ssl_zoo.methods')]
BACKBONE = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])


@pytest.fixture(params=NAMES)
def settings(request):
    return check(dict(
        method=dict(type=request.param, backbone=BACKBONE), data=dict(train=dict(type='Digits')), views=[dict(size=20)] * 2,
        optimizer=dict(type='SGD', momentum=0.9), epochs=1, batch_size=8, base_lr=0.5, weight_decay=1e-4))


class Stepper:
    """A method with its optimizer and a batch."""

    def __init__(self, settings):
        self.method = build_method(settings).train()
        self.optimizer = build_optimizer(settings, Plan.of(settings, 80), self.method)
        self.wrapper = ZooOptimWrapper(self.optimizer, self.method, settings)
        torch.manual_seed(1)
        self.batch = synthetic_batch(settings, 8)

    def step(self):
        torch.manual_seed(2)
        out = self.method.train_step(self.batch, self.wrapper)
        self.method.after_step()
        return out


def test_two_steps_are_finite_and_log_keys_are_sane(settings):
    stepper = Stepper(settings)
    for _ in range(2):
        out = stepper.step()
        assert all(value.ndim == 0 and value.isfinite() for value in out.values())
        assert [name for name in out if 'loss' in name] == ['loss']


def test_every_trained_parameter_gets_a_gradient_and_moves(settings):
    stepper = Stepper(settings)
    before = {name: p.detach().clone() for name, p in stepper.method.named_parameters() if p.requires_grad}
    stepper.step()
    stepper.step()
    still = [name for name, p in stepper.method.named_parameters() if name in before and torch.equal(p, before[name])]
    assert not still


def test_embeddings_have_the_width_that_is_said(settings):
    method = Stepper(settings).method.eval()
    assert method.embed(torch.randn(3, 3, 20, 20)).shape == (3, method.embed_dim)


def test_a_state_dict_gives_the_same_next_step_bit_for_bit(settings):
    first, second = Stepper(settings), Stepper(settings)
    first.step()
    second.method.load_state_dict(copy.deepcopy(first.method.state_dict()))
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    first.step()
    second.step()
    a, b = first.method.state_dict(), second.method.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_bf16_gives_a_finite_step_and_keeps_float32_weights(settings):
    settings.precision = 'bf16'
    stepper = Stepper(settings)
    assert stepper.step()['loss'].isfinite()
    assert {p.dtype for p in stepper.method.parameters()} == {torch.float32}


def test_every_method_is_documented():
    for name in NAMES:
        assert METHODS.find(name).__doc__, name
