"""What the names network finds, once its reading is cut to what can be a name or a place."""

import json
from pathlib import Path

import numpy as np
import pytest

from client.deid import tagger
from client.deid.ner import modelled
from client.deid.scan import Scan
from client.deid.tagger import LABELS, tokens
from common.errors import StorageError


def found(text: str) -> list[str]:
    return [text[span.start : span.end] for span in modelled(Scan(text))]


def test_a_field_between_two_capitals_is_not_part_of_a_name() -> None:
    pieces = found("Srivastava, Lila / MR33585744 / August 11, 1989\nShe slept well.")
    assert not any("Lila" in piece and "33585744" in piece for piece in pieces), pieces


@pytest.mark.parametrize(
    "text",
    [
        "Zebulon Quistgaard was seen today for a cough.",
        "zebulon quistgaard was seen today for a cough.",
        "ZEBULON QUISTGAARD WAS SEEN TODAY FOR A COUGH.",
        "La Sra. Etxeandia Quistgaard refiere dolor abdominal desde ayer.",
        "Frau Annegret Quistgaard klagt seit drei Tagen über Bauchschmerzen.",
    ],
)
def test_unlisted_names_are_found_in_any_case_and_language(text: str) -> None:
    assert any("quistgaard" in piece.lower() for piece in found(text)), found(text)


def test_eponyms_drugs_and_clinical_words_are_left_alone() -> None:
    text = "Murphy's sign negative. Started Metoprolol 25 mg. Crohn's disease and Hodgkin lymphoma. Neck: Supple. Hope this helps."
    assert found(text) == []


def test_a_text_is_read_alike_whatever_stands_beside_it_and_probabilities_sum_to_one() -> None:
    read = tokens("Seen by Dr. Quistgaard in Omaha.")
    once, again = (tagger.tagger().probabilities(read) for _ in range(2))
    assert np.array_equal(once, again)
    assert once.shape == (len(read.starts), len(LABELS))
    assert np.allclose(once.sum(axis=1), 1, atol=1e-5)
    assert tagger.tagger().probabilities(tokens("")).shape == (0, len(LABELS))


def test_other_weights_than_the_released_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Path(tagger.__file__).parent
    (tmp_path / tagger.MANIFEST).write_text(json.dumps({"sha256": "0" * 64}))
    (tmp_path / tagger.WEIGHTS).write_bytes((room / tagger.WEIGHTS).read_bytes()[:-1] + b"\0")
    monkeypatch.setattr(tagger, "__file__", str(tmp_path / "tagger.py"))
    with pytest.raises(StorageError, match=r"make ner"):
        tagger.tagger.__wrapped__()
    assert (room / tagger.WEIGHTS).stat().st_size < 20_000_000
