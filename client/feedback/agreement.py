"""How well annotators agree, beyond chance. Arithmetic alone: no text, no files.

    percent            share of pairs of votes on one unit that are equal
    cohen              κ of two annotators and its standard error        Cohen 1960; Fleiss, Cohen and Everitt 1969
    fleiss             κ of n votes a unit                               Fleiss 1971; Fleiss, Nee and Landis 1979
    krippendorff       α with missing votes and any distance             Krippendorff 2011
    interval           percentile bootstrap over units (Efron and Tibshirani 1993): votes on one question hang together, so
                       questions are drawn again, not votes

A table is units × categories: how many votes of each category a unit got. `None` stands for a figure that the data do not
determine, such as κ when everybody always says the same.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Literal["nominal", "ordinal", "interval", "ratio"]
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95 % interval, and the number of units behind it."""

    value: float | None
    low: float | None
    high: float | None
    units: int


def table(votes: Sequence[Sequence[int]], categories: int) -> Floats:
    """votes: the category of every vote, by unit → (units, categories)."""
    counts = np.zeros((len(votes), categories))
    for row, unit in enumerate(votes):
        for category in unit:
            counts[row, category] += 1
    return counts


def percent(counts: Floats) -> float | None:
    """Mean over units of Σ_c n_c(n_c − 1) / (n(n − 1)); units with fewer than two votes say nothing."""
    agreeing = _pairwise(counts)
    return float(agreeing.mean()) if len(agreeing) else None


def _pairwise(counts: Floats) -> Floats:
    n = counts.sum(1)
    shared = counts[n >= 2]
    n = n[n >= 2]
    result: Floats = (shared * (shared - 1)).sum(1) / (n * (n - 1))
    return result


def cohen(first: Sequence[int], second: Sequence[int], categories: int) -> tuple[float | None, float | None]:
    """(κ, standard error) of two annotators over the units that both judged.

    κ = (p_o − p_e) / (1 − p_e). The error is that of Fleiss, Cohen and Everitt 1969, eq. 10, which does not assume κ = 0.
    """
    n = len(first)
    if n == 0:
        return None, None
    p = np.zeros((categories, categories))
    np.add.at(p, (np.asarray(first), np.asarray(second)), 1 / n)
    rows, columns, observed = p.sum(1), p.sum(0), float(np.trace(p))
    expected = float(rows @ columns)
    if math.isclose(expected, 1.0):
        return None, None
    kappa = (observed - expected) / (1 - expected)
    both = rows[None, :] + columns[:, None]  # of the cell's own annotators the other way round: p_{j.} + p_{.i}
    diagonal = float((np.diag(p) * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    others = (1 - kappa) ** 2 * float((p * both**2).sum() - (np.diag(p) * np.diag(both) ** 2).sum())
    centre = (kappa - expected * (1 - kappa)) ** 2
    return kappa, math.sqrt(max(diagonal + others - centre, 0.0) / n) / (1 - expected)


def fleiss(counts: Floats) -> tuple[float | None, float | None]:
    """(κ, its standard error if the truth were 0) of units with the same number of votes each. Raises ValueError otherwise.

    κ = (P̄ − P̄_e) / (1 − P̄_e), Fleiss 1971, eq. 7; error of Fleiss, Nee and Landis 1979, eq. 14.
    """
    if not len(counts):
        return None, None
    votes = counts.sum(1)
    n = float(votes[0])
    if n < 2 or np.any(votes != n):
        raise ValueError("Fleiss' κ needs the same number of votes, at least two, on every unit")
    share = counts.sum(0) / counts.sum()
    expected = float((share**2).sum())
    if math.isclose(expected, 1.0):
        return None, None
    kappa = (float(_pairwise(counts).mean()) - expected) / (1 - expected)
    spread = float((share * (1 - share)).sum())
    variance = 2 / (len(counts) * n * (n - 1)) * (spread**2 - float((share * (1 - share) * (1 - 2 * share)).sum())) / spread**2
    return kappa, math.sqrt(variance)


def krippendorff(counts: Floats, metric: Metric = "nominal", values: Sequence[float] | None = None) -> float | None:
    """α = 1 − D_o / D_e over the coincidences of units with at least two votes. Krippendorff 2011, section E.

    `values` are what the categories stand for, in ascending order; needed for interval and ratio.
    """
    return _alpha(coincidences(counts).sum(0), metric, values)


def coincidences(counts: Floats) -> Floats:
    """(units, c, c): o_ck = n_c(n_k − [c = k]) / (n − 1), zero for a unit with fewer than two votes."""
    n = counts.sum(1)
    pairs = counts[:, :, None] * counts[:, None, :]
    diagonal = np.arange(counts.shape[1])
    pairs[:, diagonal, diagonal] -= counts
    weight = np.where(n >= 2, 1 / np.maximum(n - 1, 1), 0.0)
    result: Floats = pairs * weight[:, None, None]
    return result


def _alpha(o: Floats, metric: Metric, values: Sequence[float] | None) -> float | None:
    n_c = o.sum(1)
    n = n_c.sum()
    distance = _distance(n_c, metric, values)
    expected = float((np.outer(n_c, n_c) * distance).sum())
    if n < 2 or expected == 0:
        return None
    return float(1 - (n - 1) * (o * distance).sum() / expected)


def _distance(n_c: Floats, metric: Metric, values: Sequence[float] | None) -> Floats:
    """δ², Krippendorff 2011, section E."""
    if metric == "nominal":
        return 1 - np.eye(len(n_c))
    if metric == "ordinal":
        below = np.cumsum(n_c) - n_c / 2  # mid-ranks: their difference is the sum between two ranks less half of both ends
        result: Floats = np.subtract.outer(below, below) ** 2
        return result
    if values is None:
        raise ValueError(f"a distance of kind `{metric}` needs the values of the categories")
    v = np.asarray(values, dtype=np.float64)
    difference: Floats = np.subtract.outer(v, v) ** 2
    if metric == "interval":
        return difference
    together: Floats = np.add.outer(v, v) ** 2
    return np.divide(difference, together, out=np.zeros_like(difference), where=together > 0)


def interval(counts: Floats, figure: Callable[[Floats], float | None], rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """The figure with its 95 % percentile interval over units with at least two votes; draws that leave it undetermined are left out."""
    shared = counts[counts.sum(1) >= 2]
    value = figure(shared) if len(shared) else None
    if value is None:
        return Estimate(None, None, None, len(shared))
    draws = (figure(shared[rng.integers(0, len(shared), len(shared))]) for _ in range(resamples))
    found = [draw for draw in draws if draw is not None]
    low, high = np.percentile(found, [2.5, 97.5]) if found else (value, value)
    return Estimate(value, float(low), float(high), len(shared))


def alpha_interval(counts: Floats, rng: np.random.Generator, metric: Metric = "nominal", resamples: int = RESAMPLES) -> Estimate:
    """As `interval` of `krippendorff`, from the units' coincidences once: many times faster."""
    shared = counts[counts.sum(1) >= 2]
    o = coincidences(shared)
    value = _alpha(o.sum(0), metric, None) if len(shared) else None
    if value is None:
        return Estimate(None, None, None, len(shared))
    weights = rng.multinomial(len(shared), np.full(len(shared), 1 / len(shared)), size=resamples)
    sums = np.tensordot(weights.astype(np.float64), o, axes=1)
    found = [alpha for total in sums if (alpha := _alpha(total, metric, None)) is not None]
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(shared))
