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
import sqlite3
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.hospital.site import SITE_FILE, Site
from client.sealed.vault import DATABASE, KEY_FILE
from common.errors import ConfigError, JournalBroken, StorageError
from common.storage import storage_errors, write_atomic

LIST = "SHA256.json"
LEFT_OUT = frozenset({"logs", "flower"})
"""Flower's unpacked bundles and the programs' logs: made anew, and the logs may quote what an app choked on."""
MAX_MEMBERS = 100_000


@dataclass(frozen=True, slots=True)
class Saved:
    files: int
    bytes: int
    with_key: bool


def backup(site: Site, target: Path, *, with_key: bool, now: datetime) -> Saved:
    """Write `target`, readable by this user alone. The site may work on meanwhile: the vault is copied as of one moment, and before the ledger,
    so that the ledger of a backup never says less than its vault has seen.

    Raises StorageError when `target` is there already or lies in the site, JournalBroken when the ledger does not hold.
    """
    folder = site.folder.absolute()
    if target.exists():
        raise StorageError(f"{target}: is there already; a backup is never overwritten, choose another name")
    if target.absolute().is_relative_to(folder):
        raise StorageError(f"{target}: lies in the site itself; put the backup on another disk")
    contents = {DATABASE: _database(folder / DATABASE)}
    site.ledger.verify()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if _kept(name, with_key=with_key):
            with storage_errors(path, "read"):
                contents[name] = path.read_bytes()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    listed = json.dumps(
        {"format": "wardround backup 1", "site": site.name, "at": now.isoformat(timespec="seconds"), "files": digests}, sort_keys=True
    )
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in {LIST: listed.encode(), **contents}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o600, int(now.timestamp())
            archive.addfile(member, io.BytesIO(data))
    write_atomic(target, stream.getvalue())
    return Saved(len(contents), len(stream.getvalue()), KEY_FILE in contents)


def restore(source: Path, folder: Path) -> Saved:
    """A site in `folder`, which must be empty or new. Raises ConfigError for a damaged backup, before anything is written.

    Without the key in the backup, put it in place before the site is opened.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StorageError(f"{folder}: is not empty; a restore never writes over a site, choose a new folder")
    contents = _checked(source)
    with storage_errors(folder, "create the folder"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, data in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # The description of the site comes last: a restore that broke off is no site.
            if name != SITE_FILE:
                write_atomic(path, data)
    write_atomic(folder / SITE_FILE, contents[SITE_FILE])
    return Saved(len(contents), sum(map(len, contents.values())), KEY_FILE in contents)


def _checked(source: Path) -> Mapping[str, bytes]:
    damaged = ConfigError(f"{source}: damaged, or no backup of a site; take an older one")
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(source, mode="r:") as archive:
            for member in archive:
                path = Path(member.name)
                if (
                    not member.isfile()
                    or path.is_absolute()
                    or ".." in path.parts
                    or member.name in contents
                    or len(contents) > MAX_MEMBERS
                ):
                    raise damaged
                file = archive.extractfile(member)
                contents[member.name] = file.read() if file else b""
        listed = json.loads(contents.pop(LIST))
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        if listed["format"] != "wardround backup 1" or listed["files"] != digests or not {SITE_FILE, DATABASE} <= contents.keys():
            raise damaged
    except OSError as error:
        raise StorageError(f"{source}: cannot be read ({error.strerror})") from None
    except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError):
        raise damaged from None
    return contents


def _kept(name: str, *, with_key: bool) -> bool:
    if name.partition("/")[0] in LEFT_OUT or name.startswith(DATABASE) or name.endswith(".part"):
        return False
    return with_key or name != KEY_FILE


def _database(path: Path) -> bytes:
    """The vault as of one moment, by SQLite's own backup."""
    try:
        source, copy = sqlite3.connect(f"file:{path}?mode=ro", uri=True), sqlite3.connect(":memory:")
        try:
            source.backup(copy)
            return copy.serialize()
        finally:
            source.close()
            copy.close()
    except sqlite3.Error:
        raise JournalBroken(f"{path}: the vault cannot be copied; run `wardround-site doctor`") from None
