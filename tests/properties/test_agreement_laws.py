"""What holds for every table of votes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.feedback.agreement import alpha_interval, cohen, coincidences, fleiss, interval, krippendorff, percent, table

votes = st.lists(st.lists(st.integers(0, 3), min_size=0, max_size=5), min_size=1, max_size=25)
couples = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


@given(votes)
def test_alpha_is_at_most_one_and_one_only_without_disagreement(units: list[list[int]]) -> None:
    counts = table(units, 4)
    alpha = krippendorff(counts)
    if alpha is not None:
        assert alpha <= 1 + 1e-12
        assert (abs(alpha - 1) < 1e-9) == all(len(set(unit)) == 1 for unit in units if len(unit) > 1)


@given(votes, st.permutations(range(4)))
def test_names_of_the_categories_do_not_matter(units: list[list[int]], renamed: list[int]) -> None:
    before, after = krippendorff(table(units, 4)), krippendorff(table([[renamed[v] for v in unit] for unit in units], 4))
    assert (before is None and after is None) or before == pytest.approx(after)


@given(votes)
def test_a_unit_with_one_vote_changes_nothing(units: list[list[int]]) -> None:
    assert krippendorff(table([*units, [2]], 4)) == krippendorff(table(units, 4))


@given(votes)
def test_coincidences_are_symmetric_and_add_up_to_the_votes_that_have_a_partner(units: list[list[int]]) -> None:
    o = coincidences(table(units, 4)).sum(0)
    assert np.allclose(o, o.T)
    assert o.sum() == pytest.approx(sum(len(unit) for unit in units if len(unit) > 1))


@given(couples)
def test_kappa_of_two_equals_by_both_roads_to_it(pairs: list[tuple[int, int]]) -> None:
    """κ is 1 exactly when they always agree; exchanging the annotators changes neither κ nor its error."""
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    forth, back = cohen(first, second, 3), cohen(second, first, 3)
    if forth[0] is None:
        assert back[0] is None
        return
    assert forth == (pytest.approx(back[0]), pytest.approx(back[1], abs=1e-9))
    assert (abs(forth[0] - 1) < 1e-12) == (first == second)


@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=2, max_size=20))
def test_alpha_approaches_fleiss_from_above(units: list[list[int]]) -> None:
    """With n votes on every unit α = 1 − (1 − κ)(nN − 1)/(nN): Krippendorff 2011 corrects for small samples."""
    counts = table(units, 3)
    kappa, alpha = fleiss(counts)[0], krippendorff(counts)
    if kappa is None or alpha is None:
        assert kappa is alpha
        return
    total = counts.sum()
    assert alpha == pytest.approx(1 - (1 - kappa) * (total - 1) / total)


def test_unequal_numbers_of_votes_are_refused_by_fleiss() -> None:
    with pytest.raises(ValueError, match="same number"):
        fleiss(table([[0, 1], [0, 1, 1]], 2))


def test_undetermined_figures_are_none_and_not_a_number() -> None:
    same = table([[1, 1], [1, 1]], 2)
    assert (krippendorff(same), fleiss(same), cohen([1, 1], [1, 1], 2)) == (None, (None, None), (None, None))
    assert percent(table([[1]], 2)) is None
    assert alpha_interval(table([], 2), np.random.default_rng(0)).value is None


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_both_bootstraps_give_the_same_interval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 80)
    units = [[int(t) if rng.random() < 0.85 else 1 - int(t) for _ in range(2)] for t in truth]
    counts = table(units, 2)
    fast, slow = alpha_interval(counts, rng, resamples=1500), interval(counts, krippendorff, rng, 1500)
    assert fast.value == pytest.approx(slow.value)
    assert (fast.low, fast.high) == (pytest.approx(slow.low, abs=0.06), pytest.approx(slow.high, abs=0.06))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Two annotators who each err in 15 %: agreement .745, so κ = .49 for even truth. 200 studies of 60 questions."""
    rng, covered = np.random.default_rng(7), 0
    for _ in range(200):
        truth = rng.integers(0, 2, (60, 1))
        said = np.where(rng.random((60, 2)) < 0.15, 1 - truth, truth)
        found = alpha_interval(table(said.tolist(), 2), rng, resamples=400)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.49 <= found.high
    assert 0.88 <= covered / 200 <= 0.99, covered
