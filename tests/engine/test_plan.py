import math
from types import SimpleNamespace

import pytest

from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.settings import Schedule


def byol(epochs, batch_size, base_lr, warmup=10, images=1281167, weight_decay=0.0, weight_decay_end=None, **schedule):
    settings = SimpleNamespace(epochs=epochs, batch_size=batch_size, base_lr=base_lr, warmup_epochs=warmup, weight_decay=weight_decay,
                               weight_decay_end=weight_decay_end, schedule=Schedule(**schedule), accumulate=1, max_device_batch=None)
    return Plan.of(settings, images)


@pytest.mark.parametrize(('epochs', 'batch_size', 'base_lr', 'steps', 'lr'), [
    (40, 4096, 0.45, 12511, 7.2), (100, 4096, 0.45, 31278, 7.2), (300, 4096, 0.3, 93835, 4.8),
    (1000, 4096, 0.2, 312784, 3.2), (1000, 512, 0.4, 2502279, 0.8)])
def test_byols_official_presets(epochs, batch_size, base_lr, steps, lr):
    """max_steps and the scaled lr of deepmind-research byol/configs/byol.py."""
    plan = byol(epochs, batch_size, base_lr)
    assert plan.steps == steps and plan.peak_lr == pytest.approx(lr)
    if batch_size == 4096:
        assert plan.warmup_steps == 3127


def test_lr_at_its_ends():
    plan = byol(300, 4096, 0.3)
    assert plan.lr(0) == 0
    assert plan.lr(plan.warmup_steps - 1) == pytest.approx(4.8 * (plan.warmup_steps - 1) / plan.warmup_steps)
    assert plan.lr(plan.warmup_steps) == 4.8
    assert plan.lr((plan.warmup_steps + plan.steps) // 2) == pytest.approx(2.4, rel=1e-3)
    assert 0 < plan.lr(plan.steps - 1) < 1e-7
    assert plan.lr(plan.steps) == pytest.approx(0, abs=1e-12)


def test_without_warmup_the_first_step_has_the_peak_lr():
    assert byol(100, 256, 0.3, warmup=0).lr(0) == pytest.approx(0.3)


def test_epochs_are_counted_in_images():
    plan = byol(100, 4096, 0.3)
    assert plan.epoch(plan.steps) == pytest.approx(100, abs=0.01)


def test_a_cosine_between_shares_of_the_peak():
    """SwAV: from 0.3 over 10 epochs to 4.8, then to 0.0048 (scripts/swav_800ep_pretrain.sh)."""
    plan = byol(800, 4096, 0.3, start=0.3 / 4.8, end=1e-3)
    assert plan.lr(0) == pytest.approx(0.3)
    assert plan.lr(plan.warmup_steps) == pytest.approx(4.8)
    assert plan.lr(plan.steps) == pytest.approx(0.0048)
    middle = (plan.warmup_steps + plan.steps) / 2
    assert plan.lr(int(middle)) == pytest.approx((4.8 + 0.0048) / 2, rel=1e-3)


def test_steps_at_epochs():
    """MoCo v1: times 0.1 at epochs 120 and 160."""
    plan = byol(200, 250, 0.03, warmup=0, images=1000, shape='steps', milestones=(120, 160))
    peak = 0.03 * 250 / 256
    assert [plan.lr(4 * epoch) for epoch in (0, 119, 120, 159, 160, 199)] == pytest.approx(
        [peak, peak, peak * 0.1, peak * 0.1, peak * 0.01, peak * 0.01])
    assert plan.lr(4 * 120 - 1) == pytest.approx(peak)


def test_a_cosine_by_epochs_is_constant_within_one():
    """MoCo v2 and SimSiam: 0.5 * (1 + cos(pi * epoch / epochs)), epoch counted from 0."""
    plan = byol(200, 250, 0.05, warmup=0, images=1000, per_epoch=True)
    peak = 0.05 * 250 / 256
    for epoch in (0, 1, 77, 199):
        expected = peak * 0.5 * (1 + math.cos(math.pi * epoch / 200))
        assert [plan.lr(step) for step in range(4 * epoch, 4 * epoch + 4)] == pytest.approx([expected] * 4)


def test_weight_decay_may_rise_on_a_cosine():
    """DINO: 0.04 to 0.4."""
    plan = byol(100, 1000, 0.1, images=100000, weight_decay=0.04, weight_decay_end=0.4)
    assert [plan.weight_decay(step) for step in (0, plan.steps // 2, plan.steps)] == pytest.approx([0.04, 0.22, 0.4])
    assert byol(100, 1000, 0.1, weight_decay=1e-6).weight_decay(5) == 1e-6
