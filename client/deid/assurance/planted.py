"""Invented patients whose identifiers are planted into copies of clean notes, to see whether any comes out of the de-identification.

Protects against: a de-identification that has stopped working at this site (another version of a library, another shape of notes).
Does not protect against: forms of writing that are not planted here; what a person would find that no list or pattern knows.
"""

import hmac
import re
from collections.abc import Sequence
from hashlib import sha256

from client.deid.vocabulary.words import fold
from client.records import CleanNote, PatientRecord, RawNote

_PEOPLE = (
    PatientRecord(
        "plant-0001", ("Zebulon Quistgaard",), "1951-03-07", ("70418852", "987-65-4321"), ("(914) 555-0173",), ("zeb.quistgaard@example.net",),
        ("8812 Ferncastle Road, Dunwick 43977",), ("Ottilie Varnhagen",), "M",
    ),
    PatientRecord(
        "plant-0002", ("Anneliese M. Torkelson",), "1988-11-24", ("MR-5520-9177", "GX88120347"), ("+44 20 7946 0815",), ("amt88@example.net",),
        ("17 Osterley Close", "Pellworth", "61384"), ("Bartholomew Torkelson",), "F",
    ),
    PatientRecord(
        "plant-0003", ("Ines O'Hallahan-Prewitt",), "1934-06-30", ("00339127",), ("212.555.0166",), ("prewitt@example.net",),
        ("500 Larkmoor Terrace Apt 12", "Vexford"), ("Cuthbert Prewitt",), "F",
    ),
)  # fmt: skip
"""Nobody's names and numbers; every part is rare enough that finding it means that it survived."""


def identifiers(record: PatientRecord) -> list[str]:
    """What must not come out: the name's parts, the numbers, the e-mail address, the street."""
    parts = [part for name in (*record.names, *record.relatives) for part in re.split(r"[\s\-]+", name) if len(part) > 2]
    streets = [re.sub(r"^\d+ ", "", address.split(",")[0]) for address in record.addresses if address[0].isdigit()]
    return [*parts, *record.record_numbers, *record.phones, *record.emails, *streets]


def _sentences(record: PatientRecord) -> list[str]:
    name, relative = record.names[0], record.relatives[0]
    given, family = name.split()[0], name.split()[-1]
    birth, number = record.birth_date or "", record.record_numbers[0]
    year, month, day = birth.split("-")
    phone = "".join(c for c in record.phones[0] if c.isdigit())
    half = len(family) // 2
    swapped = family[:2] + family[3] + family[2] + family[4:]
    return [
        f"Patient: {family.upper()}, {given.upper()}   MRN: {number}   DOB: {month}/{day}/{year}",
        f"{given.lower()} {family.lower()} called again from {record.phones[0]} about the results.",
        f"Seen with {relative}; {given[0]}. {family} feels better. {swapped} was told to return.",
        f"Copy sent to {record.emails[0]} and to {', '.join(record.addresses)}.",
        f"The chart of {family[:half]}-\n{family[half:]} has the numbers {' '.join(number)} and {phone}.",
        f"{family}'s record ({record.record_numbers[-1]}) was merged on {year}-{month}-{day}.",
    ]


def planted(notes: Sequence[CleanNote]) -> list[tuple[PatientRecord, RawNote]]:
    """Copies of clean notes with an invented patient's sentences before and after their text."""
    copies = []
    for number, note in enumerate(notes):
        record = _PEOPLE[number % len(_PEOPLE)]
        sentences = _sentences(record)
        text = "\n".join([*sentences[:3], note.text, *sentences[3:]])
        copies.append((record, RawNote(f"planted-{number}", record.patient_id, text, note.kind)))
    return copies


def count_survivors(record: PatientRecord, clean: str) -> tuple[int, int]:
    """(identifiers looked for, identifiers found) in a clean text: as written in any case, and numbers by their digits alone.

    Written without anything of the de-identification's own matching, so that a fault there is not repeated here.
    """
    folded, digits = fold(clean), re.sub(r"\D", "", clean)
    joined = re.sub(r"-?\s*\n\s*", "", folded)
    wanted = identifiers(record)
    found = 0
    for identifier in wanted:
        number = re.sub(r"\D", "", identifier)
        # as a word of its own where it begins: "Ines" is not in "lines"; a broken line may have joined it with what follows
        written = re.compile(rf"(?<!\w){re.escape(fold(identifier))}")
        found += bool(written.search(folded) or written.search(joined)) or (len(number) >= 7 and number in digits)
    return len(wanted), found


def secret(record: PatientRecord) -> bytes:
    """The secret of an invented patient: fixed, since there is nobody to protect and the check should repeat."""
    return hmac.digest(b"planted", record.patient_id.encode(), sha256)
