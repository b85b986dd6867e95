"""The accuracy of each class, and the confusion matrix, of the predictions for a test set."""

from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from ssl_zoo.errors import ConfigError
from ssl_zoo.evaluation.predictions import Predictions
from ssl_zoo.printable import one_line
from ssl_zoo.storage.atomic import atomic_write
from ssl_zoo.storage.csv_text import csv_text

SHOWN_CLASSES = 20
MAX_MATRIX_CLASSES = 2_000  # 8 MB as CSV


def class_accuracies(predictions: Predictions) -> list[tuple[int, str, int, int, float | None]]:
    """Return the accuracy of each class, in the order of the classes.

    Args:
        predictions: has the names of the classes.

    Returns:
        for each class its number, its name, the number of its images, the number of those that were
        classified correctly, and their share in percent; None for a class without images.
    """
    names = predictions.classes
    labels = predictions.labels
    is_right = predictions.predicted[:, 0] == labels
    images = np.bincount(labels, minlength=len(names)).tolist()
    right = np.bincount(labels[is_right], minlength=len(names)).tolist()
    return [
        (label, str(name), n, correct, 100 * correct / n if n else None)
        for label, (name, n, correct) in enumerate(zip(names, images, right, strict=True))
    ]


def confusion_table(predictions: Predictions) -> list[list]:
    """Return the confusion matrix with a header line and the name of the class in each line.

    A line holds the images of one class, a column the images that were classified as one class. If
    some images have no predicted class, the last column counts them.
    """
    names = [str(name) for name in predictions.classes]
    best = predictions.predicted[:, 0]
    numbers = list(range(len(names)))
    head = ['label', *names]
    if (best < 0).any():
        numbers.append(-1)
        head.append('no class')
    matrix = confusion_matrix(predictions.labels, best, labels=numbers)
    return [
        head,
        *([name, *counts] for name, counts in zip(names, matrix.tolist(), strict=False)),
    ]


def report_classes(predictions: Predictions, path: Path) -> str:
    """Write the accuracy of each class and the confusion matrix beside the file of predictions.

    Args:
        predictions: has the names of the classes.
        path: path of the predictions, NAME.npz; the others are NAME_classes.csv and, for at most
            MAX_MATRIX_CLASSES classes, NAME_confusion.csv.

    Returns:
        the classes with the lowest accuracies as a table, and the names of the files.

    Raises:
        ConfigError: the predictions are of an earlier version, without names of classes.
        OSError: a file cannot be written.
    """
    if predictions.classes is None:
        raise ConfigError(
            f'{path} has no names of classes, as files of earlier versions; evaluate again'
        )
    accuracies = class_accuracies(predictions)
    files: dict[str, list] = {
        '_classes.csv': [('label', 'class', 'images', 'correct', 'accuracy'), *accuracies]
    }
    if len(accuracies) <= MAX_MATRIX_CLASSES:
        files['_confusion.csv'] = confusion_table(predictions)
    for end, rows in files.items():
        content = csv_text(rows).encode(errors='backslashreplace')
        atomic_write(path.with_name(path.stem + end), lambda file, text=content: file.write(text))
    return _table(accuracies) + _file_names(len(files) > 1, len(accuracies))


def _table(accuracies: list[tuple[int, str, int, int, float | None]]) -> str:
    measured = [row for row in accuracies if row[4] is not None]
    shown = sorted(measured, key=lambda row: row[4])[:SHOWN_CLASSES]
    names = [one_line(row[1])[:40] for row in shown]
    width = max(len('class'), *map(len, names))
    lines = [f'  {"class":<{width}}  images  correct  accuracy']
    for name, (_, _, images, correct, share) in zip(names, shown, strict=True):
        lines.append(f'  {name:<{width}}  {images:6,}  {correct:7,}  {share:6.2f} %')
    if len(measured) > len(shown):
        lines.append(f'  and {len(measured) - len(shown):,} classes of higher accuracy')
    if len(accuracies) > len(measured):
        lines.append(f'  {len(accuracies) - len(measured):,} classes have no test image')
    return '\n'.join(lines) + '\n'


def _file_names(has_matrix: bool, classes: int) -> str:
    text = '  beside the predictions: all classes in *_classes.csv'
    if has_matrix:
        return f'{text}, confusion matrix in *_confusion.csv'
    return f'{text}; the confusion matrix of {classes:,} classes is left out'
