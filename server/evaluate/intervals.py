"""How sure a figure is: intervals for proportions and for means of paired differences.

Two-sided intervals hold `confidence` between both ends; the one-sided bound says so in its name. Random draws come from the
generator that is passed in, so an interval computed twice is the same interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm

from common.errors import ShapeError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, the ends of its interval, and how many observations it stands on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def excludes(self, number: float) -> bool:
        """Whether `number` lies strictly outside the interval."""
        return number < self.low or number > self.high


def wilson(successes: float, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval for a proportion (Wilson 1927; Newcombe 1998, method 3).

    `successes` may hold halves: a tie counted half. A variable in {0, ½, 1} varies no more than a coin of the same mean, so
    the interval is then wider than it need be, never narrower. Raises ShapeError when nothing was observed.
    """
    _check(successes, n)
    z = float(norm.ppf(0.5 + confidence / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At p = 0 and p = 1 one end equals p up to rounding; an end never lies on the wrong side of the estimate.
    return Estimate(p, max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p)), n)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """The exact interval for a proportion (Clopper and Pearson 1934): covers at least `confidence`, whatever the truth."""
    _check(successes, n)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.ppf(1 - tail, successes + 1, n - successes))
    return Estimate(successes / n, low, high, n)


def clopper_pearson_upper(successes: int, n: int, confidence: float = 0.95) -> float:
    """One-sided exact upper bound on a proportion: with 0 of n found, 1 − (1 − confidence)^(1/n)."""
    _check(successes, n)
    return 1.0 if successes == n else float(beta.ppf(confidence, successes + 1, n - successes))


def bootstrap_mean(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    clusters: Sequence[str] | None = None,
) -> Estimate:
    """Percentile bootstrap interval for the mean of `values` (n,).   Efron 1979.

    With `clusters` (n,), whole clusters are drawn, because two pairs of one question are not two independent observations.
    A difference of two measurements of the same items makes it a paired interval. Raises ShapeError when nothing was
    observed, or on values that are not finite.
    """
    v: Floats = np.asarray(values, np.float64)
    if v.ndim != 1 or v.size == 0 or not np.isfinite(v).all():
        raise ShapeError(f"an interval needs at least one finite number; got shape {v.shape}, {int((~np.isfinite(v)).sum())} not finite")
    if clusters is None:
        sums, counts = v, np.ones(v.size)
    else:
        if len(clusters) != v.size:
            raise ShapeError(f"{v.size} values but {len(clusters)} cluster names")
        _, place = np.unique(np.asarray(clusters), return_inverse=True)
        sums = np.bincount(place, weights=v).astype(np.float64)
        counts = np.bincount(place).astype(np.float64)
    draws = rng.integers(0, sums.size, size=(resamples, sums.size))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(v.mean()), float(low), float(high), int(v.size))


def paired_difference(after: ArrayLike, before: ArrayLike, rng: np.random.Generator, *, resamples: int = 2000) -> Estimate:
    """Mean of `after − before` over the same items (n,), with a 95 % bootstrap interval over items."""
    a, b = np.asarray(after, np.float64), np.asarray(before, np.float64)
    if a.shape != b.shape:
        raise ShapeError(f"paired figures have shapes {a.shape} and {b.shape}; both must measure the same items")
    return bootstrap_mean(a - b, rng, resamples=resamples)


def _check(successes: float, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ShapeError(f"{successes:g} of {n} is not a proportion; at least one observation is needed")
