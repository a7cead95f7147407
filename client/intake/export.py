"""What every reader gives: notes and patients' records as they are read, and what was left aside."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from client.records import PatientRecord, RawNote
from common.errors import IntakeError

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is no note: it would be read into memory whole."""


@dataclass(frozen=True, slots=True)
class Export:
    """One hospital export. Both iterators read the files once, as they are consumed, and raise IntakeError where they cannot.

    left_aside  filled while reading: names of fields that are not used, and documents without text, with how many there were
    """

    notes: Iterator[RawNote]
    records: Iterator[PatientRecord]
    left_aside: Counter[str] = field(default_factory=Counter)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of every line that is not blank. Raises IntakeError for a missing file, another encoding, an endless line."""
    return ((number, text) for number, _, text in numbered(path))


def numbered(path: Path) -> Iterator[tuple[int, int, str]]:
    """(number from 1, offset in bytes, text) of every line that is not blank. Raises as `lines`."""
    try:
        with path.open("rb") as file:
            number, offset = 0, 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if line.strip():
                    yield number, offset, decoded(path, number, line)
                offset += len(line)
    except FileNotFoundError:
        raise IntakeError(path, None, None, "there is no such file") from None
    except OSError as error:
        raise IntakeError(path, None, None, f"cannot be read ({error.strerror})") from None


def decoded(path: Path, number: int, line: bytes) -> str:
    if len(line) > MAX_LINE_BYTES:
        raise IntakeError(path, number, None, f"the line is longer than {MAX_LINE_BYTES:,} bytes; split the export")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise IntakeError(path, number, None, "not UTF-8; export the file as UTF-8") from None


def once(notes: Iterator[tuple[int, RawNote]], path: Path) -> Iterator[RawNote]:
    """The notes, refusing a second one of the same id."""
    seen: set[str] = set()
    for line, note in notes:
        if note.note_id in seen:
            raise IntakeError(path, line, "id", "this id stands on an earlier line as well; ids must be unique")
        seen.add(note.note_id)
        yield note


def notes_and_patients(path: Path, suffix: str) -> tuple[Path, Path | None]:
    """The file of notes and, if there is one, the file of patients, for a folder or a single file of notes."""
    if not path.is_dir():
        return path, None
    patients = path / f"patients{suffix}"
    return path / f"notes{suffix}", patients if patients.exists() else None
