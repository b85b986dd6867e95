"""Counter-based random numbers: a pure function of a key and a counter, with no state to save, share or restore."""

import random

import numpy as np
import torch

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_MASK, _SHIFT = np.uint64(_WORD), np.uint64(32)


def philox(counter: np.ndarray, seed: int) -> np.ndarray:
    """Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), for many counters at once.

    Args:
        counter: (..., 4) non-negative integers below 2**32.
        seed: non-negative integer below 2**64, the key.

    Returns:
        (..., 4) uint64 holding 32 random bits each.
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        low, high = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (high >> _SHIFT) ^ c1 ^ np.uint64(k0),
            high & _MASK,
            (low >> _SHIFT) ^ c3 ^ np.uint64(k1),
            low & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1)


def uniform(n: int, *counter: np.ndarray | int, seed: int) -> np.ndarray:
    """``n`` uniform numbers in [0, 1) for each element of the broadcast ``counter`` (three integers): (..., n) float64."""
    blocks = -(-n // 4)
    words = np.broadcast_arrays(*(np.asarray(c)[..., None] for c in counter), np.arange(blocks))
    return (philox(np.stack(words, axis=-1), seed) * 2.0**-32).reshape(
        *words[0].shape[:-1], 4 * blocks
    )[..., :n]


def mix(*numbers: int) -> int:
    """One 63-bit seed from several integers, such that neighbouring inputs give unrelated seeds."""
    state = 0
    for number in map(int, numbers):
        c0, c1 = _philox_of_one(number & _WORD, (number >> 32) & _WORD, 0, 1, state)
        state = (c0 << 32 | c1) >> 1
    return state


def _philox_of_one(c0: int, c1: int, c2: int, c3: int, seed: int) -> tuple[int, int]:
    """The first two words of ``philox`` for one counter: numpy takes ten times as long for so little, and training asks at every step."""
    k0, k1 = seed & _WORD, seed >> 32
    for _ in range(10):
        low, high = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (high >> 32) ^ c1 ^ k0, high & _WORD, (low >> 32) ^ c3 ^ k1, low & _WORD
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1


def permutation(n: int, *numbers: int) -> np.ndarray:
    """A permutation of range(n), (n,) int64, that depends on ``numbers`` alone and on no library's generator."""
    counter = np.zeros((n, 4), dtype=np.uint64)
    counter[:, 0] = np.arange(n)
    words = philox(counter, mix(*numbers))
    return np.argsort(words[:, 0] << _SHIFT | words[:, 1], kind='stable')


def seed_everything(seed: int) -> None:
    """Set the generators of torch, numpy and Python, which dropout and the like draw from."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed costs 100 times as much
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)
