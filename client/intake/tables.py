"""CSV exports: notes.csv and patients.csv with a header line; the columns have the names of the JSONL fields.

Several names, numbers, phones, addresses in one cell are separated by `|`. Dialogues do not fit into a table: use JSONL for them.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from client.intake.export import MAX_LINE_BYTES, Export, Reading, notes_and_patients, once, readable
from client.intake.fields import NOTE_FIELDS, RECORD_FIELDS, Row, note_of, record_of
from client.records import PatientRecord, RawNote
from common.errors import IntakeError

_NOTE_COLUMNS = tuple(field for field in NOTE_FIELDS if field != "dialogues")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_csv(path: Path) -> Export:
    """A file of notes, or a folder with notes.csv and perhaps patients.csv."""
    left_aside, reading = Counter[str](), Reading()
    notes, patients = notes_and_patients(path, ".csv")
    files = (notes,) if patients is None else (patients, notes)
    return Export(once(_notes(notes, left_aside, reading), reading), _patients(patients, left_aside, reading), files, left_aside, reading)


def _rows(path: Path, known: tuple[str, ...], required: tuple[str, ...], left_aside: Counter[str], reading: Reading) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)  # the library's own limit of 128 KiB is shorter than a long discharge letter
    line, before = 1, reading.bytes
    try:
        with readable(path), path.open("rb") as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            reading.path, reading.line = path, line
            reader = csv.reader(file, strict=True)
            header = [column.strip() for column in next(reader, [])]
            _check_header(path, header, required)
            left_aside.update({f"field {column}": 1 for column in header if column not in known and column.isidentifier()})
            line = reader.line_num + 1
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise IntakeError(path, line, None, f"{len(cells)} cells where the header has {len(header)}; is a quote missing?")
                reading.line, reading.bytes = line, before + raw.tell()
                if cells:
                    yield Row(path, line, dict(zip(header, cells, strict=True)))
                line = reader.line_num + 1
    except UnicodeDecodeError:
        raise IntakeError(path, line, None, "not UTF-8 on or after this line; export the file as UTF-8") from None
    except csv.Error:
        raise IntakeError(path, line, None, "not valid CSV: a quote is open or misplaced, or a cell is too long") from None


def _check_header(path: Path, header: list[str], required: tuple[str, ...]) -> None:
    """Raises IntakeError for a column that is missing, without a name, or there twice. It repeats no name: the first line may be a patient's."""
    for column in required:
        if column not in header:
            other = next((sign for sign, name in _SEPARATORS.items() if len(header) == 1 and sign in header[0]), None)
            remedy = (
                f"the cells are separated by {_SEPARATORS[other]}; export them with commas"
                if other
                else f"name {', '.join(required)} there"
            )
            raise IntakeError(path, 1, column, f"there is no such column in the header; {remedy}")
    if "" in header:
        raise IntakeError(path, 1, None, f"column {header.index('') + 1} has no name; remove empty columns from the export")
    if len(set(header)) != len(header):
        raise IntakeError(path, 1, None, "a column name stands in the header twice")


def _notes(path: Path, left_aside: Counter[str], reading: Reading) -> Iterator[RawNote]:
    for row in _rows(path, _NOTE_COLUMNS, ("id", "patient_id", "text"), left_aside, reading):
        note = note_of(row)
        if note is None:
            left_aside["notes without text"] += 1
        else:
            yield note


def _patients(path: Path | None, left_aside: Counter[str], reading: Reading) -> Iterator[PatientRecord]:
    if path is not None:
        yield from map(record_of, _rows(path, RECORD_FIELDS, ("patient_id",), left_aside, reading))
