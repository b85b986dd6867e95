"""A ViT evaluated at a size that it was not trained at, by every protocol and during training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from timm.layers import resample_abs_pos_embed

from ssl_zoo.build import load_method
from ssl_zoo.checkpoint import checkpoints_in, read_checkpoint
from ssl_zoo.config.settings import settings_from_dict
from ssl_zoo.engine.trainer import build_trainer
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.features import Preprocessing, extract_features
from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.evaluation.protocols.knn import evaluate_knn
from ssl_zoo.evaluation.protocols.linear import evaluate_linear
from ssl_zoo.evaluation.protocols.linear_cached import evaluate_cached
from ssl_zoo.evaluation.protocols.semi_supervised import evaluate_semi_supervised
from ssl_zoo.evaluation.protocols.transfer import transfer_finetune, transfer_linear
from ssl_zoo.evaluation.recipes import FINETUNE, TRANSFER, linear_preset

WARNING = (
    'position embeddings were interpolated from 4 x 4 to 8 x 8 tokens: the network was not trained '
    'at this size'
)
SETTINGS = dict(
    method=dict(
        type='SimSiam',
        backbone=dict(
            name='vit_tiny_patch16_224',
            img_size=8,
            patch_size=2,
            embed_dim=12,
            num_heads=2,
            depth=1,
        ),
        proj_dim=16,
        pred_hidden=8,
    ),
    data=dict(
        train=dict(type='Digits', split='val', size=8),
        val=40,
        test=dict(type='Digits', split='test', size=8, limit=40),
        mean=[0.5] * 3,
        std=[0.5] * 3,
        eval_size=16,
    ),
    views=[dict(size=8)] * 2,
    optimizer=dict(type='SGD', momentum=0.9),
    epochs=1,
    batch_size=50,
    base_lr=0.5,
    workers=0,
    online_eval=dict(every=1),
)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The folder of a run of 2 steps with views of 8 px, whose evaluation has 16 px."""
    folder = tmp_path_factory.mktemp('run')
    build_trainer(settings_from_dict(SETTINGS), folder).fit()
    return folder


@pytest.fixture
def context(run, tmp_path):
    def make(size=16, **arguments):
        options = [f'data.eval_size={size}']
        checkpoint = str(checkpoints_in(run)[0])
        return EvaluationContext(checkpoint, options, work_dir=str(tmp_path), **arguments)

    return make


def test_the_plan_and_the_figures_of_the_run_say_so(run):
    log = (run / 'train.log').read_text()
    assert log.index(f'warning: {WARNING}') < log.index('random weights')
    rows = [json.loads(line) for line in (run / 'results.jsonl').read_text().splitlines()]
    assert len(rows) == 4 and all(row['warnings'] == [WARNING] for row in rows)


def test_the_run_measures_what_an_evaluation_measures(run, context):
    [row] = [
        row
        for row in map(json.loads, (run / 'results.jsonl').read_text().splitlines())
        if row['metric'] == 'knn_top1' and row['weights'] == 'trained'
    ]
    rows = evaluate_knn(context(), [20], [0.07])
    assert rows[0]['value'] == pytest.approx(row['value'])


def test_the_weights_in_the_file_are_those_of_training(run):
    path = checkpoints_in(run)[0]
    state = read_checkpoint(path)['method']
    expected = resample_abs_pos_embed(state['backbone.pos_embed'], [8, 8], [4, 4])
    method, _, _ = load_method(path)
    assert method.warnings == (WARNING,)
    loaded = method.state_dict()
    assert torch.equal(loaded.pop('backbone.pos_embed'), expected)
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    method, _, _ = load_method(path, ['data.eval_size=8'])
    assert method.warnings == ()
    assert all(torch.equal(value, state[key]) for key, value in method.state_dict().items())


def test_features_of_the_size_of_training_carry_no_warning(context):
    rows = evaluate_knn(context(8), [5], [0.07])
    assert [row['warnings'] for row in rows] == [[]] * len(rows)


def test_every_protocol_measures_and_says_so(context, capsys):
    few = dict(lrs=(0.1,), epochs=(1,), batch_size=50)
    linear = replace(linear_preset('byol'), **few, weight_decays=(0.0,))
    finetuned = replace(FINETUNE, **few)
    transferred = replace(TRANSFER, lrs=(0.1,), weight_decays=(0.0,), batch_size=50)
    rows = [
        *evaluate_knn(context(), [5], [0.07]),
        evaluate_linear(context(), linear),
        *evaluate_cached(context(), linear, strengths=(1.0,)),
        *evaluate_semi_supervised(context(), '2-per-class', None, finetuned),
        *evaluate_semi_supervised(context(random_weights=True), '2-per-class', None, finetuned, 2),
        transfer_linear(context(), 'top1', (1.0,)),
        transfer_finetune(context(), 'top1', transferred, steps=2),
    ]
    assert all(row['warnings'] == [WARNING] for row in rows)
    assert capsys.readouterr().out.count(f'warning: {WARNING}') == len(rows) - 1  # the mean row


def test_stored_features_are_those_of_the_loaded_network(run, context):
    made = context()
    stored = made.features(made.source('test'), 'test')
    method, settings, _ = load_method(checkpoints_in(run)[0])
    preprocessing = Preprocessing(*settings.eval_geometry(), settings.data.mean, settings.data.std)
    features = extract_features(method.backbone, made.source('test'), preprocessing)
    np.testing.assert_array_equal(stored.values, features.values)


def test_a_size_that_is_smaller_than_a_patch(context):
    with pytest.raises(ConfigError, match='cannot take images of 1 x 1 px .*choose data.eval_size'):
        context(1)
