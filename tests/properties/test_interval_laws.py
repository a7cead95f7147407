"""An interval holds its estimate, grows with confidence, and an exact one is no narrower than it must be."""

from hypothesis import given
from hypothesis import strategies as st

from server.evaluate.intervals import clopper_pearson, clopper_pearson_upper, wilson


@st.composite
def proportions(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 5000))
    return draw(st.integers(0, n)), n


@given(proportions(), st.floats(0.5, 0.999))
def test_intervals_hold_the_estimate(proportion: tuple[int, int], confidence: float) -> None:
    successes, n = proportion
    for interval in (wilson(successes, n, confidence), clopper_pearson(successes, n, confidence)):
        assert 0 <= interval.low <= successes / n <= interval.high <= 1


@given(proportions())
def test_more_confidence_is_wider(proportion: tuple[int, int]) -> None:
    narrow, wide = (wilson(*proportion, c) for c in (0.8, 0.99))
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(proportions())
def test_the_one_sided_bound_is_the_two_sided_one_at_twice_the_tail(proportion: tuple[int, int]) -> None:
    assert clopper_pearson_upper(*proportion, 0.975) == clopper_pearson(*proportion, 0.95).high


@given(proportions())
def test_failures_mirror_successes(proportion: tuple[int, int]) -> None:
    successes, n = proportion
    one, other = wilson(successes, n), wilson(n - successes, n)
    assert abs(one.low - (1 - other.high)) < 1e-12
