"""What a network puts together: a t-SNE map of the test images and the nearest neighbours of a few, from a run's map.npz."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_zoo.reports.style import shortened, styled

PERPLEXITY = 30
CLASSES = 10  # that a map tells apart
# Paul Tol's muted scheme (sronpersonalpages.nl/~pault) and black; with a marker each, so that no class is told by colour alone.
TOL = (
    '#332288',
    '#DDCC77',
    '#CC6677',
    '#117733',
    '#88CCEE',
    '#882255',
    '#44AA99',
    '#999933',
    '#AA4499',
    '#000000',
)
SHAPES = ('o', 's', '^', 'D', 'v', 'P', 'X', '<', '>', '*')
RIGHT, WRONG = '#0072B2', '#D55E00'


@dataclass
class EmbeddingMap:
    """Attributes: features (N, D) float32; labels (N,) int64; classes: names; thumbnails (N, h, w, 3) uint8."""

    features: np.ndarray
    labels: np.ndarray
    classes: list[str]
    thumbnails: np.ndarray

    @classmethod
    def load(cls, path: Path) -> 'EmbeddingMap':
        """Raises ValueError for a file that is torn, something else, or of other shapes. Nothing in it is executed."""
        try:
            with np.load(path, allow_pickle=False) as file:
                found = cls(
                    file['features'].astype(np.float32),
                    file['labels'].astype(np.int64),
                    [str(c) for c in file['classes']],
                    file['thumbnails'],
                )
        except Exception as error:  # numpy and zipfile raise many types
            raise ValueError(f'{type(error).__name__}: {error}') from None
        n = len(found.labels)
        if (
            n < 3
            or found.features.ndim != 2
            or len(found.features) != n
            or found.thumbnails.shape[:1] != (n,)
            or found.thumbnails.dtype != np.uint8
            or found.thumbnails.ndim != 4
            or not np.isfinite(found.features).all()
            or not 0 <= found.labels.min() <= found.labels.max() < len(found.classes)
        ):
            raise ValueError(
                f'features {found.features.shape}, labels {found.labels.shape}, {len(found.classes)} classes, thumbnails '
                f'{found.thumbnails.shape}'
            )
        return found

    @property
    def perplexity(self) -> float:
        """PERPLEXITY, or less for few images: scikit-learn needs less than N, and a third of them is the usual most."""
        return min(PERPLEXITY, (len(self.labels) - 1) / 3)


def tsne(found: EmbeddingMap) -> np.ndarray:
    """(N, 2) float32: scikit-learn's t-SNE of the features, cosine distance, started from their principal components."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(
        1
    ):  # it is small: threads would only wait for each other, and for other work
        return TSNE(
            2, perplexity=found.perplexity, metric='cosine', init='pca', random_state=0
        ).fit_transform(found.features)


@styled
def drawn_map(found: EmbeddingMap, places: np.ndarray):
    """The map as a matplotlib Figure: a colour and a marker for each of the first CLASSES classes, the others as grey dots."""
    from matplotlib.figure import Figure

    figure = Figure((4.4, 4.2), layout='constrained')
    axis = figure.subplots()
    named = np.unique(found.labels)[:CLASSES]
    others = ~np.isin(found.labels, named)
    if others.any():
        axis.plot(*places[others].T, '.', color='#CCCCCC', markersize=3, label='other classes')
    for i, label in enumerate(named):
        axis.plot(
            *places[found.labels == label].T,
            SHAPES[i],
            color=TOL[i],
            markersize=4,
            markeredgewidth=0.3,
            markeredgecolor='white',
            linestyle='',
            label=shortened(found.classes[label], 14),
        )
    axis.set(xticks=[], yticks=[], aspect='equal', adjustable='datalim')
    axis.spines[:].set_visible(False)
    figure.legend(
        loc='outside lower center',
        ncols=5 if max(map(len, found.classes)) < 8 else 4,
        markerscale=1.4,
        columnspacing=1,
        handletextpad=0.2,
    )
    return figure


def neighbours(found: EmbeddingMap, queries: np.ndarray, k: int) -> np.ndarray:
    """(Q, k) int64: the images nearest to each of the queries (Q,), by cosine, nearest first, without itself."""
    unit = found.features / np.maximum(np.linalg.norm(found.features, axis=1, keepdims=True), 1e-12)
    similarity = unit[queries] @ unit.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    return np.argsort(-similarity, axis=1, kind='stable')[:, :k]


def first_of_each(labels: np.ndarray, n: int) -> np.ndarray:
    """The first image of each of the first ``n`` classes: the same for all networks, chosen by none."""
    return np.array([np.flatnonzero(labels == label)[0] for label in np.unique(labels)[:n]])


def drawn_neighbours(
    found: EmbeddingMap, queries: np.ndarray, nearest: np.ndarray, side: int = 54
) -> bytes:
    """A JPEG: in each row an image and the ones nearest to it. Of its class: a whole frame and a tick; of another: a broken frame and
    a cross."""
    from PIL import Image, ImageDraw, ImageFont

    gap, text, lead = 8, 15, 22
    font = ImageFont.load_default(10)
    sheet = Image.new(
        'RGB',
        ((side + gap) * (nearest.shape[1] + 1) + lead, (side + gap + text) * len(queries) + 16),
        'white',
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((gap // 2, 1), 'image', 'black', font)
    draw.text((side + gap + lead, 1), 'nearest first', 'black', font)
    for row, (query, others) in enumerate(zip(queries, nearest, strict=True)):
        for column, i in enumerate([query, *others]):
            x, y = (
                gap // 2 + column * (side + gap) + (lead if column else 0),
                18 + row * (side + gap + text),
            )
            thumbnail = Image.fromarray(found.thumbnails[i])
            scale = side / max(thumbnail.size)
            size = tuple(max(round(s * scale), 1) for s in thumbnail.size)
            thumbnail = thumbnail.resize(
                size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
            )
            sheet.paste(thumbnail, (x + (side - size[0]) // 2, y + (side - size[1]) // 2))
            name = shortened(found.classes[found.labels[i]], 8)
            if not column:
                draw.text((x, y + side + 2), name, 'black', font)
                continue
            right = found.labels[i] == found.labels[query]
            _frame(draw, x - 2, y - 2, side + 3, right)
            _sign(draw, x, y + side + 4, right)
            draw.text((x + 12, y + side + 2), name, 'black', font)
    file = io.BytesIO()
    sheet.save(file, 'jpeg', quality=75, optimize=True)
    return file.getvalue()


def _frame(draw, x: int, y: int, side: int, whole: bool) -> None:
    if whole:
        draw.rectangle((x, y, x + side, y + side), outline=RIGHT, width=2)
        return
    for start in range(0, side, 10):
        stop = min(start + 5, side)
        for at in (0, side - 1):
            draw.line((x + start, y + at, x + stop, y + at), WRONG, 2)
            draw.line((x + at, y + start, x + at, y + stop), WRONG, 2)


def _sign(draw, x: int, y: int, tick: bool) -> None:
    if tick:
        draw.line((x, y + 5, x + 3, y + 8, x + 8, y + 1), RIGHT, 2, joint='curve')
    else:
        draw.line((x + 1, y + 1, x + 8, y + 8), WRONG, 2)
        draw.line((x + 8, y + 1, x + 1, y + 8), WRONG, 2)
