"""A copy of the whole site in one file, and a site made from it again.

The vault in it stays sealed: its key is not in the backup, unless the key lies in SITE and the hospital asks for it with --with-key. The
site's signing keys are in it, so it is kept like a key.
The file is a tar (POSIX.1-2001) that opens with a list of SHA-256 of everything in it; a restore checks every byte before it writes one.

Protects against: a lost disk; a backup that is damaged, or that was taken in the middle of a write; a restore over a site that is there.
Does not protect against: a lost vault key (keep it apart); an old copy that is restored: the ledger then misses what was spent since, so the
site must not take part with it in a study that goes on, and its peers refuse a ledger that went back.
"""

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.hospital.site import SITE_FILE, Site
from client.sealed.vault import DATABASE, KEY_FILE
from common.errors import ConfigError, StorageError
from common.storage import PRIVATE, is_empty, storage_errors, written_atomic

LIST = "SHA256.json"
FORMAT = "wardround backup 1"
LEFT_OUT = frozenset({"logs", "flower", ".joined"})
"""Flower's unpacked bundles and the programs' logs: made anew, and the logs may quote what an app choked on."""
MAX_MEMBERS, MAX_LIST_BYTES = 100_000, 32 * 2**20


@dataclass(frozen=True, slots=True)
class Saved:
    files: int
    bytes: int
    with_key: bool


def backup(site: Site, target: Path, *, with_key: bool, now: datetime) -> Saved:
    """Write `target`, readable by this user alone. The site may work on meanwhile: the vault is copied as of one moment, and before the ledger,
    so that the ledger of a backup never says less than its vault has seen.

    Raises StorageError when `target` is there already or lies in the site, or when the vault is damaged; JournalBroken when the ledger is.
    """
    folder = site.folder.absolute()
    if target.exists():
        raise StorageError(f"{target}: is there already; a backup is never overwritten, choose another name")
    if target.resolve().is_relative_to(folder.resolve()):
        raise StorageError(f"{target}: lies in the site itself; put the backup on another disk")
    site.ledger.verify()
    site.vault.check()  # a copy of a damaged vault would take the place of a sound one
    key = site.vault.key_file.resolve()
    with storage_errors(target, "write"), tempfile.TemporaryDirectory(dir=target.parent, prefix=".wardround-") as beside:
        # The vault may be large: its copy lies beside the backup meanwhile, and never in memory as a whole.
        vault = Path(beside) / DATABASE
        _copy_database(folder / DATABASE, vault)
        contents = {
            path.relative_to(folder).as_posix(): _read(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and _kept(path.relative_to(folder).as_posix()) and (with_key or path.resolve() != key)
        }
        with vault.open("rb") as copy:
            digests = {DATABASE: hashlib.file_digest(copy, "sha256").hexdigest()}
        digests |= {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        listed = json.dumps(
            {"format": FORMAT, "site": site.name, "at": now.isoformat(timespec="seconds"), "files": digests}, sort_keys=True
        )
        with written_atomic(target) as out, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, data in {LIST: listed.encode(), **contents}.items():
                archive.addfile(_member(name, len(data), now), io.BytesIO(data))
            with vault.open("rb") as copy:
                archive.addfile(_member(DATABASE, vault.stat().st_size, now), copy)
    return Saved(len(digests), target.stat().st_size, with_key and key.is_relative_to(folder.resolve()))


def _member(name: str, size: int, now: datetime) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, PRIVATE, int(now.timestamp())
    return member


def _read(path: Path) -> bytes:
    with storage_errors(path, "read"):
        return path.read_bytes()


def restore(source: Path, folder: Path) -> Saved:
    """A site in `folder`, which must be empty or new. Raises ConfigError for a damaged backup, before anything is written.

    Without the key in the backup, put it in place before the site is opened.
    """
    if not is_empty(folder):
        raise StorageError(f"{folder}: is not empty; a restore never writes over a site, choose a new folder")
    digests = _checked(source)
    with storage_errors(folder, "create the folder"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with storage_errors(source, "read"), tarfile.open(source, mode="r:") as archive:
        # The description of the site comes last: a restore that broke off is no site.
        for name in (*sorted(digests.keys() - {SITE_FILE}), SITE_FILE):
            path = folder / name
            with storage_errors(path, "create its folder"):
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _content(archive, archive.getmember(name)) as content, written_atomic(path) as file:
                shutil.copyfileobj(content, file)
    return Saved(len(digests), source.stat().st_size, _has_key(folder))


def _has_key(folder: Path) -> bool:
    """Whether the restored site can open its vault where it lies now."""
    settings = tomllib.loads((folder / SITE_FILE).read_text(encoding="utf-8"))
    return Path(settings.get("key_file", folder / KEY_FILE)).is_file()


def _checked(source: Path) -> Mapping[str, str]:
    """The SHA-256 of every file in the backup, each compared with the list in it, one after another."""
    damaged = ConfigError(f"{source}: damaged, or no backup of a site; take an older one")
    digests: dict[str, str] = {}
    listed: object = None
    try:
        with tarfile.open(source, mode="r:") as archive:
            for member in archive:
                path = Path(member.name)
                if not member.isfile() or path.is_absolute() or ".." in path.parts or member.name in digests or len(digests) > MAX_MEMBERS:
                    raise damaged
                with _content(archive, member) as content:
                    if member.name == LIST and listed is None:
                        listed = json.loads(content.read(min(member.size, MAX_LIST_BYTES)))
                    else:
                        digests[member.name] = hashlib.file_digest(content, "sha256").hexdigest()
        if (
            not isinstance(listed, dict)
            or listed["format"] != FORMAT
            or listed["files"] != digests
            or not {SITE_FILE, DATABASE} <= digests.keys()
        ):
            raise damaged
    except OSError as error:
        raise StorageError(f"{source}: cannot be read ({error.strerror})") from None
    except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError):
        raise damaged from None
    return digests


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> io.BufferedIOBase:
    content = archive.extractfile(member)
    return content if isinstance(content, io.BufferedIOBase) else io.BytesIO()


def _kept(name: str) -> bool:
    return name.partition("/")[0] not in LEFT_OUT and not name.startswith(DATABASE) and not name.endswith(".part")


def _copy_database(path: Path, target: Path) -> None:
    """The vault as of one moment, by SQLite's own backup."""
    target.touch(mode=PRIVATE)
    try:
        source, copy = sqlite3.connect(f"file:{path}?mode=ro", uri=True), sqlite3.connect(target)
        try:
            source.backup(copy)
        finally:
            source.close()
            copy.close()
    except sqlite3.Error:
        raise StorageError(
            f"{path}: the vault cannot be copied to {target.parent.parent}; free some space there, or run `wardround-site doctor`"
        ) from None
