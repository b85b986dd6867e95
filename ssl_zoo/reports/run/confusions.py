"""The pairs of classes that k-NN confuses most often, with example images."""

from dataclasses import dataclass

import numpy as np

from ssl_zoo.reports.html import Cell, Column, Row, Table, text_cell
from ssl_zoo.reports.run.pictures import picture

PAIRS = 8  # confused pairs of classes on the page
EXAMPLES = 3  # images of each pair


@dataclass(frozen=True)
class Confusion:
    """Test images of one class that are predicted as another class.

    Attributes:
        label: the class of the images.
        predicted: the class that is predicted.
        rows: (n,) int64, rows of the test features.
        images: number of test images of the class ``label``.
    """

    label: int
    predicted: int
    rows: np.ndarray
    images: int


def worst_confusions(labels: np.ndarray, predicted: np.ndarray, pairs: int) -> list[Confusion]:
    """Return the most frequent pairs of (class, wrong prediction), most frequent first.

    Pairs of equal frequency are in ascending order of class, then of prediction.

    Args:
        labels: (N,) int64.
        predicted: (N,) int64.
        pairs: largest number of pairs.
    """
    classes = 1 + int(max(labels.max(), predicted.max()))
    wrong = np.flatnonzero(labels != predicted)
    # Only pairs that occur are counted: the full table of many classes would not fit in memory.
    codes, counts = np.unique(labels[wrong] * classes + predicted[wrong], return_counts=True)
    of_class = np.bincount(labels, minlength=classes)
    found = []
    for code in codes[np.argsort(-counts, kind='stable')][:pairs]:
        label, prediction = divmod(int(code), classes)
        rows = np.flatnonzero((labels == label) & (predicted == prediction))
        found.append(Confusion(label, prediction, rows, int(of_class[label])))
    return found


def confusions_html(
    confusions: list[Confusion], examples: list[np.ndarray], classes: list[str]
) -> str:
    """Return the table of confusions.

    Args:
        confusions: from ``worst_confusions``.
        examples: (e, H, W, 3) uint8, the first images of each confusion, at most ``EXAMPLES``.
        classes: names of the classes.
    """
    rows = []
    for confusion, images in zip(confusions, examples, strict=True):
        name, prediction = classes[confusion.label], classes[confusion.predicted]
        shown = ''.join(
            picture(pixels, f'example {number + 1}: a {name}, predicted as {prediction}')
            for number, pixels in enumerate(images)
        )
        share = 100 * len(confusion.rows) / confusion.images
        rows.append(
            Row(
                [
                    text_cell(name),
                    text_cell(prediction),
                    text_cell(f'{len(confusion.rows)} of {confusion.images} ({share:.1f} %)'),
                    Cell(f'<div class="thumbnails">{shown}</div>'),
                ]
            )
        )
    titles = ['class', 'predicted as', 'images of the class', 'examples']
    columns = [Column(title) for title in titles]
    return Table(columns, rows, 'Confusions', stacked=True).as_html()
