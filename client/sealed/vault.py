"""What the hospital keeps: raw and de-identified notes, preferences, patients' secrets and keys, sealed row by row in SQLite.

Protects against: reading the disk without the key file (see `client/sealed/sealing.py`); a kill at any moment, which leaves each
batch whole or absent; a withdrawn patient coming back with the next export.
Does not protect against: whoever holds the key file; the size and order of rows, which the database shows; blocks that the
disk has freed (rows are zeroed before they are freed, as far as SQLite reaches).
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from client.records import OVERALL, CleanNote, PatientRecord, Preference, RawNote
from client.sealed.database import Database
from client.sealed.packing import (
    pack_clean,
    pack_preference,
    pack_raw,
    pack_record,
    unpack_clean,
    unpack_preference,
    unpack_raw,
    unpack_record,
)
from client.sealed.sealing import KEY_BYTES, Sealer, create_key_file, read_key_file
from client.sealed.shelf import FEEDBACK_TABLES, Shelf, Table
from common.errors import IntakeError, SealBroken, StorageError

DATABASE, KEY_FILE = "vault.db", "vault.key"
DATABASE_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
"""The database and what SQLite keeps beside it while it is open."""

NOBODY = 0
"""The owner of rows that belong to no patient."""

_CHUNK_ROWS = 500
_CHECK = b"wardround vault 1"
_PENDING = (
    "AND NOT EXISTS (SELECT 1 FROM notes n WHERE n.handle = t.handle) AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.handle = t.handle)"
)


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one ingest changed. `unchanged` notes were there already; `revised` ones replace an older text of the same note."""

    notes: int
    revised: int
    unchanged: int
    withdrawn: int
    records: int


class Vault:
    """One site's store. Every write is one transaction; reads see whole transactions only. Also a `KeyCabinet` (put, get, erase)."""

    def __init__(self, folder: Path, key_file: Path, sealer: Sealer, database: Database) -> None:
        self.folder, self.key_file = folder, key_file
        self._sealer, self._db = sealer, database
        self._simulated_seed: bytes | None = None

    def __repr__(self) -> str:
        return f"Vault({self.folder})"

    @classmethod
    def create(cls, folder: Path, *, key_file: Path | None = None, key: bytes | None = None, simulated_seed: int | None = None) -> "Vault":
        """An empty vault and its key, which is drawn from the operating system when none is given.

        `simulated_seed` derives patients' secrets from the seed, so that a simulation can be repeated; such a vault says
        `simulated` for ever. Without it every secret is drawn from the operating system. Raises StorageError when a vault
        or a key is there already.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be created ({error.strerror})") from None
        if (folder / DATABASE).exists():
            raise StorageError(f"{folder / DATABASE}: a vault is there already; open it, or choose an empty folder")
        place = key_file or folder / KEY_FILE
        vault = cls(folder, place, Sealer(create_key_file(place, key)), Database(folder / DATABASE))
        vault._simulated_seed = None if simulated_seed is None else b"simulated %d" % simulated_seed
        try:
            with vault._db.transaction():
                vault._db.create_tables()
                vault._put_meta("check", _CHECK)
                vault._put_meta("simulated", vault._simulated_seed or b"")
        except BaseException:
            vault.close()
            raise
        return vault

    @classmethod
    def open(cls, folder: Path, *, key_file: Path | None = None) -> "Vault":
        """The vault of `folder`. Raises StorageError when it or its key is missing, SealBroken when the key is another vault's."""
        if not (folder / DATABASE).exists():
            raise StorageError(f"{folder / DATABASE}: there is no vault; run `wardround-site init {folder}` first")
        key = key_file or folder / KEY_FILE
        vault = cls(folder, key, Sealer(read_key_file(key)), Database(folder / DATABASE))
        if vault._get_meta("check") != _CHECK:
            raise SealBroken
        if not vault._db.has_table(FEEDBACK_TABLES[-1]):  # a vault made before there was a labelling page
            with vault._db.transaction():
                vault._db.create_tables()
        vault._simulated_seed = vault._get_meta("simulated") or None
        return vault

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> "Vault":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def simulated(self) -> bool:
        """Whether patients' secrets come from a seed. Nothing that leaves such a site may be released."""
        return self._simulated_seed is not None

    # ---- intake ------------------------------------------------------------------------------------------------------

    def ingest(self, notes: Iterable[RawNote], records: Iterable[PatientRecord] = ()) -> Ingested:
        """Store raw notes and patients' records: all of them, or none when a reader raises.

        The same note again changes nothing; another text under the same id replaces the raw note and drops its old clean
        one. Notes of withdrawn patients are skipped and counted. Raises IntakeError when a note id belongs to another patient.
        """
        tally = dict.fromkeys(("notes", "revised", "unchanged", "withdrawn", "records"), 0)
        with self._db.transaction():
            for record in records:
                tally["records"] += self._ingest_record(record)
            for note in notes:
                tally[self._ingest_note(note)] += 1
        return Ingested(**tally)

    def _ingest_record(self, record: PatientRecord) -> int:
        unit = self._unit(record.patient_id)
        if unit is None:
            return 0
        handle = self._sealer.handle("record", record.patient_id)
        sealed = self._sealer.seal("record", handle, unit, pack_record(record))
        self._db.run("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (handle, unit, sealed))
        return 1

    def _ingest_note(self, note: RawNote) -> str:
        """Which counter of `Ingested` the note belongs to."""
        unit = self._unit(note.patient_id)
        if unit is None:
            return "withdrawn"
        handle, plain = self._sealer.handle("note", note.note_id), pack_raw(note)
        old = self._db.row("SELECT unit, sealed FROM raw WHERE handle = ?", (handle,))
        if old is None:
            sealed = self._sealer.seal("raw", handle, unit, plain)
            self._db.run("INSERT INTO raw (handle, unit, sealed) VALUES (?, ?, ?)", (handle, unit, sealed))
            return "notes"
        if old[0] != unit:
            problem = "the vault holds a note with this id for another patient; ids must be unique at the site"
            raise IntakeError(self.folder, None, "id", problem)
        if self._sealer.open("raw", handle, unit, old[1]) == plain:
            return "unchanged"
        self._db.run("UPDATE raw SET sealed = ? WHERE handle = ?", (self._sealer.seal("raw", handle, unit, plain), handle))
        self._db.run("DELETE FROM notes WHERE handle = ?", (handle,))
        self._db.run("DELETE FROM quarantine WHERE handle = ?", (handle,))
        return "revised"

    def raw_notes(self, *, pending: bool = False, unit: int | None = None) -> Iterator[RawNote]:
        """Raw notes in the order they came in; with `pending`, only those that are neither released nor quarantined."""
        return (unpack_raw(plain) for _, _, plain in self._rows("raw", "raw", unit, _PENDING if pending else ""))

    def pending_units(self) -> list[int]:
        """Patients with a raw note that is neither released nor quarantined, ascending."""
        query = f"SELECT DISTINCT unit FROM raw t WHERE 1 {_PENDING} ORDER BY unit"  # noqa: S608 (constant)
        return [unit for (unit,) in self._db.rows(query)]

    def pending_count(self) -> int:
        return int(self._db.rows(f"SELECT count(*) FROM raw t WHERE 1 {_PENDING}")[0][0])  # noqa: S608 (constant)

    def patient(self, unit: int) -> tuple[PatientRecord, bytes]:
        """What is known of the patient with this number (the bare id when there is no record), and the patient's secret."""
        row = self._db.row("SELECT handle, sealed FROM patients WHERE unit = ?", (unit,))
        if row is None:
            raise StorageError(f"{self.folder}: there is no patient with the internal number {unit}")
        patient_id, secret = json.loads(self._sealer.open("patient", row[0], NOBODY, row[1]))
        record = self._db.row("SELECT handle, sealed FROM records WHERE unit = ?", (unit,))
        known = PatientRecord(patient_id) if record is None else unpack_record(self._sealer.open("record", record[0], unit, record[1]))
        return known, bytes.fromhex(secret)

    def records(self) -> Iterator[PatientRecord]:
        for handle, unit, sealed in self._db.rows("SELECT handle, unit, sealed FROM records ORDER BY unit"):
            yield unpack_record(self._sealer.open("record", handle, unit, sealed))

    def purge_raw(self) -> int:
        """Delete every raw note and patient record; clean notes stay. Returns how many raw notes went."""
        with self._db.transaction():
            gone = self._db.run("DELETE FROM raw").rowcount
            self._db.run("DELETE FROM records")
        self._db.forget_log()
        return gone

    # ---- de-identified notes -----------------------------------------------------------------------------------------

    def put_notes(self, released: Iterable[CleanNote], quarantined: Iterable[tuple[CleanNote, str]] = ()) -> None:
        """Store one batch of de-identified notes, and of notes held back with the code of the reason. Replaces older versions."""
        with self._db.transaction():
            for note in released:
                self._put_clean("notes", "quarantine", note, pack_clean(note))
            for note, reason in quarantined:
                # the text stays in the raw note alone: what is held back has no second copy
                self._put_clean("quarantine", "notes", note, json.dumps([note.note_id, reason]).encode())

    def discard_clean(self) -> None:
        """Make every note pending again whose raw note is still there; a clean note without a raw one stays."""
        with self._db.transaction():
            for table in ("notes", "quarantine"):
                self._db.run(f"DELETE FROM {table} WHERE handle IN (SELECT handle FROM raw)")  # noqa: S608 (constant names)

    def put_note(self, note: CleanNote) -> None:
        self.put_notes([note])

    def notes(self, unit: int | None = None) -> Iterator[CleanNote]:
        """Released notes in the order they were stored, of one unit if given. Quarantined notes never appear here."""
        return (unpack_clean(plain) for _, _, plain in self._rows("notes", "notes", unit))

    def quarantined(self) -> Iterator[tuple[str, str]]:
        """(note id, reason code) of every note held back."""
        for _, _, plain in self._rows("quarantine", "quarantine"):
            note_id, reason = json.loads(plain)
            yield note_id, reason

    def note_units(self) -> list[int]:
        """Internal numbers of the patients that have a released note, ascending."""
        return [unit for (unit,) in self._db.rows("SELECT DISTINCT unit FROM notes ORDER BY unit")]

    def unit_of(self, patient_id: str) -> int | None:
        """The patient's internal number, or None for a patient this vault does not know."""
        row = self._db.row("SELECT unit FROM patients WHERE handle = ?", (self._sealer.handle("patient", patient_id),))
        return None if row is None else int(row[0])

    def patient_secret(self, patient_id: str) -> bytes:
        """32 random bytes that are this patient's alone: the key of all surrogates. Drawn once, at the first mention of the patient.

        Raises IntakeError for a withdrawn patient, whose secret is gone for ever.
        """
        with self._db.transaction():
            unit = self._require_unit(patient_id)
        return self.patient(unit)[1]

    def digest(self) -> bytes:
        """SHA-256 over every released note, its patient and its order: what the gate's token speaks of."""
        digest = hashlib.sha256(b"wardround data set 1")
        for handle, unit, plain in self._rows("notes", "notes"):
            for part in (handle, unit.to_bytes(8, "big"), plain):
                digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    # ---- preferences -------------------------------------------------------------------------------------------------

    def put_preferences(self, preferences: Iterable[Preference]) -> None:
        """Store one batch. A pair that the same annotator has labelled before, in the same aspect, is replaced."""
        with self._db.transaction():
            for preference in preferences:
                unit = self.owner(preference.patient_id)
                self._upsert("preferences", self._preference_handle(preference), unit, pack_preference(preference))

    def _preference_handle(self, preference: Preference) -> bytes:
        # the plain choice keeps the handle it had before there were aspects
        aspect = "" if preference.aspect == OVERALL else f"\0{preference.aspect}"
        return self._sealer.handle("preference", f"{preference.pair_id}\0{preference.annotator_id}{aspect}")

    def preferences(self, unit: int | None = None) -> Iterator[Preference]:
        """Preferences in the order they were first stored, of one patient's unit if given."""
        return (unpack_preference(plain) for _, _, plain in self._rows("preferences", "preferences", unit))

    def remove_preferences(self, preferences: Iterable[Preference]) -> None:
        """Delete these, each by pair, annotator and aspect."""
        with self._db.transaction():
            for preference in preferences:
                self._db.run("DELETE FROM preferences WHERE handle = ?", (self._preference_handle(preference),))

    def drop_preferences(self, pair_prefix: str, annotator_id: str | None = None) -> int:
        """Delete the preferences whose pair id begins so, of one annotator if given. Returns how many went."""
        with self._db.transaction():
            gone = [
                handle
                for handle, _, plain in self._rows("preferences", "preferences")
                if (p := unpack_preference(plain)).pair_id.startswith(pair_prefix) and annotator_id in (None, p.annotator_id)
            ]
            for handle in gone:
                self._db.run("DELETE FROM preferences WHERE handle = ?", (handle,))
        return len(gone)

    # ---- the labelling page ------------------------------------------------------------------------------------------

    def shelf(self, table: Table) -> Shelf:
        return Shelf(table, self._sealer, self._db)

    def owner(self, patient_id: str | None) -> int:
        """The number that owns a row of this patient, or of nobody. Raises IntakeError for a withdrawn patient. Inside a transaction only."""
        return NOBODY if patient_id is None else self._require_unit(patient_id)

    def transaction(self) -> AbstractContextManager[None]:
        """Everything written inside is on the disk together when the block ends, or not at all."""
        return self._db.transaction()

    def version(self) -> int:
        """A number that changes when another process has written to this vault."""
        return self._db.version()

    def forget_log(self) -> None:
        """Leave no deleted row readable in the write-ahead log."""
        self._db.forget_log()

    # ---- patients who leave ------------------------------------------------------------------------------------------

    def withdraw(self, patient_id: str) -> dict[str, int]:
        """Delete everything of a patient and remember, by keyed handle alone, not to take them in again. Returns rows deleted by table.

        What was already spent on the patient's behalf stays spent, and a model that learned from them does not forget.
        """
        handle = self._sealer.handle("patient", patient_id)
        gone: dict[str, int] = {}
        with self._db.transaction():
            self._db.run("INSERT OR IGNORE INTO withdrawn VALUES (?)", (handle,))
            unit = self.unit_of(patient_id)
            for table in ("records", "raw", "notes", "quarantine", "preferences", "items", "screens", "choices", "patients"):
                # the table's name is one of the words above, never a value from outside
                gone[table] = 0 if unit is None else self._db.run(f"DELETE FROM {table} WHERE unit = ?", (unit,)).rowcount  # noqa: S608
        self._db.forget_log()
        return gone

    def check(self) -> None:
        """Read the whole database and open every row. Raises StorageError for the first that is damaged."""
        if self._db.rows("PRAGMA quick_check") != [("ok",)]:
            raise StorageError(f"{self.folder / DATABASE}: the database is damaged; restore it from its backup")
        for table in ("raw", "notes", "quarantine", "preferences", *FEEDBACK_TABLES):
            try:
                for _ in self._rows(table, table):
                    pass
            except SealBroken:
                raise StorageError(
                    f"{self.folder / DATABASE}: a row of `{table}` is not the one that was sealed; restore the database from its backup"
                ) from None

    def counts(self) -> dict[str, int]:
        """Rows by table, for the site's own eyes."""
        tables = ("patients", "withdrawn", "records", "raw", "notes", "quarantine", "preferences", "items", "choices", "people")
        return {table: self._db.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}  # noqa: S608 (constant names)

    # ---- keys --------------------------------------------------------------------------------------------------------

    def put(self, name: str, value: bytes) -> None:
        handle = self._sealer.handle("key", name)
        with self._db.transaction():
            self._db.run("INSERT OR REPLACE INTO keys VALUES (?, ?)", (handle, self._sealer.seal("key", handle, NOBODY, value)))

    def get(self, name: str) -> bytes | None:
        handle = self._sealer.handle("key", name)
        row = self._db.row("SELECT sealed FROM keys WHERE handle = ?", (handle,))
        return None if row is None else self._sealer.open("key", handle, NOBODY, row[0])

    def erase(self, name: str) -> None:
        """Delete a key and empty the write-ahead log, so that no copy of it stays in the vault's files."""
        with self._db.transaction():
            self._db.run("DELETE FROM keys WHERE handle = ?", (self._sealer.handle("key", name),))
        self._db.forget_log()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _unit(self, patient_id: str) -> int | None:
        """The patient's unit, made with a fresh secret when new; None when withdrawn. Inside a transaction only."""
        handle = self._sealer.handle("patient", patient_id)
        row = self._db.row("SELECT unit FROM patients WHERE handle = ?", (handle,))
        if row is not None:
            return int(row[0])
        if self._db.row("SELECT 1 FROM withdrawn WHERE handle = ?", (handle,)) is not None:
            return None
        if self._simulated_seed is None:
            secret = secrets.token_bytes(KEY_BYTES)  # never derived from the person: 45 CFR 164.514(c)
        else:
            secret = hmac.digest(self._simulated_seed, patient_id.encode(), hashlib.sha256)
        sealed = self._sealer.seal("patient", handle, NOBODY, json.dumps([patient_id, secret.hex()]).encode())
        return self._db.run("INSERT INTO patients (handle, sealed) VALUES (?, ?)", (handle, sealed)).lastrowid

    def _require_unit(self, patient_id: str) -> int:
        unit = self._unit(patient_id)
        if unit is None:
            raise IntakeError(self.folder, None, "patient_id", "this patient has withdrawn; remove their rows from what is stored")
        return unit

    def _put_clean(self, table: str, other: str, note: CleanNote, plain: bytes) -> None:
        unit, handle = self._require_unit(note.patient_id), self._sealer.handle("note", note.note_id)
        self._db.run(f"DELETE FROM {other} WHERE handle = ?", (handle,))  # noqa: S608 (constant names)
        self._upsert(table, handle, unit, plain)

    def _upsert(self, table: str, handle: bytes, unit: int, plain: bytes) -> None:
        statement = f"INSERT INTO {table} (handle, unit, sealed) VALUES (?, ?, ?) "  # noqa: S608 (constant names)
        statement += "ON CONFLICT (handle) DO UPDATE SET unit = excluded.unit, sealed = excluded.sealed"
        self._db.run(statement, (handle, unit, self._sealer.seal(table, handle, unit, plain)))

    def _rows(self, table: str, kind: str, unit: int | None = None, where: str = "") -> Iterator[tuple[bytes, int, bytes]]:
        """(handle, unit, plain) in order of position, read in chunks so that memory stays flat and writers are not held up."""
        of_unit = "" if unit is None else "AND t.unit = :unit"
        query = f"SELECT position, handle, unit, sealed FROM {table} t WHERE position > :after {of_unit} {where} ORDER BY position LIMIT {_CHUNK_ROWS}"  # noqa: S608 (constant names)
        after = 0
        while rows := self._db.rows(query, {"after": after, "unit": unit}):
            for _, handle, owner, sealed in rows:
                yield handle, owner, self._sealer.open(kind, handle, owner, sealed)
            after = rows[-1][0]

    def _put_meta(self, name: str, value: bytes) -> None:
        handle = self._sealer.handle("meta", name)
        self._db.run("INSERT INTO meta VALUES (?, ?)", (name, self._sealer.seal("meta", handle, NOBODY, value)))

    def _get_meta(self, name: str) -> bytes:
        row = self._db.row("SELECT sealed FROM meta WHERE name = ?", (name,))
        if row is None:
            raise SealBroken
        return self._sealer.open("meta", self._sealer.handle("meta", name), NOBODY, row[0])
