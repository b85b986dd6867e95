"""R, the number of renewals of the target network, and base_ema='auto'."""

import math

import pytest

from ssl_zoo.build import build_method
from ssl_zoo.checkpoint import checkpoints_in, read_checkpoint
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.engine.describe_plan import describe_plan
from ssl_zoo.engine.optim_wrapper import build_optimizer
from ssl_zoo.engine.plan import Plan
from ssl_zoo.engine.target_renewals import (
    AUTOMATIC,
    LOWEST_BASE_EMA,
    automatic_base_ema,
    target_renewals,
)
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError
from ssl_zoo.method import Method


class Cosine(Method):
    def __init__(self, base_ema):
        super().__init__()
        self.base_ema = base_ema

    @property
    def decay(self):
        return 1 - (1 - self.base_ema) * (math.cos(math.pi * self.progress) + 1) / 2


class Constant(Method):
    decay = 0.99


class Linear(Method):
    @property
    def decay(self):
        return 0.9 + 0.1 * self.progress


def literal(decay, steps):
    return sum(1 - decay(k / steps) for k in range(steps))


@pytest.mark.quick
@pytest.mark.parametrize('steps', [1, 2, 3, 999, 1000, 1001, 1733, 20_000])
def test_renewals_are_the_sum_over_the_steps(steps):
    tau = 0.95
    cosine = literal(lambda u: 1 - (1 - tau) * (math.cos(math.pi * u) + 1) / 2, steps)
    assert cosine == pytest.approx((1 - tau) * (steps + 1) / 2, rel=1e-9)
    method = Cosine(tau)
    method.progress = 0.25
    assert target_renewals(method, steps) == pytest.approx(cosine, rel=1e-9)
    assert method.progress == 0.25
    assert target_renewals(Constant(), steps) == pytest.approx(0.01 * steps)
    linear = literal(lambda u: 0.9 + 0.1 * u, steps)
    assert target_renewals(Linear(), steps) == pytest.approx(linear, rel=1e-9)
    assert target_renewals(Method(), steps) is None


@pytest.mark.quick
@pytest.mark.parametrize(
    ('base_ema', 'steps', 'renewals'),
    [
        (0.996, 312784, 626),  # BYOL's presets for 1000, 300, 100 and 40 epochs
        (0.99, 93835, 469),
        (0.99, 31278, 156),
        (0.97, 12511, 188),
        (0.996, 36988, 74),  # the authors' Imagenette, 1000 epochs
        (0.99, 195312, 977),  # solo-learn, CIFAR-10
        (0.9, 93835, 4692),  # BYOL, table 5a
    ],
)
def test_renewals_of_published_recipes(base_ema, steps, renewals):
    assert target_renewals(Cosine(base_ema), steps) == pytest.approx(renewals, abs=0.6)


@pytest.mark.quick
@pytest.mark.parametrize('steps', [624, 625, 1000, 3906, 195312, 2502279])
def test_the_automatic_decay_gives_its_renewals(steps):
    decay = automatic_base_ema(steps)
    assert LOWEST_BASE_EMA <= decay < 1
    assert target_renewals(Cosine(decay), steps) == pytest.approx(AUTOMATIC, rel=1e-9)


@pytest.mark.quick
@pytest.mark.parametrize('steps', [1, 2, 250, 623])
def test_the_automatic_decay_has_a_lowest_value(steps):
    assert automatic_base_ema(steps) == LOWEST_BASE_EMA
    assert target_renewals(Cosine(LOWEST_BASE_EMA), steps) < AUTOMATIC


def target_rows(settings, images):
    plan = Plan.of(settings, images)
    method = build_method(plan.settings)
    groups = build_optimizer(plan.settings, plan, method).param_groups
    lines = describe_plan(plan.settings, plan, method, groups).splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith('  target')]
    if not starts:
        return []
    (start,) = starts
    return [lines[start][12:], *([lines[start + 1].strip()] if 'far' in lines[start + 1] else [])]


def method_of(name, **changes):
    backbone = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
    return dict(type=name, backbone=backbone, **changes)


HEADS = dict(hidden_dim=16, proj_dim=8)
SIMCLR = method_of('SimCLR', proj_dim=8)


@pytest.mark.quick
@pytest.mark.parametrize(
    ('method', 'images', 'expected'),
    [
        (
            method_of('BYOL', base_ema=0.97, **HEADS),
            7800,  # 780 steps
            [
                'decay 0.97 -> 1, renewed 11.7 times (the sum of 1 - decay over the steps; 74 to '
                '977 in published recipes of BYOL)',
                "that is far less often: method.base_ema='auto' sets a lower decay from the number "
                'of steps',
            ],
        ),
        (method_of('BYOL', base_ema='auto', **HEADS), 39060, ['decay 0.936', 'renewed 125.0']),
        (method_of('TiCo', base_ema=0.5, **HEADS), 390000, ['renewed 9,750.3', 'far more often']),
        (
            method_of('MoCo', queue_size=16, decay=0.99, **HEADS),
            1000,
            ['decay 0.99, renewed 1.0 times', 'far less often: choose a lower decay'],
        ),
        (
            method_of('BYOLAblation', base_ema=1, **HEADS),
            39060,
            ['decay 1, renewed 0.0 times', 'far less often'],
        ),
        (method_of('BYOLAblation', target='stop_gradient', **HEADS), 39060, []),
        (SIMCLR, 39060, []),
    ],
)
def test_the_plan_says_how_often_the_target_is_renewed(tiny, method, images, expected):
    rows = target_rows(tiny(method=method), images)
    assert bool(rows) == bool(expected)
    text = '\n'.join(rows)
    for words in expected:
        assert words in text
    assert ('far' in text) == ('far' in ' '.join(expected))


@pytest.mark.quick
def test_the_run_not_the_config_has_the_number(tiny):
    settings = tiny(method=method_of('BYOL', base_ema='auto', **HEADS))
    plan = Plan.of(settings, 39060)
    assert plan.settings.method['base_ema'] == automatic_base_ema(plan.steps)
    assert settings.method['base_ema'] == 'auto'
    with pytest.raises(ConfigError, match="base_ema='auto' depends on the number of steps"):
        build_method(settings)


@pytest.mark.quick
@pytest.mark.parametrize('value', ['atuo', '0.9', ''])
def test_other_words_for_the_decay_are_refused(tiny, value):
    with pytest.raises(ConfigError, match="a number from 0 to 1, or 'auto'"):
        tiny(method=method_of('BYOL', base_ema=value, **HEADS))


@pytest.mark.long
def test_an_automatic_run_resumes_exactly(tiny, tmp_path):
    settings = tiny(
        method=method_of('BYOL', base_ema='auto', **HEADS), checkpoint=dict(every=1, keep=9)
    )
    whole = build_trainer(settings, tmp_path / 'whole')
    whole.fit()
    newest, middle = checkpoints_in(tmp_path / 'whole')
    config = read_checkpoint(newest)['config']
    assert config['method']['base_ema'] == whole.method.base_ema == automatic_base_ema(14)
    for number, again in enumerate([settings, settings_from_dict(config)]):
        run = build_trainer(again, tmp_path / f'{number}', resume=str(middle))
        run.fit()
        for name, value in run.method.state_dict().items():
            assert value.equal(whole.method.state_dict()[name]), name
