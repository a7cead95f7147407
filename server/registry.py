"""The registry: lines of signed versions (`sft`, `reward-0`, …, `policy`), each with its parents, figures and digest.

    registry/journal.jsonl         one row a version, hash-chained; the first row names the study and the coordinator's public key
    registry/LINE/0001/            the files of a version, and version.json: what was signed, with the signature
    registry/coordinator.key       the coordinator's Ed25519 key, readable by its owner alone

The newest version of a line is the one in use, unless a later row of kind `rollback` names an older one; nothing is ever removed.
A row of kind `release` says which version was handed on, and on which summary.

A version is written into a staging folder, synced, renamed into place, and only then entered in the journal: a folder without a row
is what a crash left behind, and the next `put` replaces it. Putting the same files again gives the version that is already there.

Protects against: a crash at any moment; a file, figure or parent of a version that was changed, removed or reordered afterwards.
Does not protect against: whoever holds the coordinator's key, or replaces key, journal and files together; sites that pin the
public key notice the latter.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.errors import ConfigError, JournalBroken, ModelUnavailable, StorageError
from common.journal import JSON, Journal, Row
from common.secure.identity import SigningKey
from common.storage import PRIVATE, storage_errors, sync_folder, write_atomic

_LINE = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VERSION_FILE = "version.json"
_SIGNED = b"wardround version 1\0"
_CHOSEN = {"rollback": b"wardround rollback 1\0", "release": b"wardround release 1\0"}


@dataclass(frozen=True, slots=True)
class Version:
    """One entry of a line. `digest` is SHA-256 over names and bytes of its files; `parents` are the names it was made from."""

    line: str
    number: int
    digest: str
    folder: Path
    parents: tuple[str, ...]
    figures: Mapping[str, JSON]

    @property
    def name(self) -> str:
        return f"{self.line}/{self.number}"


class Registry:
    """One study's registry. One process writes it at a time."""

    def __init__(self, folder: Path, study_id: str, journal: Journal, key: Ed25519PrivateKey) -> None:
        self.folder, self.study_id, self.journal = folder, study_id, journal
        self._key = key

    def __repr__(self) -> str:
        return f"Registry({self.study_id}, {len(self.journal.rows()) - 1} versions)"

    @classmethod
    def create(cls, folder: Path, study_id: str) -> "Registry":
        """Make the folder, the key and the first row; opens it when it is already there for the same study."""
        with storage_errors(folder, "create the registry"):
            folder.mkdir(parents=True, exist_ok=True)
        key_file = folder / "coordinator.key"
        if not key_file.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_atomic(key_file, pem, mode=PRIVATE)
        journal = Journal.open(folder / "journal.jsonl")
        if not journal.rows():
            journal.append("registry", {"study_id": study_id, "public_key": _public_hex(_read_key(key_file).public_key())})
        registry = cls.open(folder)
        if registry.study_id != study_id:
            raise ConfigError(f"{folder}: this registry belongs to study `{registry.study_id}`, not `{study_id}`; choose another folder")
        return registry

    @classmethod
    def open(cls, folder: Path) -> "Registry":
        """Raises StorageError when there is none or its key is open to others, JournalBroken when the chain or the key does not hold."""
        path = folder / "journal.jsonl"
        if not path.exists():
            raise StorageError(f"{folder}: there is no registry here; `wardround-coordinator launch` or `wardround simulate` makes one")
        journal, key = Journal.open(path), _read_key(folder / "coordinator.key")
        if not journal.rows():
            raise JournalBroken(f"{path}: the journal is empty; restore it from a backup, with the versions beside it")
        first = journal.rows()[0]
        if first.kind != "registry" or first.body.get("public_key") != _public_hex(key.public_key()):
            raise JournalBroken(f"{path}: the registry was made with another key than {folder / 'coordinator.key'}; restore both together")
        return cls(folder, str(first.body["study_id"]), journal, key)

    @property
    def public_key(self) -> str:
        """The coordinator's Ed25519 public key, in hex: what sites pin."""
        return _public_hex(self._key.public_key())

    @property
    def identity(self) -> SigningKey:
        """The same key for what else the coordinator signs, such as a roster."""
        return SigningKey(self._key)

    # -- reading -------------------------------------------------------------------------------------------------------

    def versions(self, line: str | None = None) -> list[Version]:
        """All versions, oldest first, of one line or of all, those of other processes included. Their files are not read."""
        with self.journal.locked():  # takes in what was added since
            pass
        return [
            self._version(row) for row in self.journal.rows() if row.kind == "version" and (line is None or row.body.get("line") == line)
        ]

    def find(self, line: str) -> Version | None:
        """The version of a line that is in use, with its files checked, or None. Raises JournalBroken when they are not what was signed.

        It is the newest one, or the older one that a rollback since then named.
        """
        found = self.versions(line)
        if not found:
            return None
        rows = [row for row in self.journal.rows() if row.kind in ("version", "rollback") and row.body.get("line") == line]
        if rows[-1].kind == "rollback":
            self._check_choice(rows[-1], {version.name for version in found})
        version = next(v for v in found if v.number == rows[-1].body["number"])
        self.check(version)
        return version

    def latest(self, line: str) -> Version:
        """As `find`; raises ModelUnavailable when the line is empty."""
        found = self.find(line)
        if found is None:
            known = ", ".join(sorted({v.line for v in self.versions()})) or "nothing yet"
            raise ModelUnavailable(f"{self.folder}: no version of `{line}`; the registry holds {known}")
        return found

    def check(self, version: Version) -> None:
        """Raises JournalBroken unless the files of `version` are the ones that were signed, by this registry's key."""
        problem = f"{version.folder}: {version.name} is not what was signed; restore it from a backup or train it again"
        try:
            stored = json.loads((version.folder / _VERSION_FILE).read_text(encoding="utf-8"))
            signature = bytes.fromhex(stored.pop("signature"))
            digest = _digest(version.folder)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            raise JournalBroken(problem) from None
        if stored != self._statement(version) or digest != version.digest:
            raise JournalBroken(problem)
        try:
            self._key.public_key().verify(signature, _SIGNED + _canonical(stored))
        except InvalidSignature:
            raise JournalBroken(problem) from None

    def verify(self) -> None:
        """Check the journal from its first byte and every version. Raises JournalBroken naming what does not hold."""
        self.journal.verify()
        known: set[str] = set()
        for version in self.versions():
            missing = [parent for parent in version.parents if parent not in known]
            if missing:
                raise JournalBroken(
                    f"{self.folder}: {version.name} names the parent {missing[0]}, which the journal does not hold before it"
                )
            self.check(version)
            known.add(version.name)
        for row in self.journal.rows():
            if row.kind in _CHOSEN:
                self._check_choice(row, known)

    # -- writing -------------------------------------------------------------------------------------------------------

    def put(
        self, line: str, write: Callable[[Path], None], *, parents: Sequence[Version] = (), figures: Mapping[str, JSON] | None = None
    ) -> Version:
        """Add a version to `line`: `write` fills a folder. After the return it is on the disk; after a failure the registry is as it was."""
        if not _LINE.fullmatch(line):
            raise ConfigError(f"`{line}` is not the name of a line: a-z, 0-9 and -")
        staging = self.folder / f".staging-{secrets.token_hex(6)}"
        try:
            with storage_errors(staging, "write a version"):
                staging.mkdir()
                write(staging)
            digest, names = _digest(staging), tuple(parent.name for parent in parents)
            current, newest = self.find(line), self.versions(line)[-1:]
            if current is not None and (current.digest, current.parents) == (digest, names):
                return current
            number = newest[0].number + 1 if newest else 1
            version = Version(line, number, digest, self._folder(line, number), names, dict(figures or {}))
            statement = self._statement(version)
            signed = {**statement, "signature": self._key.sign(_SIGNED + _canonical(statement)).hex()}
            with storage_errors(version.folder, "write a version"):
                (staging / _VERSION_FILE).write_text(json.dumps(signed, indent=2, sort_keys=True) + "\n", encoding="utf-8")
                _sync_tree(staging)
                version.folder.parent.mkdir(exist_ok=True)
                shutil.rmtree(version.folder, ignore_errors=True)  # a folder without a row: left by a crash
                staging.rename(version.folder)
                sync_folder(version.folder.parent)
                sync_folder(self.folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self.journal.append("version", statement)
        return version

    def rollback(self, name: str) -> Version:
        """Put version `name` ("policy/1") in use again for its line; later ones stay on the record. Raises ConfigError without such a version."""
        version = self.named(name)
        self.check(version)
        self._choose("rollback", version, {})
        return version

    def release(self, version: Version, *, summary_digest: str) -> None:
        """Record that `version` was handed on, on the figures of a summary with that digest. Whether it may be is the gate's business."""
        self.check(version)
        self._choose("release", version, {"summary": summary_digest})

    def named(self, name: str) -> Version:
        """The version of that name. Raises ConfigError when there is none."""
        for version in self.versions():
            if version.name == name:
                return version
        known = ", ".join(version.name for version in self.versions()) or "nothing yet"
        raise ConfigError(f"{self.folder}: there is no version `{name}`; the registry holds {known}")

    def _choose(self, kind: str, version: Version, more: Mapping[str, JSON]) -> None:
        statement: dict[str, JSON] = {
            "study_id": self.study_id, "line": version.line, "number": version.number, "digest": version.digest, **more,
        }  # fmt: skip
        signature = self._key.sign(_CHOSEN[kind] + _canonical(statement)).hex()
        self.journal.append(kind, {**statement, "signature": signature})

    def _check_choice(self, row: Row, known: Collection[str]) -> None:
        statement = dict(row.body)
        try:
            self._key.public_key().verify(bytes.fromhex(str(statement.pop("signature"))), _CHOSEN[row.kind] + _canonical(statement))
        except (InvalidSignature, ValueError, KeyError):
            raise JournalBroken(f"{self.folder}: row {row.index} is a {row.kind} that this registry did not sign") from None
        if f"{row.body['line']}/{row.body['number']}" not in known:
            raise JournalBroken(f"{self.folder}: row {row.index} is a {row.kind} of a version that is not there")

    def tidy(self) -> None:
        """Remove staging folders that a killed `put` left. Call it where only one process writes."""
        for left in self.folder.glob(".staging-*"):
            shutil.rmtree(left, ignore_errors=True)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _folder(self, line: str, number: int) -> Path:
        return self.folder / line / f"{number:04d}"

    def _version(self, row: Row) -> Version:
        body = row.body
        line, number, parents, figures = str(body["line"]), body["number"], body["parents"], body["figures"]
        assert isinstance(number, int)
        assert isinstance(parents, Sequence)
        assert isinstance(figures, Mapping)
        return Version(line, number, str(body["digest"]), self._folder(line, number), tuple(map(str, parents)), figures)

    def _statement(self, version: Version) -> dict[str, JSON]:
        """What is signed and what the journal holds: everything a version claims."""
        return {
            "study_id": self.study_id,
            "line": version.line,
            "number": version.number,
            "digest": version.digest,
            "parents": list(version.parents),
            "figures": version.figures,
        }


def _read_key(path: Path) -> Ed25519PrivateKey:
    with storage_errors(path, "read the coordinator's key"):
        mode, data = path.stat().st_mode & 0o777, path.read_bytes()
    if mode & 0o077:
        raise StorageError(f"{path}: mode {mode:o} lets others read the coordinator's key; run `chmod 600 {path}`")
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise StorageError(f"{path}: not an Ed25519 key in PEM; restore it from a backup")
    return key


def _public_hex(key: Ed25519PublicKey) -> str:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def _canonical(tree: Mapping[str, JSON]) -> bytes:
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _digest(folder: Path) -> str:
    """SHA-256 over the relative name and the SHA-256 of each file but version.json, in alphabetical order."""
    sha = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != _VERSION_FILE):
        name = path.relative_to(folder).as_posix().encode()
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        sha.update(len(name).to_bytes(4, "big") + name + content)
    return sha.hexdigest()


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)
