"""The vault's SQLite file: its tables, one transaction at a time, and its failures as ours.

Protects against: a kill at any moment, a second process, a full disk: a transaction is on the disk whole or not at all.
Does not protect against: a disk that lies about what it has written.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import StorageError

_BUSY_SECONDS = 30
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS patients (unit INTEGER PRIMARY KEY AUTOINCREMENT, handle BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS withdrawn (handle BLOB PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS records (handle BLOB PRIMARY KEY, unit INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS keys (handle BLOB PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS records_by_unit ON records (unit);
""" + "".join(
    f"""
CREATE TABLE IF NOT EXISTS {table} (position INTEGER PRIMARY KEY AUTOINCREMENT, handle BLOB NOT NULL UNIQUE, unit INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS {table}_by_unit ON {table} (unit, position);
"""
    for table in ("raw", "notes", "quarantine", "preferences", "items", "screens", "choices", "people")
)


class Database:
    """One connection, shared by threads behind a lock. Never used across a fork: workers get values, not this."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
            # FULL: a committed row is on the disk before the caller goes on, which the ledger's keys rely on
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{path}: the vault cannot be opened ({_name(error)}): {_remedy(error)}") from None

    def create_tables(self) -> None:
        """The tables that are not there yet; inside the caller's transaction, so that a vault is created whole or not at all."""
        for statement in _SCHEMA.split(";"):
            self.run(statement)

    def run(self, statement: str, values: tuple[Any, ...] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        with self._guard():
            return self._connection.execute(statement, values)

    def row(self, statement: str, values: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
        with self._guard():
            row: tuple[Any, ...] | None = self._connection.execute(statement, values).fetchone()
            return row

    def rows(self, statement: str, values: tuple[Any, ...] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with self._guard():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside, or none: any exception rolls back. Within another transaction it is part of that one."""
        with self._guard():
            if self._under_way():  # only this thread's: the lock is held
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._under_way():
                    self._connection.execute("ROLLBACK")
                raise

    def _under_way(self) -> bool:
        return self._connection.in_transaction

    def version(self) -> int:
        """A number that changes when another connection has committed."""
        return int(self.rows("PRAGMA data_version")[0][0])

    def has_table(self, name: str) -> bool:
        return self.row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)) is not None

    def forget_log(self) -> None:
        """Empty the write-ahead log, so that no deleted row stays readable in it."""
        self.run("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """One thread at a time, and SQLite's errors as ours, without its words."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise StorageError(
                    f"{self.path}: the vault cannot be read or written ({_name(error)}); nothing of this step was stored: {_remedy(error)}"
                ) from None


def _name(error: Exception) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))


def _remedy(error: Exception) -> str:
    if _name(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
        return "it is damaged, or no vault; restore it from its backup"
    return "check free space and permissions, then run again"
