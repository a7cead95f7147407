"""The yardstick of `wardround bench deid`, worked by hand, and the comparison itself on a handful of notes."""

from typing import Any

import pytest

from simulations.bench import chosen
from simulations.bench.deid import Deidentification, ours, synthetic
from simulations.bench.deid_score import Tally, interval, tally

TEXT = "Dr. Ann Lee saw him on 3 May 2024 at Mercy Hospital. He is 45."


def gold(*pieces: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"start": TEXT.index(piece), "end": TEXT.index(piece) + len(piece), "label": label} for piece, label in pieces]


def found(*pieces: str) -> list[tuple[int, int]]:
    return [(TEXT.index(piece), TEXT.index(piece) + len(piece)) for piece in pieces]


GOLD = gold(("Dr. Ann Lee", "NAME"), ("3 May 2024", "DATE"), ("Mercy Hospital", "ORGANIZATION"))


@pytest.mark.parametrize(
    ("covered", "expected"),
    [
        (("Ann Lee", "3 May", "Mercy"), (3, 3, 5, 0)),  # title, year and "Hospital" may stay
        (("Ann", "3 May 2024"), (1, 3, 4, 0)),  # half a name is no name; a facility that stands is none either
        (("Ann Lee", "3 May", "Mercy", "saw him"), (3, 3, 5, 2)),
        ((), (0, 3, 0, 0)),
    ],
)
def test_what_counts_as_covered_and_as_wrongly_touched(covered: tuple[str, ...], expected: tuple[int, int, int, int]) -> None:
    got = tally(TEXT, GOLD, found(*covered))
    assert (got.covered, got.identifiers, got.right, got.wrong) == expected


def test_a_text_without_identifiers_counts_when_it_is_touched_and_tallies_add_up() -> None:
    touched, left = tally(TEXT, [], found("45")), tally(TEXT, [], [])
    whole = touched + left + tally(TEXT, GOLD, found("Ann Lee"))
    assert (whole.clean_texts, whole.clean_touched, whole.touched) == (2, 1, 0.5)
    assert (whole.recall, whole.precision) == (1 / 3, 2 / 3)
    low, high = interval([Tally(1, 1), Tally(0, 1)] * 50, "recall")
    assert 0.3 < low < 0.5 < high < 0.7


def test_the_synthetic_notes_are_covered_without_their_patients_records() -> None:
    corpus = synthetic(4)
    tallies = [tally(row["text"], row["spans"], f) for row, f in zip(corpus.rows, ours(corpus.texts), strict=True)]
    whole = sum(tallies, Tally())
    assert whole.identifiers > 50
    assert whole.recall >= 0.98, whole
    assert whole.precision >= 0.92, whole


def test_it_is_listed() -> None:
    assert isinstance(chosen(["deid"])[0], Deidentification)
