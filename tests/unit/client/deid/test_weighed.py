"""What has the form of an identifier and is none: readings, departments, codes, eponyms; and where a name or place ends."""

import pytest
from faker import Faker

from client.deid import deidentifier
from client.deid.deidentifier import Cleaned, Deidentifier, Work
from client.deid.rules import numbers, weighed
from client.deid.rules.german import German
from client.deid.rules.numbers import LabelledNumbers, NetworkAddresses, Phones
from client.deid.rules.places import Facilities
from client.deid.scan import Scan
from client.deid.second import disagreements
from client.deid.spans import Kind, merge
from client.records import PatientRecord, RawNote


def clean(text: str) -> Cleaned:
    ((cleaned,),) = Deidentifier().clean([Work((RawNote("n", "p", text),), PatientRecord(""), bytes(32))])
    return cleaned


def masked(text: str) -> str:
    for span in reversed(clean(text).spans[0]):
        text = text[: span.start] + "_" + text[span.end :]
    return text


@pytest.mark.parametrize(
    ("detector", "text"),
    [
        (German(), "Extubated in PACU.\n1400 UOP 220\n2216 PEA, epi 1\n2219 PEA, epi 2\n2221 VF 200 J"),
        (Facilities(), "PRE-OP CLINIC TALLY\nSeen and cleared, fasting from midnight."),
    ],
)
def test_what_has_the_form_of_a_place_and_is_none_stands(detector: German | Facilities, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [span for span in detector.find(Scan(text)) if span.kind in (Kind.LOCATION, Kind.ORGANIZATION)]
    monkeypatch.setattr(weighed, "MIN_LIKELIHOOD", 0.0)
    assert [span for span in detector.find(Scan(text)) if span.kind in (Kind.LOCATION, Kind.ORGANIZATION)]


def test_a_place_loses_the_words_at_its_ends_that_are_none_of_it() -> None:
    text = "cc: Brookline Ave Health Center MEDREC"
    found = [text[span.start : span.end] for span in merge(Facilities().find(Scan(text)))]
    assert found == ["Brookline Ave Health Center"]


def test_an_eponym_that_no_list_knows_neither_goes_nor_holds_the_note_back(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Delivered by cesarean, Joel-Cohen entry. Monitor was a Philips PageWriter; Dawes-Redman criteria met at 22 min."
    assert clean(text).reason is None
    assert masked(text) == text
    monkeypatch.setattr(deidentifier, "MIN_GRAVE_LIKELIHOOD", 0.0)
    assert clean(text).reason is not None


def test_a_person_whom_only_the_second_reading_sees_still_holds_the_note_back(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "She was seen in clinic. Then Quimbolette Vantrosk says that the pain is worse at night."
    doubts = [doubt for doubt in disagreements(Scan(text), []) if doubt.grave]
    assert doubts
    assert all(Scan(text).likelihood(doubt.span.start, doubt.span.end) >= deidentifier.MIN_GRAVE_LIKELIHOOD for doubt in doubts)


@pytest.mark.parametrize(
    "text",
    [
        "Milrinone 0.25-0.375 mcg/kg/min, TSAT 14%",
        "filt P  TMP\n07  210   380  -170   142    61\n08  190   390  -200   145    66",
        "VS 98.2-76-16-128/70. JP, Foley, PCA",
        "door 0803   0841   0910   0924",
    ],
)
def test_readings_are_no_numbers_to_the_second_reading(text: str) -> None:
    assert not [doubt for doubt in disagreements(Scan(text), []) if doubt.span.kind is not Kind.NAME]


@pytest.mark.parametrize("text", ["ring 617-555-0133 tonight", "req 24.0771925 sent", "card 4111 1111 1111 1111 charged"])
def test_numbers_are_still_seen_by_the_second_reading(text: str) -> None:
    assert [doubt for doubt in disagreements(Scan(text), []) if doubt.span.kind is not Kind.NAME]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pH 7.24/-5 and pH 7.29/68/71/32", []),
        ("sedation off since 11-19 0600, called 5/3/87 02:10, reached 6/11 14:10", []),
        ("PGR 0199 06/22 23:48", ["0199"]),
        ("Mom c 508-555-0190, f 617 555 0180", ["508-555-0190", "617 555 0180"]),
        ("case 0042-771. 34 y.o. cook", ["0042-771"]),
    ],
)
def test_telephones(text: str, expected: list[str]) -> None:
    assert [text[span.start : span.end] for span in merge(Phones().find(Scan(text)))] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#30 PFM crown prep; #19 RCT, GuttaCore", []),
        ("NPI 6.56, NPi 4.1/4.2, pulse 72 reg. SG 1.020", []),
        ("passport says 417700821; Bed 12 MRN 4471123", ["417700821", "4471123"]),
    ],
)
def test_labelled_numbers(text: str, expected: list[str]) -> None:
    assert [text[span.start : span.end] for span in merge(LabelledNumbers().find(Scan(text)))] == expected


def test_a_missing_space_makes_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "walking pod1.hackneyis afebrile.tol clears.jp out.dc home"
    assert not list(NetworkAddresses().find(Scan(text)))
    monkeypatch.setattr(numbers, "HOST_LIKELIHOOD", 0.0)
    assert list(NetworkAddresses().find(Scan(text)))


def test_a_sentence_ends_in_front_of_an_address() -> None:
    text = "We thank all. efua77@kente.example wrote. IG @tiny.mighty.zuri; ann . lee @ kente . example; b.lee @kente.example"
    found = [text[span.start : span.end] for span in merge(NetworkAddresses().find(Scan(text)))]
    assert found == ["efua77@kente.example", "@tiny.mighty.zuri", "ann . lee @ kente . example", "b.lee @kente.example"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lucretia left for Shaker Heights on Sunday, the house is quiet.", "_ left for _ on _, the house is quiet."),
        ("She moved to Ware in 2066 for her husband's post.", "She moved to _ in 2066 for her husband's post."),
        ("He tripped over the dog at 211 Linden Ct in Holyoke and lay there.", "He tripped over the dog at _ in _ and lay there."),
        ("Seen by Olivia Hartman, M.D. Lazarus Bright, M.D. agrees.", "Seen by _, M.D. _, M.D. agrees."),
    ],
)
def test_where_a_name_or_a_place_ends(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_initials_of_somebody_who_is_named_go_where_people_sign() -> None:
    text = "Plan as above; see me in a sec, the MI was ruled out.\n\nSimon E. Castle, M.D.\n\nsec / pm\n"
    assert masked(text) == "Plan as above; see me in a sec, the MI was ruled out.\n\n_, M.D.\n\n_ / _\n"
    doses = "Dr. Maria Garcia. 5 mg/kg now, dose in mg/kg, PT/OT by Paul Tran: pt/ot, po/iv per Peter Ivers."
    assert [word for word in ("mg/kg now", "in mg/kg", "PT/OT", "pt/ot", "po/iv") if word not in masked(doses)] == []
    assert masked(text.replace("Simon E. Castle", "Ruth Pemberton")).endswith("\n\nsec / pm\n")


@pytest.mark.parametrize(
    "address",
    [
        "Wilfriede-Hethur-Straße 73/15 88310 Meppen",
        "Sauerstr. 2-4, 62893 Donaueschingen",
        "Vial Jimena Arnau 1, Palencia, 50923",
        "Pasaje de Herminio Frutos 3, Barcelona, 05713",
        "6 Katherine Courtyard\nFisherland, TAS, 2955",
        "24/3 Diaz Ramble, Ericaland, ACT, 0873",
        "87 Oliver Drive Christopherborough SW4W 1UP",
        "Studio 3, Cheryl Mountains, Khanborough, L1W 3LW",
    ],
)
def test_an_address_goes_whole_from_the_house_to_the_postcode(address: str) -> None:
    for form in ("Mail results to {} please.", "Addr: {}\nMRN 4471123"):
        text = form.format(address)
        at, covered = text.index(address), bytearray(len(text))
        for span in clean(text).spans[0]:
            covered[span.start : span.end] = b"\1" * (span.end - span.start)
        assert all(covered[at + i] for i, character in enumerate(address) if character.isalnum()), text


def test_a_person_in_front_of_a_town_is_no_street() -> None:
    text = "Please send a copy to Mary Jones\nHolyoke, MA 01040 about the pending refills."
    assert [text[s.start : s.end] for s in clean(text).spans[0]] == ["Mary Jones", "Holyoke, MA 01040"]


def test_generated_addresses_of_five_countries_go_whole() -> None:
    sentences = ("Mail results to {} please.", "{}\nMRN 4471123", "K 4.1, Na 138. {} Cr 1.1")
    texts, addresses = [], []
    for locale in ("en_US", "en_GB", "en_AU", "es_ES", "de_DE"):
        faker = Faker(locale)
        faker.seed_instance(11)
        for i in range(45):
            addresses.append(faker.address().replace("\n", (", ", "\n", " ")[i % 3]))
            texts.append(sentences[i // 3 % 3].format(addresses[-1]))
    works = [Work((RawNote("n", "p", text),), PatientRecord(""), bytes(32)) for text in texts]
    whole = 0
    for text, address, (cleaned,) in zip(texts, addresses, Deidentifier().clean(works), strict=True):
        at, covered = text.index(address), bytearray(len(text))
        for span in cleaned.spans[0]:
            covered[span.start : span.end] = b"\1" * (span.end - span.start)
        whole += all(covered[at + i] for i, character in enumerate(address) if character.isalnum())
    assert whole >= 0.92 * len(texts)
