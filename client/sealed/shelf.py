"""One table of the vault as a shelf of sealed rows, each under a name: what the labelling page keeps.

Protects against: what the vault protects against; a row of a withdrawn patient coming back, since a row names its owner.
Does not protect against: the number and size of rows, which the database shows.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from client.sealed.database import Database
from client.sealed.sealing import Sealer

Table = Literal["items", "screens", "choices", "people"]
FEEDBACK_TABLES: tuple[Table, ...] = ("items", "screens", "choices", "people")


class Shelf:
    """Rows (name → plain bytes) of one table, sealed under name and owner. Inside `Vault.transaction` several writes are one."""

    def __init__(self, table: Table, sealer: Sealer, database: Database) -> None:
        self._table, self._sealer, self._db = table, sealer, database

    def put(self, name: str, plain: bytes, *, owner: int) -> None:
        """Store or replace one row."""
        handle = self._handle(name)
        sealed = self._sealer.seal(self._table, handle, owner, plain)
        statement = f"INSERT INTO {self._table} (handle, unit, sealed) VALUES (?, ?, ?) "  # noqa: S608 (constant names)
        self._db.run(
            statement + "ON CONFLICT (handle) DO UPDATE SET unit = excluded.unit, sealed = excluded.sealed", (handle, owner, sealed)
        )

    def get(self, name: str) -> bytes | None:
        handle = self._handle(name)
        row = self._db.row(f"SELECT unit, sealed FROM {self._table} WHERE handle = ?", (handle,))  # noqa: S608 (constant names)
        return None if row is None else self._sealer.open(self._table, handle, row[0], row[1])

    def owner(self, name: str) -> int | None:
        """The unit that owns a row, None when there is no such row."""
        row = self._db.row(f"SELECT unit FROM {self._table} WHERE handle = ?", (self._handle(name),))  # noqa: S608 (constant names)
        return None if row is None else int(row[0])

    def rows(self) -> Iterator[bytes]:
        """Every row in the order in which it was first stored."""
        query = f"SELECT handle, unit, sealed FROM {self._table} ORDER BY position"  # noqa: S608 (constant names)
        for handle, owner, sealed in self._db.rows(query):
            yield self._sealer.open(self._table, handle, owner, sealed)

    def delete(self, names: Iterable[str]) -> int:
        """Returns how many rows went."""
        statement = f"DELETE FROM {self._table} WHERE handle = ?"  # noqa: S608 (constant names)
        return sum(self._db.run(statement, (self._handle(name),)).rowcount for name in names)

    def _handle(self, name: str) -> bytes:
        return self._sealer.handle(self._table, name)
