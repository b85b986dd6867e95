"""What lies between gradients and the optimizer's step: frozen parameters and the limit on
gradients.
"""

import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ssl_zoo.engine.hooks.stop import StopHook
from ssl_zoo.engine.optim_wrapper import ZooOptimWrapper
from ssl_zoo.errors import Stopped
from ssl_zoo.method import Method
from ssl_zoo.optim import parameter_groups

pytestmark = pytest.mark.quick


class Two(Method):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 2), nn.Linear(2, 1)

    @property
    def frozen(self):
        return ('last',) if self.epoch < 1 else ()


def wrapped(tiny, method, **changes):
    optimizer = torch.optim.SGD(parameter_groups(method, 0.1), lr=1.0, momentum=0.9)
    return ZooOptimWrapper(optimizer, method, tiny(**changes), 1)


def test_what_is_frozen_gets_neither_gradient_nor_decay_nor_momentum(tiny):
    method = Two()
    wrapper, before = wrapped(tiny, method), [p.detach().clone() for p in method.last.parameters()]
    for _ in range(2):
        wrapper.update_params(method.last(method.first(torch.randn(4, 3))).square().sum())
    assert all(torch.equal(a, b) for a, b in zip(before, method.last.parameters(), strict=True))
    assert not [p for p in method.last.parameters() if wrapper.optimizer.state[p]]
    method.epoch = 1.0
    wrapper.update_params(method.last(method.first(torch.randn(4, 3))).square().sum())
    assert not any(torch.equal(a, b) for a, b in zip(before, method.last.parameters(), strict=True))


def test_each_gradient_is_limited_by_its_own_norm(tiny):
    """DINO's utils.clip_gradients: coefficient limit / (norm + 1e-6) of each parameter, where it is
    below 1.
    """
    method = Two()
    method.epoch = 1.0
    wrapper = wrapped(tiny, method, clip_grad=3)
    weights = {name: p.detach().clone() for name, p in method.named_parameters()}
    gradients = {
        name: torch.randn_like(p) * scale
        for (name, p), scale in zip(method.named_parameters(), (100, 0.1, 50, 0.1), strict=True)
    }
    loss = sum((p * gradients[name]).sum() for name, p in method.named_parameters())
    wrapper.update_params(loss)
    for name, p in method.named_parameters():
        g = gradients[name].double()
        norm = g.square().sum().sqrt().item()
        expected = g * min(1.0, 3 / (norm + 1e-6)) + (
            0.1 * weights[name].double() if p.ndim > 1 else 0
        )
        torch.testing.assert_close(
            (weights[name] - p.detach()).double(), expected, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ('passes', 'saved'), [(0, False), (4, True), (5, False)], ids=['no step', 'whole', 'within']
)
def test_a_run_stopped_while_it_waits_for_data_saves_whole_steps_alone(passes, saved):
    logger = SimpleNamespace(warning=lambda message: None)
    plan = SimpleNamespace(accumulate=2)
    saves = []
    runner = SimpleNamespace(
        iter=passes,
        step=passes // 2,
        plan=plan,
        logger=logger,
        visualizer=SimpleNamespace(close=lambda: None),
        save_checkpoint=lambda: saves.append(passes // 2) or 'step_00000002.pth',
    )
    hook = StopHook()
    hook.signals.received = signal.SIGTERM
    with pytest.raises(Stopped) as stopped:
        hook.on_wait_stopped(runner)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert saves == ([2] if saved else [])
    assert ('could not be saved' in str(stopped.value)) is not saved
