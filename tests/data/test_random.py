import numpy as np
import pytest

from ssl_zoo.data.random import mix, permutation, philox, uniform


@pytest.mark.parametrize(('counter', 'key', 'expected'), [
    ([0] * 4, 0, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
    ([0xffffffff] * 4, 0xffffffffffffffff, [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
    ([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], 0x299f31d0a4093822, [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]),
])
def test_philox_known_answers(counter, key, expected):
    """The known-answer vectors that come with the authors' Random123 library for philox4x32-10."""
    assert philox(np.array(counter), key).tolist() == expected


def test_uniform_is_a_function_of_key_and_counter_alone():
    indices = np.array([5, 6, 7])
    batch = uniform(15, indices, np.array([2, 2, 3]), 1, seed=9)
    assert batch.shape == (3, 15)
    assert np.array_equal(batch[1:2], uniform(15, np.array([6]), np.array([2]), 1, seed=9))
    for other in (uniform(15, indices, np.array([2, 2, 3]), 0, seed=9), uniform(15, indices, np.array([1, 1, 1]), 1, seed=9),
                  uniform(15, indices, np.array([2, 2, 3]), 1, seed=10)):
        assert not np.isclose(batch, other).any()


def test_uniform_is_uniform():
    u = uniform(4, np.arange(20000), 0, 0, seed=1)
    assert 0 <= u.min() and u.max() < 1
    for column in u.T:
        histogram = np.histogram(column, 20, (0, 1))[0]
        assert ((histogram - 1000) ** 2 / 1000).sum() < 45                       # chi-squared, 19 degrees: p = 0.0007
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03


def test_mix_separates_neighbours():
    seeds = {mix(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert all(0 <= s < 2 ** 63 for s in seeds)
    assert mix(1, 2) != mix(2, 1)


def test_permutation():
    p = permutation(1000, 3, 4)
    assert sorted(p) == list(range(1000))
    assert np.array_equal(p, permutation(1000, 3, 4))
    assert (p == permutation(1000, 3, 5)).mean() < 0.02
    assert abs(np.corrcoef(p, np.arange(1000))[0, 1]) < 0.1
