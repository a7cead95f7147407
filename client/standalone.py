"""De-identification of one file without a site: JSONL in, JSONL out, nothing kept.

in   {"id", "text", "patient_id"?, "record"?: {"names": […], "birth_date", "mrn", "phones": […], "address", …}}
out  {"id", "text", "spans": [{"start", "end", "label"}], "quarantined": bool}, line for line in the order of the input;
     `spans` are offsets in the input text, `text` is null when the note is held back

Lines of one `patient_id` are read together and share surrogates; a line without one is a patient of its own. The secrets behind the
surrogates are drawn for this run and forgotten, so two runs give different surrogates and the same spans.

Protects against: half an output (the file appears whole or not at all); memory that grows with the input.
Does not protect against: what the gate of a site would find later; there is no index of patients here beyond the lines' own records.
"""

import json
import os
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from client.deid.deidentifier import Cleaned, Deidentifier, Work
from client.deid.pipeline import BATCH_PATIENTS, clean_batches
from client.deid.surrogates import Dates
from client.intake.export import decoded, numbered
from client.intake.fields import Row, record_of
from client.intake.jsonl import parse_object
from client.records import PatientRecord, RawNote
from client.sealing import KEY_BYTES
from common.errors import IntakeError, StorageError
from common.progress import Progress
from common.storage import PRIVATE, storage_errors, sync_folder, write_all


@dataclass(frozen=True, slots=True)
class FileReport:
    notes: int
    quarantined: int
    identifiers: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Place:
    """A line of the input: its number from 1, its offset in bytes, its rank among the lines that are not blank."""

    number: int
    offset: int
    rank: int


def deidentify_file(source: Path, target: Path, *, workers: int, dates: Dates, progress: Progress) -> FileReport:
    """Write the de-identified `target`. Raises IntakeError by file, line and field, or StorageError; then there is no target."""
    if source.exists() and target.exists() and target.samefile(source):
        raise StorageError(f"{target}: the output would replace its own input, and the notes would be lost; name another file")
    patients = _patients(source)
    total = sum(map(len, patients))
    progress.start("de-identify notes", total)
    rows: list[tuple[int, int]] = [(0, 0)] * total
    quarantined, identifiers = 0, Counter[str]()
    with storage_errors(target, "write the de-identified notes"), tempfile.TemporaryFile(dir=target.parent) as scratch:
        ranks = (place.rank for patient in patients for place in patient)
        for batch in clean_batches(_batches(source, patients), Deidentifier(dates), workers):
            done = [cleaned for patient in batch for cleaned in patient]
            for cleaned in done:
                row = _row(cleaned)
                rows[next(ranks)] = (scratch.tell(), len(row))
                scratch.write(row)
                quarantined += cleaned.reason is not None
                identifiers.update(cleaned.note.counts)
            progress.advance(len(done))
        _write_whole(target, _in_order(scratch, rows))
    return FileReport(total, quarantined, dict(sorted(identifiers.items())))


def _patients(source: Path) -> list[list[_Place]]:
    """Where each patient's lines stand, patients in order of their first line. Checks every line before anything is done."""
    found: dict[str, list[_Place]] = {}
    seen: set[str] = set()
    for rank, (number, offset, line) in enumerate(numbered(source)):
        note, _ = _note(source, number, line)
        if note.note_id in seen:
            raise IntakeError(source, number, "id", "this id stands on an earlier line as well; ids must be unique")
        seen.add(note.note_id)
        found.setdefault(note.patient_id or f"\0{number}", []).append(_Place(number, offset, rank))
    return list(found.values())


def _note(source: Path, number: int, line: str) -> tuple[RawNote, PatientRecord]:
    row = Row(source, number, parse_object(source, number, line))
    if not row.has("text"):
        raise row.refuse("text", "is missing")
    patient_id = row.text("patient_id") or ""
    known = PatientRecord(patient_id) if row.get("record") is None else record_of(row.within("record"), patient_id)
    return RawNote(row.required("id"), patient_id, row.text("text") or "", date=row.date("date")), known


def _batches(source: Path, patients: list[list[_Place]]) -> Iterator[list[Work]]:
    with source.open("rb") as file:
        for start in range(0, len(patients), BATCH_PATIENTS):
            yield [_work(source, file, patient) for patient in patients[start : start + BATCH_PATIENTS]]


def _work(source: Path, file: BinaryIO, patient: list[_Place]) -> Work:
    notes, records = [], []
    for place in patient:
        file.seek(place.offset)
        note, record = _note(source, place.number, decoded(source, place.number, file.readline()))
        notes.append(note)
        records.append(record)
    return Work(tuple(notes), _together(records), secrets.token_bytes(KEY_BYTES))


def _together(records: list[PatientRecord]) -> PatientRecord:
    """What all lines of a patient know of the patient."""
    first = records[0]
    lists = {
        field: tuple(dict.fromkeys(item for record in records for item in getattr(record, field)))
        for field in ("names", "record_numbers", "phones", "emails", "addresses", "relatives")
    }
    birth_date = next((record.birth_date for record in records if record.birth_date), None)
    gender = next((record.gender for record in records if record.gender), None)
    return PatientRecord(first.patient_id, birth_date=birth_date, gender=gender, **lists)


def _row(cleaned: Cleaned) -> bytes:
    held_back = cleaned.reason is not None
    spans = [{"start": span.start, "end": span.end, "label": span.kind.label} for span in (cleaned.spans[0] if cleaned.spans else ())]
    row = {"id": cleaned.note.note_id, "text": None if held_back else cleaned.note.text, "spans": spans, "quarantined": held_back}
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _in_order(scratch: BinaryIO, rows: list[tuple[int, int]]) -> Iterator[bytes]:
    for offset, length in rows:
        scratch.seek(offset)
        yield scratch.read(length)


def _write_whole(target: Path, chunks: Iterator[bytes]) -> None:
    """The chunks as `target`, through a file beside it that is renamed: whole or not at all."""
    staging = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        try:
            for chunk in chunks:
                write_all(descriptor, chunk)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        staging.replace(target)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
