import pytest

from ssl_zoo.engine.plan import Plan


def byol(epochs, batch_size, base_lr, warmup=10):
    from types import SimpleNamespace
    return Plan.of(SimpleNamespace(epochs=epochs, batch_size=batch_size, base_lr=base_lr, warmup_epochs=warmup, accumulate=1), 1281167)


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
