"""Find test images that are also training images, by the bytes of their files or by their pixels.

A figure on images that the network was trained on says nothing about new images, and nothing else
in a run shows it.
"""

import hashlib
from functools import partial

import numpy as np

from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources import Source
from ssl_zoo.data.splits import DataSettings
from ssl_zoo.distributed.objects import on_rank0
from ssl_zoo.errors import UnreadableImage

# Files, and bytes of files, that one comparison of two sources reads: of a large data set, a sample
# of the test images is compared, because many files have the same size by chance.
MAX_READS = 10_000
MAX_BYTES = 2**28


def warn_of_overlap(sources: dict[str, Source | None], data: DataSettings) -> None:
    """Add warnings to hold-out and test images that are also elsewhere in the data of a run.

    Rank 0 reads the files; all ranks call this.

    Args:
        sources: from ssl_zoo.data.splits.data_sources; `warnings` of 'val' and 'test' grow.
        data: the settings of the sources.
    """
    pairs = [('test', 'train'), ('test', 'val')]
    if isinstance(data.val, dict):  # else it is cut from the training images
        pairs.insert(0, ('val', 'train'))
    for name, other_name in pairs:
        source = sources[name]
        other = sources[other_name]
        if source is not None and other is not None:
            warnings = on_rank0(partial(_warning, source, other, name, other_name))
            source.warnings += tuple(warnings)


def _warning(source: Source, other: Source, name: str, other_name: str) -> tuple[str, ...]:
    shared, compared = shared_images(source, other)
    if not len(shared):
        return ()
    of_compared = f'{compared:,} images of data.{name}'
    if compared < len(source):
        of_compared += ' that were compared'
    return (
        f'{len(shared):,} of {of_compared} are also in data.{other_name}, such as '
        f'{source.name(int(shared[0]))}; the figures are not those of new images',
    )


def shared_images(source: Source, other: Source) -> tuple[np.ndarray, int]:
    """Find images of a source that another source has too, byte for byte.

    Args:
        source: n images.
        other: other images. Sources of files are compared by size and bytes of the files; sources
            in memory by their pixels. Of other sources nothing is known.

    Returns:
        sorted positions in ``source`` of the shared images, (m,) int64, and how many images of
        ``source`` were compared.
    """
    if source.in_memory and other.in_memory:
        present = {_digest(other.pixels(i)) for i in range(len(other))}
        found = [i for i in range(len(source)) if _digest(source.pixels(i)) in present]
        return np.array(found, dtype=np.int64), len(source)
    other_stats = other.file_stats()
    stats = source.file_stats()
    if stats is None or other_stats is None:
        return np.empty(0, dtype=np.int64), 0
    return _shared_files(source, stats[:, 0], other, other_stats[:, 0])


def _shared_files(
    source: Source, sizes: np.ndarray, other: Source, other_sizes: np.ndarray
) -> tuple[np.ndarray, int]:
    """Compare files of equal size, in bytes, until MAX_READS files or MAX_BYTES were read."""
    by_size = np.argsort(other_sizes, kind='stable')
    sorted_sizes = other_sizes[by_size]
    first = np.searchsorted(sorted_sizes, sizes, 'left')
    last = np.searchsorted(sorted_sizes, sizes, 'right')
    digests_of_size: dict[int, set[bytes]] = {}
    found = []
    compared = 0
    reads_left = MAX_READS
    bytes_left = MAX_BYTES
    for i in map(int, permutation(len(source), 0)):
        size = int(sizes[i])
        if size not in digests_of_size:
            reads = int(last[i] - first[i])
            if reads > reads_left or reads * size > bytes_left:
                continue
            reads_left -= reads
            bytes_left -= reads * size
            candidates = map(int, by_size[first[i] : last[i]])
            digests_of_size[size] = {_file_digest(other, k) for k in candidates} - {b''}
        compared += 1
        if digests_of_size[size] and _file_digest(source, i) in digests_of_size[size]:
            found.append(i)
    return np.sort(np.array(found, dtype=np.int64)), compared


def _file_digest(source: Source, i: int) -> bytes:
    """Return the SHA-256 of an image's file, empty if the file cannot be read."""
    try:
        return hashlib.sha256(source.encoded(i)[1]).digest()
    except UnreadableImage:
        return b''


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
