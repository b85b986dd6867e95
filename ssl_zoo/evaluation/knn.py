"""Weighted k-nearest-neighbour classification with FAISS, exact or through an index of clusters."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import faiss
import numpy as np
from faiss.contrib.exhaustive_search import knn_ground_truth

from ssl_zoo.progress_bar import progress_bar

LONG = 1e12  # products of numbers, some seconds of work: from there on a bar is shown
ROWS = 65536  # of a bank that may be a file larger than memory, copied at a time


def l2_normalize(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1: (N, D) -> (N, D) float32."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _parts(features: np.ndarray, rows: int = ROWS) -> Iterator[np.ndarray]:
    for start in range(0, len(features), rows):
        yield l2_normalize(features[start : start + rows])


def exact_neighbours(
    bank: np.ndarray, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest by cosine, on all GPUs if there are some. The bank is read once, in parts, so it may be larger than memory.

    Args:
        bank: (N, D) features, float16 or float32, possibly memory-mapped; queries: (M, D); k: at most N.
    Returns:
        cosines (M, k) float32 and positions (M, k) int64, best first.
    """
    queries, n = l2_normalize(queries), len(bank)
    bounds = np.linspace(0, n, max(min(-(-n // ROWS), n // k), 1) + 1).astype(
        int
    )  # every part holds k
    with progress_bar(
        n, 'k-NN search', 'features', shown=bank.size * len(queries) > LONG
    ) as progress:

        def parts():
            for start, stop in pairwise(bounds):
                yield l2_normalize(bank[start:stop])
                progress.update(stop - start)

        if faiss.get_num_gpus() > 0:
            return knn_ground_truth(queries, parts(), k, faiss.METRIC_INNER_PRODUCT)
        found = None
        for part, start in zip(parts(), bounds, strict=False):
            cosines, positions = _search_part(part, queries, k)
            positions += start
            if found is not None:
                cosines, positions = faiss.merge_knn_results(
                    np.stack([found[0], cosines]), np.stack([found[1], positions]), keep_max=True
                )
            found = cosines, positions
        return found


def _search_part(bank: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """FAISS's exact search of a part, pieces of the queries shared over threads of one core each: they need not wait for each
    other after every block, as FAISS's own threads do."""

    def search(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        faiss.omp_set_num_threads(1)  # of this thread
        return faiss.knn(piece, bank, k, metric=faiss.METRIC_INNER_PRODUCT)

    threads = faiss.omp_get_max_threads()
    pieces = np.array_split(queries, max(min(5 * threads, len(queries) // 64), 1))
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(search, pieces))
    return tuple(np.concatenate(columns) for columns in zip(*found, strict=True))


def clustered_index(
    bank: np.ndarray, clusters: int, probes: int = 32, seed: int = 0
) -> faiss.Index:
    """An index of unit vectors by cosine that looks into a few clusters, with 8 bits per number (IVF, SQ8): N D bytes.

    Args:
        bank: as for exact_neighbours.
        clusters: of the k-means, at most N; probes: how many of them a search looks into.
        seed: of the k-means.
    """
    dim = bank.shape[1]
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim),
        dim,
        clusters,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.nprobe, index.cp.seed = min(probes, clusters), seed % 2**31
    sample = np.sort(np.random.default_rng(seed).permutation(len(bank))[: 64 * clusters])
    index.train(l2_normalize(bank[sample]))
    for part in _parts(bank):
        index.add(part)
    return index


def neighbours(
    bank: np.ndarray, queries: np.ndarray, k: int, index: faiss.Index | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As exact_neighbours, or through an index of the bank, which may find fewer: the rest has position -1."""
    if index is None or not len(queries):
        return exact_neighbours(bank, queries, k)
    found = [index.search(part, k) for part in _parts(queries, 4096)]
    return tuple(np.concatenate(columns) for columns in zip(*found, strict=True))


def vote(
    cosines: np.ndarray,
    labels: np.ndarray,
    classes: int,
    ks: list[int],
    temperatures: list[float],
    top: int = 5,
) -> np.ndarray:
    """Weighted votes for every k and temperature of a grid: each neighbour votes for its class with exp(cos / temperature).

    Args:
        cosines: (m, K) of the nearest K, best first.
        labels: (m, K) int64, their classes; -1 for no neighbour.
        classes: number of classes of the data set.
        ks: neighbours that vote, each at most K.
        temperatures: of the weights.
        top: classes to name.

    Returns:
        (len(ks), len(temperatures), m, min(top, classes)) int64, the classes with most votes first, the smaller number first where
        votes are equal; -1 where no class is left that has a vote.
    """
    m, top = len(cosines), min(top, classes)
    out = np.empty((len(ks), len(temperatures), m, top), dtype=np.int64)
    cells = np.where(
        labels >= 0, np.arange(m)[:, None] * classes + labels, m * classes
    )  # the last cell takes what is no neighbour
    for t, temperature in enumerate(temperatures):
        # Relative to the nearest, so that nothing overflows; and however far a neighbour is, it has a vote.
        weights = np.maximum(
            np.exp((cosines - cosines[:, :1]).astype(np.float64) / temperature), 1e-300
        )
        votes, voted = np.zeros((m, classes)), 0
        for k in sorted(set(ks)):
            new = np.bincount(
                cells[:, voted:k].ravel(), weights[:, voted:k].ravel(), m * classes + 1
            )
            votes, voted = votes + new[:-1].reshape(m, classes), k
            best = _best(votes, top)
            for i in np.flatnonzero(np.array(ks) == k):
                out[i, t] = best
    return out


def _best(votes: np.ndarray, top: int) -> np.ndarray:
    """(m, C) -> (m, top): the classes with most votes, the smaller number first where they are equal, -1 for classes without."""
    votes, rows = votes.copy(), np.arange(len(votes))
    best = np.empty((len(votes), top), dtype=np.int64)
    for place in range(top):
        best[:, place] = votes.argmax(1)
        best[
            votes[rows, best[:, place]] <= 0, place
        ] = -1  # -1 indexes the last class below, which has no vote either
        votes[rows, best[:, place]] = 0
    return best


def knn_grid(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    classes: int,
    ks: list[int],
    temperatures: list[float],
    index: faiss.Index | None = None,
) -> np.ndarray:
    """Predictions for every k and temperature from one search.

    Args:
        bank: (N, D) features with labels; bank_labels: (N,) int64; queries: (M, D) features.
        classes: number of classes of the data set, which may be more than occur in the bank.
        ks: neighbours, cut to N; temperatures: of the weights.
        index: of the bank, see clustered_index; exact search without one.

    Returns:
        (len(ks), len(temperatures), M, up to 5) int64, see vote.
    """
    ks = [min(k, len(bank)) for k in ks]
    cosines, positions = neighbours(bank, queries, max(ks), index)
    parts, rows = (
        [],
        max(min(4096, 2**25 // classes), 1),
    )  # so that the votes of many classes fit into memory
    for start in range(0, len(queries), rows):
        near = positions[start : start + rows]
        parts.append(
            vote(
                cosines[start : start + rows],
                np.where(near >= 0, bank_labels[near], -1),
                classes,
                ks,
                temperatures,
            )
        )
    return (
        np.concatenate(parts, axis=2)
        if parts
        else np.empty((len(ks), len(temperatures), 0, min(5, classes)), np.int64)
    )


def knn_predict(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """The class that the k nearest neighbours by cosine vote for, each with weight exp(cos / temperature): (M,) int64
    (Wu et al. 2018, sec. 3.4; the defaults are DINO's). Arguments as knn_grid's."""
    return knn_grid(bank, bank_labels, queries, classes, [k], [temperature])[0, 0, :, 0]


def recall(index: faiss.Index, bank: np.ndarray, queries: np.ndarray, k: int) -> float:
    """The share of the exact k nearest neighbours that an index finds, in percent."""
    k = min(k, len(bank))
    (_, true), (_, found) = exact_neighbours(bank, queries, k), neighbours(bank, queries, k, index)
    return (
        100 * sum(len(np.intersect1d(a, b)) for a, b in zip(found, true, strict=True)) / true.size
    )
