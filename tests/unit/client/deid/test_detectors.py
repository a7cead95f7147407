"""Tier 1 and 2: one contract for every detector, and what each of the classes looks like in notes."""

import pytest

from client.deid.detectors import DETECTORS, Detector, detect
from client.deid.rules.dates import Ages, Dates
from client.deid.rules.names import Names
from client.deid.rules.numbers import BareNumbers, LabelledNumbers, NetworkAddresses, Phones
from client.deid.rules.places import Addresses, Facilities
from client.deid.scan import Scan
from client.deid.spans import Kind, Span, merge

CLINICAL = """CHIEF COMPLAINT: cough for 2 weeks. BP 120/80, HR 72, T 98.6, SpO2 97% on room air, pain 5/10. WBC 250000, Plt 1500000 /ul.
Murphy's sign negative, Glasgow Coma Scale 15, Parkinson's disease, Foley catheter, Homans' sign. COVID-19, HbA1c 7.2, CYP2D6, T12-L1, HLA-B27.
Start metformin 500 mg bid, lisinopril 10 mg; may 2 tablets. Tylenol prn. EF 55-60%. 1.2.34 of the protocol. A 45-year-old man, gravida 2.
Return in 2-3 weeks or at once with chest pain. Dose 10 20 30 mg. Vitals 37 120 80 16. Black stools, white count, long history, we hope so."""


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)
def test_contract(detector: Detector) -> None:
    """Spans lie within the text, hold something, are the same again, and a clinical text without identifiers stays as it is."""
    text = "Dr. Jane Roe, MD saw Mr. Smith (MRN: 4711234, SSN 123-45-6789) aged 94 on 03/05/2021 at 12 Oak Street, Salem, MA 01970, tel 402-555-0186."
    spans = list(detector.find(Scan(text)))
    assert spans == list(detector.find(Scan(text)))
    assert all(0 <= span.start < span.end <= len(text) and text[span.start : span.end].strip() for span in spans)
    assert list(detector.find(Scan(""))) == []
    assert [CLINICAL[s.start : s.end] for s in detector.find(Scan(CLINICAL))] == []


def found(detector: Detector, text: str) -> list[str]:
    return [text[span.start : span.end] for span in merge(detector.find(Scan(text)))]


@pytest.mark.parametrize(
    "date",
    [
        "05/14/2019", "5-14-19", "2019-05-14", "14.05.2019", "October 14, 2003", "14 Feb 2013", "Feb 14", "14th of February", "March 2022", "12-Mar-2019",
        "2019-05-14T10:22:00Z", "2012-10-01 00:46:43", "MAY 3, 2021", "20190514", "05/2019", "Mar '22", "Thursday", "Christmas Eve", "Spring 2019",
        "Oct 14-16, 2003",
    ],
)  # fmt: skip
def test_dates(date: str) -> None:
    assert found(Dates(), f"was seen {date}; well") == [date]


def test_day_and_month_need_a_word_that_speaks_of_a_day() -> None:
    assert found(Dates(), "seen on 5/14, BP 120/80, pain 5/10, return 05/28.") == ["5/14", "05/28"]
    assert found(Dates(), "In March she fell. It may 2 march") == ["March"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 92-year-old woman", ["92"]),
        ("94 y/o M", ["94"]),
        ("aged 101", ["101"]),
        ("Mr Sehgal, 90, is well", ["90"]),
        ("ninety-four years old", ["ninety-four"]),
        ("in her nineties", ["nineties"]),
        ("97M with cough", ["97"]),
        ("89-year-old, 95 mg, BP 110/90, SpO2 95%, 90 degrees", []),
    ],
)
def test_ages_of_90_and_above(text: str, expected: list[str]) -> None:
    assert found(Ages(), text) == expected


@pytest.mark.parametrize(
    "phone",
    ["402-555-0186", "(402) 555-0186", "402.555.0186", "+1 402 555 0186", "555-0186", "+44 20 7946 0958", "07700 900123", "+46 (0)8 928 571 38", "083 564 9312", "402-555-0186 ext. 22"],
)  # fmt: skip
def test_phones(phone: str) -> None:
    assert found(Phones(), f"his number: {phone}, thanks") == [phone]


def test_short_numbers_are_phones_after_a_word_that_says_so() -> None:
    assert found(Phones(), "pager 44321, ext 4432, call 911, call in 2019") == ["44321", "4432"]


@pytest.mark.parametrize(
    "address",
    ["a.b@mail.example", "http://x.example/y?z=1", "www.clinic.example", "example.com/path", "192.168.1.20", "6e40:4041:c617:e898:c11:40d2:c669:2eb4", "00:1B:44:11:3A:B7", "@drsmith", "IMG_2021_lopez.jpg"],
)  # fmt: skip
def test_network_addresses(address: str) -> None:
    assert found(NetworkAddresses(), f"see {address} now") == [address]


@pytest.mark.parametrize(
    ("text", "code", "kind"),
    [
        ("MRN: 3770696", "3770696", Kind.MRN),
        ("medical record number 12-34-56", "12-34-56", Kind.MRN),
        ("SSN 999-60-6252", "999-60-6252", Kind.SSN),
        ("policy no. AB-12 345", "AB-12 345", Kind.HEALTH_PLAN),
        ("Medicare ID 1EG4-TE5-MK73", "1EG4-TE5-MK73", Kind.HEALTH_PLAN),
        ("account # 55512", "55512", Kind.ACCOUNT),
        ("DEA BT1234563", "BT1234563", Kind.LICENSE),
        ("VIN 1HGCM82633A004352", "1HGCM82633A004352", Kind.VEHICLE),
        ("serial number SN-88-1234", "SN-88-1234", Kind.DEVICE),
        ("case no. 7781", "7781", Kind.ID),
    ],
)
def test_labelled_numbers(text: str, code: str, kind: Kind) -> None:
    (span,) = merge(LabelledNumbers().find(Scan(text)))
    assert (text[span.start : span.end], span.kind) == (code, kind)


@pytest.mark.parametrize(
    "code", ["4711234", "123-45-6789", "***-**-6789", "GB90YNTU67299444055881", "4351 1300 9255 7588", "F162823540116", "12-3456789"]
)
def test_bare_numbers(code: str) -> None:
    assert found(BareNumbers(), f"it says {code} here") == [code]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lives at 762 Kihn Wall Apt 36, Lincoln, NE 68524.", ["762 Kihn Wall Apt 36, Lincoln, NE 68524"]),
        ("of 211 Hansen Camp, Vieregg. She is", ["211 Hansen Camp, Vieregg"]),
        ("P.O. Box 1234", ["P.O. Box 1234"]),
        ("a man from Port Sarahhaven.", ["Port Sarahhaven"]),
        ("moved from Springfield to", ["Springfield"]),
        ("Salem, MA 01970", ["Salem, MA 01970"]),
        ("zip 68521", ["68521"]),
        ("Douglas County", ["Douglas County"]),
    ],
)
def test_addresses(text: str, expected: list[str]) -> None:
    assert found(Addresses(), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Seen at Bryan Medical Center.", ["Bryan Medical Center"]),
        ("Memorial Community Hospital & Health System", ["Memorial Community Hospital & Health System"]),
        ("Life Care Center Of Elkhorn\nPatient", ["Life Care Center Of Elkhorn"]),
        ("referred to the Pain Clinic and the Emergency Department", []),
    ],
)
def test_facilities(text: str, expected: list[str]) -> None:
    assert found(Facilities(), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Murphy found Murphy's sign", ["Murphy"]),
        ("dr smyth was paged", ["smyth"]),
        ("Patient: Von, Yelena", ["Von, Yelena"]),
        ("Wood, Justin / 8887261", ["Wood, Justin"]),
        ("Electronically signed by Domitila Vandervort on", ["Domitila Vandervort"]),
        ("-- Kati Ruecker", ["Kati Ruecker"]),
        ("Jane Roe, MD", ["Jane Roe"]),
        ("pt G. Gaylord well", ["G. Gaylord"]),
        ("his wife Ottilie agrees", ["Ottilie"]),
        ("Review by Brian Brown on", ["Brian Brown"]),
        ("Tara Le called", ["Tara Le"]),
        ("Dear colleague, the patient will return. Will Brown scale the wall?", []),
    ],
)
def test_names(text: str, expected: list[str]) -> None:
    assert found(Names(), text) == expected


def test_the_model_finds_what_no_list_knows_and_leaves_drugs_and_eponyms() -> None:
    texts = [
        "Yesterday Quintavius Bramblethorpe came to the ward in Oslo.",
        "He takes Xarelto and Lasix; Babinski negative, Crohn's stable.",
    ]
    (_, first), (_, second) = detect(texts)
    assert {texts[0][s.start : s.end] for s in merge(first)} == {"Quintavius Bramblethorpe", "Oslo"}
    assert [texts[1][s.start : s.end] for s in merge(second)] == []


def test_a_hospital_can_add_its_own_recognizer() -> None:
    from presidio_analyzer import Pattern, PatternRecognizer

    from client.deid.detectors import registry

    own = PatternRecognizer("DEVICE", patterns=[Pattern("bed", r"BEDS~[A-Z]{4}", 1.0)], name="Beds")
    registry().add_recognizer(own)
    try:
        ((_, spans),) = detect(["moved to bed BEDS~QRST"])
        assert Span(13, 22, Kind.DEVICE, 3) in spans
    finally:
        registry().remove_recognizer("Beds")
