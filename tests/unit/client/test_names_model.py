"""What the names network finds, once its reading is cut to what can be a name or a place."""

from pathlib import Path

import numpy as np
import pytest

from client.deid import tagger, vectors
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


@pytest.mark.parametrize("name", [tagger.WEIGHTS, vectors.FILE])
def test_other_files_than_the_released_ones_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Path(tagger.__file__).parent
    (tmp_path / vectors.MANIFEST).write_bytes((room / vectors.MANIFEST).read_bytes())
    (tmp_path / name).write_bytes((room / name).read_bytes())
    monkeypatch.setattr(vectors, "__file__", str(tmp_path / "vectors.py"))
    assert vectors.find_released(name) == tmp_path / name
    (tmp_path / name).write_bytes((room / name).read_bytes()[:-1] + b"\0")
    with pytest.raises(StorageError, match=r"make ner"):
        vectors.find_released(name)


def test_both_files_together_stay_below_what_a_package_may_carry() -> None:
    room = Path(tagger.__file__).parent
    assert sum((room / name).stat().st_size for name in (tagger.WEIGHTS, vectors.FILE)) < 20_000_000


def test_a_word_s_vector_lies_near_those_of_its_kind_and_an_unknown_word_has_none() -> None:
    known = vectors.vectors()

    def near(a: str, b: str) -> float:
        x, y = (row[:-2] for row in known.of(np.array([known.row(a), known.row(b)])))
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    assert near("lidocaine", "metformin") > 0.4 > near("lidocaine", "foley")
    assert near("foley", "cunningham") > 0.5
    assert known.row("qzxvwk") == 0
    table = known.of(np.array([0, known.row("the"), known.row("rowbottom")]))
    assert table.shape == (3, vectors.DIMENSIONS)
    assert not table[0].any()
    assert table[1, -2] == table[2, -2] == 1
    assert table[1, -1] < 0.1 < 0.9 < table[2, -1]
    assert "the" not in repr(known)
