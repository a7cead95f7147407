"""From votes to outcomes, weights and rows for training."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.feedback.items import Choice, Remarks, Scale, Tag, Verdict
from client.feedback.settings import LabelSettings
from client.feedback.settling import State, preferences, settle, weight
from tests.helpers.labelling import questions

SETTINGS = LabelSettings()
ITEM = questions(1, patients=1)[0]
A, B, TIE, UNSAFE, SKIP, ASIDE = (0, 1, Verdict.TIE, Verdict.UNSAFE, Verdict.SKIP, Verdict.SET_ASIDE)


def said(number: int, what: int | Verdict, *, adjudication: bool = False, remarks: Remarks = Remarks()) -> Choice:  # noqa: B008 (frozen)
    verdict, chosen = (what, None) if isinstance(what, Verdict) else (Verdict.ANSWER, what)
    at = f"2026-01-01T00:00:{number:02d}+00:00"
    return Choice(ITEM.item_id, f"person-{number}", (1, 0), verdict, chosen, 9.0, at, number, adjudication, remarks)


@pytest.mark.parametrize(
    ("votes", "state", "wanted"),
    [
        ([], State.OPEN, 2),
        ([A], State.OPEN, 1),
        ([A, A], State.SETTLED, 0),
        ([A, B], State.OPEN, 1),
        ([A, B, A], State.SETTLED, 0),
        ([A, B, TIE], State.ADJUDICATE, 0),
        ([TIE, TIE], State.SETTLED, 0),
        ([UNSAFE, UNSAFE], State.SETTLED, 0),
        ([SKIP], State.OPEN, 2),
        ([SKIP, SKIP], State.ADJUDICATE, 0),
        ([A, SKIP, A], State.SETTLED, 0),
    ],
)
def test_outcomes(votes: list[int | Verdict], state: State, wanted: int) -> None:
    outcome = settle([said(n, what) for n, what in enumerate(votes)], SETTINGS)
    assert (outcome.state, outcome.wanted) == (state, wanted)


def test_the_adjudicator_settles_or_sets_aside() -> None:
    votes = [said(0, A), said(1, B), said(2, TIE)]
    assert settle([*votes, said(3, B, adjudication=True)], SETTINGS).winner == 1
    assert settle([*votes, said(3, ASIDE, adjudication=True)], SETTINGS).state is State.SET_ASIDE


def test_weights_of_the_table_in_the_module() -> None:
    assert [weight(*counts) for counts in ((1, 1), (2, 2), (2, 3), (1, 2), (3, 3))] == pytest.approx([2 / 3, 1, 0.4, 0, 1])


@given(st.integers(1, 30), st.data())
def test_weights_are_bounded_and_rise_with_agreement(votes: int, data: st.DataObject) -> None:
    agreeing = data.draw(st.integers(0, votes))
    assert 0 <= weight(agreeing, votes) <= 1
    if agreeing < votes:
        assert weight(agreeing, votes) <= weight(agreeing + 1, votes)


@given(st.lists(st.sampled_from([A, B, TIE, UNSAFE, SKIP]), max_size=4))
def test_the_order_of_the_votes_does_not_matter(votes: list[int | Verdict]) -> None:
    choices = [said(n, what) for n, what in enumerate(votes)]
    found = {(o.state, o.wanted, o.weight) for order in permutations(choices) for o in [settle(order, SETTINGS)]}
    assert len(found) == 1


def test_one_row_a_vote_and_the_pairs_weight_once() -> None:
    rows = preferences(ITEM, [said(0, B), said(1, A), said(2, B)], SETTINGS)
    assert [(row.chosen == ITEM.answers[1].text, row.weight) for row in rows] == [(True, pytest.approx(0.4)), (False, 0), (True, 0)]
    assert {row.patient_id for row in rows} == {"p0"}
    assert all(row.on_policy for row in rows)


def test_the_weight_of_a_pair_depends_on_nothing_but_its_own_votes() -> None:
    """The signature says it; this says it again: another question's votes cannot even be handed over."""
    alone = preferences(ITEM, [said(0, A), said(1, A)], SETTINGS)
    other = questions(1)[0]
    preferences(other, [replace(said(0, B), item_id=other.item_id)], SETTINGS)
    assert preferences(ITEM, [said(0, A), said(1, A)], SETTINGS) == alone


def test_ties_are_rows_of_their_own_kind_and_unsafe_pairs_are_none() -> None:
    rows = preferences(ITEM, [said(0, TIE), said(1, TIE)], SETTINGS)
    assert [(row.tie, row.weight) for row in rows] == [(True, 1.0), (True, 0.0)]
    assert preferences(ITEM, [said(0, UNSAFE), said(1, UNSAFE)], SETTINGS) == []


def test_open_and_calibration_questions_give_nothing() -> None:
    assert preferences(ITEM, [said(0, A)], SETTINGS) == []
    known = questions(1, calibration=1)[0]
    assert preferences(known, [said(0, A), said(1, A)], SETTINGS) == []


def test_four_answers_give_three_pairs_a_vote() -> None:
    item = questions(1, answers=4)[0]
    rows = preferences(item, [said(0, 2), said(1, 2)], SETTINGS)
    assert sorted({row.pair_id.rpartition("/")[2] for row in rows}) == ["0-2", "1-2", "2-3"]
    assert all(row.chosen == item.answers[2].text for row in rows)


def test_tags_and_ratings_become_aspects() -> None:
    unsafe = Remarks(tags=((1, Tag.UNSAFE_ADVICE),))
    rated = Remarks(ratings=((0, Scale.CLARITY, 2), (1, Scale.CLARITY, 5)))
    rows = preferences(ITEM, [said(0, A, remarks=unsafe), said(1, A, remarks=rated)], SETTINGS)
    found = {row.aspect: (row.chosen == ITEM.answers[0].text, row.weight) for row in rows if row.aspect != "overall"}
    assert found == {"safety": (True, pytest.approx(2 / 3)), "clarity": (False, pytest.approx(2 / 3))}
