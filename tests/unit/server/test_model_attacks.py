"""The figures of the attacks, by hand."""

import math

import numpy as np
import pytest

from common.errors import ShapeError
from server.evaluate.attacks import chance_exposure, exposure, membership, permitted


def test_membership_is_the_share_of_pairs_in_the_right_order() -> None:
    assert membership([3.0, 2.0], [1.0, 2.0]).value == (1 + 1 + 1 + 0.5) / 4
    assert membership([1.0, 2.0], [3.0]).value == 0
    perfect = membership(range(10, 20), range(10))
    assert (perfect.value, perfect.low, perfect.high, perfect.n) == (1, 1, 1, 20)


def test_the_interval_is_that_of_hanley_and_mcneil() -> None:
    found = membership([1.0] * 29 + [0.0] * 22, [0.0] * 58)
    area = (29 + 22 / 2) / 51
    twice, squared = area / (2 - area), 2 * area**2 / (1 + area)
    error = math.sqrt((area * (1 - area) + 50 * (twice - area**2) + 57 * (squared - area**2)) / (51 * 58))
    assert found.value == pytest.approx(area)
    assert found.high - found.value == pytest.approx(1.959964 * error, rel=1e-6)


@pytest.mark.parametrize("scores", [([], [1.0]), ([1.0], []), ([math.nan], [1.0])])
def test_scores_that_say_nothing_are_refused(scores: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ShapeError, match="finite scores on both sides"):
        membership(*scores)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 1e-5), (3.0, 0.01), (8.0, 1e-6)])
def test_what_is_permitted_is_the_area_over_the_tradeoff_curve(epsilon: float, delta: float) -> None:
    wrong = np.linspace(0, 1, 400_001)
    missed = np.maximum.reduce([np.zeros_like(wrong), 1 - delta - math.exp(epsilon) * wrong, math.exp(-epsilon) * (1 - delta - wrong)])
    assert permitted(epsilon, delta) == pytest.approx(1 - np.trapezoid(missed, wrong), abs=1e-6)


def test_without_privacy_everything_is_permitted() -> None:
    assert permitted(math.inf, 1e-6) == 1
    assert permitted(0.0, 0.0) == 0.5


def test_exposure_counts_the_secrets_that_are_likelier() -> None:
    assert exposure(0.5, [1.0, 2.0, 3.0]) == 2
    assert exposure(2.5, [1.0, 2.0, 3.0]) == pytest.approx(2 - math.log2(3))
    assert exposure(9.0, [1.0, 2.0, 3.0]) == 0
    assert exposure(1.0, [1.0, 2.0, 3.0]) == pytest.approx(2 - math.log2(1.5))


def test_chance_is_the_mean_over_all_ranks() -> None:
    others = [1.0, 2.0, 3.0]
    assert chance_exposure(3) == pytest.approx(np.mean([exposure(place - 0.5, others) for place in (1, 2, 3, 4)]))
    assert chance_exposure(127) == pytest.approx(7 - math.lgamma(129) / math.log(2) / 128)
