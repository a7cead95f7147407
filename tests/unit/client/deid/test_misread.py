"""Texts that a scanner misread."""

import pytest

from client.deid.deidentifier import Deidentifier, Work
from client.deid.misread import repaired
from client.records import PatientRecord, RawNote

FAX = """FAX TRANSM1SSI0N   PG 2/4   0ct 3 2022
Frorn: Ca11oway Orthopaedic C1inic   912-555-0l88
Re: Darnel1 Mc1ntosh   DOB O7/l4/1986
Chart 33-9l-O2. Pt. comp1ains of pain in the 1eft knee, T2DM, takes B12, no swe11ing.
"""
HIDDEN = ("Ca11oway", "Darnel1", "Mc1ntosh", "O7/l4", "0l88", "33-9l-O2", "0ct")


def clean(text: str) -> str:
    ((cleaned,),) = Deidentifier().clean([Work((RawNote("n", "p", text),), PatientRecord(""), bytes(32))])
    for span in reversed(cleaned.spans[0]):
        text = text[: span.start] + "_" + text[span.end :]
    return text


def test_what_was_misread_is_masked_and_the_rest_stands_as_it_was_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    done = clean(FAX)
    assert not [piece for piece in HIDDEN if piece in done]
    assert all(word in done for word in ("comp1ains", "1eft knee", "T2DM", "B12", "swe11ing"))
    monkeypatch.setattr("client.deid.detectors.repaired", lambda text: None)
    assert sum(piece in clean(FAX) for piece in HIDDEN) >= 2  # without the repair the same tiers leave some of them


def test_the_repaired_copy_has_the_length_of_the_text() -> None:
    copy = repaired(FAX)
    assert copy is not None
    assert len(copy) == len(FAX)
    assert "Darnell Mcintosh" in copy
    assert "07/14/1986" in copy
    assert "912-555-0188" in copy
    assert "T2DM, takes B12" in copy
    assert repaired("Apr1l 9, Ju1y 4: 1eft 1ung, Ho1mes, 0ct 5, M1LDRED") == "April 9, July 4: left lung, Holmes, Oct 5, MILDRED"


@pytest.mark.parametrize(
    "text",
    [
        "T2DM, vit B12, PO2 61, H2O 2L, C4a, HbA1c 7.1, IL6, CA125, CD4 200, D3-4, 4x4, A1c, 10mg",
        "K1 V2l W3o; room 1O2; bed 5l",
        "One 1eft knee and one Ca11oway is too few to call a text misread.",
    ],
)
def test_codes_and_values_are_no_damage(text: str) -> None:
    assert repaired(text) is None
