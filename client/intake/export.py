"""What every reader gives: notes and patients' records as they are read, and what was left aside."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from client.records import PatientRecord, RawNote
from common.errors import IntakeError

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is no note: it would be read into memory whole."""


@dataclass(slots=True)
class Reading:
    """Where a reader stands, so that a refusal can name it: the file, the line it gave last, and bytes read of all files."""

    path: Path = Path()
    line: int | None = None
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Export:
    """One hospital export. Both iterators read the files once, as they are consumed, and raise IntakeError where they cannot.

    files       what will be read
    left_aside  filled while reading: names of fields that are not used, and documents without text, with how many there were
    reading     moves while reading
    """

    notes: Iterator[RawNote]
    records: Iterator[PatientRecord]
    files: tuple[Path, ...] = ()
    left_aside: Counter[str] = field(default_factory=Counter)
    reading: Reading = field(default_factory=Reading)


def lines(path: Path, reading: Reading | None = None) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of every line that is not blank. Raises IntakeError for a missing file, another encoding, an endless line."""
    return ((number, text) for number, _, text in numbered(path, reading))


def numbered(path: Path, reading: Reading | None = None) -> Iterator[tuple[int, int, str]]:
    """(number from 1, offset in bytes, text) of every line that is not blank. Raises as `lines`."""
    reading = reading or Reading()
    with readable(path), path.open("rb") as file:
        number, offset, reading.path = 0, 0, path
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            reading.line = number
            reading.bytes += len(line)
            if line.strip():
                yield number, offset, decoded(path, number, line)
            offset += len(line)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """An OSError inside becomes an IntakeError that says what an export looks like."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        beside = f"; {path.parent} must hold {path.name}, or name the file itself" if path.parent.is_dir() and path.stem == "notes" else ""
        raise IntakeError(path, None, None, f"there is no such file{beside}") from None
    except OSError as error:
        raise IntakeError(path, None, None, f"cannot be read ({error.strerror})") from None


def decoded(path: Path, number: int, line: bytes) -> str:
    if len(line) > MAX_LINE_BYTES:
        raise IntakeError(path, number, None, f"the line is longer than {MAX_LINE_BYTES:,} bytes; split the export")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise IntakeError(path, number, None, "not UTF-8; export the file as UTF-8") from None


def once(notes: Iterator[RawNote], reading: Reading) -> Iterator[RawNote]:
    """The notes, refusing a second one of the same id."""
    seen: set[str] = set()
    for note in notes:
        if note.note_id in seen:
            raise IntakeError(reading.path, reading.line, "id", "this id stands on an earlier line as well; ids must be unique")
        seen.add(note.note_id)
        yield note


def notes_and_patients(path: Path, suffix: str) -> tuple[Path, Path | None]:
    """The file of notes and, if there is one, the file of patients, for a folder or a single file of notes."""
    if not path.is_dir():
        return path, None
    patients = path / f"patients{suffix}"
    return path / f"notes{suffix}", patients if patients.exists() else None
