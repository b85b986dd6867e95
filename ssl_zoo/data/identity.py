"""The identity of the content of a data set, beside the names and labels of its manifest."""

import hashlib
import json

import numpy as np

from ssl_zoo.data.sources import Source
from ssl_zoo.errors import UnreadableImage

# Images whose pixels are compared: of files, whose sizes and times are compared too, and of others.
SAMPLED_FILES = 8
SAMPLED_IMAGES = 64


def content_identity(source: Source) -> dict[str, str | None]:
    """Return hashes that differ if the images of a source differ, though their names may not.

    No image file is read whole except for the sample: a million files take about ten seconds on a
    local disk.

    Returns:
        `sizes`, hash of the bytes of every image file; `times`, hash of their modification times,
        which a copy of the files may change; both None if the images are not files. `pixels`, hash
        of the pixels of a few images, which another image size in the config changes.
    """
    stats = source.file_stats()
    if stats is None:
        return dict(sizes=None, times=None, pixels=_pixel_hash(source, SAMPLED_IMAGES))
    return dict(
        sizes=_short_hash(stats[:, 0].tobytes()),
        times=_short_hash(stats[:, 1].tobytes()),
        pixels=_pixel_hash(source, SAMPLED_FILES),
    )


def _short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _pixel_hash(source: Source, images: int) -> str:
    digest = hashlib.sha256()
    positions = np.linspace(0, len(source) - 1, images)
    for i in np.unique(positions.astype(int)):
        try:
            image = source.read(int(i))
        except UnreadableImage:  # the reason names the path, which a copy changes
            digest.update(b'unreadable')
            continue
        digest.update(json.dumps(image.size).encode())
        digest.update(image.tobytes())
    return digest.hexdigest()[:16]
