"""Statistics over training seeds: means, paired differences, adjusted p values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
# Percentage points. With differences that are equal up to rounding, a t test would give p near 0.
EQUAL_TOLERANCE = 1e-9
# Of a permutation test; up to 7 values (5,040 orders) all orders are tried, and the p value is
# exact.
RESAMPLES = 9999
FEWEST_RANKED = 3  # values of a rank correlation


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


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation; equal values share the mean of their ranks.

    Attributes:
        n: number of pairs.
        rho: coefficient, from -1 to 1.
        p: two-sided p value of the permutation test; it takes the pairs for independent.
    """

    n: int
    rho: float
    p: float


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return the rank correlation; None for fewer than 3 pairs, and if all x or all y are equal."""
    if len(x) < FEWEST_RANKED or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(_standard_ranks(x) @ _standard_ranks(y))


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> RankCorrelation | None:
    """Return the rank correlation with its p value; None where ``spearman`` has none."""
    rho = spearman(x, y)
    if rho is None:
        return None
    test = _permuted(_standard_ranks(x), _standard_ranks(y))
    return RankCorrelation(len(x), rho, float(test.pvalue))


@cache
def least_distinguishable(n: int) -> float | None:
    """Return the least rank correlation of n pairs that chance gives in at most 5 % of all orders.

    Both signs count, and no two values are equal. None for fewer than 5 pairs, of which even a
    perfect order is not rare enough.
    """
    if n < FEWEST_RANKED:
        return None
    ranks = _standard_ranks(range(n))
    by_chance = np.abs(_permuted(ranks, ranks).null_distribution).round(9)
    for size in np.unique(by_chance):
        if np.mean(by_chance >= size) <= 1 - LEVEL:
            return float(size)
    return None


def regret(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Return the accuracy that a choice by the greatest score loses against the best choice.

    Args:
        scores: a number for each candidate, the greater the better; of several greatest the mean of
            their accuracies counts.
        accuracies: accuracy of each candidate, in percent.

    Returns:
        Percentage points, at least 0.
    """
    chosen = np.asarray(scores) == max(scores)
    return float(max(accuracies) - np.asarray(accuracies)[chosen].mean())


def _standard_ranks(values: Sequence[float]) -> np.ndarray:
    """Return ranks, centred and scaled so that the product of two is their correlation."""
    ranks = stats.rankdata(values)
    centred = ranks - ranks.mean()
    return centred / np.linalg.norm(centred)


def _permuted(x_ranks: np.ndarray, y_ranks: np.ndarray) -> Any:
    """Return scipy's permutation test of the correlation of two vectors of standard ranks."""

    def correlations(permuted: np.ndarray, axis: int) -> np.ndarray:
        return (np.moveaxis(permuted, axis, -1) * y_ranks).sum(-1)

    return stats.permutation_test(
        (x_ranks,),
        correlations,
        permutation_type='pairings',
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(0),
    )
