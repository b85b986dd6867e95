"""k-NN and linear evaluation on some of the labels: what is used, what the row says."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from ssl_zoo.data.data_digest import data_digest
from ssl_zoo.data.label_lists import draw_labels, write_list
from ssl_zoo.data.sources import Joined, Subset
from ssl_zoo.data.sources.arrays import Digits
from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.knn import knn_predict
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.evaluation.protocols.describe import describe_row
from ssl_zoo.evaluation.protocols.knn import evaluate_knn
from ssl_zoo.evaluation.protocols.labels import with_labels
from ssl_zoo.evaluation.protocols.linear import evaluate_linear
from ssl_zoo.evaluation.protocols.linear_cached import evaluate_cached
from ssl_zoo.evaluation.protocols.semi_supervised import evaluate_semi_supervised
from ssl_zoo.evaluation.recipes import FINETUNE, LINEAR

ONE = LINEAR['byol'].with_changes(lrs=(5.0,), epochs=(2,), batch_size=20)
SWEEP = ONE.with_changes(lrs=(0.5, 5.0, 50.0))


def names(source) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def test_the_bank_of_knn_is_the_labelled_images(context):
    s = context()
    whole = s.source('train')
    limited = with_labels(s, '4-per-class', None)
    drawn = Subset(whole, draw_labels(whole, '4-per-class', 0))
    row, *published = evaluate_knn(limited, [1, 5], [0.1])
    assert names(limited.source('train')) == names(drawn) and s.source('train') is whole
    bank, queries = (s.features(source, 'x') for source in (drawn, s.source('test')))
    predicted = knn_predict(
        bank.values, bank.labels, queries.values, 10, row['k'], row['temperature']
    )
    assert row['value'] == pytest.approx(100 * np.mean(predicted == queries.labels))
    assert (row['bank_images'], row['labelled'], row['protocol']['bank']) == (40, 40, 40)
    assert row['bank_data'] == data_digest(drawn)
    assert row['label_set'] == row['protocol']['label_set'] == '4-per-class'
    assert len(row['list_sha256']) == 64 and 'list_sha256' not in row['protocol']
    assert describe_row(row).endswith('; 40 labels (4-per-class)')
    assert [other['k'] for other in published] == [20]
    [all_labels, *_] = evaluate_knn(s, [1, 5], [0.1])
    assert (all_labels['bank_images'], all_labels['bank_data']) == (140, data_digest(whole))
    assert 'label_set' not in {**all_labels, **all_labels['protocol']}


def test_a_list_of_ones_own_is_part_of_the_protocol(context, tmp_path):
    s = context()
    digits = Digits('val', size=8)
    listed = np.flatnonzero(digits.labels != 3)[::2]
    write_list(tmp_path / 'mine.txt', digits, listed)
    limited = with_labels(s, None, str(tmp_path / 'mine.txt'))
    row, *_ = evaluate_knn(limited, [1], [0.1])
    assert row['protocol']['list_sha256'] == row['list_sha256']
    assert row['bank_images'] == row['labelled'] == len(listed)
    assert not set(names(limited.source('train'))) & set(names(limited.source('val')))
    classless = int(np.sum(s.source('test').labels == 3))
    sentence = (
        f'{classless} of 60 test images are of classes without a training image and cannot be '
        f'right: 3'
    )
    assert sentence in row['warnings']
    recipe = FINETUNE.with_changes(lrs=(0.2,), epochs=(1,), batch_size=16)
    [tuned] = evaluate_semi_supervised(s, None, str(tmp_path / 'mine.txt'), recipe)
    assert tuned['protocol']['list_sha256'] == row['list_sha256']
    assert sentence in tuned['warnings']
    assert not any('cannot be right' in text for text in s.source('test').warnings)


def test_linear_heads_are_trained_on_the_labelled_images(context):
    s = context()
    limited = with_labels(s, '20%', None)
    row = evaluate_linear(limited, ONE)
    assert (row['bank_images'], row['labelled'], row['protocol']['labelled']) == (28, 28, 28)
    heads, regression = evaluate_cached(with_labels(s, '20%', None), ONE, strengths=(1.0,))
    assert {found['list_sha256'] for found in (heads, regression)} == {row['list_sha256']}
    train, test = (s.features(limited.source(name), name) for name in ('train', 'test'))
    by_hand = LogisticRegression(C=1.0, max_iter=1000, tol=1e-4).fit(
        train.values.astype(float), train.labels
    )
    predicted = by_hand.predict(test.values.astype(float))
    assert regression['value'] == pytest.approx(100 * np.mean(predicted == test.labels))
    assert regression['protocol']['features'] == 28


def test_no_choice_is_all_labels_and_two_choices_are_refused(context):
    s = context()
    assert with_labels(s, None, None) is s
    with pytest.raises(ConfigError, match='--labels and --list both say'):
        with_labels(s, '1%', 'list.txt')
    with pytest.raises(ConfigError, match='--labels .5. is neither a share'):
        with_labels(s, '5', None)


def test_the_hold_out_counts_as_training_labels_if_it_is_trained_on(context):
    s = context()
    both = Joined(s.source('train'), s.source('val'))
    rows = [
        evaluate_linear(s, ONE, retrain=True),
        *evaluate_cached(s, ONE, retrain=True, strengths=(1.0,)),
    ]
    assert {(row['bank_images'], row['bank_data']) for row in rows} == {(180, data_digest(both))}
    assert evaluate_linear(s, ONE)['bank_images'] == 140


@pytest.mark.parametrize('cached', [False, True])
def test_mean_per_class_chooses_and_measures(context, cached, capsys):
    s = context('data.val=60')
    if cached:
        rows = evaluate_cached(s, SWEEP, strengths=(1e3, 1.0), metric='mean_per_class')
        tools = ['linear_cached', 'logistic']
    else:
        rows = [
            *evaluate_knn(s, [1, 5, 20], [0.1], metric='mean_per_class'),
            evaluate_linear(s, SWEEP, metric='mean_per_class'),
        ]
        tools = ['knn', 'knn', 'linear']
    assert [row['metric'] for row in rows] == [f'{tool}_mean_per_class' for tool in tools]
    for row in rows:
        saved = Predictions.load(row['predictions'])
        balanced = balanced_accuracy_score(saved.labels, saved.predicted[:, 0])
        assert row['value'] == pytest.approx(100 * balanced)
        assert row['protocol']['metric'] == 'mean_per_class'
        assert saved.classes.tolist() == [str(i) for i in range(10)]
    assert 'mean per class in percent on 60 held-out images' in capsys.readouterr().out


def test_an_unknown_metric_gets_a_sentence_before_any_work(context, tmp_path):
    s = context()
    for evaluate in (
        lambda: evaluate_knn(s, [1], [0.1], metric='top5'),
        lambda: evaluate_linear(s, ONE, metric='top5'),
        lambda: evaluate_cached(s, ONE, metric='top5'),
    ):
        with pytest.raises(ConfigError, match="the metric is 'top5': did you mean 'top1'"):
            evaluate()
    assert not (tmp_path / 'work').exists()


def test_per_class_files_lie_beside_the_predictions(context, tmp_path, capsys):
    row, *_ = evaluate_knn(context(per_class=True), [1], [0.1])
    printed = capsys.readouterr().out
    stem = row['predictions'].removesuffix('.npz')
    for end in ('_classes.csv', '_confusion.csv'):
        with open(stem + end, encoding='utf-8') as file:
            assert len(file.readlines()) == 11
    assert '  class  images  correct  accuracy\n' in printed


def test_notes_on_files_left_out_are_printed_once(context, image_folder, capsys):
    root = image_folder(classes=2, per_class=6, size=8)
    (root / 'class_0' / 'film.mov').write_bytes(b'no image')
    data = f"{{'type': 'ImageFolder', 'root': {str(root)!r}}}"
    s = context(f'data.train={data}', 'data.val=None', f'data.test={data}')
    evaluate_linear(s, ONE.with_changes(epochs=(1,)))
    note = f'note: {root}: 12 images; 1 other file left out: 1 .mov\n'
    assert capsys.readouterr().out.count(note) == 1
