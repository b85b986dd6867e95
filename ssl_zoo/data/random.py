"""Counter-based random numbers: a pure function of a key and a counter, without any state.

The generator is Philox-4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1,
2, 3", SC 2011). It encrypts a counter of four 32-bit words with a key of 64 bits and returns four
words of 32 random bits.

For the views of training images the key is the run's seed, and the counter is (image index, epoch,
view number, block). Block b gives the numbers 4 b to 4 b + 3 of the view. So the parameters of a
view depend on the seed and the counter alone, not on the batch, workers, processes or resumes.
"""

import random

import numpy as np
import torch

ROUNDS = 10
WORD_MASK = 0xFFFFFFFF  # 32 bits
# The constants of Philox-4x32: the two multipliers, and the increments of the key's two words.
MULTIPLIER_0 = 0xD2511F53
MULTIPLIER_1 = 0xCD9E8D57
WEYL_0 = 0x9E3779B9
WEYL_1 = 0xBB67AE85


def philox(counter: np.ndarray, seed: int) -> np.ndarray:
    """Compute Philox-4x32-10 for many counters at once.

    Args:
        counter: (..., 4) non-negative integers below 2**32.
        seed: the key, a non-negative integer below 2**64.

    Returns:
        (..., 4) uint64, 32 random bits in each.
    """
    mask = np.uint64(WORD_MASK)
    shift = np.uint64(32)
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0 = seed & WORD_MASK
    k1 = seed >> 32
    for _ in range(ROUNDS):
        product_0 = np.uint64(MULTIPLIER_0) * c0
        product_1 = np.uint64(MULTIPLIER_1) * c2
        c0 = (product_1 >> shift) ^ c1 ^ np.uint64(k0)
        c1 = product_1 & mask
        c2 = (product_0 >> shift) ^ c3 ^ np.uint64(k1)
        c3 = product_0 & mask
        k0 = (k0 + WEYL_0) & WORD_MASK
        k1 = (k1 + WEYL_1) & WORD_MASK
    return np.stack([c0, c1, c2, c3], axis=-1)


def _philox_words(c0: int, c1: int, c2: int, c3: int, seed: int) -> tuple[int, int]:
    """Compute the first two words of `philox` for one counter, in Python integers.

    numpy takes ten times as long for one counter, and training calls `mix` at every step.
    """
    k0 = seed & WORD_MASK
    k1 = seed >> 32
    for _ in range(ROUNDS):
        product_0 = MULTIPLIER_0 * c0
        product_1 = MULTIPLIER_1 * c2
        c0 = (product_1 >> 32) ^ c1 ^ k0
        c1 = product_1 & WORD_MASK
        c2 = (product_0 >> 32) ^ c3 ^ k1
        c3 = product_0 & WORD_MASK
        k0 = (k0 + WEYL_0) & WORD_MASK
        k1 = (k1 + WEYL_1) & WORD_MASK
    return c0, c1


def uniform(n: int, *counter: np.ndarray | int, seed: int) -> np.ndarray:
    """Draw n uniform numbers for each element of a counter.

    Args:
        n: number of uniform numbers for each element.
        counter: the first three words of the counter, integers below 2**32 or arrays that broadcast
            to shape (...).
        seed: the key.

    Returns:
        (..., n) float64 in [0, 1), multiples of 2**-32.
    """
    blocks = -(-n // 4)  # Philox returns four words for a counter
    first_words = (np.asarray(word)[..., None] for word in counter)
    words = np.broadcast_arrays(*first_words, np.arange(blocks))
    bits = philox(np.stack(words, axis=-1), seed)  # (..., blocks, 4)
    numbers = (bits * 2.0**-32).reshape(*words[0].shape[:-1], 4 * blocks)
    return numbers[..., :n]


def mix(*numbers: int) -> int:
    """Derive one 63-bit seed from several integers. Neighbouring integers give unrelated seeds.

    Args:
        numbers: non-negative integers below 2**64, whose order matters.

    Returns:
        A seed in [0, 2**63).
    """
    state = 0
    for number in map(int, numbers):
        c0, c1 = _philox_words(number & WORD_MASK, (number >> 32) & WORD_MASK, 0, 1, state)
        state = (c0 << 32 | c1) >> 1
    return state


def permutation(n: int, *numbers: int) -> np.ndarray:
    """Draw a permutation of range(n) as a pure function of the arguments.

    Args:
        n: length.
        numbers: integers from which `mix` derives the key, such as (seed, epoch).

    Returns:
        (n,) int64.
    """
    counter = np.zeros((n, 4), dtype=np.uint64)
    counter[:, 0] = np.arange(n)
    words = philox(counter, mix(*numbers))
    sort_keys = words[:, 0] << np.uint64(32) | words[:, 1]
    return np.argsort(sort_keys, kind='stable')


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (CPU and GPU), numpy and Python, for example for dropout.

    Args:
        seed: non-negative integer below 2**63; numpy gets its lower 32 bits.
    """
    torch.default_generator.manual_seed(seed)  # torch.manual_seed costs 100 times as much
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)
    np.random.seed(seed & WORD_MASK)
    random.seed(seed)
