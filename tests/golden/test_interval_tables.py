"""Intervals against published figures: Newcombe 1998 (Statistics in Medicine 17, Table I), methods 3 (Wilson) and 5 (Clopper–Pearson)."""

import pytest

from server.evaluate.intervals import clopper_pearson, clopper_pearson_upper, wilson

NEWCOMBE = [
    # successes, n, Wilson, Clopper–Pearson
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("successes", "n", "by_wilson", "by_clopper_pearson"), NEWCOMBE)
def test_newcombe_table(successes: int, n: int, by_wilson: tuple[float, float], by_clopper_pearson: tuple[float, float]) -> None:
    w, c = wilson(successes, n), clopper_pearson(successes, n)
    assert (round(w.low, 4), round(w.high, 4)) == by_wilson
    assert (round(c.low, 4), round(c.high, 4)) == by_clopper_pearson


def test_rule_of_three() -> None:
    """Hanley and Lippman-Hand 1983: nothing found in n bounds the rate by about 3/n; exactly 1 − 0.05^(1/n)."""
    for n in (30, 100, 3000):
        assert clopper_pearson_upper(0, n) == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-12)
        assert clopper_pearson_upper(0, n) == pytest.approx(3 / n, rel=0.06)
