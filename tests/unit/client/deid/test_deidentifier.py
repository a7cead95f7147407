"""One patient's notes together: all texts, propagation, the second reading, what survives."""

import pytest

from client.deid.deidentifier import MAX_TEXT_CHARACTERS, Cleaned, Deidentifier, Reason, Work, survives
from client.deid.known import Known
from client.deid.spans import Kind
from client.records import Dialogue, PatientRecord, RawNote

RECORD = PatientRecord("p1", ("Zebulon Quistgaard",), "1950-01-02", ("4711234",), ("402-555-0186",))
SECRET = bytes(range(32))


def clean(*notes: RawNote, record: PatientRecord = RECORD) -> list[Cleaned]:
    ((*cleaned,),) = Deidentifier().clean([Work(notes, record, SECRET)])
    return cleaned


def note(
    text: str, number: int = 1, *, kind: str = "progress note", date: str | None = "2024-05-03", dialogues: tuple[Dialogue, ...] = ()
) -> RawNote:
    return RawNote(f"n{number}", "p1", text, kind, date, dialogues)


def test_note_and_dialogues_lose_the_same_identifiers_and_gain_the_same_surrogates() -> None:
    dialogue = Dialogue("My name is quistgaard, record 4711234. What now?", "Mr Quistgaard, rest and drink. Dr. Vandervort")
    (done,) = clean(note("Zebulon Quistgaard, MRN 4711234, seen 05/03/2024 by Domitila Vandervort, MD. Cough.", dialogues=(dialogue,)))
    name = done.note.text.split(",")[0]
    (asked,) = done.note.dialogues
    number = done.note.text.split("MRN ")[1][:7]
    assert asked.prompt == f"My name is {name.split()[1].lower()}, record {number}. What now?"
    assert asked.answer.startswith(f"Mr {name.split()[1]}, rest and drink. Dr. ")
    assert asked.answer.split()[-1] in done.note.text
    assert "seen 2024 by" in done.note.text
    assert done.reason is None
    assert done.note.counts == {"DATE": 1, "MRN": 2, "NAME": 5}
    assert [len(spans) for spans in done.spans] == [4, 2, 2]


def test_a_name_found_once_is_replaced_in_all_notes_of_the_patient_and_in_no_other_patients() -> None:
    notes = (note("Spoke with Dr. Bramblethorpe."), note("bramblethorpe agrees. BRAMBLETHORPE signed.", 2))
    first, second = clean(*notes)
    assert "ramblethorpe" not in (first.note.text + second.note.text).lower()
    assert second.note.text.split()[0].upper() == second.note.text.split()[2].upper()


def test_the_same_notes_give_the_same_result_and_another_secret_another() -> None:
    text = note("Zebulon Quistgaard, 402-555-0186, was seen.")
    assert clean(text)[0].note == clean(text)[0].note
    ((other,),) = Deidentifier().clean([Work((text,), RECORD, bytes(32))])
    assert other.note.text != clean(text)[0].note.text


def test_texts_of_several_patients_do_not_mix() -> None:
    works = [
        Work((RawNote("n1", pid, f"{name} has a cough."),), PatientRecord(pid, (name,)), SECRET)
        for pid, name in (("a", "Ida Quistgaard"), ("b", "Olaf Torkelson"))
    ]
    (one,), (two,) = Deidentifier().clean(works)
    assert one.note.text.endswith(" has a cough.")
    assert two.note.text.endswith(" has a cough.")
    assert (one.note.patient_id, two.note.patient_id) == ("a", "b")


def test_a_name_or_number_that_only_the_second_reading_sees_holds_the_note_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "client.deid.deidentifier.detect",
        lambda texts: iter([(__import__("client.deid.scan", fromlist=["Scan"]).Scan(t), []) for t in texts]),
    )
    held = [clean(note(text))[0] for text in ("Saw Wilbert Ossington today.", "Call 212-555-0147 now.", "A cough for two weeks.")]
    assert [done.reason for done in held] == [Reason.DISAGREEMENT, Reason.DISAGREEMENT, None]
    assert "Ossington" not in held[0].note.text
    assert "0147" not in held[1].note.text


def test_a_text_of_absurd_length_is_held_back_unread() -> None:
    long, short = clean(note("x" * (MAX_TEXT_CHARACTERS + 1)), note("Cough.", 2))
    assert (long.reason, long.note.text) == (Reason.TOO_LONG, "")
    assert (short.reason, short.note.text) == (None, "Cough.")


def test_a_birth_year_that_tells_an_age_of_90_goes_and_a_younger_one_stays() -> None:
    (done,) = clean(note("Born in 1931, married 1950, moved 1965. Given 1930 ml."))
    assert done.note.text == "Born in [DATE], married 1950, moved 1965. Given 1930 ml."


@pytest.mark.parametrize(
    ("kind", "stored"), [("Discharge Summary of Mr Quistgaard", "discharge"), ("Quistgaard", "note"), ("phone call", "phone")]
)
def test_what_a_note_is_called_comes_from_a_closed_list(kind: str, stored: str) -> None:
    assert clean(note("Cough.", kind=kind))[0].note.kind == stored


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("born 1921, b. 1919, DOB 1925, Geb. 1929", ["1921", "1919", "1925", "1929"]),
        ("In 1931 the house was built, in 1870 the town", ["1931", "1870"]),
        ("her twin Anna Kowalska, 1922, lives. Mr. John Smith (1911)", ["1922", "1911"]),
        ("Maria Schmidt | F | 1921 | ward", ["1921"]),
        ("born 1964, fractured in 1987", []),
        ("Pacing at 1900, dose given 1800, held till 1815\n1915 Bedside report, D-dimer 1840, CTPA", []),
        ("Back to OR with Dr. Santangelo 1903. *** 1910 *** geb. 1911, *1912", ["1911", "1912"]),
    ],
)
def test_a_year_that_tells_an_age_of_90_goes_and_a_time_of_day_stays(text: str, years: list[str]) -> None:
    (cleaned,) = clean(note(text))
    spans = [text[span.start : span.end] for span in cleaned.spans[0] if span.kind is Kind.DATE]
    assert spans == years


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Quistgaard is here", True),
        ("quist-\ngaard is here", True),
        ("id 471 12\n34", True),
        ("born 2 January 1950", True),
        ("Dr. Vandervort came", True),
        ("VANDERVORT came", True),
        ("id 88 12-34 5", True),
        ("Vandervorts own house", False),
        ("a clean text of 2024", False),
    ],
)
def test_survivors_are_seen_in_every_form(text: str, leaks: bool) -> None:
    assert survives(text, [], Known(RECORD), ["Vandervort", "881-2345"]) is leaks


def test_a_surrogate_is_no_survivor_of_itself() -> None:
    assert not survives("Vandervort came", [(0, 10)], Known(RECORD), ["Vandervort"])


def test_nothing_of_a_text_shows_in_a_repr() -> None:
    work = Work((note("Quistgaard"),), RECORD, SECRET)
    (done,) = clean(note("Quistgaard came."))
    assert "uistgaard" not in f"{work!r} {done!r} {done.spans!r}"


@pytest.mark.parametrize("text", ["NPN 1900-0700: slept 0100-0430, vec 1015-1130. Nightshift 0700-1500."])
def test_the_hours_of_a_shift_are_no_number_of_anybody(text: str) -> None:
    (cleaned,) = clean(note(text))
    assert (cleaned.spans[0], cleaned.reason) == ((), None)


def test_the_article_in_front_of_a_place_stands() -> None:
    text = "She was seen at the Vandervort Clinic in May 2024 and lives in Boston."
    (cleaned,) = clean(note(text))
    assert "Vandervort Clinic" in [text[span.start : span.end] for span in cleaned.spans[0]]
