"""Images with several classes: mean average precision on frozen features, choice, row, refusals."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation import logistic, multi_label
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.evaluation.protocols.knn import evaluate_knn
from ssl_zoo.evaluation.protocols.linear import evaluate_linear
from ssl_zoo.evaluation.protocols.linear_cached import evaluate_cached
from ssl_zoo.evaluation.protocols.multi_label import evaluate_multi_label
from ssl_zoo.evaluation.protocols.semi_supervised import evaluate_semi_supervised
from ssl_zoo.evaluation.protocols.transfer import transfer_finetune, transfer_linear
from ssl_zoo.evaluation.recipes import FINETUNE, LINEAR, TRANSFER

STRENGTHS = (1e2, 10.0, 1.0)
NAMES = ('red', 'green', 'blue')


@pytest.fixture(scope='module')
def coloured(tmp_path_factory):
    """Function: options for lists of images that hold any of three colours.

    With ``random`` the labels say nothing about the images.
    """
    root = tmp_path_factory.mktemp('coloured')
    rng = np.random.default_rng(0)
    present = {'train': rng.integers(0, 2, (90, 3)), 'test': rng.integers(0, 2, (50, 3))}
    for split, rows in present.items():
        for i, row in enumerate(rows):
            pixels = rng.integers(0, 60, (8, 8, 3)) + 190 * row
            Image.fromarray(pixels.astype(np.uint8)).save(root / f'{split}_{i}.png')

    def options(random=False) -> list[str]:
        rng = np.random.default_rng(1)
        texts = []
        for split, rows in present.items():
            labels = rng.integers(0, 2, rows.shape) if random else rows
            lines = [
                f'{split}_{i}.png\t{",".join(np.array(NAMES)[row > 0]) or ","}\n'
                for i, row in enumerate(labels)
            ]
            path = root / f'{split}_{random}.txt'
            path.write_text(''.join(lines))
            cfg = dict(type='FileList', path=str(path), separator=',')
            texts.append(f'data.{split}={cfg!r}')
        return [*texts, 'data.val=30']

    return options


def features(context, name):
    source = context.source(name, several_classes=True)
    values = context.features(source, name).values.astype(np.float64)
    return values, source.multi_labels


@pytest.mark.parametrize('retrain', [False, True])
def test_the_figure_equals_one_regression_per_class(context, coloured, retrain, tmp_path):
    c = context(*coloured(random=True))
    row = evaluate_multi_label(c, 'map', STRENGTHS, retrain)
    x, y = features(c, 'train')
    x_val, y_val = features(c, 'val')
    x_test, y_test = features(c, 'test')

    def scores(x, y, queries, strength):
        fits = [
            LogisticRegression(C=1 / strength, max_iter=5000, tol=1e-8).fit(x, y[:, k])
            for k in range(3)
        ]
        return np.stack([fit.decision_function(queries) for fit in fits], axis=1)

    def mean(values, labels):
        each = [average_precision_score(labels[:, k], values[:, k]) for k in range(3)]
        return 100 * np.mean(each)

    on_hold_out = [mean(scores(x, y, x_val, s), y_val) for s in STRENGTHS]
    chosen = STRENGTHS[int(np.argmax(on_hold_out))]
    assert row['strength'] == row['chosen']['strength'] == chosen
    assert row['chosen']['holdout_map'] == pytest.approx(max(on_hold_out), abs=0.2)
    if retrain:
        x, y = np.concatenate([x, x_val]), np.concatenate([y, y_val])
    expected = scores(x, y, x_test, chosen)
    with np.load(row['predictions']) as saved:
        np.testing.assert_allclose(saved['scores'], expected, atol=0.05, rtol=0.02)
        assert saved['labels'].tolist() == y_test.tolist()
        assert saved['classes'].tolist() == sorted(NAMES)
        assert row['value'] == pytest.approx(mean(saved['scores'], y_test))
    assert row['value'] == pytest.approx(np.mean(list(row['average_precision'].values())), abs=0.01)
    assert row['ci95'][0] < row['value'] < row['ci95'][1]
    assert row['metric'] == 'logistic_map' and row['n'] == 50
    assert row['bank_images'] == len(x)
    assert row['protocol'] == dict(
        name='multi_label',
        classes=3,
        features=90 if retrain else 60,
        dtype='float32',
        optimizer='L-BFGS',
        max_iter=1000,
        candidates=dict(strength=list(STRENGTHS)),
        holdout=30,
        retrain=retrain,
        metric='map',
    )
    again = ', fitted again with the hold-out' if retrain else ''
    assert describe_row(row) == (
        f'logistic regression for each of 3 classes on {len(x)} features without augmentation, '
        f'L-BFGS, strength {chosen:.3g}; strength chosen of 3 on 30 held-out images '
        f'({row["chosen"]["holdout_map"]:.2f} %){again}'
    )
    [line] = (tmp_path / 'work' / 'results.jsonl').read_text().splitlines()
    assert json.loads(line) == json.loads(json.dumps(row))


def test_colours_are_found_and_random_labels_are_not(context, coloured, capsys):
    row = evaluate_multi_label(context(*coloured()), strengths=STRENGTHS)
    assert row['value'] > 99
    assert f'mean average precision {row["value"]:.2f} % (95 % interval' in capsys.readouterr().out
    c = context(*coloured(), work='b', per_class=True)
    row = transfer_linear(c, 'map_11point', STRENGTHS)
    assert '100.00 %  red' in capsys.readouterr().out
    assert row['value'] > 99 and row['metric'] == 'transfer_linear_map_11point'
    assert row['protocol']['retrain'] and row['preprocessing']['resize'] == 8
    row = evaluate_multi_label(context(*coloured(random=True), work='c'), strengths=STRENGTHS)
    assert 35 < row['value'] < 75


def test_images_that_do_not_count_are_neither_trained_on_nor_measured():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5))
    labels = (x[:, :3] + rng.normal(size=(40, 3)) > 0).astype(np.int8)
    counted = labels.copy()
    counted[::4, 1] = -1
    counted[:, 2] = 1
    scores = multi_label.fit_scores(x, counted, x, 1.0)
    rows = counted[:, 1] >= 0
    slow = LogisticRegression(max_iter=1000).fit(x[rows], labels[rows, 1])
    np.testing.assert_allclose(scores[:, 1], slow.decision_function(x), atol=1e-4)
    np.testing.assert_allclose(
        scores[:, 0], LogisticRegression(max_iter=1000).fit(x, labels[:, 0]).decision_function(x)
    )
    assert not scores[:, 2].any()  # all images have the class


def test_a_stopped_sweep_goes_on(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6))
    labels = (x[:, :4] + rng.normal(size=(60, 4)) > 0).astype(np.int8)
    labels[40:, 3] = 0  # no held-out image has it
    arguments = (x[:40], labels[:40], x[40:], labels[40:], 'map', STRENGTHS)
    whole, _ = multi_label.sweep(*arguments, tmp_path)
    assert whole.shape == (3, 3) and not list(tmp_path.iterdir())
    real = logistic.sweep
    swept = []

    def stopped(*arguments, **options):
        swept.append(options['state_path'].name)
        if len(swept) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(logistic, 'sweep', stopped)
    with pytest.raises(KeyboardInterrupt):
        multi_label.sweep(*arguments, tmp_path)
    values, _ = multi_label.sweep(*arguments, tmp_path)
    assert swept == ['class_0.npz', 'class_1.npz', 'class_2.npz', 'class_2.npz']
    np.testing.assert_array_equal(values, whole)


def test_other_evaluations_of_such_images_are_refused(context, coloured):
    c = context(*coloured())
    one = LINEAR['byol'].with_changes(lrs=(1.0,), epochs=(1,))
    for evaluate in (
        lambda: evaluate_knn(c, [1], [0.1]),
        lambda: evaluate_linear(c, one),
        lambda: evaluate_cached(c, one),
        lambda: evaluate_semi_supervised(c, '2-per-class', None, FINETUNE),
        lambda: transfer_finetune(c, 'top1', TRANSFER),
    ):
        with pytest.raises(ConfigError, match='have several classes, and this evaluation needs on'):
            evaluate()
    with pytest.raises(ConfigError, match="metric is 'top1', but of images with several classes"):
        transfer_linear(c, 'top1')
    with pytest.raises(ConfigError, match='there is no strength to fit with'):
        evaluate_multi_label(c, strengths=())
    with pytest.raises(ConfigError, match='the config has no data.val'):
        evaluate_multi_label(context(*coloured(), 'data.val=None'))


def test_scores_are_no_predictions_of_one_class(context, coloured):
    row = evaluate_multi_label(context(*coloured()), strengths=(1.0,))
    assert row['protocol']['strength'] == 1.0 and row['chosen'] == {}
    with pytest.raises(ConfigError, match='scores of images with several classes, and this comman'):
        Predictions.load(row['predictions'])


def test_the_metrics_of_one_class_do_not_fit_several(context):
    with pytest.raises(ConfigError, match="the metric is 'map'"):
        transfer_linear(context(), 'map')
