"""The matplotlib style of all figures: colours, markers, panels over epochs, files."""

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ssl_zoo.data.decode import open_image
from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.atomic import atomic_write

# Okabe and Ito's colours (jfly.uni-koeln.de/color), which colour-blind readers can tell apart. The
# yellow is left out, because it is faint on white.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '<', '>', '*')  # 10 beside 7 colours: 70 pairs
LIGHT_GREY = '#BBBBBB'
DARK_GREY = '#555555'
RC_PARAMS = {
    'font.size': 8.5,
    'axes.titlesize': 8.5,
    'axes.labelsize': 8.5,
    'legend.fontsize': 8,
    'xtick.labelsize': 7.5,
    'ytick.labelsize': 7.5,
    'font.family': 'sans-serif',
    'font.sans-serif': ['DejaVu Sans'],
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': '#E6E6E6',
    'grid.linewidth': 0.6,
    'axes.axisbelow': True,
    'legend.frameon': False,
    'text.parse_math': False,  # a name such as a$b$c is text
    'figure.facecolor': 'white',
    'svg.fonttype': 'none',
    # Without a fixed salt the identifiers in an SVG file would differ each time.
    'svg.hashsalt': 'ssl_zoo',
}
# Date entries of the formats are left out, so that the same figure gives the same bytes.
METADATA = {'png': {}, 'svg': {'Date': None}, 'pdf': {'CreationDate': None}}
LEGEND_ENTRY_WIDTH = 1.6  # inches
LEGEND_ROW_HEIGHT = 0.2  # inches

Result = TypeVar('Result')


def colour(number: int) -> str:
    """Return the colour of a series by its number."""
    return COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """Return the marker of a series by its number."""
    return MARKERS[number % len(MARKERS)]


def shorten(text: str, length: int) -> str:
    """Return text of at most ``length`` characters; cut text ends with an ellipsis."""
    if len(text) <= length:
        return text
    return text[: length - 1] + '…'


def styled(draw: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a function that draws: run it under ``RC_PARAMS``, without the user's settings."""

    @functools.wraps(draw)
    def draw_in_style(*args, **kwargs) -> Result:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(RC_PARAMS)
            return draw(*args, **kwargs)

    return draw_in_style


def legend_columns(width: float) -> int:
    """Return the number of legend columns in a figure of ``width`` inches."""
    return max(1, int(width // LEGEND_ENTRY_WIDTH))


def epoch_panels(
    n: int,
    columns: int,
    width: float,
    panel_height: float,
    legend_entries: int = 0,
    sharey: bool = False,
) -> tuple[Figure, np.ndarray]:
    """Make a figure of panels over epochs, with room for a legend below.

    Args:
        n: number of panels.
        columns: maximum number of panels side by side.
        width: width of the figure, in inches.
        panel_height: height of a panel, in inches.
        legend_entries: entries of the legend, 0 for none.
        sharey: whether the panels share the vertical axis.

    Returns:
        The figure and its n axes.
    """
    columns = min(columns, n)
    rows = -(-n // columns)
    legend_rows = -(-legend_entries // legend_columns(width))
    height = rows * panel_height + 0.35 + LEGEND_ROW_HEIGHT * legend_rows
    figure = Figure((width, height), layout='constrained')
    grid = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False)
    axes = hide_unused(grid, n)
    for axis in axes[-columns:]:
        axis.set_xlabel('epoch')
    return figure, axes


def hide_unused(grid: np.ndarray, n: int) -> np.ndarray:
    """Remove the axes of a grid after the first ``n``.

    The lowest panel of each column shows the labels of the horizontal axis.

    Args:
        grid: (rows, columns) axes that share the horizontal axis.
        n: number of axes to keep.

    Returns:
        (n,) axes, row by row.
    """
    columns = grid.shape[1]
    axes: list[Axes] = list(grid.ravel())
    for axis in axes[n:]:
        axis.remove()
    for axis in axes[max(n - columns, 0) : n]:
        axis.tick_params(labelbottom=True)
    return np.array(axes[:n])


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure to a .png, .svg or .pdf file. The same figure gives the same bytes.

    Returns:
        ``path``.

    Raises:
        ConfigError: the file cannot be written.
    """
    content = figure_bytes(figure, path.suffix[1:].lower())
    try:
        atomic_write(path, lambda file: file.write(content), start=content[:4])
    except OSError as error:
        raise ConfigError(
            f'could not write {path}: {error}; free some space, or choose another file'
        ) from None
    return path


@styled
def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Return the bytes of a figure's file. The same figure gives the same bytes.

    Args:
        figure: the figure.
        kind: 'png', 'svg' or 'pdf'.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=200, metadata=METADATA[kind])
    content = buffer.getvalue()
    return _with_palette(content) if kind == 'png' else content


def _with_palette(png: bytes) -> bytes:
    """Reduce a PNG to 128 colours: figures have few colours, and the file is a third as large."""
    image = open_image(io.BytesIO(png), ['PNG']).convert('RGB')
    image = image.quantize(128, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, 'png', optimize=True)
    return buffer.getvalue()
