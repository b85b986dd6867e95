"""Weighted k-nearest-neighbour classification with FAISS, exact or through a clustered index."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from faiss.contrib.exhaustive_search import knn_ground_truth

from ssl_zoo.progress_bar import progress_bar

PROGRESS_PRODUCTS = 1e12  # multiplications, some seconds; longer searches show a progress bar
BANK_ROWS = 65536  # rows in memory at a time, because the bank may be a file larger than memory
QUERY_ROWS = 4096  # queries that are searched or counted at a time
VOTE_CELLS = 2**25  # numbers in the table of votes, so that the votes of many classes fit in memory


def l2_normalize(features: np.ndarray) -> np.ndarray:
    """Scale rows to length 1: (N, D) -> (N, D) float32."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _normalized_parts(features: np.ndarray, rows: int = BANK_ROWS) -> Iterator[np.ndarray]:
    for start in range(0, len(features), rows):
        yield l2_normalize(features[start : start + rows])


def exact_neighbours(
    bank: np.ndarray, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k rows of the bank with the highest cosine to each query, on all GPUs if any.

    The bank is read once, in parts, so the bank may be larger than memory.

    Args:
        bank: (N, D) float16 or float32, possibly memory-mapped.
        queries: (M, D).
        k: number of neighbours, at most N.

    Returns:
        cosines: (M, k) float32, highest first.
        positions: (M, k) int64, rows of the bank.
    """
    queries = l2_normalize(queries)
    n = len(bank)
    parts = max(min(-(-n // BANK_ROWS), n // k), 1)  # every part holds k rows
    bounds = np.linspace(0, n, parts + 1).astype(int)
    is_long = bank.size * len(queries) > PROGRESS_PRODUCTS
    with progress_bar(n, 'k-NN search', 'features', shown=is_long) as progress:

        def read_parts() -> Iterator[np.ndarray]:
            for start, stop in pairwise(bounds):
                yield l2_normalize(bank[start:stop])
                progress.update(stop - start)

        if faiss.get_num_gpus() > 0:
            return knn_ground_truth(queries, read_parts(), k, faiss.METRIC_INNER_PRODUCT)
        nearest = None
        for part, start in zip(read_parts(), bounds, strict=False):
            cosines, positions = _search_part(part, queries, k)
            positions += start
            if nearest is not None:
                both_cosines = np.stack([nearest[0], cosines])
                both_positions = np.stack([nearest[1], positions])
                cosines, positions = faiss.merge_knn_results(
                    both_cosines, both_positions, keep_max=True
                )
            nearest = cosines, positions
        return nearest


def _search_part(bank: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Search a part of the bank exactly, in single-core threads that each take some queries.

    These threads do not wait for each other after every block, as FAISS's own threads do.
    """

    def search(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        faiss.omp_set_num_threads(1)  # of this thread
        return faiss.knn(piece, bank, k, metric=faiss.METRIC_INNER_PRODUCT)

    threads = faiss.omp_get_max_threads()
    pieces = np.array_split(queries, max(min(5 * threads, len(queries) // 64), 1))
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(search, pieces))
    cosines, positions = (np.concatenate(columns) for columns in zip(*results, strict=True))
    return cosines, positions


def clustered_index(
    bank: np.ndarray, clusters: int, probes: int = 32, seed: int = 0
) -> faiss.Index:
    """Build a FAISS index (IVF, SQ8): a search visits a few clusters; 8 bits a number, N D bytes.

    Args:
        bank: as for exact_neighbours.
        clusters: number of k-means clusters, at most N.
        probes: number of clusters that a search visits.
        seed: seed of the k-means.

    Returns:
        The index of the l2-normalised rows, searched by cosine.
    """
    dim = bank.shape[1]
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim),
        dim,
        clusters,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.nprobe = min(probes, clusters)
    index.cp.seed = seed % 2**31
    sample = np.sort(np.random.default_rng(seed).permutation(len(bank))[: 64 * clusters])
    index.train(l2_normalize(bank[sample]))
    for part in _normalized_parts(bank):
        index.add(part)
    return index


def neighbours(
    bank: np.ndarray, queries: np.ndarray, k: int, index: faiss.Index | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest rows by cosine, exactly or through an index of the bank.

    Arguments and result are those of exact_neighbours. An index may find fewer than k neighbours:
    the other positions are -1.
    """
    if index is None or not len(queries):
        return exact_neighbours(bank, queries, k)
    results = [index.search(part, k) for part in _normalized_parts(queries, QUERY_ROWS)]
    cosines, positions = (np.concatenate(columns) for columns in zip(*results, strict=True))
    return cosines, positions


def vote(
    cosines: np.ndarray,
    labels: np.ndarray,
    classes: int,
    ks: list[int],
    temperatures: list[float],
    top: int = 5,
) -> np.ndarray:
    """Count weighted votes: each neighbour votes for its class with exp(cosine / temperature).

    Args:
        cosines: (M, K), cosines of the K nearest neighbours, highest first.
        labels: (M, K) int64, classes of the neighbours; -1 for no neighbour.
        classes: C, the number of classes of the data set.
        ks: numbers of neighbours that vote, each at most K.
        temperatures: temperatures of the vote.
        top: number of classes to return for each query.

    Returns:
        (len(ks), len(temperatures), M, min(top, C)) int64, the classes with most votes first.
        Classes with equal votes are in ascending order. Classes without a vote are -1.
    """
    m = len(cosines)
    top = min(top, classes)
    predicted = np.empty((len(ks), len(temperatures), m, top), dtype=np.int64)
    # The last cell of the flat table of votes takes the votes of missing neighbours (label -1).
    cells = np.where(labels >= 0, np.arange(m)[:, None] * classes + labels, m * classes)
    for t, temperature in enumerate(temperatures):
        # Cosines are taken relative to the nearest neighbour, so that exp does not overflow. The
        # lower bound 1e-300 leaves every neighbour a vote, however far.
        relative = (cosines - cosines[:, :1]).astype(np.float64)
        weights = np.maximum(np.exp(relative / temperature), 1e-300)
        votes = np.zeros((m, classes))
        voted = 0  # number of nearest neighbours that ``votes`` has counted
        for k in sorted(set(ks)):
            new = np.bincount(
                cells[:, voted:k].ravel(), weights[:, voted:k].ravel(), m * classes + 1
            )
            votes = votes + new[:-1].reshape(m, classes)
            voted = k
            best = _best_classes(votes, top)
            for i in np.flatnonzero(np.array(ks) == k):
                predicted[i, t] = best
    return predicted


def _best_classes(votes: np.ndarray, top: int) -> np.ndarray:
    """(M, C) -> (M, top), see vote."""
    votes = votes.copy()
    rows = np.arange(len(votes))
    best = np.empty((len(votes), top), dtype=np.int64)
    for position in range(top):
        best[:, position] = votes.argmax(1)
        has_no_vote = votes[rows, best[:, position]] <= 0
        best[has_no_vote, position] = -1
        # -1 indexes the last class, and in these rows the last class has no vote either.
        votes[rows, best[:, position]] = 0
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
    """Predict classes for every k and temperature from one search.

    Args:
        bank: (N, D) features with labels.
        bank_labels: (N,) int64.
        queries: (M, D) features.
        classes: C, the number of classes of the data set; the bank may have fewer.
        ks: numbers of neighbours; larger numbers than N become N.
        temperatures: temperatures of the vote.
        index: index of the bank, see clustered_index; None for an exact search.

    Returns:
        (len(ks), len(temperatures), M, min(5, C)) int64, see vote.
    """
    ks = [min(k, len(bank)) for k in ks]
    cosines, positions = neighbours(bank, queries, max(ks), index)
    rows = max(min(QUERY_ROWS, VOTE_CELLS // classes), 1)
    parts = []
    for start in range(0, len(queries), rows):
        near = positions[start : start + rows]
        near_labels = np.where(near >= 0, bank_labels[near], -1)
        near_cosines = cosines[start : start + rows]
        parts.append(vote(near_cosines, near_labels, classes, ks, temperatures))
    if not parts:
        return np.empty((len(ks), len(temperatures), 0, min(5, classes)), np.int64)
    return np.concatenate(parts, axis=2)


def knn_predict(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Predict the class that the k nearest neighbours by cosine vote for.

    Each neighbour votes with weight exp(cosine / temperature) (Wu et al. 2018, sec. 3.4). The
    defaults are DINO's. The arguments are those of knn_grid.

    Returns:
        (M,) int64.
    """
    return knn_grid(bank, bank_labels, queries, classes, [k], [temperature])[0, 0, :, 0]


def knn_protocol(bank: np.ndarray, index: dict | None = None, **parameters: Any) -> dict:
    """Return the ``protocol`` dict of a k-NN row.

    Args:
        bank: (N, D) features.
        index: parameters of the clustered index, None for an exact search.
        parameters: k and temperature, or how k and temperature were chosen.
    """
    return dict(
        name='knn',
        distance='cosine',
        bank=len(bank),
        dtype=str(bank.dtype),
        index=index,
        **parameters,
    )


def recall(index: faiss.Index, bank: np.ndarray, queries: np.ndarray, k: int) -> float:
    """Return the share of the exact k nearest neighbours that an index finds, in percent."""
    k = min(k, len(bank))
    _, exact = exact_neighbours(bank, queries, k)
    _, approximate = neighbours(bank, queries, k, index)
    pairs = zip(approximate, exact, strict=True)
    common = sum(len(np.intersect1d(a, b)) for a, b in pairs)
    return 100 * common / exact.size
