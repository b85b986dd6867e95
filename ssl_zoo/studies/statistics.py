"""Statistics over training seeds: an arm's mean and interval, paired differences of two arms, Holm's adjustment of several tests."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
SAME = 1e-9  # percentage points: differences equal but for rounding would give t tests of p near 0


@dataclass(frozen=True)
class Estimate:
    """Attributes: n: values; mean; std: sample standard deviation, None for one value; low, high: the 95 % interval of the mean (Student's
    t), None for one value and where all are the same, for a deviation of 0 says nothing of the next seed."""

    n: int
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference(Estimate):
    """Attributes: those of an Estimate, of the differences seed by seed; p: of the paired t test, two-sided, None where there is no
    interval."""

    p: float | None = None


def estimate(values: Iterable[float]) -> Estimate | None:
    """Mean, deviation and interval of the finite ones among the values; None if there are none."""
    found = np.array([v for v in values if np.isfinite(v)], dtype=np.float64)
    n = len(found)
    if n < 2:
        return Estimate(n, float(found[0])) if n else None
    mean, std = float(found.mean()), float(found.std(ddof=1))
    if std < SAME:
        return Estimate(n, mean, 0.0)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * std / n**0.5
    return Estimate(n, mean, std, mean - half, mean + half)


def paired(values: dict[int, float], reference: dict[int, float]) -> Difference | None:
    """values - reference, by the seeds that both have, with the paired t test; None if they have none in common.

    Args:
        values, reference: seed -> figure.
    """
    seeds = [
        s for s in values if s in reference and np.isfinite(values[s]) and np.isfinite(reference[s])
    ]
    found = estimate(values[s] - reference[s] for s in seeds)
    if found is None or found.low is None:
        return found and Difference(found.n, found.mean, found.std)
    p = stats.ttest_rel([values[s] for s in seeds], [reference[s] for s in seeds]).pvalue
    return Difference(found.n, found.mean, found.std, found.low, found.high, float(p))


def holm(ps: list[float | None]) -> list[float | None]:
    """p values adjusted so that the chance of any false finding among them stays below the level (Holm, Scandinavian Journal of Statistics
    6, 1979): the smallest times their number m, the next times m - 1, ..., never less than the one before, at most 1. None stays
    None and is not counted."""
    order = sorted((i for i, p in enumerate(ps) if p is not None), key=lambda i: ps[i])
    adjusted, least = list(ps), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * ps[i]))
        adjusted[i] = least
    return adjusted
