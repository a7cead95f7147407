"""CSV exports: notes.csv and patients.csv with a header line; the columns have the names of the JSONL fields.

Several names, numbers, phones, addresses in one cell are separated by `|`. Dialogues do not fit into a table: use JSONL for them.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from client.intake.export import MAX_LINE_BYTES, Export, notes_and_patients, once
from client.intake.fields import NOTE_FIELDS, RECORD_FIELDS, Row, note_of, record_of
from client.records import PatientRecord, RawNote
from common.errors import IntakeError

_NOTE_COLUMNS = tuple(field for field in NOTE_FIELDS if field != "dialogues")


def read_csv(path: Path) -> Export:
    """A file of notes, or a folder with notes.csv and perhaps patients.csv."""
    left_aside: Counter[str] = Counter()
    notes, patients = notes_and_patients(path, ".csv")
    return Export(once(_notes(notes, left_aside), notes), _patients(patients, left_aside), left_aside)


def _rows(path: Path, known: tuple[str, ...], required: tuple[str, ...], left_aside: Counter[str]) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)  # the library's own limit of 128 KiB is shorter than a long discharge letter
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for column in required:
                if column not in header:
                    raise IntakeError(path, 1, column, "there is no such column in the header")
            if len(set(header)) != len(header):
                raise IntakeError(path, 1, None, "a column name stands in the header twice")
            left_aside.update({f"field {column}": 1 for column in header if column not in known and column.isidentifier()})
            line = reader.line_num + 1
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise IntakeError(path, line, None, f"{len(cells)} cells where the header has {len(header)}; is a quote missing?")
                if cells:
                    yield Row(path, line, dict(zip(header, cells, strict=True)))
                line = reader.line_num + 1
    except FileNotFoundError:
        raise IntakeError(path, None, None, "there is no such file") from None
    except UnicodeDecodeError:
        raise IntakeError(path, line, None, "not UTF-8 on or after this line; export the file as UTF-8") from None
    except csv.Error:
        raise IntakeError(path, line, None, "not valid CSV: a quote is open or misplaced, or a cell is too long") from None
    except OSError as error:
        raise IntakeError(path, None, None, f"cannot be read ({error.strerror})") from None


def _notes(path: Path, left_aside: Counter[str]) -> Iterator[tuple[int, RawNote]]:
    for row in _rows(path, _NOTE_COLUMNS, ("id", "patient_id", "text"), left_aside):
        note = note_of(row)
        if note is None:
            left_aside["notes without text"] += 1
        else:
            yield row.line, note


def _patients(path: Path | None, left_aside: Counter[str]) -> Iterator[PatientRecord]:
    if path is not None:
        yield from map(record_of, _rows(path, RECORD_FIELDS, ("patient_id",), left_aside))
