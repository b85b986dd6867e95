"""Linear evaluation: choice, retraining, stops, results row, mistakes."""

import hashlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_zoo.build import load_method
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.errors import ConfigError, Stopped
from ssl_zoo.evaluation import classifier_training, logistic
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols import linear, linear_cached
from ssl_zoo.evaluation.protocols import logistic as logistic_protocol
from ssl_zoo.evaluation.protocols.choice import Choice, choose
from ssl_zoo.evaluation.protocols.describe import describe, describe_row
from ssl_zoo.evaluation.protocols.linear import evaluate_linear
from ssl_zoo.evaluation.protocols.linear_cached import evaluate_cached
from ssl_zoo.evaluation.recipes import LINEAR, Setting

RECIPE = LINEAR['byol'].with_changes(
    lrs=(0.5, 5.0, 50.0), epochs=(2,), batch_size=20
)  # 3 heads, 14 steps of 140 images
ONE = RECIPE.with_changes(lrs=(5.0,))
STRENGTHS = (1e3, 1.0, 1e-3)


@pytest.fixture
def trainings(monkeypatch):
    """The trainings so far: a list of (names of the images, settings, network).

    SIGTERM comes during step ``trainings.stop_at``, counted over all trainings from now on.
    """

    class Trainings(list):
        stop_at, steps = None, 0

    seen, real, seed = Trainings(), linear.train_classifier, classifier_training.seed_everything

    def spied(network, batches, recipe, settings, *arguments):
        source = batches.dataset.source if hasattr(batches, 'dataset') else None
        seen.append((source and [source.name(i) for i in range(len(source))], settings, network))
        real(network, batches, recipe, settings, *arguments)

    def counted(value):
        seen.steps += 1
        if seen.steps == seen.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        seed(value)

    monkeypatch.setattr(linear, 'train_classifier', spied)
    monkeypatch.setattr(linear_cached, 'train_classifier', spied)
    monkeypatch.setattr(classifier_training, 'seed_everything', counted)
    return seen


@pytest.fixture
def predicted_on(monkeypatch):
    """What the heads predicted, best classes, by the number of images: {40: (40, heads)}."""
    seen, real, cached = {}, linear.predict, linear_cached.predict_features

    def spied(*arguments):
        positions, predicted, unreadable = real(*arguments)
        seen[len(predicted)] = predicted[:, :, 0]
        return positions, predicted, unreadable

    def spied_cached(heads, features):
        predicted = cached(heads, features)
        seen[len(predicted)] = predicted[:, :, 0]
        return predicted

    monkeypatch.setattr(linear, 'predict', spied)
    monkeypatch.setattr(linear_cached, 'predict_features', spied_cached)
    return seen


def rows_in(tmp_path, work='work'):
    return [
        json.loads(line) for line in (tmp_path / work / 'results.jsonl').read_text().splitlines()
    ]


def predictions(row):
    return Predictions.load(row['predictions'])


def same_figures(a, b):
    left_out = ('predictions', 'seconds', 'time', 'command')
    a_files, b_files = predictions(a), predictions(b)
    return (
        {k: v for k, v in a.items() if k not in left_out}
        == {k: v for k, v in b.items() if k not in left_out}
        and (a_files.predicted == b_files.predicted).all()
        and (a_files.labels == b_files.labels).all()
    )


def digits(names):
    """(n, 3, 8, 8) normalised pixels and labels of digits by their names, from scikit-learn."""
    from sklearn.datasets import load_digits

    data, at = load_digits(), [int(name.split()[1]) for name in names]
    pixels = (data.images[at] * (255 / 16)).round() / 255
    return torch.tensor((pixels - 0.5) / 0.5, dtype=torch.float32)[:, None].expand(
        -1, 3, -1, -1
    ).contiguous(), data.target[at]


# --- The frozen protocol


def test_the_row_says_what_was_measured_and_how(context, checkpoint, tmp_path, capsys, trainings):
    row = evaluate_linear(context(), RECIPE)
    [(_, settings, network)] = trainings
    assert rows_in(tmp_path) == [json.loads(json.dumps(row))]
    saved = predictions(row)
    x, labels = digits(saved.names)
    method = load_method(checkpoint)[0]
    chosen = [str(s) for s in settings].index(row['setting'])
    with torch.no_grad():
        logits = (
            method.encoder('online', 'backbone')(x) @ network.heads.weight[chosen].T
            + network.heads.bias[chosen]
        )
    assert (
        saved.labels.tolist() == labels.tolist()
        and saved.predicted.tolist() == logits.topk(5).indices.tolist()
    )
    hits = saved.predicted == labels[:, None]
    assert row['value'] == pytest.approx(100 * hits[:, 0].mean()) and row['top5'] == pytest.approx(
        100 * hits.any(1).mean()
    )
    assert (
        row['metric'] == 'linear_top1'
        and row['n'] == 60
        and row['left_out'] == 0
        and row['unreadable'] == 0
    )
    assert row['ci95'][0] <= row['value'] <= row['ci95'][1] and row['test'] == 'Digits'
    assert (
        row['checkpoint_sha256'] == hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()[:16]
        and row['step'] == 7
    )
    assert (row['weights'], row['network'], row['layer'], row['seed']) == (
        'trained',
        'online',
        'backbone',
        0,
    )
    assert row['recipe'] == RECIPE.to_builtin() and row['config']['method']['type'] == 'BYOL'
    assert describe_row(row).startswith(
        f'frozen encoder, random crops and flips, SGD, {row["setting"]}, batch 20; chosen of 3 on '
        '40 held-'
    )
    out = capsys.readouterr().out
    assert (
        f'top-1 {row["value"]:.2f} % (95 % interval' in out
        and f'top-5 {row["top5"]:.2f} %' in out
        and 'on 60 test images' in out
    )


def test_the_encoder_stays_as_it_is_in_the_checkpoint(context, checkpoint):
    s = context()
    evaluate_linear(s, ONE)
    fresh = load_method(checkpoint)[0].state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in s.method.state_dict().items())
    assert all(p.grad is None for p in s.method.parameters()) and not any(
        m.training for m in s.method.modules()
    )


def test_all_settings_are_trained_side_by_side_and_each_becomes_what_it_would_alone(
    context, trainings, predicted_on
):
    evaluate_linear(context(), RECIPE)
    [(names, settings, network)] = trainings
    assert [s.lr for s in settings] == [lr * 20 / 256 for lr in (0.5, 5.0, 50.0)] and len(
        names
    ) == 140
    together = predicted_on[60]
    for i, lr in ((0, 0.5), (2, 50.0)):
        row = evaluate_linear(context(work=f'alone {lr}'), RECIPE.with_changes(lrs=(lr,)))
        assert 'one setting' in describe_row(row)
        torch.testing.assert_close(
            trainings[-1][2].heads.weight[0], network.heads.weight[i], atol=1e-5, rtol=1e-4
        )
        assert (predicted_on[60][:, 0] == together[:, i]).mean() > 0.98


@pytest.mark.parametrize('cached', [False, True])
def test_the_choice_is_made_on_the_hold_out_alone(cached, context, predicted_on, trainings):
    def evaluate(s):
        return evaluate_cached(s, RECIPE, strengths=())[0] if cached else evaluate_linear(s, RECIPE)

    row = evaluate(context())
    heads, settings = predicted_on[40], trainings[0][1]
    assert all((heads[:, i] != heads[:, j]).any() for i in range(3) for j in range(i))
    s = context(work='other test labels')
    s.sources['test'].labels = np.random.default_rng(0).permutation(s.sources['test'].labels)
    other = evaluate(s)
    assert (
        other['setting'] == row['setting']
        and (predictions(other).predicted == predictions(row).predicted).all()
    )
    assert (predictions(other).labels != predictions(row).labels).any()
    for k in (0, 2):  # a hold-out on which head k is right everywhere
        s = context(work=f'head {k}')
        s.sources['val'].labels = heads[:, k].copy()
        row = evaluate(s)
        assert row['setting'] == str(
            settings[k]
        ) and 'chosen of 3 on 40 held-out images (100.00 %)' in describe_row(row)
        assert (predictions(row).predicted[:, 0] == predicted_on[60][:, k]).all()


def test_retraining_is_on_training_images_and_hold_out(context, trainings):
    recipe = RECIPE.with_changes(batch_size=1024, epochs=(3,))
    s = context()
    row = evaluate_linear(s, recipe, retrain=True)
    (first, settings, _), (again, [setting], network) = trainings
    held_out = [s.sources['val'].name(i) for i in range(40)]
    assert len(first) == 140 and not set(first) & set(held_out) and again == first + held_out
    best = next(
        i for i, old in enumerate(settings) if old.lr / 140 == pytest.approx(setting.lr / 180)
    )
    assert (
        setting.lr == pytest.approx(recipe.lrs[best] * 180 / 256)
        and network.heads.weight.shape[0] == 1
    )
    assert row['setting'] == str(
        setting
    ) and 'batch 180; chosen of 3 on 40 held-out images' in describe_row(row)
    assert describe_row(row).endswith('trained again with the hold-out')
    x, _ = digits(predictions(row).names)
    with torch.no_grad():
        logits = s.encoder(x) @ network.heads.weight[0].T + network.heads.bias[0]
    assert predictions(row).predicted[:, 0].tolist() == logits.argmax(1).tolist()


def test_one_setting_needs_no_hold_out(context, trainings):
    row = evaluate_linear(context('data.val=None'), ONE)
    assert describe_row(row).endswith('batch 20; one setting') and len(trainings[0][0]) == 180
    [row] = evaluate_cached(context('data.val=None', work='cached'), ONE, strengths=())
    assert describe_row(row).endswith('one setting')
    rows = evaluate_cached(context('data.val=None', work='both'), ONE, strengths=(1.0,))
    assert rows[1]['strength'] == 1.0 and describe_row(rows[1]).endswith('strength 1; one strength')


NO_VAL = 'the config has no data.val: .* --cfg-options data.val=0.1'


@pytest.mark.parametrize(('recipe', 'retrain'), [(RECIPE, False), (ONE, True)])
def test_a_missing_hold_out_is_told_before_any_training(recipe, retrain, context, trainings):
    with pytest.raises(ConfigError, match=NO_VAL):
        evaluate_linear(context('data.val=None'), recipe, retrain)
    assert not trainings


@pytest.mark.parametrize(
    ('recipe', 'retrain', 'strengths'),
    [(RECIPE, False, ()), (ONE, True, ()), (ONE, False, STRENGTHS)],
)
def test_a_missing_hold_out_is_told_before_features_are_extracted(
    recipe, retrain, strengths, context, trainings, tmp_path
):
    with pytest.raises(ConfigError, match=NO_VAL):
        evaluate_cached(context('data.val=None'), recipe, retrain, strengths)
    assert not trainings and not (tmp_path / 'work' / 'features').exists()


def test_test_images_are_resized_as_the_recipe_has_it(context, monkeypatch):
    seen, real = [], linear.predict

    def spied(network, source, preprocessing, *arguments):
        seen.append((len(source), preprocessing.interpolation, preprocessing.size))
        return real(network, source, preprocessing, *arguments)

    monkeypatch.setattr(linear, 'predict', spied)
    evaluate_linear(context(), RECIPE.with_changes(test_interpolation='bilinear', epochs=(0.2,)))
    evaluate_linear(context(), RECIPE.with_changes(interpolation='bilinear', epochs=(0.2,)))
    assert seen == [
        (40, 'bilinear', 8),
        (60, 'bilinear', 8),
        (40, 'bicubic', 8),
        (60, 'bicubic', 8),
    ]


@pytest.mark.parametrize('cached', [False, True])
def test_several_numbers_of_epochs_are_refused(cached, context):
    # All heads are trained in one pass.
    with pytest.raises(ConfigError, match='epochs'):
        (evaluate_cached if cached else evaluate_linear)(
            context(), RECIPE.with_changes(epochs=(1, 2))
        )


# --- The choice


def settings(*lrs, decays=(0.0,)):
    return [Setting(lr, decay, 80) for lr in lrs for decay in decays]


@pytest.mark.parametrize(
    ('lrs', 'scores', 'best', 'warned'),
    [
        ((0.1, 0.2, 0.4), [10, 30, 20], 1, None),
        ((0.1, 0.2, 0.4), [30, 30, 20], 0, '0.1'),
        ((0.4, 0.2, 0.1), [10, 20, 30], 2, '0.1'),
        ((0.1, 0.2, 0.4), [10, 20, 30], 2, '0.4'),
        ((0.1, 0.2), [10, 20], 1, None),
        ((0.2, 0.1, 0.4, 0.3), [20, 10, 10, 30], 3, None),
        ((0.1, 0.2, 0.4), [0, 0, 0], 0, '0.1'),
        ((0.1, 0.1, 0.1), [1, 2, 3], 2, None),
    ],
)
def test_the_first_best_is_chosen_and_told_and_ends_of_the_range_are_warned_of(
    lrs, scores, best, warned, capsys
):
    choice = choose(settings(*lrs), [float(s) for s in scores], 1234)
    assert choice == Choice(settings(*lrs)[best], best, 1234, scores[best])
    recipe = RECIPE.with_changes(lrs=lrs)
    protocol = dict(name='linear', **choice.parameters(recipe, 140))
    assert describe(protocol, choice.found()).endswith(
        f'batch 20; chosen of {len(lrs)} on 1,234 held-out images ({scores[best]:.2f} %)'
    )
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == 'top-1 in percent on 1,234 held-out images'
    assert [line.split('  lr ')[0].strip() for line in lines[: len(lrs)]] == [
        f'{s:.2f}' for s in scores
    ]
    assert [line.endswith('<- chosen') for line in lines[: len(lrs)]] == [
        k == best for k in range(len(lrs))
    ]
    assert lines[len(lrs) :] == (
        []
        if warned is None
        else [
            f'warning: the best learning rate {warned} is at the end of the range; widen it with '
            '--lrs'
        ]
    )


def test_the_choice_among_weight_decays(capsys):
    assert choose(settings(0.1, 0.2, 0.4, decays=(0.0, 1e-6)), [1.0, 2, 3, 4, 2, 1], 10).index == 3
    assert 'warning' not in capsys.readouterr().out
    assert (
        choose(
            settings(0.1, 0.2, 0.4, decays=(0.0, 1e-6)), [1.0, 2, 3, 4, 2, 5], 10, 'mean_per_class'
        ).index
        == 5
    )
    out = capsys.readouterr().out
    assert 'warning' in out and out.startswith('mean per class in percent')


# --- Features extracted once


def plain_features(checkpoint, source):
    x, labels = digits([source.name(i) for i in range(len(source))])
    with torch.no_grad():
        return load_method(checkpoint)[0].encoder('online', 'backbone')(x).numpy(), labels


def test_heads_and_regression_on_features(context, checkpoint, tmp_path, trainings, capsys):
    s = context()
    heads, regression = evaluate_cached(s, RECIPE, strengths=STRENGTHS)
    assert [row['metric'] for row in rows_in(tmp_path)] == [
        'linear_cached_top1',
        'logistic_top1',
    ] and len(trainings) == 1
    (x, y), (val, val_y), (test, test_y) = (
        plain_features(checkpoint, s.sources[name]) for name in ('train', 'val', 'test')
    )
    [(_, made, network)] = trainings
    chosen = [str(setting) for setting in made].index(heads['setting'])
    weight, bias = network.heads.weight.detach().numpy(), network.heads.bias.detach().numpy()
    shares = [((val @ weight[h].T + bias[h]).argmax(1) == val_y).mean() for h in range(3)]
    assert chosen == int(np.argmax(shares)) and f'({100 * max(shares):.2f} %)' in describe_row(
        heads
    )
    saved = predictions(heads)
    assert (saved.predicted[:, 0] == (test @ weight[chosen].T + bias[chosen]).argmax(1)).all() and (
        saved.labels == test_y
    ).all()
    assert heads['value'] == pytest.approx(100 * (saved.predicted[:, 0] == test_y).mean())
    assert describe_row(heads).startswith(
        f'features without augmentation, SGD, {heads["setting"]}; chosen of 3 on 40'
    )

    fits = [logistic.fit(x, y, strength) for strength in STRENGTHS]
    shares = [(model.predict(val.astype(np.float64)) == val_y).mean() for model in fits]
    assert regression['strength'] == STRENGTHS[
        int(np.argmax(shares))
    ] and f'({100 * max(shares):.2f} %)' in describe_row(regression)
    saved = predictions(regression)
    expected = fits[int(np.argmax(shares))].predict(test.astype(np.float64))
    assert (saved.predicted[:, 0] == expected).mean() > 0.98 and regression['value'] > 40
    assert regression['value'] == pytest.approx(100 * (saved.predicted[:, 0] == test_y).mean())
    assert describe_row(regression).startswith(
        'logistic regression on 140 features without augmentation, L-BFGS, strength'
    )


def test_the_strength_is_chosen_on_the_hold_out_alone(context, capsys):
    [_, row] = evaluate_cached(context(), ONE, strengths=STRENGTHS)
    s = context(work='other')
    s.sources['test'].labels = np.roll(s.sources['test'].labels, 1)
    [_, other] = evaluate_cached(s, ONE, strengths=STRENGTHS)
    assert (
        other['strength'] == row['strength']
        and (predictions(other).predicted == predictions(row).predicted).all()
    )
    s = context(work='chance')  # a hold-out on which the strongest penalty is right everywhere
    features = s.features(s.source('train'), 'train'), s.features(s.source('val'), 'val')
    s.sources['val'].labels = logistic.predict(
        logistic.fit(features[0].values, features[0].labels, 1e5), features[1].values
    )[:, 0]
    capsys.readouterr()
    [_, row] = evaluate_cached(s, ONE, strengths=(1e5, 1e-2, 1e-4))
    assert row['strength'] == 1e5 and '(100.00 %)' in describe_row(row)
    assert 'warning: the best strength 100000 is at the end of the range' in capsys.readouterr().out


def test_regressions_that_have_not_converged_are_told(context, monkeypatch, capsys):
    real = logistic.sweep
    monkeypatch.setattr(
        logistic, 'sweep', lambda *arguments, **more: real(*arguments, **more, max_iter=2)
    )
    evaluate_cached(context(), ONE, strengths=STRENGTHS)
    assert '3 of 3 regressions had not converged' in capsys.readouterr().out


def test_retraining_on_features(context, checkpoint, trainings):
    s = context()
    recipe = RECIPE.with_changes(batch_size=1024)
    heads, regression = evaluate_cached(s, recipe, retrain=True, strengths=STRENGTHS)
    (_, first, _), (_, [setting], network) = trainings
    best = next(i for i, old in enumerate(first) if old.lr / 140 == pytest.approx(setting.lr / 180))
    assert setting.lr == pytest.approx(recipe.lrs[best] * 180 / 256) and describe_row(
        heads
    ).endswith('trained again with the hold-out')
    (x, y), (val, val_y), (test, _) = (
        plain_features(checkpoint, s.sources[name]) for name in ('train', 'val', 'test')
    )
    logits = (
        test @ network.heads.weight[0].detach().numpy().T + network.heads.bias[0].detach().numpy()
    )
    assert (predictions(heads).predicted[:, 0] == logits.argmax(1)).all()
    model = logistic.fit(
        np.concatenate([x, val]), np.concatenate([y, val_y]), regression['strength']
    )
    assert (
        predictions(regression).predicted[:, 0] == model.predict(test.astype(np.float64))
    ).mean() > 0.98
    assert 'on 180 features' in describe_row(regression) and describe_row(regression).endswith(
        'fitted again with the hold-out'
    )


def test_features_are_extracted_once(context, trainings, monkeypatch, tmp_path):
    s = context()
    rows = evaluate_cached(s, RECIPE, strengths=())
    assert len(list((tmp_path / 'work' / 'features').glob('[!.]*'))) == 3
    monkeypatch.setattr(s.encoder, 'forward', None)  # whoever calls it fails
    assert same_figures(evaluate_cached(s, RECIPE, strengths=())[0], rows[0])
    monkeypatch.undo()
    evaluate_cached(context(), RECIPE, strengths=(), dtype='float16')
    assert len(list((tmp_path / 'work' / 'features').glob('[!.]*'))) == 6


@pytest.mark.parametrize(
    'strengths', [(0.0,), (-1.0,), (1.0, 0.0), (float('nan'),), (float('inf'), 1.0)]
)
def test_strengths_that_cannot_be_are_told_before_any_work(strengths, context, trainings):
    with pytest.raises(ConfigError, match='strength'):
        evaluate_cached(context(), ONE, strengths=strengths)
    assert not trainings


# --- Stops


def test_a_stopped_evaluation_goes_on_to_the_same_figures(context, trainings, tmp_path):
    whole = evaluate_linear(context(work='whole'), RECIPE)
    assert trainings.steps == 14
    trainings.stop_at, trainings.steps = 5, 0
    with pytest.raises(Stopped) as stopped:
        evaluate_linear(context(), RECIPE)
    assert stopped.value.exit_code == 143 and not (tmp_path / 'work' / 'results.jsonl').exists()
    [state] = (tmp_path / 'work' / 'linear').glob('*/state.pth')
    assert torch.load(state, weights_only=True)['step'] == 5
    trainings.stop_at, trainings.steps = None, 0
    assert same_figures(evaluate_linear(context(), RECIPE), whole)
    assert trainings.steps == 9 and not state.exists()


@pytest.mark.long
def test_a_state_is_for_its_own_evaluation_alone(context, trainings, tmp_path):
    trainings.stop_at = 5
    with pytest.raises(Stopped):
        evaluate_linear(context(), RECIPE)
    [state] = (tmp_path / 'work' / 'linear').glob('*/state.pth')
    for i, (arguments, more, recipe) in enumerate(
        (
            ((), dict(seed=1), RECIPE),
            ((), {}, RECIPE.with_changes(lrs=(0.5, 5.0, 40.0))),
            ((), {}, RECIPE.with_changes(crop=(0.5, 1.0))),
            ((), dict(layer='projector'), RECIPE),
            ((), dict(network='target'), RECIPE),
            ((), dict(random_weights=True), RECIPE),
            ((), dict(precision='bf16'), RECIPE),
            (('data.mean=[0.4, 0.4, 0.4]',), {}, RECIPE),
            (
                ("data.train={'type': 'Digits', 'split': 'train', 'size': 8, 'limit': 180}",),
                {},
                RECIPE,
            ),
        )
    ):
        trainings.stop_at, trainings.steps = None, 0
        evaluate_linear(context(*arguments, **more), recipe)
        assert trainings.steps == 14, i
    assert state.exists()


def test_a_stop_in_the_second_training_does_not_cost_the_first(context, trainings):
    whole = evaluate_linear(context(work='whole'), RECIPE, retrain=True)
    assert trainings.steps == 14 + 18
    trainings.stop_at, trainings.steps = 20, 0
    with pytest.raises(Stopped):
        evaluate_linear(context(), RECIPE, retrain=True)
    trainings.stop_at, trainings.steps = None, 0
    assert same_figures(evaluate_linear(context(), RECIPE, retrain=True), whole)
    assert trainings.steps == 12


@pytest.mark.parametrize('images', [40, 60])
def test_a_stop_after_the_training_does_not_cost_it(images, context, trainings, monkeypatch):
    whole, real = evaluate_linear(context(work='whole'), RECIPE), linear.predict

    def stopping(network, source, *arguments):
        if len(source) == images:
            raise KeyboardInterrupt
        return real(network, source, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(linear, 'predict', stopping)
        evaluate_linear(context(), RECIPE)
    trainings.steps = 0
    assert same_figures(evaluate_linear(context(), RECIPE), whole) and trainings.steps == 0


def test_a_stopped_evaluation_of_features_goes_on_to_the_same_figures(
    context, trainings, monkeypatch
):
    whole = evaluate_cached(context(work='whole'), RECIPE, strengths=STRENGTHS)
    trainings.stop_at, trainings.steps = 5, 0
    with pytest.raises(Stopped):
        evaluate_cached(context(), RECIPE, strengths=STRENGTHS)
    trainings.stop_at, trainings.steps = None, 0
    again = evaluate_cached(context(), RECIPE, strengths=STRENGTHS)
    assert trainings.steps == 9 and all(
        same_figures(a, b) for a, b in zip(again, whole, strict=True)
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ('options', 'dtype'),
    [
        (["data.train={'type': 'Digits', 'split': 'train', 'size': 8, 'limit': 180}"], 'float32'),
        (
            [
                "data.val={'type': 'Digits', 'split': 'test', 'size': 8, 'limit': 30}",
                "data.train={'type': 'Digits', 'split': 'val', 'size': 8, 'limit': 140}",
            ],
            'float32',
        ),
        ([], 'float16'),
    ],
)
def test_a_stopped_sweep_of_strengths_is_not_taken_for_that_of_other_images(
    options, dtype, context, monkeypatch
):
    monkeypatch.setattr(logistic, 'SAVE_SECONDS', -1)
    real, scored = logistic_protocol.measure, []

    def stopping(metric, predicted, labels):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(real(metric, predicted, labels))
        return scored[-1]

    monkeypatch.setattr(logistic_protocol, 'measure', stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate_cached(context(), ONE, strengths=STRENGTHS)
    scored.clear()
    monkeypatch.setattr(
        logistic_protocol,
        'measure',
        lambda *arguments: scored.append(real(*arguments)) or scored[-1],
    )
    evaluate_cached(context(*options), ONE, strengths=STRENGTHS, dtype=dtype)
    assert len(scored) == 3  # as many images, and others: all strengths anew
    scored.clear()
    evaluate_cached(context(), ONE, strengths=STRENGTHS)
    assert len(scored) == 1  # and the first goes on from the state


# --- Images that are missing, unreadable or unlike


@pytest.fixture
def folders(image_folder):
    """Function: class folders for training, 6 images held out, and for testing; the options."""

    def make(classes=3):
        roots = [
            image_folder(classes=classes, per_class=8, size=12, name=name)
            for name in ('train', 'test')
        ]
        return [
            f"data.train={{'type': 'ImageFolder', 'root': '{roots[0]}'}}",
            f"data.test={{'type': 'ImageFolder', 'root': '{roots[1]}'}}",
            'data.val=6',
        ]

    return make


@pytest.mark.parametrize('cached', [False, True])
def test_images_that_cannot_be_read_are_left_out_and_counted(
    cached, folders, context, tmp_path, trainings
):
    options = folders()
    train = context(*options).source('train')
    for name in (train.name(0), train.name(5)):
        (tmp_path / 'train' / name).write_bytes(b'broken')
    for name in ('class_0/1.png', 'class_2/7.png', 'class_2/3.png'):
        (tmp_path / 'test' / name).write_bytes(b'broken')
    s, recipe = context(*options), RECIPE.with_changes(batch_size=6)
    row = evaluate_cached(s, recipe, strengths=())[0] if cached else evaluate_linear(s, recipe)
    assert row['n'] == 21 and row['left_out'] == 3 and 'top5' not in row
    saved = predictions(row)
    expected = [
        f'class_{c}/{i}.png'
        for c in range(3)
        for i in range(8)
        if f'{c}/{i}' not in ('0/1', '2/7', '2/3')
    ]
    assert saved.names.tolist() == expected and saved.predicted.shape == (21, 3)
    assert saved.labels.tolist() == [int(name[6]) for name in expected]
    assert row['value'] == pytest.approx(100 * np.mean(saved.predicted[:, 0] == saved.labels))
    if not cached:
        assert row['unreadable'] == 2


def test_images_that_cannot_be_read_are_counted_over_a_stop(
    folders, context, tmp_path, trainings, monkeypatch
):
    options, recipe = folders(), RECIPE.with_changes(batch_size=6)
    train = context(*options).source('train')
    for i in (0, 5):
        (tmp_path / 'train' / train.name(i)).write_bytes(b'broken')
    for stop in ('in training', 'after it'):
        with monkeypatch.context() as patch, pytest.raises((Stopped, KeyboardInterrupt)):
            if stop == 'after it':
                patch.setattr(
                    linear, 'predict', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
                )
            trainings.stop_at, trainings.steps = 5 if stop == 'in training' else None, 0
            evaluate_linear(context(*options), recipe)
    trainings.stop_at = None
    assert evaluate_linear(context(*options), recipe)['unreadable'] == 2


@pytest.mark.parametrize('cached', [False, True])
def test_images_of_one_class_are_refused(cached, folders, context):
    s = context(*folders(classes=1))
    with pytest.raises(ConfigError, match='all of one class'):
        evaluate_cached(s, RECIPE, strengths=()) if cached else evaluate_linear(s, RECIPE)


@pytest.mark.parametrize('evaluate', [evaluate_linear, evaluate_cached])
def test_data_that_does_not_serve_gets_a_sentence(evaluate, folders, context, tmp_path):
    train, test, six = folders()
    unlabelled = [
        f"data.{name}={{'type': 'Images', 'root': '{tmp_path / name}'}}"
        for name in ('train', 'test')
    ]
    for options, words in (
        ([unlabelled[0], 'data.test=None', six], r'data.train \(Images\) has no labels'),
        ([unlabelled[0], test, six], r'data.train \(Images\) has no labels'),
        ([train, unlabelled[1], six], r'data.test \(Images\) has no labels'),
        ([train, test, unlabelled[1].replace('data.test', 'data.val')], 'data.val has no labels'),
        ([train, 'data.test=None', six], 'the config has no data.test'),
        ([test], 'data.test has classes that data.train does not have: class_0'),
    ):
        with pytest.raises(ConfigError, match=words):
            evaluate(context(*options), RECIPE)


def test_a_class_without_training_images_is_never_right(context):
    s = context()
    s.sources['train'].labels = np.where(
        s.sources['train'].labels == 3, 4, s.sources['train'].labels
    )
    heads, regression = evaluate_cached(s, RECIPE, strengths=STRENGTHS)
    assert heads['n'] == regression['n'] == 60
    assert 3 not in predictions(regression).predicted and predictions(
        regression
    ).predicted.shape == (60, 5)


def test_with_fewer_images_than_a_batch_the_learning_rate_follows(context):
    row = evaluate_linear(context(), ONE.with_changes(batch_size=4096, lrs=(0.1,)))
    assert row['setting'] == f'lr {0.1 * 140 / 256:g}, 2 epochs' and 'batch 140' in describe_row(
        row
    )


def test_features_that_do_not_fit_their_type_get_a_sentence(context):
    s = context()
    with torch.no_grad():
        next(
            m for m in reversed(list(s.encoder.modules())) if isinstance(m, torch.nn.BatchNorm2d)
        ).weight.mul_(1e8)
    with pytest.raises(ConfigError, match='float16'):
        evaluate_cached(s, ONE, strengths=(1.0,), dtype='float16')


def test_the_digits_are_those_the_tests_compare_with():
    source = Digits('test', size=8)
    x, labels = digits([source.name(i) for i in range(5)])
    assert labels.tolist() == source.labels[:5].tolist()
    for i in range(5):
        np.testing.assert_allclose(
            x[i].numpy(), (np.asarray(source.read(i)) / 127.5 - 1).transpose(2, 0, 1), atol=1e-6
        )
