"""The sentences of protocols: what they say of a choice, and what is refused."""

import numpy as np
import pytest

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.knn import knn_protocol
from ssl_zoo.evaluation.probe import few_label_protocol
from ssl_zoo.evaluation.protocols.choice import Choice
from ssl_zoo.evaluation.protocols.describe import describe, describe_row
from ssl_zoo.evaluation.recipes import LINEAR, Setting

pytestmark = pytest.mark.quick

BYOL = LINEAR['byol']


def linear(choice, recipe=BYOL, **more):
    return dict(name='linear', **choice.parameters(recipe, 140), **more)


def test_settings_that_were_chosen_differently_are_one_protocol():
    a = Choice(Setting(0.1, 0.0, 80), 0, 40, 95.0)
    b = Choice(Setting(0.2, 0.0, 80), 1, 40, 97.5)
    assert linear(a) == linear(b) and a.found() != b.found()
    assert 'lr' not in linear(a) and linear(a)['candidates']['lr'] == BYOL.lrs


@pytest.mark.parametrize(
    'change',
    [
        dict(lrs=(0.4, 0.3)),
        dict(epochs=(90,)),
        dict(weight_decays=(1e-6,)),
        dict(batch_size=70),
        dict(momentum=0.5),
        dict(optimizer='LARC'),
        dict(crop=(0.2, 1.0)),
        dict(init='zeros'),
    ],
)
def test_another_parameter_makes_another_protocol(change):
    choice = Choice(Setting(0.1, 0.0, 80), 0, 40, 95.0)
    assert linear(choice) != linear(choice, BYOL.with_changes(**change))


def test_the_number_of_held_out_images_and_the_setting_of_a_sweep_of_one_are_parameters():
    setting = Setting(0.1, 0.0, 80)
    assert linear(Choice(setting, 0, 40, 95.0)) != linear(Choice(setting, 0, 41, 95.0))
    assert linear(Choice(setting)) != linear(Choice(Setting(0.2, 0.0, 80)))
    assert Choice(setting).found() == {}


def test_the_source_of_a_recipe_is_not_a_parameter():
    choice = Choice(Setting(0.1, 0.0, 80))
    assert linear(choice) == linear(choice, BYOL.with_changes(source='another paper'))


@pytest.mark.parametrize(
    ('chosen', 'sentence'),
    [
        (
            None,
            'lr chosen, weight decay chosen, epochs chosen, batch 140; '
            'chosen of 5 on 40 held-out images',
        ),
        (
            dict(lr=0.1, weight_decay=0.0, epochs=80, holdout_accuracy=95.0),
            'lr 0.1, 80 epochs, batch 140; chosen of 5 on 40 held-out images (95.00 %)',
        ),
        (
            dict(lr=0.1, weight_decay=1e-6, epochs=80),
            'lr 0.1, weight decay 1e-06, 80 epochs, batch 140; chosen of 5 on 40 held-out images',
        ),
    ],
)
def test_a_sentence_says_what_was_chosen_as_far_as_it_is_given(chosen, sentence):
    protocol = linear(Choice(Setting(0.1, 0.0, 80), 0, 40, 95.0))
    assert describe(protocol, chosen) == f'frozen encoder, random crops and flips, SGD, {sentence}'


def test_the_rows_of_online_evaluation_and_of_the_command_share_a_protocol():
    online = knn_protocol(np.zeros((5, 2), np.float32), k=20, temperature=0.07)
    assert describe(online) == 'weighted k-NN, k=20, T=0.07, cosine, bank of 5, as DINO'
    assert describe(dict(online, k=3)) == 'weighted k-NN, k=3, T=0.07, cosine, bank of 5'
    assert describe(few_label_protocol()) == (
        'logistic regression on 2 labels per class, mean of 5 draws, L2, C=1, features standardised'
    )


def test_a_protocol_of_another_package_is_described_by_its_fields():
    protocol = dict(name='nearest centroid', distance='cosine')
    assert describe(protocol, dict(shift=0.5)) == 'nearest centroid, distance cosine, shift 0.5'


def test_a_row_without_protocol_has_no_sentence():
    assert describe_row({}) == '' and describe_row(dict(protocol=None)) == ''


@pytest.mark.parametrize('protocol', ['k=20, T=0.07', 3, [], {}, dict(name=5), dict(k=20)])
def test_what_is_no_protocol_is_refused_with_a_sentence(protocol):
    with pytest.raises(ConfigError, match='must be a dict with a name and parameters; evaluate'):
        describe(protocol)


@pytest.mark.parametrize(
    ('protocol', 'chosen'),
    [
        (dict(name='knn'), None),
        (dict(name='linear', optimizer='SGD', lr='0.1'), None),
        (dict(name='finetune', steps=[]), {}),
        (dict(name='knn'), 'text'),
        (dict(name='linear', candidates=3), {}),
    ],
)
def test_a_protocol_with_missing_or_wrong_fields_is_refused_with_a_sentence(protocol, chosen):
    with pytest.raises(ConfigError, match='lacks a field or has a wrong one'):
        describe(protocol, chosen)
