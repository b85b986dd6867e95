"""Weighted k-nearest-neighbour classification with FAISS, exact or through an index of clusters."""
from collections.abc import Iterator

import faiss
import numpy as np
from faiss.contrib.exhaustive_search import knn_ground_truth

ROWS = 65536                      # of a bank that may be a file larger than memory, copied at a time


def unit(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1: (N, D) -> (N, D) float32."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _parts(features: np.ndarray, rows: int = ROWS) -> Iterator[np.ndarray]:
    for start in range(0, len(features), rows):
        yield unit(features[start:start + rows])


def build_index(bank: np.ndarray, clusters: int | None = None, probes: int = 32, seed: int = 0) -> faiss.Index:
    """An index of unit vectors by inner product, which is the cosine; on all GPUs if there are some.

    Args:
        bank: (N, D) features, float16 or float32, possibly memory-mapped: they are copied in parts.
        clusters: None for an exact index, 4 N D bytes. A number: k-means clusters of which a search looks into ``probes``, with 8
            bits per number (IVF, SQ8): N D bytes, for banks beyond memory.
        probes: see above.
        seed: of the k-means.
    """
    if clusters is None:
        index = faiss.IndexFlatIP(bank.shape[1])
    else:
        index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(bank.shape[1]), bank.shape[1], clusters,
                                              faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        index.nprobe, index.cp.seed = min(probes, clusters), seed
        sample = np.sort(np.random.default_rng(seed).permutation(len(bank))[:64 * clusters])
        index.train(unit(bank[sample]))
    if clusters is None and faiss.get_num_gpus() > 0:
        options = faiss.GpuMultipleClonerOptions()
        options.shard = True
        index = faiss.index_cpu_to_all_gpus(index, options)
    for part in _parts(bank):
        index.add(part)
    return index


def search(index: faiss.Index, queries: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cosines (m, k) float32 and positions (m, k) int64 of the nearest k, best first, for one part of the queries after the other.
    An index of clusters may find fewer: the rest has position -1."""
    for part in _parts(queries, 4096):
        yield index.search(part, k)


def vote(cosines: np.ndarray, labels: np.ndarray, classes: int, ks: list[int], temperatures: list[float], top: int = 5) -> np.ndarray:
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
    cells = np.where(labels >= 0, np.arange(m)[:, None] * classes + labels, m * classes)      # the last cell takes what is no neighbour
    for t, temperature in enumerate(temperatures):
        weights = np.exp((cosines - cosines[:, :1]).astype(np.float64) / temperature)         # relative to the nearest: no overflow
        votes, voted = np.zeros((m, classes)), 0
        for k in sorted(set(ks)):
            new = np.bincount(cells[:, voted:k].ravel(), weights[:, voted:k].ravel(), m * classes + 1)
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
        best[votes[rows, best[:, place]] <= 0, place] = -1           # -1 indexes the last class below, which has no vote either
        votes[rows, best[:, place]] = 0
    return best


def knn_grid(bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray, classes: int, ks: list[int], temperatures: list[float],
             index: faiss.Index | None = None) -> np.ndarray:
    """Predictions for every k and temperature from one search.

    Args:
        bank: (N, D) features with labels; bank_labels: (N,) int64; queries: (M, D) features.
        classes: number of classes of the data set, which may be more than occur in the bank.
        ks: neighbours, cut to N; temperatures: of the weights.
        index: over the bank; an exact one by default.

    Returns:
        (len(ks), len(temperatures), M, up to 5) int64, see vote.
    """
    index = index or build_index(bank)
    ks = [min(k, len(bank)) for k in ks]
    parts = []
    for cosines, positions in search(index, queries, max(ks)):
        labels = np.where(positions >= 0, bank_labels[positions], -1)
        parts.append(vote(cosines, labels, classes, ks, temperatures))
    return np.concatenate(parts, axis=2) if parts else np.empty((len(ks), len(temperatures), 0, min(5, classes)), np.int64)


def knn_predict(bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray, classes: int, k: int = 20,
                temperature: float = 0.07) -> np.ndarray:
    """The class that the k nearest neighbours by cosine vote for, each with weight exp(cos / temperature): (M,) int64
    (Wu et al. 2018, sec. 3.4; the defaults are DINO's). Arguments as knn_grid's."""
    return knn_grid(bank, bank_labels, queries, classes, [k], [temperature])[0, 0, :, 0]


def recall(index: faiss.Index, bank: np.ndarray, queries: np.ndarray, k: int) -> float:
    """The share of the exact k nearest neighbours that an index finds, in percent. The bank is read once, in parts."""
    _, true = knn_ground_truth(unit(queries), _parts(bank), k, faiss.METRIC_INNER_PRODUCT)
    found = np.concatenate([positions for _, positions in search(index, queries, k)])
    return 100 * sum(len(np.intersect1d(a, b)) for a, b in zip(found, true, strict=True)) / true.size
