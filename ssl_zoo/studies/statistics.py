"""Statistics over training seeds: means, paired differences, adjusted p values."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
# Percentage points. With differences that are equal up to rounding, a t test would give p near 0.
EQUAL_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    The interval is None for one value, and when all values are equal, because a deviation of 0
    says nothing about the next seed.

    Attributes:
        n: number of values.
        mean: mean of the values.
        std: sample standard deviation; None for one value.
        low: lower end of the 95 % interval of the mean (Student's t), or None.
        high: upper end of the interval, or None.
    """

    n: int
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of differences, seed by seed.

    Attributes:
        p: p value of the two-sided paired t test; None when there is no interval.
    """

    p: float | None = None


def estimate(values: Iterable[float]) -> Estimate | None:
    """Return mean, deviation and interval of the finite values; None if there are none."""
    finite = np.array([value for value in values if np.isfinite(value)], dtype=np.float64)
    n = len(finite)
    if n == 0:
        return None
    if n == 1:
        return Estimate(n, float(finite[0]))
    mean = float(finite.mean())
    std = float(finite.std(ddof=1))
    if std < EQUAL_TOLERANCE:
        return Estimate(n, mean, 0.0)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
    half_width = quantile * std / n**0.5
    return Estimate(n, mean, std, mean - half_width, mean + half_width)


def paired_difference(values: dict[int, float], reference: dict[int, float]) -> Difference | None:
    """Return values - reference over the seeds that both have, with the paired t test.

    Args:
        values: seed -> figure.
        reference: seed -> figure.

    Returns:
        None if no seed has a finite figure in both.
    """
    seeds = [
        seed
        for seed in values
        if seed in reference and np.isfinite(values[seed]) and np.isfinite(reference[seed])
    ]
    difference = estimate(values[seed] - reference[seed] for seed in seeds)
    if difference is None:
        return None
    if difference.low is None:
        return Difference(difference.n, difference.mean, difference.std)
    test = stats.ttest_rel([values[seed] for seed in seeds], [reference[seed] for seed in seeds])
    return Difference(
        difference.n,
        difference.mean,
        difference.std,
        difference.low,
        difference.high,
        float(test.pvalue),
    )


def holm(p_values: list[float | None]) -> list[float | None]:
    """Adjust p values by Holm's method, which controls the family-wise error rate.

    The smallest of m p values is multiplied by m, the next by m - 1, and so on. No adjusted value
    is less than the one before, and none is more than 1 (Holm, Scandinavian Journal of Statistics
    6, 1979).

    Args:
        p_values: the p values; a None stays None and does not count towards m.
    """
    tested = [index for index, p in enumerate(p_values) if p is not None]
    order = sorted(tested, key=lambda index: p_values[index])
    adjusted = list(p_values)
    previous = 0.0
    for rank, index in enumerate(order):
        previous = max(previous, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = previous
    return adjusted
