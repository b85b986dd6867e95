"""Accuracy of each class and confusion matrix, against scikit-learn."""

import csv

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.metrics import measure
from ssl_zoo.evaluation.per_class import (
    MAX_MATRIX_CLASSES,
    SHOWN_CLASSES,
    class_accuracies,
    confusion_table,
    report_classes,
)
from ssl_zoo.evaluation.predictions import Predictions

pytestmark = pytest.mark.quick


def made(classes=7, images=300, names=None, seed=0) -> Predictions:
    """Predictions of which about two in three are right; classes of unequal size."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.geometric(0.3, images) - 1, classes - 1)
    guesses = rng.integers(0, classes, images)
    best = np.where(rng.random(images) < 0.6, labels, guesses)
    names = [f'class {c}' for c in range(classes)] if names is None else names
    images_names = np.array([f'{i}.png' for i in range(images)])
    predicted = np.stack([best, (best + 1) % classes], axis=1)
    return Predictions(predicted, labels, images_names, {}, np.array(names))


def read_csv(path) -> list[list[str]]:
    with open(path, encoding='utf-8', newline='') as file:
        return list(csv.reader(file))


def test_the_figures_are_those_of_scikit_learn():
    predictions = made()
    labels = predictions.labels
    best = predictions.predicted[:, 0]
    found = class_accuracies(predictions)
    assert [row[0] for row in found] == list(range(7)) and found[3][1] == 'class 3'
    assert [row[2] for row in found] == np.bincount(labels).tolist()
    recalls = recall_score(labels, best, average=None)
    np.testing.assert_allclose([row[4] for row in found], 100 * recalls)
    assert [row[3] for row in found] == np.diag(confusion_matrix(labels, best)).tolist()
    balanced = balanced_accuracy_score(labels, best)
    assert measure('mean_per_class', predictions.predicted, labels) == pytest.approx(100 * balanced)
    head, *lines = confusion_table(predictions)
    assert head == ['label', *predictions.classes]
    assert [line[0] for line in lines] == predictions.classes.tolist()
    assert [line[1:] for line in lines] == confusion_matrix(labels, best).tolist()


def test_images_without_a_predicted_class_have_a_column_of_their_own():
    predictions = made()
    predictions.predicted[::10] = -1
    head, *lines = confusion_table(predictions)
    assert head[-1] == 'no class' and sum(line[-1] for line in lines) == 30
    images = np.bincount(predictions.labels).tolist()
    assert [sum(line[1:]) for line in lines] == images
    assert [row[3] for row in class_accuracies(predictions)] == [
        line[1 + c] for c, line in enumerate(lines)
    ]


def test_files_and_table_have_the_names_of_the_classes(tmp_path):
    predictions = made(classes=4, names=['=cmd()', 'x, "y"', 'a\nb', 'none'])
    predictions.labels[predictions.labels == 3] = 0
    path = tmp_path / 'knn.npz'
    shown = report_classes(predictions, path)
    head, *lines = read_csv(tmp_path / 'knn_classes.csv')
    assert head == ['label', 'class', 'images', 'correct', 'accuracy']
    assert [line[1] for line in lines] == ["'=cmd()", 'x, "y"', 'a\nb', 'none']
    assert lines[3] == ['3', 'none', '0', '0', '']
    matrix = read_csv(tmp_path / 'knn_confusion.csv')
    assert matrix[0] == ['label', "'=cmd()", 'x, "y"', 'a\nb', 'none']
    expected = confusion_matrix(predictions.labels, predictions.predicted[:, 0], labels=range(4))
    assert [[int(cell) for cell in line[1:]] for line in matrix[1:]] == expected.tolist()
    table = shown.splitlines()
    accuracies = [float(line.split()[-2]) for line in table[1:4]]
    assert accuracies == sorted(accuracies) and 'a b' in shown
    assert table[4] == '  1 classes have no test image'
    assert table[5].endswith('in *_classes.csv, confusion matrix in *_confusion.csv')


def test_of_many_classes_the_worst_are_shown_and_the_matrix_is_left_out(tmp_path):
    classes = MAX_MATRIX_CLASSES + 1
    labels = np.arange(2 * classes) % classes
    best = np.where(np.arange(2 * classes) < classes, labels, 0)
    best[7] = 0
    names = np.array([f'{c}' for c in range(classes)])
    images = np.array([f'{i}.png' for i in range(len(labels))])
    shown = report_classes(
        Predictions(best[:, None], labels, images, {}, names), tmp_path / 'x.npz'
    )
    lines = shown.splitlines()
    assert len(lines) == SHOWN_CLASSES + 3
    assert lines[1].split() == ['7', '2', '0', '0.00', '%']
    assert f'and {classes - SHOWN_CLASSES:,} classes of higher accuracy' in lines[-2]
    assert lines[-1].endswith(f'the confusion matrix of {classes:,} classes is left out')
    assert [path.name for path in tmp_path.iterdir()] == ['x_classes.csv']


def test_the_names_are_in_the_file_of_predictions(tmp_path):
    predictions = made()
    predictions.save(tmp_path / 'p.npz')
    with np.load(tmp_path / 'p.npz') as file:
        assert file['classes'][file['labels']].tolist() == [
            f'class {label}' for label in predictions.labels
        ]
    assert Predictions.load(tmp_path / 'p.npz').classes.tolist() == predictions.classes.tolist()
    predictions.classes = None  # as in earlier versions
    predictions.save(tmp_path / 'old.npz')
    old = Predictions.load(tmp_path / 'old.npz')
    assert old.classes is None
    with pytest.raises(ConfigError, match='old.npz has no names of classes'):
        report_classes(old, tmp_path / 'old.npz')
    for classes in (np.array(['a'] * 6), np.arange(7), np.array([['a'] * 7])):
        predictions.classes = classes
        predictions.save(tmp_path / 'wrong.npz')
        with pytest.raises(ConfigError, match='wrong.npz holds no predictions of ssl_zoo'):
            Predictions.load(tmp_path / 'wrong.npz')
