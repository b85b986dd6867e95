import numpy as np
import pytest

from ssl_zoo.data.random import mix, permutation, philox, uniform

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ('counter', 'key', 'expected'),
    [
        ([0] * 4, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, 0xFFFFFFFFFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    """The known-answer vectors that come with the authors' Random123 library for philox4x32-10."""
    assert philox(np.array(counter), key).tolist() == expected


def test_uniform_is_a_function_of_key_and_counter_alone():
    indices = np.array([5, 6, 7])
    batch = uniform(15, indices, np.array([2, 2, 3]), 1, seed=9)
    assert batch.shape == (3, 15)
    assert np.array_equal(batch[1:2], uniform(15, np.array([6]), np.array([2]), 1, seed=9))
    for other in (
        uniform(15, indices, np.array([2, 2, 3]), 0, seed=9),
        uniform(15, indices, np.array([1, 1, 1]), 1, seed=9),
        uniform(15, indices, np.array([2, 2, 3]), 1, seed=10),
    ):
        assert not np.isclose(batch, other).any()


def test_uniform_is_uniform():
    u = uniform(4, np.arange(20000), 0, 0, seed=1)
    assert 0 <= u.min() and u.max() < 1
    for column in u.T:
        histogram = np.histogram(column, 20, (0, 1))[0]
        assert ((histogram - 1000) ** 2 / 1000).sum() < 45  # chi-squared, 19 degrees: p = 0.0007
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03


def test_mix_separates_neighbours():
    seeds = {mix(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert all(0 <= s < 2**63 for s in seeds)
    assert mix(1, 2) != mix(2, 1)


def test_permutation():
    p = permutation(1000, 3, 4)
    assert sorted(p) == list(range(1000))
    assert np.array_equal(p, permutation(1000, 3, 4))
    assert (p == permutation(1000, 3, 5)).mean() < 0.02
    assert abs(np.corrcoef(p, np.arange(1000))[0, 1]) < 0.1
