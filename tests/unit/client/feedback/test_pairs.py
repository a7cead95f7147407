"""What is asked next: thresholds, floors, fairness, and an order that tells nothing."""

import secrets
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from client.feedback.items import Origin
from client.feedback.pairs import Wanted, disagreement, next_item, planned_votes, shown_order, worth_asking
from client.feedback.settings import LabelSettings
from tests.helpers.labelling import questions

SETTINGS = LabelSettings(disagreement_threshold=0.2, random_floor=0.25)


def test_disagreement_by_hand() -> None:
    assert disagreement([2.0, 2.0, 2.0]) == 0
    assert disagreement([40.0, -40.0]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="fewer than two"):
        disagreement([1.0])


@pytest.mark.parametrize(
    ("disagrees", "draw", "why"),
    [(0.3, 0.9, Origin.DISAGREEMENT), (0.1, 0.1, Origin.RANDOM), (0.1, 0.3, None), (None, 0.9, Origin.RANDOM)],
)
def test_a_prompt_is_asked_for_its_own_reasons(disagrees: float | None, draw: float, why: Origin | None) -> None:
    assert worth_asking(disagrees, draw, SETTINGS) is why


@pytest.mark.parametrize("answers", [2, 3, 4])
def test_the_order_shown_is_uniform(answers: int) -> None:
    """Chi-square over all permutations; fails by chance once in a million runs."""
    seen = Counter(shown_order(answers, secrets.randbelow) for _ in range(12_000))
    assert set(seen) == set(permutations(range(answers)))
    assert chisquare(list(seen.values())).pvalue > 1e-6


def test_a_biased_order_would_be_noticed() -> None:
    biased = Counter((0, 1) if secrets.randbelow(100) < 54 else (1, 0) for _ in range(12_000))
    assert chisquare(list(biased.values())).pvalue < 1e-6


@given(st.permutations(range(6)))
def test_the_next_question_does_not_depend_on_where_it_stands(order: list[int]) -> None:
    wanted = [Wanted(item, 0, 0, 2) for item in ITEMS]
    assert next_item([wanted[i] for i in order], "dr") is next_item(wanted, "dr")


ITEMS = questions(6)


def test_questions_that_were_begun_come_first_and_claimed_ones_wait() -> None:
    begun = [Wanted(item, votes=int(n == 4), claims=0, missing=2 - int(n == 4)) for n, item in enumerate(ITEMS)]
    assert next_item(begun, "dr") is ITEMS[4]
    claimed = [Wanted(ITEMS[4], votes=1, claims=1, missing=1)]
    assert next_item(claimed, "dr") is None


def test_annotators_go_through_the_questions_in_orders_of_their_own() -> None:
    items = questions(40)
    wanted = [Wanted(item, 0, 0, 2) for item in items]
    firsts = {getattr(next_item(wanted, f"person {n}"), "item_id", None) for n in range(30)}
    assert len(firsts) > 12


def test_the_share_of_one_annotator_is_capped() -> None:
    assert planned_votes(10, LabelSettings(max_share=0.3)) == 6
