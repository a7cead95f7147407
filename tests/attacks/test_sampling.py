"""Batches are Poisson samples, as the accountant assumes: counts tell, and so do many runs of an attack.

Inclusion counts  Batch sizes and each unit's number of batches scatter as binomial counts. Shuffled batches of one size do not scatter at all.
White box         On worst-case gradients an attacker tells runs with and without one unit apart. Under Poisson sampling the proof stays below
                  the accounted ε; under shuffling, accounted as Poisson, it rises above (Chua et al. 2024, Annamalai et al. 2024).
"""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import chi2, kstest

from client.train.dp_sgd import private_step
from client.train.engines import UnitRows
from client.train.examples import poisson_sample
from client.train.noise import Stream
from common.privacy.accounting import epsilon
from common.privacy.audit import many_runs_epsilon
from common.privacy.mechanism import Mechanism, Unit
from tests.helpers.gradients import Given, Listed, Width


def key_of(*names: object) -> bytes:
    return hashlib.sha256(repr(names).encode()).digest()


# -- inclusion counts --------------------------------------------------------------------------------------------------

UNITS, STEPS, RATE = 400, 600, 0.1
STUDIES = 16
"""A p of one study can be small by chance; those of many must be spread evenly."""
Draw = Callable[[int, int], NDArray[np.bool_]]
"""(study, step) → which units take part."""


def poisson(study: int, step: int) -> NDArray[np.bool_]:
    data = Listed([[u] for u in range(UNITS)])
    drawn = [unit.rows[0] for unit in poisson_sample(data, rate=RATE, rows_per_unit=1, key=key_of("inclusion", study, step))]
    taken = np.zeros(UNITS, np.bool_)
    taken[drawn] = True
    return taken


def shuffled(study: int, step: int) -> NDArray[np.bool_]:
    """The twin: a permutation an epoch, cut into batches of q·N."""
    size = int(RATE * UNITS)
    epoch, place = divmod(step, UNITS // size)
    order = np.argsort(Stream(key_of("epoch", study, epoch), "shuffle").words(UNITS))
    taken = np.zeros(UNITS, np.bool_)
    taken[order[place * size : (place + 1) * size]] = True
    return taken


def scatter(counts: NDArray[np.int64], trials: int) -> float:
    """Two-sided p of Σ(c − nq)²/(nq(1 − q)) against χ², for binomial counts of `trials`."""
    statistic = float(np.square(counts - trials * RATE).sum() / (trials * RATE * (1 - RATE)))
    return 2 * min(chi2.cdf(statistic, len(counts)), chi2.sf(statistic, len(counts)))


def p_values(draw: Draw, study: int) -> tuple[float, float]:
    taken = np.stack([draw(study, step) for step in range(STEPS)])
    return scatter(taken.sum(1), UNITS), scatter(taken.sum(0), STEPS)


def test_inclusion_counts_are_binomial_and_the_shuffling_twin_is_rejected() -> None:
    for name, ours in zip(("sizes", "units"), zip(*(p_values(poisson, study) for study in range(STUDIES)), strict=True), strict=True):
        even = kstest(ours, "uniform").pvalue
        print(f"{name}: {STUDIES} p from {min(ours):.3f} to {max(ours):.3f}, even with p = {even:.2f}")  # noqa: T201  # the figures that the page of `common` quotes
        assert even > 1e-3, f"{name}: p of {STUDIES} studies {np.sort(ours).round(4)}"
    theirs = p_values(shuffled, 0)
    assert max(theirs) < 1e-6, f"the shuffling twin passes: sizes p = {theirs[0]:.2g}, units p = {theirs[1]:.2g}"


def test_rows_of_a_unit_are_drawn_uniformly_and_apart_from_other_units() -> None:
    data = Listed([list(range(20)), list(range(20))])
    counts, together = np.zeros((2, 20)), 0
    for step in range(2000):
        batch = poisson_sample(data, rate=1.0, rows_per_unit=3, key=key_of("rows", step))
        for unit, drawn in enumerate(batch):
            counts[unit, list(drawn.rows)] += 1
        together += batch[0].rows == batch[1].rows
    for unit in range(2):
        expected = 2000 * 3 / 20
        statistic = float(np.square(counts[unit] - expected).sum() / (expected * (1 - 3 / 20)) * 19 / 20)
        assert 1e-3 < chi2.sf(statistic, 19) < 1 - 1e-3
    assert together < 20, "two units draw the same rows: their streams are one"


# -- many runs of a white-box attack -----------------------------------------------------------------------------------

SIGMA, EPOCH, DELTA = 0.7, 50, 1e-3
"""One epoch of fifty steps at q = 1/50. δ is large so that some thousand runs can prove something; the claim is taken at the same δ."""
RUNS, AT_ONCE = 6000, 250
GRID = 2.0**-16
Batches = Callable[[int, int], list[list[tuple[int, float]]]]
"""(runs, seed) → for each step of an epoch, the (run, gradient) of every unit that takes part."""


def run_many(batches: Batches, seed: int) -> NDArray[np.float64]:
    """(runs, steps) noised sums, each run on a coordinate of its own of one private step: they share nothing."""
    mechanism = Mechanism(SIGMA, 1 / EPOCH, 1.0, 1.0, Unit.PATIENT)
    found = []
    for part in range(RUNS // AT_ONCE):
        steps = []
        for step, batch in enumerate(batches(AT_ONCE, seed * 100 + part)):
            key = key_of("attack", seed, part, step)
            result = private_step(Width(AT_ONCE), Given(), [UnitRows((row,)) for row in batch], mechanism, key=key, grid=GRID, sites=4, token_budget=256)  # type: ignore[arg-type]  # fmt: skip  # Width is all of a task that is used here
            steps.append(result.words * GRID)
        found.append(np.stack(steps, axis=1))
    return np.concatenate(found)


def by_poisson(with_target: bool, others: int) -> Batches:
    """The product's own draw. Gradients −1 move the sum up by 1: the step descends. The target's is −1, the others' +1."""

    def batches(runs: int, seed: int) -> list[list[tuple[int, float]]]:
        rows = [[(r, -1.0)] for r in range(runs)] if with_target else []
        rows += [[(r, 1.0)] for r in range(runs) for _ in range(others)]
        return [
            [unit.rows[0] for unit in poisson_sample(Listed(rows), rate=1 / EPOCH, rows_per_unit=1, key=key_of("draw", seed, step))]
            for step in range(EPOCH)
        ]

    return batches


def by_shuffling(with_target: bool) -> Batches:
    """The twin: fifty units, one a step, in random order. Without the target its place is empty."""

    def batches(runs: int, seed: int) -> list[list[tuple[int, float]]]:
        places = np.argsort(Stream(key_of("places", seed), "shuffle").words(runs * EPOCH).reshape(runs, EPOCH), axis=1)[:, 0]
        return [[(r, -1.0 if places[r] == step else 1.0) for r in range(runs) if with_target or places[r] != step] for step in range(EPOCH)]

    return batches


def proven(
    with_target: NDArray[np.float64], without: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> float:
    """ε that the attack proves: the threshold is chosen on one half of the runs and counted on the other, in both directions."""
    half = RUNS // 2
    yes, no = statistic(with_target), statistic(without)
    best, found = 0.0, 0.0
    for sign in (1, -1):
        first, second = (yes, no) if sign == 1 else (no, yes)
        for threshold in np.quantile(sign * first[:half], np.linspace(0.02, 0.98, 97)):
            hits, alarms = (sign * first[:half] >= threshold).sum(), (sign * second[:half] >= threshold).sum()
            estimate = many_runs_epsilon(int(hits), half, int(alarms), half, DELTA)
            if estimate > best:
                best = estimate
                hits, alarms = (sign * first[half:] >= threshold).sum(), (sign * second[half:] >= threshold).sum()
                found = many_runs_epsilon(int(hits), RUNS - half, int(alarms), RUNS - half, DELTA)
    return found


def ratio_of(shift_with: float, shift_without: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The likelihood ratio of one step of an epoch being shifted, in logarithms: what the best attacker computes."""

    def one(sums: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
        values: NDArray[np.float64] = logsumexp((sums + 1) * shift / SIGMA**2 - shift**2 / (2 * SIGMA**2), axis=1)
        return values

    return lambda sums: one(sums, shift_with) - one(sums, shift_without)


def poisson_ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ log(1 − q + q·e^{(x − ½)/σ²}): the exact ratio when the target is alone."""
    ratio: NDArray[np.float64] = np.log1p(np.expm1((sums - 0.5) / SIGMA**2) / EPOCH).sum(1)
    return ratio


@pytest.mark.slow
def test_the_white_box_attack_separates_poisson_from_shuffling() -> None:
    claim = epsilon([Mechanism(SIGMA, 1 / EPOCH, 1.0, 1.0, Unit.PATIENT, EPOCH)], DELTA)
    alone = proven(run_many(by_poisson(True, 0), 1), run_many(by_poisson(False, 0), 2), poisson_ratio)
    among = proven(run_many(by_poisson(True, 9), 3), run_many(by_poisson(False, 9), 4), ratio_of(2.0, 1.0))
    twin = proven(run_many(by_shuffling(True), 5), run_many(by_shuffling(False), 6), ratio_of(2.0, 1.0))
    figures = f"claimed {claim:.2f}; proven alone {alone:.2f}, among others {among:.2f}, on the shuffling twin {twin:.2f}"
    assert max(alone, among) <= claim, figures
    assert alone > 0.1, f"the attack has no power: {figures}"
    assert twin > claim, figures
