"""An append-only file of JSON lines, each bound to the one before it by SHA-256. The ledger, the audit log and the registry stand on it.

A row is on the disk (fsync) before `append` returns. A kill in the middle of an append leaves a last line without its line feed; the
next `open` cuts it off, because whoever wrote it never got an answer. Any other damage raises JournalBroken.

Protects against: a crash or power cut at any byte; two processes that append at once; a row that was changed, removed, inserted or
reordered before the last; a file that went back in time or was exchanged while a process had it open.
Does not protect against: whoever rewrites the whole file with fresh digests, or puts back an old copy while nobody has it open. Against that
`head` is shown to others (peers keep the ledger's head and refuse one that went back).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from common.errors import JournalBroken, StorageError
from common.storage import PRIVATE, storage_errors, sync_folder, write_all

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

ORIGIN = "0" * 64
"""What stands for the digest before the first row."""

LOCK_TIMEOUT_SECONDS = 60.0
MAX_ROW_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `digest` is SHA-256 over the canonical JSON of the four other fields, so it binds everything before it."""

    index: int
    kind: str
    body: Mapping[str, JSON]
    previous: str
    digest: str


def row_digest(index: int, kind: str, body: Mapping[str, JSON], previous: str) -> str:
    return hashlib.sha256(_canonical({"index": index, "kind": kind, "body": body, "previous": previous})).hexdigest()


class Journal:
    """The rows of one file, in memory and on disk. Safe for several threads and several processes.

    Between `append`s another process may add rows; they are read and verified under the lock before ours is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[Row] = []
        self._size = 0  # bytes of the file that are verified
        self._last_line = b""
        self._thread_lock = threading.RLock()
        self._descriptor: int | None = None  # open while the lock is held

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """Open or create, verify the whole chain, cut one torn last line. Raises JournalBroken or StorageError."""
        journal = cls(path)
        with journal.locked():
            pass
        return journal

    @property
    def head(self) -> tuple[int, str]:
        """(number of rows, digest of the last); (0, ORIGIN) when empty."""
        return len(self._rows), self._rows[-1].digest if self._rows else ORIGIN

    def rows(self) -> tuple[Row, ...]:
        """The rows as of the last time this object held the lock."""
        return tuple(self._rows)

    def rows_from(self, index: int) -> tuple[Row, ...]:
        """The rows at `index` and after."""
        return tuple(self._rows[index:])

    def append(self, kind: str, body: Mapping[str, JSON]) -> Row:
        """Add one row and return it once it is on the disk.

        Raises StorageError (full disk, lock held for too long) with the file as it was, and JournalBroken when the file was tampered with.
        """
        with self.locked():
            index, previous = self.head
            body = _plain(body)
            row = Row(index, kind, body, previous, row_digest(index, kind, body, previous))
            line = _canonical({"index": index, "kind": kind, "body": body, "previous": previous, "digest": row.digest}) + b"\n"
            if len(line) > MAX_ROW_BYTES:
                raise StorageError(
                    f"{self.path}: a row of {len(line)} bytes is larger than {MAX_ROW_BYTES}; store the data beside the journal"
                )
            assert self._descriptor is not None
            with storage_errors(self.path, "append a row"):
                try:
                    os.lseek(self._descriptor, self._size, os.SEEK_SET)
                    write_all(self._descriptor, line)
                    os.fsync(self._descriptor)
                except OSError:
                    os.ftruncate(self._descriptor, self._size)  # half a line must not stand before the next one
                    raise
            self._size += len(line)
            self._last_line = line
            self._rows.append(row)
            return row

    def verify(self) -> None:
        """Read the file from its first byte and check every digest. Raises JournalBroken naming the row."""
        with self.locked():
            fresh = Journal(self.path)
            fresh._take_in(self._read(0))
            if fresh.head != self.head:
                raise JournalBroken(f"{self.path}: the file holds {fresh.head[0]} rows and this process has verified {self.head[0]} others")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file's lock, so that what is read and what is then appended belong together. May be nested."""
        with self._thread_lock:
            if self._descriptor is not None:
                yield
                return
            with storage_errors(self.path, "open the journal"):
                new = not self.path.exists()
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, PRIVATE)
                if new:
                    sync_folder(self.path.parent)
            try:
                self._wait_for_lock(descriptor)
                self._descriptor = descriptor
                self._refresh()
                yield
            finally:
                self._descriptor = None
                os.close(descriptor)  # releases the lock

    def _wait_for_lock(self, descriptor: int) -> None:
        give_up = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise StorageError(
                        f"{self.path}: another process has held the lock for more than {LOCK_TIMEOUT_SECONDS:.0f} s; stop it and run again"
                    ) from None
                time.sleep(0.005)
            else:
                return

    def _refresh(self) -> None:
        """Take in what other processes added, and cut a torn last line."""
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        anchor = self._size - len(self._last_line)
        if size < self._size:
            raise JournalBroken(
                f"{self.path}: the file lost {self._size - size} bytes while in use; restore the latest copy, not an older one"
            )
        tail = self._read(anchor)
        if not tail.startswith(self._last_line):
            raise JournalBroken(f"{self.path}: row {len(self._rows) - 1} was exchanged while the file was in use")
        whole, line_feed, torn = tail[len(self._last_line) :].rpartition(b"\n")
        self._take_in(whole + line_feed)
        if torn:
            with storage_errors(self.path, "cut a torn last line"):
                os.ftruncate(self._descriptor, self._size)
                os.fsync(self._descriptor)

    def _read(self, start: int) -> bytes:
        with storage_errors(self.path, "read the journal"), self.path.open("rb") as file:
            file.seek(start)
            return file.read()

    def _take_in(self, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            self._rows.append(self._parse(line))
            self._last_line = line
            self._size += len(line)

    def _parse(self, line: bytes) -> Row:
        index, previous = self.head
        try:
            tree = json.loads(line)
            row = Row(tree["index"], tree["kind"], tree["body"], tree["previous"], tree["digest"])
            whole = len(tree) == 5 and isinstance(row.kind, str) and isinstance(row.body, dict)
            same = whole and line == _canonical(tree) + b"\n"
            holds = same and (row.index, row.previous) == (index, previous)
            holds = holds and row.digest == row_digest(row.index, row.kind, row.body, row.previous)
        except (ValueError, KeyError, TypeError, RecursionError):
            holds = False
        if not holds:
            raise JournalBroken(
                f"{self.path}: row {index} does not follow from the rows before it; the file was changed or damaged, restore it from a backup"
            )
        return row


def _canonical(tree: object) -> bytes:
    """Sorted keys, no spaces, ASCII, finite numbers only: one value, one byte string."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _plain(body: Mapping[str, JSON]) -> dict[str, JSON]:
    """The body as JSON will give it back. Raises StorageError on what JSON cannot hold, NaN and infinity included."""
    try:
        plain: dict[str, JSON] = json.loads(_canonical(body))
    except (TypeError, ValueError) as error:
        raise StorageError(f"the row holds something that JSON cannot keep ({error})") from None
    return plain
