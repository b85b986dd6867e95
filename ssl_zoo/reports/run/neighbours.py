"""Nearest neighbours of a few test images among training images, network by network."""

from dataclasses import dataclass

import numpy as np

from ssl_zoo.evaluation.features import Features
from ssl_zoo.evaluation.knn import neighbours
from ssl_zoo.reports import html
from ssl_zoo.reports.html import Cell, Column, Row, Table
from ssl_zoo.reports.run.pictures import picture

NEIGHBOURS = 5  # shown for each image


@dataclass
class NeighbourRow:
    """The nearest training images of the chosen test images under one network.

    Attributes:
        title: name of the network.
        cosines: (Q, k) float32, highest first.
        rows: (Q, k) int64, rows of the bank's features.
        positions: (Q, k) int64, positions in the bank.
        pixels: (Q, k, H, W, 3) uint8.
    """

    title: str
    cosines: np.ndarray
    rows: np.ndarray
    positions: np.ndarray
    pixels: np.ndarray


def nearest_in_bank(
    bank: Features, queries: np.ndarray, k: int = NEIGHBOURS
) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows of the bank with the highest cosine to each query.

    Args:
        bank: features of the training images.
        queries: (Q, D) features.
        k: number of neighbours.

    Returns:
        (Q, k) cosines, highest first, and (Q, k) rows of the bank; k is at most the bank's size.
    """
    return neighbours(bank.values, queries, min(k, len(bank.values)))


@dataclass
class Query:
    """A test image of the section.

    Attributes:
        pixels: (H, W, 3) uint8.
        label: its class, None without labels.
    """

    pixels: np.ndarray
    label: int | None


def neighbours_html(
    queries: list[Query],
    rows: list[NeighbourRow],
    bank_labels: list[np.ndarray | None],
    classes: list[str],
) -> str:
    """Return a table for each query: a row for each network, a column for each neighbour.

    Args:
        queries: the test images.
        rows: the neighbours under each network.
        bank_labels: (N,) labels of the bank's features, network by network; None without labels.
        classes: names of the classes, [] without labels.
    """
    blocks = []
    for number, query in enumerate(queries):
        name = f'image {number + 1}'
        if query.label is not None:
            name += f', class {classes[query.label]}'
        table_rows = []
        for row, labels in zip(rows, bank_labels, strict=True):
            cells = [Cell(html.escape(row.title))]
            for place in range(row.rows.shape[1]):
                label = None if labels is None else int(labels[row.rows[number, place]])
                cells.append(_neighbour_cell(row, number, place, label, query.label, classes))
            table_rows.append(Row(cells))
        columns = [Column('network')]
        columns += [Column(f'nearest {place + 1}') for place in range(rows[0].rows.shape[1])]
        table = Table(columns, table_rows, f'Nearest training images of {name}', row_headers=True)
        shown = picture(query.pixels, f'test {name}')
        blocks.append(f'<div><h3>{html.escape(name)}</h3>\n{shown}\n{table.as_html()}</div>\n')
    return f'<div class="blocks">\n{"".join(blocks)}</div>\n'


def _neighbour_cell(
    row: NeighbourRow,
    number: int,
    place: int,
    label: int | None,
    query_label: int | None,
    classes: list[str],
) -> Cell:
    cosine = f'cosine {row.cosines[number, place]:.4f}'
    pixels = row.pixels[number, place]
    if label is None or query_label is None:
        return Cell(picture(pixels, f'nearest {place + 1}, {cosine}') + html.escape(cosine))
    border = 'same' if label == query_label else 'other'
    word = 'same class' if label == query_label else 'other class'
    name = classes[label]
    shown = picture(pixels, f'nearest {place + 1}: class {name}, {word}, {cosine}', border)
    return Cell(f'{shown}{html.escape(name)}<br><span class="{border}">{word}</span><br>{cosine}')


def same_class_shares(
    queries: list[Query], rows: list[NeighbourRow], bank_labels: list[np.ndarray | None]
) -> list[str]:
    """Return a sentence for each network: how many neighbours are of the class of their image."""
    sentences = []
    for row, labels in zip(rows, bank_labels, strict=True):
        if labels is None:
            continue
        own = np.array([query.label for query in queries])[:, None]
        same = int((labels[row.rows] == own).sum())
        sentences.append(f'{row.title}: {same} of {row.rows.size} neighbours are of the same class')
    return sentences
