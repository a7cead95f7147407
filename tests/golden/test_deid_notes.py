"""De-identification of invented notes in styles that no generator of the project writes (`simulations/bench/deid_notes`)."""

import pytest

from simulations.bench.deid import ours
from simulations.bench.deid_notes import marked_notes
from simulations.bench.deid_score import Tally, tally


@pytest.mark.parametrize(
    ("part", "recall", "precision", "touched"),
    [
        ("tuned", 0.972, 0.935, 0.5),
        ("hard", 0.918, 0.88, 0.6),
        ("blind", 0.96, 0.915, 0.45),
        ("ordinary", 0.98, 0.92, 0.55),
        ("plain", 0.995, 0.96, 0.2),
    ],
)
def test_coverage(part: str, recall: float, precision: float, touched: float) -> None:
    rows = marked_notes(part)
    each = [tally(row["text"], row["spans"], found) for row, found in zip(rows, ours([row["text"] for row in rows]), strict=True)]
    whole = sum(each, Tally())
    assert whole.identifiers > 700
    assert whole.recall >= recall, whole
    assert whole.precision >= precision, whole
    assert whole.touched <= touched, whole


def test_marks_are_read_as_spans() -> None:
    (first, *_) = marked_notes("tuned")
    pieces = [first["text"][span["start"] : span["end"]] for span in first["spans"]]
    assert pieces[:2] == ["Delphine Arrowood", "V0098213377"]
    assert "{" not in first["text"]
