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

from client.intake.export import Export, lines, notes_and_patients, once
from client.intake.fields import NOTE_FIELDS, RECORD_FIELDS, Row, note_of, record_of
from client.records import PatientRecord, RawNote
from common.errors import IntakeError


def read_jsonl(path: Path) -> Export:
    """A file of notes, or a folder with notes.jsonl and perhaps patients.jsonl."""
    left_aside: Counter[str] = Counter()
    notes, patients = notes_and_patients(path, ".jsonl")
    return Export(once(_notes(notes, left_aside), notes), _patients(patients, left_aside), left_aside)


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of a JSONL file. Raises IntakeError for a line that is not one JSON object."""
    return ((number, parse_object(path, number, line)) for number, line in lines(path))


def parse_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise IntakeError(path, number, None, f"not valid JSON at column {error.colno}") from None
    except RecursionError:
        raise IntakeError(path, number, None, "not valid JSON: nested too deeply") from None
    if not isinstance(value, dict):
        raise IntakeError(path, number, None, "a JSON object is expected")
    return value


def _notes(path: Path, left_aside: Counter[str]) -> Iterator[tuple[int, RawNote]]:
    for number, value in objects(path):
        left_aside.update(f"field {key}" for key in value.keys() - set(NOTE_FIELDS) if key.isidentifier())
        note = note_of(Row(path, number, value))
        if note is None:
            left_aside["notes without text"] += 1
        else:
            yield number, note


def _patients(path: Path | None, left_aside: Counter[str]) -> Iterator[PatientRecord]:
    for number, value in () if path is None else objects(path):
        left_aside.update(f"field {key}" for key in value.keys() - set(RECORD_FIELDS) if key.isidentifier())
        yield record_of(Row(path or Path(), number, value))
