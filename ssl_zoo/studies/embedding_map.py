"""Save map.npz: features, labels and thumbnails of some test images, for the report."""

from pathlib import Path

import numpy as np
from PIL import Image

from ssl_zoo.evaluation.protocols.context import EvaluationContext
from ssl_zoo.storage.atomic import atomic_write

IMAGES = 500  # spread evenly over the test set
THUMBNAIL_SIDE = 32  # pixels


def save_embedding_map(path: Path, context: EvaluationContext) -> None:
    """Write the file that ``ssl_zoo.reports.tsne.EmbeddingMap`` reads.

    Args:
        path: path of the file.
        context: gives the network and the data.

    Raises:
        OSError: the file cannot be written.
    """
    test = context.source('test')
    features = context.features(test, 'test')
    last_row = len(features.index) - 1
    rows = np.unique(np.linspace(0, last_row, IMAGES).astype(int))
    thumbnails = [_thumbnail(test.read(int(index))) for index in features.index[rows]]
    class_names = test.classes or [str(label) for label in range(context.classes)]
    content = dict(
        features=np.asarray(features.values[rows], np.float32),
        labels=features.labels[rows],
        thumbnails=np.stack(thumbnails),
        classes=np.array(class_names),
    )
    atomic_write(path, lambda file: np.savez_compressed(file, **content))


def _thumbnail(image: Image.Image) -> np.ndarray:
    """Return (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3) uint8."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(image.convert('RGB').resize(size, Image.Resampling.BOX))
