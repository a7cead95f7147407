"""De-identification of invented notes in styles that no generator of the project writes (`deid/tuned.toml`, `deid/blind.toml`).

Both halves were written before any code had read them. Rules may be tuned on the first; nothing is ever chosen by the second.
"""

from pathlib import Path

import pytest

from simulations.bench.deid import ours
from simulations.bench.deid_score import Tally, tally
from tests.helpers.marked_notes import marked_notes

FOLDER = Path(__file__).parent / "deid"


@pytest.mark.parametrize(("half", "recall", "precision", "touched"), [("tuned", 0.97, 0.89, 0.2), ("blind", 0.86, 0.86, 0.7)])
def test_coverage(half: str, recall: float, precision: float, touched: float) -> None:
    rows = marked_notes(FOLDER / f"{half}.toml")
    each = [tally(row["text"], row["spans"], found) for row, found in zip(rows, ours([row["text"] for row in rows]), strict=True)]
    whole = sum(each, Tally())
    assert whole.identifiers > 200
    assert whole.recall >= recall, whole
    assert whole.precision >= precision, whole
    assert whole.touched <= touched, whole


def test_marks_are_read_as_spans() -> None:
    (first, *_) = marked_notes(FOLDER / "tuned.toml")
    pieces = [first["text"][span["start"] : span["end"]] for span in first["spans"]]
    assert pieces[:2] == ["OKONKWO, CHIDINMA ADAEZE", "00-84-1193"]
    assert "{" not in first["text"]
