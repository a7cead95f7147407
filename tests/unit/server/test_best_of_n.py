"""Best-of-n by hand: the chance of each rank, and the means they give."""

from itertools import combinations
from math import log

import numpy as np
import pytest

from common.errors import ShapeError
from server.align.best_of_n import best_of, chance_to_win


def test_chances_are_those_of_all_choices() -> None:
    for n in (1, 2, 3, 4):
        winners = [max(choice) for choice in combinations(range(4), n)]
        np.testing.assert_allclose(chance_to_win(4, n), [winners.count(i) / len(winners) for i in range(4)])


def test_the_best_of_two_of_two_and_of_one_by_hand() -> None:
    reward = {"a": 1.0, "b": 3.0, "c": 5.0, "d": 4.0}
    judge = {"a": 0.0, "b": 1.0, "c": -1.0, "d": 2.0}

    def scores(of: dict[str, float]):
        return lambda prompts, texts: np.array([of[t] for t in texts])

    one, two = best_of(["p", "q"], [["a", "b"], ["c", "d"]], scores(reward), scores(judge))
    assert (one.n, one.kl, one.reward, one.judge) == (1, 0.0, pytest.approx(13 / 4), pytest.approx(0.5))
    assert (two.n, two.kl) == (2, pytest.approx(log(2) - 0.5))
    assert (two.reward, two.judge) == (pytest.approx((3 + 5) / 2), pytest.approx((1 - 1) / 2))
    with pytest.raises(ShapeError, match="equally many"):
        best_of(["p", "q"], [["a"], ["b", "c"]], scores(reward), scores(judge))
