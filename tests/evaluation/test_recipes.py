"""Recipes: settings of a sweep, steps, the schedule at its ends, presets, mistakes."""

import json
import math

import numpy as np
import pytest

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.logistic import STRENGTHS
from ssl_zoo.evaluation.recipes import (
    FINETUNE,
    LINEAR,
    TRANSFER,
    TRANSFER_STEPS,
    Recipe,
    Setting,
    linear_preset,
    logspace,
)

pytestmark = pytest.mark.quick

IMAGENET = 1_281_167


def recipe(**changes):
    return Recipe(**{**dict(lrs=(0.4, 0.1), epochs=(2,), batch_size=1024), **changes})


# --- Settings


def test_settings_go_through_epochs_then_learning_rates_then_weight_decays():
    settings = recipe(epochs=(30, 50), weight_decays=(0.0, 1e-3, 1e-6), per_256=False).settings(
        5000
    )
    assert settings == [
        Setting(lr, decay, epochs)
        for epochs in (30, 50)
        for lr in (0.4, 0.1)
        for decay in (0.0, 1e-3, 1e-6)
    ]


@pytest.mark.parametrize(
    ('batch_size', 'images', 'lr'),
    [
        (1024, 10_000, 1.6),
        (256, 10_000, 0.4),
        (64, 10_000, 0.1),
        (1024, 1024, 1.6),
        (1024, 1023, 0.4 * 1023 / 256),
        (1024, 64, 0.1),
        (1024, 1, 0.4 / 256),
    ],
)
def test_the_learning_rate_follows_the_batch_that_is_used(batch_size, images, lr):
    [setting] = recipe(lrs=(0.4,), batch_size=batch_size).settings(images)
    assert setting.lr == pytest.approx(lr, rel=1e-12)
    [setting] = recipe(lrs=(0.4,), batch_size=batch_size, per_256=False).settings(images)
    assert setting.lr == 0.4


def test_weight_decays_over_the_learning_rate():
    settings = recipe(
        lrs=(0.1, 10.0), weight_decays=(0.0, 1e-3), per_256=False, decay_over_lr=True
    ).settings(5000)
    assert [(s.lr, s.weight_decay) for s in settings] == [
        (0.1, 0.0),
        (0.1, 1e-2),
        (10.0, 0.0),
        (10.0, 1e-4),
    ]
    [setting] = recipe(lrs=(0.1,), weight_decays=(1e-3,), decay_over_lr=True).settings(
        512
    )  # over the one that is used
    assert setting.lr == pytest.approx(0.2) and setting.weight_decay == pytest.approx(5e-3)


def test_settings_in_words():
    assert str(Setting(0.4, 0.0, 80)) == 'lr 0.4, 80 epochs'
    assert str(Setting(1.6, 1e-6, 0.5)) == 'lr 1.6, weight decay 1e-06, 0.5 epochs'


# --- Steps


@pytest.mark.parametrize(
    ('epochs', 'images', 'batch_size', 'steps'),
    [
        (80, IMAGENET, 1024, 80 * IMAGENET // 1024),
        (2, 100, 16, 12),
        (2.5, 100, 16, 15),
        (1, 7, 16, 1),
        (3, 7, 16, 3),
        (2.5, 7, 16, 2),
        (0.01, 100, 16, 1),
        (0.5, 1, 16, 1),
        (1, 1, 1, 1),
        (1, 100, 100, 1),
        (1, 199, 100, 1),
        (30, 12_811, 1024, 375),
    ],
)
def test_steps_are_counted_over_all_epochs(epochs, images, batch_size, steps):
    assert recipe(epochs=(epochs,), batch_size=batch_size).steps(epochs, images) == steps


# --- The schedule


@pytest.mark.parametrize('end', [0.0, 0.001, 0.5])
def test_the_cosine_begins_at_the_peak_and_ends_a_step_before_its_end(end):
    cosine = recipe(end=end, batch_size=10)
    steps = cosine.steps(2, 1000)
    assert steps == 200 and cosine.factor(0, 2, 1000) == 1.0
    assert cosine.factor(100, 2, 1000) == pytest.approx((1 + end) / 2)
    assert cosine.factor(50, 2, 1000) == pytest.approx(end + (1 - end) * (1 + math.sqrt(0.5)) / 2)
    assert cosine.factor(199, 2, 1000) == pytest.approx(
        end + (1 - end) * math.sin(math.pi / 400) ** 2
    )
    assert cosine.factor(200, 2, 1000) == pytest.approx(end, abs=1e-15)
    factors = [cosine.factor(k, 2, 1000) for k in range(200)]
    assert factors == sorted(factors, reverse=True) and min(factors) > end


def test_per_epoch_the_factor_is_that_of_the_epoch_a_step_begins_in():
    stairs = recipe(per_epoch=True, batch_size=30, end=0.1)
    factors = [stairs.factor(k, 4, 100) for k in range(stairs.steps(4, 100))]
    # Step k begins after 30 k images: steps 0 to 3 in epoch 0, 4 to 6 in epoch 1, 7 to 9 in
    # epoch 2, 10 to 12 in epoch 3.
    values = [0.1 + 0.9 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)]
    assert factors == pytest.approx(
        [values[0]] * 4 + [values[1]] * 3 + [values[2]] * 3 + [values[3]] * 3
    )


def test_per_epoch_with_one_batch_an_epoch_and_with_less_than_an_epoch():
    stairs = recipe(per_epoch=True)
    assert [stairs.factor(k, 2, 100) for k in range(2)] == pytest.approx([1, 0.5])
    assert [stairs.factor(k, 0.5, 4096) for k in range(2)] == [1, 1]


def test_steps_at_their_milestones():
    moco = LINEAR['moco']
    a_epoch = IMAGENET / 256
    for step, factor in (
        (0, 1),
        (math.ceil(60 * a_epoch) - 1, 1),
        (math.ceil(60 * a_epoch), 0.1),
        (math.ceil(80 * a_epoch) - 1, 0.1),
        (math.ceil(80 * a_epoch), 0.01),
        (moco.steps(100, IMAGENET) - 1, 0.01),
    ):
        assert moco.factor(step, 100, IMAGENET) == pytest.approx(factor), step


@pytest.mark.parametrize('epochs', [5, 10, 35, 100, 1000])
def test_milestones_of_whole_epochs_are_at_their_first_step(epochs):
    stairs = recipe(shape='steps', milestones=(0.6, 0.8), batch_size=25)
    factors = [stairs.factor(k, epochs, 100) for k in range(4 * epochs)]
    assert np.allclose(
        factors,
        [1] * (4 * epochs * 3 // 5) + [0.1] * (4 * epochs // 5) + [0.01] * (4 * epochs // 5),
    )


def test_milestones_within_an_epoch_wait_for_the_next_if_the_rate_changes_per_epoch():
    by_steps, by_epochs = (
        recipe(shape='steps', milestones=(0.6,), batch_size=10, per_epoch=p) for p in (False, True)
    )
    assert [round(by_steps.factor(k, 4, 100), 9) for k in (23, 24, 29, 30)] == [
        1,
        0.1,
        0.1,
        0.1,
    ]  # after 2.4 epochs
    assert [round(by_epochs.factor(k, 4, 100), 9) for k in (23, 24, 29, 30)] == [
        1,
        1,
        1,
        0.1,
    ]  # in epoch 3, the first after


# --- Presets


@pytest.mark.parametrize('name', LINEAR)
def test_presets_build_are_plain_data_and_name_their_source(name):
    preset = linear_preset(name)
    plain = json.loads(json.dumps(preset.to_builtin()))
    assert Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}) == preset
    assert (
        preset.source
        and len(preset.epochs) == 1
        and preset.crop == (0.08, 1.0)
        and preset.flip_p == 0.5
        and preset.momentum == 0.9
    )
    assert preset.factor(0, preset.epochs[0], IMAGENET) == 1.0


# Peak learning rates on ImageNet as those repositories reach them, and steps of the schedule.
@pytest.mark.parametrize(
    ('name', 'lrs', 'decay', 'epochs', 'nesterov', 'init', 'shape'),
    [
        ('byol', (1.6, 1.2, 0.8, 0.4, 0.2), 0, 80, True, 'haiku', 'cosine'),
        ('simclr', (1.6,), 0, 90, True, 'zeros', 'cosine'),
        ('moco', (30,), 0, 100, False, 'normal', 'steps'),
        ('mocov3', (0.4,), 0, 90, False, 'normal', 'cosine'),
        ('simsiam', (0.32, 1.6), 0, 90, False, 'normal', 'cosine'),
        ('barlow_twins', (0.3,), 1e-6, 100, False, 'normal', 'cosine'),
        ('vicreg', (0.02,), 1e-6, 100, False, 'normal', 'cosine'),
        ('swav', (0.3,), 1e-6, 100, False, 'normal', 'cosine'),
        ('dino', (0.004,), 0, 100, False, 'normal', 'cosine'),
        ('solo_learn', (0.1,), 0, 100, False, 'torch', 'steps'),
        ('lightly', (0.1,), 0, 90, False, 'torch', 'cosine'),
        (
            'dinov2',
            tuple(4 * m * 10.0**e for e in (-5, -4, -3, -2) for m in (1, 2, 5)) + (0.4,),
            0,
            10,
            False,
            'normal',
            'cosine',
        ),
    ],
)
def test_presets_on_imagenet(name, lrs, decay, epochs, nesterov, init, shape):
    preset = linear_preset(name)
    settings = preset.settings(IMAGENET)
    assert [s.lr for s in settings] == pytest.approx(list(lrs)) and {
        s.weight_decay for s in settings
    } == {decay}
    assert {s.epochs for s in settings} == {epochs} and (
        preset.nesterov,
        preset.init,
        preset.shape,
    ) == (nesterov, init, shape)
    assert (preset.optimizer == 'LARC') == (name == 'simsiam') and preset.end == (
        0.001 if name == 'lightly' else 0
    )
    assert len(LINEAR) == 12


def test_the_recipe_of_the_few_label_protocol():
    assert [(s.epochs, round(s.lr, 9)) for s in FINETUNE.settings(IMAGENET)] == [
        (epochs, 4 * lr) for epochs in (30, 50) for lr in (0.005, 0.01, 0.02, 0.05, 0.1)
    ]
    assert FINETUNE.nesterov and FINETUNE.weight_decays == (0.0,) and FINETUNE.momentum == 0.9


def test_the_recipe_of_the_transfer_protocol():
    settings = TRANSFER.settings(50_000)
    assert (
        len(settings) == 7 * 8
        and TRANSFER.batch_size == 256
        and TRANSFER.nesterov
        and TRANSFER_STEPS == 20_000
    )
    rates, decays = sorted({s.lr for s in settings}), [s.weight_decay * s.lr for s in settings[:8]]
    assert rates == pytest.approx([10 ** (-4 + i / 2) for i in range(7)])
    assert decays == pytest.approx([0, *(10 ** (-6 + i / 2) for i in range(7))])


def test_strengths_and_logspace():
    assert logspace(1e-4, 1e-1, 4) == pytest.approx((1e-4, 1e-3, 1e-2, 1e-1)) and logspace(
        8, 2, 3
    ) == pytest.approx((8, 4, 2))
    assert len(STRENGTHS) == 45 and STRENGTHS[0] == 1e5 and STRENGTHS[-1] == pytest.approx(1e-6)
    assert np.diff(np.log10(STRENGTHS)) == pytest.approx(-0.25)


# --- Changes and mistakes


def test_changes_replace_what_is_given():
    base = linear_preset('mocov3')
    assert base.with_changes(lrs=None, epochs=None) == base
    changed = base.with_changes(lrs=[0.3, 3.0], batch_size=64, crop=[0.2, 1.0], flip_p=0.0)
    assert (
        changed.lrs == (0.3, 3.0)
        and changed.batch_size == 64
        and changed.crop == (0.2, 1.0)
        and changed.flip_p == 0.0
    )
    assert (
        changed.epochs == base.epochs and changed.init == base.init and hash(changed) != hash(base)
    )


def test_an_unknown_preset_gets_the_nearest():
    with pytest.raises(ConfigError, match="the preset is 'moco_v3': did you mean 'mocov3'"):
        linear_preset('moco_v3')


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(lrs=(0,)), r'lrs is \(0,\), but it must be one or more numbers above 0'),
        (dict(lrs=(0.1, -1)), 'lrs is'),
        (dict(lrs=()), 'lrs is'),
        (dict(lrs=(math.nan,)), 'lrs is'),
        (dict(lrs=(math.inf,)), 'lrs is'),
        (dict(epochs=(0,)), 'epochs is'),
        (dict(epochs=(-1,)), 'epochs is'),
        (dict(epochs=()), 'epochs is'),
        (dict(epochs=(math.nan,)), 'epochs is'),
        (dict(epochs=(math.inf,)), 'epochs is'),
        (dict(weight_decays=(-1e-6,)), 'weight_decays is .* at least 0'),
        (dict(weight_decays=()), 'weight_decays is'),
        (dict(weight_decays=(math.nan,)), 'weight_decays is'),
        (dict(weight_decays=(math.inf,)), 'weight_decays is'),
        (dict(batch_size=0), 'batch_size is 0, but it must be a whole number of at least 1'),
        (dict(batch_size=-5), 'batch_size is -5'),
        (dict(optimizer='Adam'), 'optimizer'),
        (dict(shape='linear'), 'shape'),
        (dict(init='xavier'), 'init'),
    ],
)
def test_values_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        recipe(**changes)
    with pytest.raises(ConfigError, match=words):
        linear_preset('byol').with_changes(**changes)
