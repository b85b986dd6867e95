"""How figures look: colours and markers that the colour-blind can tell apart, panels, files. matplotlib is loaded when one is drawn."""

import functools
import io
from pathlib import Path

from ssl_zoo.errors import ConfigError
from ssl_zoo.storage.atomic import atomic_write

# Okabe and Ito's colours (jfly.uni-koeln.de/color) without the yellow, which is faint on white.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '<', '>', '*')  # 10 beside 7 colours: 70 pairs
GREY = '#BBBBBB'
LOOK = {
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
    'figure.facecolor': 'white',
    'svg.fonttype': 'none',
    'svg.hashsalt': 'ssl_zoo',
}  # a salt of its own would give other ids each time


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def marker(i: int) -> str:
    return MARKERS[i % len(MARKERS)]


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + '…'


def styled(draw):
    """A function that draws, under LOOK and nothing of the user's own settings."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        import matplotlib

        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(LOOK)
            return draw(*args, **kwargs)

    return drawn


def panels(
    n: int, columns: int, width: float, height: float, legend: int = 0, sharey: bool = False
):
    """A figure of ``n`` panels over epochs and their axes, with room for a legend of so many entries below.

    Args:
        width: of the figure; height: of a panel; in inches.
    """
    from matplotlib.figure import Figure

    columns = min(columns, n)
    rows = -(-n // columns)
    figure = Figure(
        (width, rows * height + 0.35 + 0.2 * -(-legend // max(1, int(width // 1.6)))),
        layout='constrained',
    )
    axes = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False).ravel()
    for axis in axes[n:]:
        axis.remove()
    for axis in axes[max(n - columns, 0) : n]:
        axis.set_xlabel('epoch')
        axis.tick_params(labelbottom=True)
    return figure, axes[:n]


@styled
def save(figure, path: Path) -> Path:
    """Write a figure whole, as its name ends: .png, .svg or .pdf. The same figure gives the same bytes.

    Raises:
        ConfigError: it cannot be written.
    """
    kind = path.suffix[1:].lower()
    stamp = dict(png={}, svg={'Date': None}, pdf={'CreationDate': None})[kind]
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=200, metadata=stamp)
    if kind == 'png':  # of few colours: a palette takes a third of the bytes
        from PIL import Image

        image = Image.open(content).convert('RGB').quantize(128, dither=Image.Dither.NONE)
        content = io.BytesIO()
        image.save(content, 'png', optimize=True)
    try:
        atomic_write(path, lambda file: file.write(content.getvalue()))
    except OSError as error:
        raise ConfigError(
            f'could not write {path}: {error}; free some space, or choose another place'
        ) from None
    return path
