"""Weighted k-nearest-neighbour classification, exact, with FAISS."""
import faiss
import numpy as np


def unit(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1: (N, D) -> (N, D) float32."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def knn_predict(bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray, classes: int, k: int = 20,
                temperature: float = 0.07) -> np.ndarray:
    """Vote of the k nearest neighbours by cosine, each with weight exp(cos / temperature) (Wu et al. 2018, sec. 3.4; the
    defaults are DINO's).

    Args:
        bank: (N, D) features with known labels; bank_labels: (N,) int64.
        queries: (M, D) features.
        classes: number of classes of the data set, which may be more than occur in the bank.
        k: neighbours, at most N.
        temperature: of the weights.

    Returns:
        (M,) int64 predicted classes.
    """
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(unit(bank))
    similarity, neighbour = index.search(unit(queries), min(k, len(bank)))                    # (M, k)
    weight = np.exp((similarity - similarity[:, :1]) / temperature)         # relative to the nearest: exp cannot overflow
    votes = np.zeros((len(queries), classes))
    np.add.at(votes, (np.arange(len(queries))[:, None], bank_labels[neighbour]), weight)
    return votes.argmax(1)


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Share of equal entries, in percent."""
    return 100 * float((predicted == labels).mean())
