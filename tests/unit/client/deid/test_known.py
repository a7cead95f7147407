"""Tier 0: every written form of what the record knows, and what is left alone."""

import pytest

from client.deid.known import Known
from client.deid.scan import Scan
from client.deid.spans import Kind, merge
from client.records import PatientRecord

RECORD = PatientRecord(
    patient_id="pt-00912",
    names=("Maria J. Lopez", "O'Keefe-Brandt"),
    birth_date="1950-03-05",
    record_numbers=("004711234", "AB-99-1234"),
    phones=("(402) 555-0186", "+44 20 7946 0958"),
    emails=("m.lopez@mail.example",),
    addresses=("953 MacGyver Drive Apt 36", "Lincoln", "68521"),
    relatives=("Hope Long",),
)


def found(text: str, record: PatientRecord = RECORD) -> list[str]:
    return [text[span.start : span.end] for span in merge(Known(record).find(Scan(text)))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LOPEZ, MARIA J seen", ["LOPEZ", "MARIA", "J"]),
        ("maria lopez was here", ["maria", "lopez"]),
        ("M. Lopez and Lopez M.", ["M", "Lopez", "Lopez", "M"]),
        ("Ms. Lopez's knee", ["Lopez's"]),
        ("initials M.J.L. on the form", ["M.J.L."]),
        ("pt ML well", ["ML"]),
        ("mraia, Maira, Mari and Marria", ["mraia", "Maira", "Mari", "Marria"]),
        ("lopes lopze lopez1950", ["lopes", "lopze", "lopez"]),
        ("Lo-\npez came, Mar\nia too", ["Lo-\npez", "Mar\nia"]),
        ("OKeefe, O’Keefe, O'KEEFE, Brandt, O'Keefe Brandt", ["OKeefe", "O’Keefe", "O'KEEFE", "Brandt", "O'Keefe", "Brandt"]),
        ("LopezMaria and MARIALOPEZ", ["LopezMaria", "MARIALOPEZ"]),
        ("Hope called; hope long called", ["Hope", "hope", "long"]),
        ("all in lower case, hope agrees", ["hope"]),
    ],
)  # fmt: skip
def test_names_in_every_order_case_and_with_one_error(text: str, expected: list[str]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    ["We hope it will not be Long-standing".replace("Long", "long"), "Marital status, Large, local", "J is a letter", "5 mL given, ML"],
)
def test_everyday_words_are_left_alone(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "date",
    [
        "1950-03-05", "03/05/1950", "3/5/50", "05.03.1950", "5.3.1950", "05-03-1950", "5 March 1950", "March 5, 1950", "Mar 5th 1950", "5th of March, 1950",
        "MARCH 5", "5-Mar-50", "19500305", "03051950", "05031950", "March 1950", "Mar '50", "1950/3/5", "03 / 05 / 1950",
    ],
)  # fmt: skip
def test_the_birth_date_in_every_written_form(date: str) -> None:
    assert found(f"born {date}, well") == [date]


def test_a_bare_year_and_another_day_stay() -> None:
    assert found("in 1950, on 04/05/1950, 6 March 1950") == ["March 1950"]
    assert found("seen 05/1950", PatientRecord("p", birth_date="1950")) == []


@pytest.mark.parametrize(
    "number",
    [
        "004711234",
        "4711234",
        "47-11-234",
        "471 12 34",
        "4711\n234",
        "4.711.234",
        "4711-\n      234",
        "AB-99-1234",
        "ab991234",
        "AB 99 1234",
    ],
)
def test_record_numbers_with_any_separators(number: str) -> None:
    assert found(f"id {number}; ok") == [number]


def test_a_long_number_is_found_inside_a_longer_run_and_a_short_one_is_not() -> None:
    assert found("bar 9947112340 code") == ["9947112340"]
    assert found("685210 and 68521") == ["68521"]


@pytest.mark.parametrize(
    "phone", ["402-555-0186", "4025550186", "402.555.0186", "555-0186", "555 0186", "020 7946 0958", "2079460958", "44 20 79460958"]
)
def test_phones_with_and_without_their_codes(phone: str) -> None:
    assert found(f"call {phone} soon") == [phone]


def test_email_and_address() -> None:
    assert found("write to M.Lopez@Mail.example today") == ["M.Lopez@Mail.example"]
    assert found("lives at 953 macgyver dr, apt 36, LINCOLN NE 68521") == ["953 macgyver dr, apt 36", "LINCOLN", "68521"]
    assert found("The drive to the apt was long, with 36 stops") == []


def test_canonical_names_the_right_spelling() -> None:
    (span,) = merge(Known(RECORD).find(Scan("Dr Lopze")))
    assert (span.kind, span.strength, span.canonical) == (Kind.NAME, 3, "lopez")


def test_nothing_known_finds_nothing_and_a_record_shows_nothing() -> None:
    empty = Known(PatientRecord(""))
    assert list(empty.find(Scan("Maria Lopez, 03/05/1950, 4711234"))) == []
    assert "Lopez" not in repr(Known(RECORD)) + repr(Scan("Lopez")) + repr(RECORD)


def test_short_forms_of_the_given_name_are_known_and_the_family_name_has_none() -> None:
    known = Known(PatientRecord("p", ("Robert Margaret",)))
    text = "Bob came. Rob said BOBBY. Peggy is somebody else. bob alone."
    assert [text[s.start : s.end] for s in sorted(known.find(Scan(text)), key=lambda s: s.start)] == ["Bob", "Rob", "BOBBY", "bob"]
    spanish = "Pepe y Paco."
    assert [spanish[s.start : s.end] for s in Known(PatientRecord("p", ("José Quistgaard",))).find(Scan(spanish))] == ["Pepe"]
