"""A site's folder is made whole or not at all.

While a site is made, FOLDER/.making stands in it: locked by the process at work, with the name and the SHA-256 of the key that belongs to
the work. The settings are written last; with them the site is there. Whoever makes a site where an unfinished one lies starts it anew.

Protects against: a kill, a power cut or a full disk half-way, which would leave a folder that can neither be opened nor made; two processes
that make the same site at once; a vault or key of a finished site that is taken for a leftover: without the marker nothing is removed,
the marker goes when a site is opened, and a key only when it is the one that the marker names.
Does not protect against: somebody who puts a marker into the folder of a site and takes its settings away.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.sealed.sealing import KEY_BYTES
from client.sealed.vault import DATABASE
from common.errors import StorageError
from common.storage import PRIVATE, is_empty, remove_staging, storage_errors, sync_folder, write_all

MARKER = ".making"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a site will consist of. `settings` is the file whose writing completes it; `parts` are the names in FOLDER written before."""

    folder: Path
    key_file: Path
    settings: Path
    parts: Sequence[str]


@contextlib.contextmanager
def founding(plan: Plan) -> Iterator[bytes]:
    """Make a site inside the block, with the key that it gives. What an unfinished attempt left is removed first.

    Raises StorageError when a site, a vault or a key is there already, or another process is making one; then nothing was touched. When
    the block raises, everything made in it is removed again.
    """
    folder, new = plan.folder, not plan.folder.exists()
    with storage_errors(folder, "create the folder"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / MARKER).exists():
        _require_nothing(plan)
    with storage_errors(folder / MARKER, "begin the site"):
        marker = os.open(folder / MARKER, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        _lock(marker, folder)
        if plan.settings.exists():
            raise StorageError(f"{plan.settings}: a site is there already; open it, or choose an empty folder")
        _remove(plan, os.pread(marker, 1 << 16, 0))
        _require_nothing(plan)
        key = secrets.token_bytes(KEY_BYTES)
        made = json.dumps({"key_file": str(plan.key_file.absolute()), "sha256": hashlib.sha256(key).hexdigest()}).encode()
        try:
            with storage_errors(folder / MARKER, "begin the site"):
                os.ftruncate(marker, 0)
                os.lseek(marker, 0, os.SEEK_SET)
                write_all(marker, made)
                os.fsync(marker)
                sync_folder(folder)
            yield key
        except BaseException:
            _remove(plan, made)
            (folder / MARKER).unlink(missing_ok=True)
            if new:
                with contextlib.suppress(OSError):  # somebody else put something there meanwhile
                    folder.rmdir()
            raise
        finish(folder)
    finally:
        os.close(marker)


def finish(folder: Path) -> None:
    """Take the marker of a completed site away; one is left when the process was killed between its last write and this."""
    with storage_errors(folder / MARKER, "complete the site"):
        if (folder / MARKER).exists():
            (folder / MARKER).unlink(missing_ok=True)
            sync_folder(folder)


def _require_nothing(plan: Plan) -> None:
    for path, what, remedy in (
        (plan.settings, "a site", "open it, or choose an empty folder"),
        (plan.folder / DATABASE, "a vault", f"restore {plan.settings.name} from its backup, or choose an empty folder"),
        (plan.key_file, "a key", "a new one would make its vault unreadable; choose another place"),
    ):
        if path.exists():
            raise StorageError(f"{path}: {what} is there already; {remedy}")
    if not is_empty(plan.folder):
        raise StorageError(
            f"{plan.folder}: is not empty, and files of another kind would be taken for the site's; choose an empty or new folder, and "
            "give a policy of your own with --policy"
        )


def _lock(marker: int, folder: Path) -> None:
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StorageError(f"{folder}: another process is making a site here; wait for it, or stop it and run again") from None


def _remove(plan: Plan, marker: bytes) -> None:
    """What the attempt that wrote `marker` left behind. Before its marker was whole it had made nothing."""
    try:
        begun = json.loads(marker)
        key_file, digest = Path(begun["key_file"]), str(begun["sha256"])
    except (ValueError, KeyError, TypeError):
        return
    with storage_errors(plan.folder, "remove an unfinished site"):
        remove_staging(plan.folder)
        for part in plan.parts:
            (plan.folder / part).unlink(missing_ok=True)
        key = key_file.read_bytes() if key_file.is_file() else b""
        if len(key) < KEY_BYTES or hashlib.sha256(key).hexdigest() == digest:  # half a key opens nothing
            key_file.unlink(missing_ok=True)
