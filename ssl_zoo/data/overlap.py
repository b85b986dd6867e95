"""Find test images that are also training images, by the bytes of their files or by their pixels.

A figure on images that the network was trained on says nothing about new images, and nothing else
in a run shows it.
"""

import hashlib

import numpy as np

from ssl_zoo.data.random import permutation
from ssl_zoo.data.sources import Source
from ssl_zoo.errors import UnreadableImage

# Files read for one comparison of two sources: of a large data set, a sample of test images is
# compared, because many files have the same size by chance.
MAX_READS = 2_000


def overlap_warnings(sources: dict[str, Source | None], own_val: bool) -> dict[str, tuple[str, ...]]:
    """Return warnings for hold-out and test images that are also elsewhere in the data.

    Args:
        sources: from ssl_zoo.data.splits.data_sources.
        own_val: whether the hold-out is a source of its own, not cut from the training images.

    Returns:
        Warnings of 'val' and of 'test'.
    """
    train = sources['train']
    val = sources['val']
    test = sources['test']
    warnings: dict[str, tuple[str, ...]] = dict(val=(), test=())
    if val is not None and own_val:
        warnings['val'] = _warning(val, train, 'val', 'train')
    if test is not None:
        warnings['test'] = _warning(test, train, 'test', 'train')
        if val is not None:
            warnings['test'] += _warning(test, val, 'test', 'val')
    return warnings


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
    """Compare files of equal size (in bytes) until MAX_READS files were read."""
    by_size = np.argsort(other_sizes, kind='stable')
    first = np.searchsorted(other_sizes[by_size], sizes, 'left')
    last = np.searchsorted(other_sizes[by_size], sizes, 'right')
    found = []
    digests: dict[int, bytes] = {}
    compared = 0
    for i in permutation(len(source), 0):
        candidates = by_size[first[i] : last[i]]
        if sizes[i] >= 0 and len(candidates):
            if len(digests) + len(candidates) > MAX_READS:
                break
            if _is_among(source, int(i), other, candidates, digests):
                found.append(i)
        compared += 1
    return np.sort(np.array(found, dtype=np.int64)), compared


def _is_among(
    source: Source, i: int, other: Source, candidates: np.ndarray, digests: dict[int, bytes]
) -> bool:
    """Whether image i is one of the candidates; ``digests`` keeps those of files already read."""
    digest = _file_digest(source, i)
    for candidate in map(int, candidates):
        if candidate not in digests:
            digests[candidate] = _file_digest(other, candidate)
        if digest and digests[candidate] == digest:
            return True
    return False


def _file_digest(source: Source, i: int) -> bytes:
    """Return the SHA-256 of an image's file, empty if the file cannot be read."""
    try:
        return hashlib.sha256(source.encoded(i)[1]).digest()
    except UnreadableImage:
        return b''


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
