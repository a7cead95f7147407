"""De-identification of one file without a site: JSONL in, JSONL out, nothing kept.

in   {"id", "text", "patient_id"?, "record"?: {"names": […], "birth_date", "mrn", "phones": […], "address", …}}
out  {"id", "text", "spans": [{"start", "end", "label"}], "quarantined": bool}, line for line in the order of the input;
     `spans` are offsets in the input text, `text` is null when the note is held back

Lines of one `patient_id` are read together and share surrogates; a line without one is a patient of its own. The secrets behind the
surrogates are drawn for this run and forgotten, so two runs give different surrogates and the same spans.

Finished patients are kept in `.OUT.part` beside the output, in de-identified form, until the output stands. A run that was killed goes on
from there when input and choices are the same; of a patient who was cut off nothing is used.

Protects against: half an output (the file appears whole or not at all); memory that grows with the texts (a line costs 32 bytes); an output of
this command taken for an input.
Does not protect against: what the gate of a site would find later; there is no index of patients here beyond the lines' own records.
"""

import json
import os
import secrets
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from client.deid.deidentifier import Cleaned, Deidentifier, Work
from client.deid.pipeline import batched, clean_batches
from client.deid.surrogates import Dates
from client.intake.export import decoded, numbered
from client.intake.fields import Row, record_of
from client.intake.jsonl import parse_object
from client.intake.line_index import LineIndex, Place
from client.records import PatientRecord, RawNote
from client.sealed.sealing import KEY_BYTES
from common.errors import IntakeError, StorageError
from common.progress import Progress
from common.storage import PRIVATE, storage_errors, sync_folder, write_all

_PART_VERSION = 1


@dataclass(frozen=True, slots=True)
class FileReport:
    notes: int
    quarantined: int
    identifiers: dict[str, int]


def deidentify_file(source: Path, target: Path, *, workers: int, dates: Dates, progress: Progress) -> FileReport:
    """Write the de-identified `target`. Raises IntakeError by file, line and field, or StorageError; then there is no target."""
    if source.exists() and target.exists() and target.samefile(source):
        raise StorageError(f"{target}: the output would replace its own input, and the notes would be lost; name another file")
    index = _index(source)
    progress.start("de-identify notes", len(index))
    with storage_errors(target, "write the de-identified notes"), _Part(target, _choices(source, dates), len(index)) as part:
        progress.advance(part.rows)
        waiting, ranks = (islice(index.groups(), part.patients, None) for _ in range(2))
        for batch in clean_batches(batched(_works(source, waiting)), Deidentifier(dates), workers):
            for cleaned in batch:
                part.append([(place.rank, one) for place, one in zip(next(ranks), cleaned, strict=True)])
            progress.advance(sum(map(len, batch)))
        _write_whole(target, part.in_order())
        part.remove()
    return FileReport(len(index), part.quarantined, dict(sorted(part.identifiers.items())))


def _choices(source: Path, dates: Dates) -> str:
    """What must be the same for a run to go on with another's work."""
    with source.open("rb") as file:
        return f"{_PART_VERSION} {dates.value} {file_digest(file, 'sha256').hexdigest()}"


def _index(source: Path) -> LineIndex:
    """Where each patient's lines stand. Checks every line before anything is done."""
    index = LineIndex()
    for number, offset, line in numbered(source):
        note, _ = _note(source, number, line)
        index.add(number, offset, note.note_id, note.patient_id)
    repeated = index.repeated()
    if repeated is not None:
        raise IntakeError(source, repeated, "id", "this id stands on an earlier line as well; ids must be unique")
    return index


def _note(source: Path, number: int, line: str) -> tuple[RawNote, PatientRecord]:
    row = Row(source, number, parse_object(source, number, line))
    if row.has("spans") and row.has("quarantined"):
        raise row.refuse(
            "spans",
            "stands in outputs of this command: the file is de-identified already, and a second pass would hide what the first one left",
        )
    if not row.has("text"):
        raise row.refuse("text", "is missing")
    patient_id = row.text("patient_id") or ""
    known = PatientRecord(patient_id) if row.get("record") is None else record_of(row.within("record"), patient_id)
    return RawNote(row.required("id"), patient_id, row.text("text") or "", date=row.date("date")), known


def _works(source: Path, patients: Iterator[list[Place]]) -> Iterator[Work]:
    with source.open("rb") as file:
        for patient in patients:
            yield _work(source, file, patient)


def _work(source: Path, file: BinaryIO, patient: list[Place]) -> Work:
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


class _Part:
    """Finished patients, in `.OUT.part`: a first line that says of what, then a line a row, the last row of a patient marked as such.

    `rows`, `patients`, `quarantined`, `identifiers` count what stands in it, earlier runs' work included.
    """

    def __init__(self, target: Path, choices: str, total: int) -> None:
        self.path = target.with_name(f".{target.name}.part")
        self.rows = self.patients = self.quarantined = 0
        self.identifiers = Counter[str]()
        self._offsets = array("q", bytes(8 * total))
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, PRIVATE), "r+b")
        header = choices.encode() + b"\n"
        if self._file.readline() == header:
            self._take_up(len(header))
        else:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(header)

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _take_up(self, at: int) -> None:
        """Count the whole patients; what a kill left of the last one is cut off."""
        whole, patient = at, []
        while (line := self._file.readline()).endswith(b"\n"):
            rank, counts, row, last = json.loads(line)
            patient.append((at, rank, counts, row))
            at += len(line)
            if last:
                self._count(patient)
                whole, patient = at, []
        self._file.seek(whole)
        self._file.truncate()

    def append(self, done: list[tuple[int, Cleaned]]) -> None:
        """One patient's rows."""
        patient, at = [], self._file.tell()
        for position, (rank, cleaned) in enumerate(done, 1):
            row, counts = _row(cleaned), dict(cleaned.note.counts)
            patient.append((at, rank, counts, row))
            at += self._file.write(json.dumps([rank, counts, row, position == len(done)]).encode("ascii") + b"\n")
        self._file.flush()
        self._count(patient)

    def _count(self, patient: list[tuple[int, int, dict[str, int], dict[str, object]]]) -> None:
        self.patients += 1
        for at, rank, counts, row in patient:
            self._offsets[rank] = at
            self.rows += 1
            self.quarantined += bool(row["quarantined"])
            self.identifiers.update(counts)

    def in_order(self) -> Iterator[bytes]:
        """Every row in the order of the input."""
        for at in self._offsets:
            self._file.seek(at)
            row = json.loads(self._file.readline())[2]
            yield json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"

    def remove(self) -> None:
        self.path.unlink()


def _row(cleaned: Cleaned) -> dict[str, object]:
    held_back = cleaned.reason is not None
    spans = [{"start": span.start, "end": span.end, "label": span.kind.label} for span in (cleaned.spans[0] if cleaned.spans else ())]
    return {"id": cleaned.note.note_id, "text": None if held_back else cleaned.note.text, "spans": spans, "quarantined": held_back}


def _write_whole(target: Path, chunks: Iterator[bytes]) -> None:
    """The chunks as `target`, through a file beside it that is renamed: whole or not at all."""
    staging = target.with_name(f".{target.name}.{secrets.token_hex(6)}.staging")
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
