"""The arithmetic of the over-optimisation watch, and its judges from registry to the end of a run."""

import pytest

from server.align.watch import best_step, over_optimised, trailing_means


def test_trailing_means_and_the_best_of_them_by_hand() -> None:
    assert trailing_means([1, 2, 6, 0], 2) == [1.5, 4.0, 3.0]
    assert trailing_means([1], 2) == []
    assert best_step([1, 2, 6, 0], 2) == 2
    assert best_step([3, 3, 3], 2) == 1, "the earliest of equals"
    assert best_step([1], 2) is None


@pytest.mark.parametrize(
    ("rewards", "judged", "expected"),
    [
        ([0, 1, 2, 3], [0.0, 1.0, 0.5, 0.2], True),  # 0.5 → 0.35 … best window (1, .5) = .75, now .35: fell by .4 > .3
        ([0, 1, 2, 3], [0.0, 1.0, 0.9, 0.6], False),  # .95 → .75
        ([3, 2, 1, 0], [0.0, 1.0, 0.5, 0.2], False),  # the reward fell too: nothing is being exploited
        ([0], [0.0], False),
    ],
)
def test_a_run_ends_when_judges_fall_while_the_reward_rises(rewards: list[float], judged: list[float], expected: bool) -> None:
    assert over_optimised(rewards, judged, window=2, fall=0.3) is expected
