"""JSONL exports: one note, or one patient, a line.

notes.jsonl     {"id", "patient_id", "text", "kind"?, "date"?, "dialogues"?: [{"prompt", "answer"}]}
patients.jsonl  {"patient_id", "names": [...], "birth_date"?, "record_numbers"?, "phones"?, "emails"?, "addresses"?, "relatives"?, "gender"?};
                `first_name`, `last_name`, `mrn`, `ssn`, `dob`, `phone`, `address`, `city`, `zip` are understood too
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from client.intake.export import Export, Reading, lines, notes_and_patients, once
from client.intake.fields import NOTE_FIELDS, RECORD_FIELDS, Row, note_of, record_of
from client.records import PatientRecord, RawNote
from common.errors import IntakeError


def read_jsonl(path: Path) -> Export:
    """A file of notes, or a folder with notes.jsonl and perhaps patients.jsonl."""
    left_aside, reading = Counter[str](), Reading()
    notes, patients = notes_and_patients(path, ".jsonl")
    files = (notes,) if patients is None else (patients, notes)
    return Export(once(_notes(notes, left_aside, reading), reading), _patients(patients, left_aside, reading), files, left_aside, reading)


def objects(path: Path, reading: Reading | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of a JSONL file. Raises IntakeError for a line that is not one JSON object."""
    return ((number, parse_object(path, number, line)) for number, line in lines(path, reading))


def parse_object(path: Path, number: int, line: str) -> dict[str, Any]:
    """The object of one line. Raises IntakeError for anything else, and for a key that stands in it twice: which of the two is meant?"""
    try:
        value = json.loads(line.strip(), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise IntakeError(path, number, None, f"not valid JSON at column {error.colno}; each line holds one whole object") from None
    except RecursionError:
        raise IntakeError(path, number, None, "not valid JSON: nested too deeply") from None
    except _KeyTwice:
        raise IntakeError(path, number, None, "a key stands twice in one object; remove the one that is not meant") from None
    except ValueError:  # Python's own bound, against numbers that take minutes to read
        raise IntakeError(path, number, None, "holds a number of more than 4,300 digits; write it as a string if it is one") from None
    if not isinstance(value, dict):
        raise IntakeError(path, number, None, "a JSON object is expected")
    return value


class _KeyTwice(Exception):
    """Carries nothing: a key may hold what a value should."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _KeyTwice
    return found


def _notes(path: Path, left_aside: Counter[str], reading: Reading) -> Iterator[RawNote]:
    for number, value in objects(path, reading):
        left_aside.update(f"field {key}" for key in value.keys() - set(NOTE_FIELDS) if key.isidentifier())
        note = note_of(Row(path, number, value))
        if note is None:
            left_aside["notes without text"] += 1
        else:
            yield note


def _patients(path: Path | None, left_aside: Counter[str], reading: Reading) -> Iterator[PatientRecord]:
    for number, value in () if path is None else objects(path, reading):
        left_aside.update(f"field {key}" for key in value.keys() - set(RECORD_FIELDS) if key.isidentifier())
        yield record_of(Row(path or Path(), number, value))
