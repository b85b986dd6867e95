"""The sections of feature maps and attention: HTML from the maps of ``feature_maps``."""

import matplotlib
import numpy as np

from ssl_zoo.reports import html
from ssl_zoo.reports.html import Cell, Column, Row, Table
from ssl_zoo.reports.run.feature_maps import FeatureMap, as_colours, principal_components
from ssl_zoo.reports.run.pictures import SIDE, enlarged, picture

MAX_HEADS = 12
MAP_NOTE = (
    'The first three principal components over all positions of these images are red, green and '
    'blue, each scaled from its 2nd to its 98th percentile. Equal colours are similar features '
    'within one column; colours of two columns do not compare.'
)
ATTENTION_NOTE = (
    'Attention of the class token to the patches in the last block, newest checkpoint. Light is '
    "more; each map is scaled from its least to its greatest value, the shares of the head's whole "
    'attention that stand below it.'
)


def component_maps_html(pixels: np.ndarray, maps: dict[str, FeatureMap]) -> str:
    """Return a table with a row for each image: the image, and its map under each network.

    Args:
        pixels: (N, H, W, 3) uint8.
        maps: title of a network -> map of the N images.
    """
    rows = [[_image_cell(number, image)] for number, image in enumerate(pixels)]
    for title, found in maps.items():
        colours = as_colours(principal_components(found.values))
        grid = f'{colours.shape[1]} x {colours.shape[2]}'
        for number, row in enumerate(rows):
            alt = f'image {number + 1}, {title}: {grid} positions coloured by principal components'
            row.append(Cell(picture(enlarged(colours[number], SIDE), alt)))
    head = [Column('image'), *map(Column, maps)]
    table = Table(head, [Row(row) for row in rows], 'Maps of principal components')
    layer = next(iter(maps.values()))
    size = f'{layer.values.shape[1]} x {layer.values.shape[2]} positions'
    intro = f'Features of {layer.layer}, {size}, enlarged.'
    return html.paragraphs(intro) + table.as_html() + html.note(MAP_NOTE)


def attention_html(pixels: np.ndarray, attention: np.ndarray) -> str:
    """Return a table with a row for each image: the image, and a map for each head.

    Args:
        pixels: (N, H, W, 3) uint8.
        attention: (N, heads, h, w) float32.
    """
    heads = min(attention.shape[1], MAX_HEADS)
    rows = []
    for number, image in enumerate(pixels):
        cells = [_image_cell(number, image)]
        cells += [_head_cell(number, head, attention[number, head]) for head in range(heads)]
        rows.append(Row(cells))
    columns = [Column('image'), *(Column(f'head {head + 1}') for head in range(heads))]
    table = Table(columns, rows, 'Attention of the heads')
    left_out = attention.shape[1] - heads
    more = html.paragraphs(f'{left_out} further heads are not shown.') if left_out else ''
    return table.as_html() + more + html.note(ATTENTION_NOTE)


def _image_cell(number: int, pixels: np.ndarray) -> Cell:
    return Cell(picture(pixels, f'image {number + 1}') + f'image {number + 1}')


def _head_cell(number: int, head: int, weights: np.ndarray) -> Cell:
    least, greatest = float(weights.min()), float(weights.max())
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    scaled = (weights - least) / (greatest - least or 1)
    colours = matplotlib.colormaps['viridis'](scaled)[..., :3]
    alt = (
        f'image {number + 1}, head {head + 1}: most attention in row {row + 1} of '
        f'{weights.shape[0]}, column {column + 1} of {weights.shape[1]}'
    )
    return Cell(
        picture(enlarged(colours, SIDE), alt) + f'{100 * least:.2g} to {100 * greatest:.2g} %'
    )
