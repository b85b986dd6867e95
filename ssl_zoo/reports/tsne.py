"""Which images have similar features: a t-SNE map of test images, and nearest neighbours.

The features come from a run's map.npz, see ``ssl_zoo.studies.embedding_map``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ssl_zoo.data.image_sheet import Frame, ImageSheet, SheetCell, SheetColumn
from ssl_zoo.reports.class_names import readable_names
from ssl_zoo.reports.style import MARKERS, shorten, styled
from ssl_zoo.storage.reading import open_npz

MAX_PERPLEXITY = 30
MAX_CLASSES = 10  # classes with a colour of their own in a map
# Paul Tol's muted scheme (sronpersonalpages.nl/~pault) and black. Each class also has its own
# marker, so that no class is identified by colour alone.
CLASS_COLOURS = (
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
MAX_THUMBNAIL_SIDE = 256  # pixels of a thumbnail in the file
THUMBNAIL_SIDE = 54  # pixels of a thumbnail in the sheet of neighbours
SAME_CLASS = Frame('#0072B2', sign='tick')
OTHER_CLASS = Frame('#D55E00', dashed=True, sign='cross')


@dataclass
class EmbeddingMap:
    """Features of some test images.

    Attributes:
        features: (N, D) float32.
        labels: (N,) int64.
        classes: names of the classes.
        thumbnails: (N, h, w, 3) uint8.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: list[str]
    thumbnails: np.ndarray

    @classmethod
    def load(cls, path: Path) -> 'EmbeddingMap':
        """Read a map.npz. Nothing in the file is executed.

        Raises:
            ValueError: the file is torn, is not a map.npz, or has arrays of wrong shapes.
        """
        try:
            with open_npz(path) as file:
                embeddings = cls(
                    file['features'].astype(np.float32),
                    file['labels'].astype(np.int64),
                    readable_names([str(name) for name in file['classes']]),
                    file['thumbnails'],
                )
        except Exception as error:  # numpy and zipfile raise many types
            raise ValueError(f'{type(error).__name__}: {error}') from None
        embeddings._check()
        return embeddings

    def _check(self) -> None:
        n = len(self.labels)
        valid = (
            n >= 3
            and self.features.ndim == 2
            and self.features.shape[1] > 0
            and len(self.features) == n
            and np.isfinite(self.features).all()
            and self.thumbnails.ndim == 4
            and len(self.thumbnails) == n
            and self.thumbnails.dtype == np.uint8
            and self.thumbnails.shape[3] == 3
            and 0 < min(self.thumbnails.shape[1:3])
            and max(self.thumbnails.shape[1:3]) <= MAX_THUMBNAIL_SIDE
            and 0 <= self.labels.min() <= self.labels.max() < len(self.classes)
        )
        if not valid:
            raise ValueError(
                f'features {self.features.shape}, labels {self.labels.shape}, '
                f'{len(self.classes)} classes, thumbnails {self.thumbnails.shape}'
            )

    @property
    def perplexity(self) -> float:
        """Perplexity of the t-SNE, at most ``MAX_PERPLEXITY``.

        scikit-learn needs a perplexity below N, and a third of N is the usual maximum.
        """
        return min(MAX_PERPLEXITY, (len(self.labels) - 1) / 3)


def tsne(embeddings: EmbeddingMap) -> np.ndarray:
    """Return (N, 2) float32: scikit-learn's t-SNE of the features.

    The distance is cosine, and the map starts from the principal components.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # The problem is small: threads would mostly wait for each other and for other processes.
    with threadpool_limits(1):
        projection = TSNE(
            2, perplexity=embeddings.perplexity, metric='cosine', init='pca', random_state=0
        )
        return projection.fit_transform(embeddings.features)


@styled
def plot_map(embeddings: EmbeddingMap, positions: np.ndarray) -> Figure:
    """Plot the images as points.

    Each of the first ``MAX_CLASSES`` classes has its own colour and marker; all others are grey
    dots.

    Args:
        embeddings: labels and class names.
        positions: (N, 2) from ``tsne``.
    """
    figure = Figure((4.4, 4.2), layout='constrained')
    axis = figure.subplots()
    named_classes = np.unique(embeddings.labels)[:MAX_CLASSES]
    in_other_class = ~np.isin(embeddings.labels, named_classes)
    if in_other_class.any():
        dots = positions[in_other_class]
        axis.plot(*dots.T, '.', color='#CCCCCC', markersize=3, label='other classes')
    for number, label in enumerate(named_classes):
        axis.plot(
            *positions[embeddings.labels == label].T,
            MARKERS[number],
            color=CLASS_COLOURS[number],
            markersize=4,
            markeredgewidth=0.3,
            markeredgecolor='white',
            linestyle='',
            label=shorten(embeddings.classes[label], 14),
        )
    axis.set(xticks=[], yticks=[], aspect='equal', adjustable='datalim')
    axis.spines[:].set_visible(False)
    longest_name = max(map(len, embeddings.classes))
    figure.legend(
        loc='outside lower center',
        ncols=5 if longest_name < 8 else 4,
        markerscale=1.4,
        columnspacing=1,
        handletextpad=0.2,
    )
    return figure


def nearest_neighbours(embeddings: EmbeddingMap, queries: np.ndarray, k: int) -> np.ndarray:
    """Find the images nearest to each query by cosine similarity.

    Args:
        embeddings: (N, D) features.
        queries: (Q,) int64, positions of images.
        k: number of neighbours.

    Returns:
        (Q, k) int64 positions, nearest first, without the query itself.
    """
    norms = np.linalg.norm(embeddings.features, axis=1, keepdims=True)
    unit_features = embeddings.features / np.maximum(norms, 1e-12)
    similarity = unit_features[queries] @ unit_features.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    return np.argsort(-similarity, axis=1, kind='stable')[:, :k]


def first_of_each_class(labels: np.ndarray, n: int) -> np.ndarray:
    """Return the position of the first image of each of the first ``n`` classes.

    The positions depend on the labels alone, so that all networks are shown with the same images.

    Args:
        labels: (N,) int64.
        n: number of classes.
    """
    _, first_positions = np.unique(labels, return_index=True)
    return first_positions[:n]


def neighbours_sheet(
    embeddings: EmbeddingMap, queries: np.ndarray, neighbours: np.ndarray
) -> ImageSheet:
    """Return a sheet with a query and its neighbours in each row.

    A neighbour of the query's class has a solid frame and a tick, any other neighbour a dashed
    frame and a cross.

    Args:
        embeddings: thumbnails and labels.
        queries: (Q,) int64 positions.
        neighbours: (Q, k) int64 positions from ``nearest_neighbours``.
    """
    k = neighbours.shape[1]
    columns = [SheetColumn('image', THUMBNAIL_SIDE)]
    for number in range(k):
        indent = 22 if number == 0 else 0
        columns.append(SheetColumn(f'nearest {number + 1}', THUMBNAIL_SIDE, indent=indent))
    rows = []
    for query, row in zip(queries, neighbours, strict=True):
        cells = [_cell(embeddings, query, None)]
        for neighbour in row:
            same_class = embeddings.labels[neighbour] == embeddings.labels[query]
            cells.append(_cell(embeddings, neighbour, SAME_CLASS if same_class else OTHER_CLASS))
        rows.append(cells)
    return ImageSheet(columns, rows, gap=10, head=14)


def _cell(embeddings: EmbeddingMap, position: int, frame: Frame | None) -> SheetCell:
    image = Image.fromarray(embeddings.thumbnails[position])
    name = shorten(embeddings.classes[embeddings.labels[position]], 8)
    return SheetCell(image, [name], frame)
