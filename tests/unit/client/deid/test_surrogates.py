import re
from datetime import date
from itertools import pairwise

import pytest

from client.deid.known import Known
from client.deid.scan import Scan
from client.deid.spans import Kind, Span
from client.deid.surrogates import SMALL_ZIP_PREFIXES, Dates, Surrogates
from client.deid.vocabulary.words import fold, words
from client.records import PatientRecord

RECORD = PatientRecord("p1", ("Maria J. Lopez",), "1950-03-05", ("4711234",), relatives=("Hope Long",), gender="F")


def surrogates(secret: bytes = b"k" * 32, dates: Dates = Dates.YEAR_ONLY, record: PatientRecord = RECORD) -> Surrogates:
    return Surrogates(secret, Known(record), gender=record.gender, dates=dates)


def put(original: str, kind: Kind, *, by: Surrogates | None = None, canonical: str | None = None, newest_year: int = 2024) -> str:
    return (by or surrogates()).replace(original, Span(0, len(original), kind, 2, canonical), newest_year=newest_year)


def test_one_person_keeps_one_name_in_every_order_case_and_spelling() -> None:
    given, family = put("Maria Lopez", Kind.NAME).split()
    assert put("LOPEZ, MARIA", Kind.NAME) == f"{family.upper()}, {given.upper()}"
    assert put("lopez", Kind.NAME) == family.lower()
    assert put("Lopez's", Kind.NAME) == f"{family}'s"
    assert put("Lopze", Kind.NAME, canonical="lopez") == family
    assert put("Lo-\npez", Kind.NAME, canonical="lopez") == family
    assert put("M. Lopez", Kind.NAME) == f"{given[0]}. {family}"
    assert put("Dr. Kati Ruecker", Kind.NAME).startswith("Dr. ")


def test_the_patients_own_given_name_keeps_its_gender() -> None:
    given = put("Maria", Kind.NAME)
    assert words().first[fold(given)] in ("F", "")
    as_man = surrogates(record=PatientRecord("p2", ("Maria Lopez",), gender="M"))
    assert words().first[fold(put("Maria", Kind.NAME, by=as_man))] in ("M", "")


def test_another_patient_or_site_gets_other_surrogates() -> None:
    people = [f"Zeb{a}ulon Quist{b}gaard" for a in "aeiou" for b in "bcdfghkl"]
    names = {put(name, Kind.NAME, by=surrogates(bytes([s]) * 32)) for s in range(3) for name in people}
    assert len(names) > 100  # of 120; two names may share a surrogate
    one, two = surrogates(b"1" * 32), surrogates(b"2" * 32)
    assert [put("4711234", Kind.MRN, by=s) for s in (one, two, one)][0::2] == [put("4711234", Kind.MRN, by=one)] * 2
    assert put("4711234", Kind.MRN, by=one) != put("4711234", Kind.MRN, by=two)


def test_no_surrogate_is_an_identifier_of_the_patient() -> None:
    known = Known(RECORD)
    for seed in range(60):
        by = surrogates(bytes([seed]) * 32)
        for original, kind in (("Ida Bo", Kind.NAME), ("4711234", Kind.MRN), ("Salem", Kind.LOCATION), ("402-555-0186", Kind.PHONE)):
            new = put(original, kind, by=by)
            assert new != original
            assert list(known.find(Scan(new))) == []


@pytest.mark.parametrize(
    ("original", "year_only"),
    [("05/14/2019", "2019"), ("14 Feb 2013 10:20", "2013"), ("19500305", "1950"), ("May 3", "[DATE]"), ("Thursday", "[DATE]"), ("3 May 1920", "[DATE]"), ("1934", "[DATE]"), ("5/3/19", "[DATE]")],
)  # fmt: skip
def test_year_only_keeps_the_year_unless_it_tells_an_age_of_90(original: str, year_only: str) -> None:
    assert put(original, Kind.DATE) == year_only


def test_shifted_dates_keep_their_form_and_their_distance() -> None:
    by = surrogates(dates=Dates.SHIFT)
    new = [put(day, Kind.DATE, by=by) for day in ("2019-05-14", "2019-05-21", "2019-05-28T10:00")]
    days = [date.fromisoformat(text[:10]) for text in new]
    assert [(b - a).days for a, b in pairwise(days)] == [7, 7]
    assert days[0] != date(2019, 5, 14)
    assert new[2].endswith("T10:00")
    assert put("05/14/2019", Kind.DATE, by=by) == days[0].strftime("%m/%d/%Y")
    assert put("May 14, 2019", Kind.DATE, by=by).split()[-1] == str(days[0].year)
    assert [put(text, Kind.DATE, by=by) for text in ("May 14", "2019-02-31", "14 May 2019 to 3 June 2019", "Easter")] == ["[DATE]"] * 4


def test_ages_zip_codes_and_network_addresses() -> None:
    assert put("94", Kind.AGE) == "90+"
    assert put("68521", Kind.LOCATION) == "685**"
    assert put("68521-1234", Kind.LOCATION) == "685**"
    assert {put(f"{prefix}12", Kind.LOCATION) for prefix in SMALL_ZIP_PREFIXES} == {"000**"}
    assert len(SMALL_ZIP_PREFIXES) == 17
    assert put("a.b@mail.example", Kind.EMAIL).endswith("@example.org")
    assert put("10.1.2.3", Kind.IP).startswith("192.0.2.")


def test_numbers_keep_their_shape_and_agree_whatever_separates_them() -> None:
    assert put("AB-99 1234", Kind.ID).replace("-", "").replace(" ", "").lower() == put("ab991234", Kind.ID)
    new = put("AB-99 1234", Kind.ID)
    assert (new[2], new[5], new[:2].isupper(), new[:2].isalpha()) == ("-", " ", True, True)
    phone = put("(402) 555-0186 ext. 22", Kind.PHONE)
    assert re.fullmatch(r"\(\d{3}\) \d{3}-\d{4} ext\. \d\d", phone)
    assert re.fullmatch(r"\d{3}-555-01\d\d", put("402-555-0186", Kind.PHONE))


def test_places_of_care_keep_their_kind() -> None:
    assert put("Good Samaritan Hospital", Kind.ORGANIZATION).endswith(" Hospital")
    assert put("12 Oak Street, Salem", Kind.LOCATION).split()[0].isdigit()
    assert put("LINCOLN", Kind.LOCATION).isupper()
    assert repr(surrogates()) == "Surrogates(<hidden>)"
