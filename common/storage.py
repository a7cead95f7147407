"""Files that are either the old one or the new one, never half of either.

Protects against: a crash, a full disk or a file-size limit in the middle of a write; a secret readable by other users of the machine.
Does not protect against: a disk that lies about fsync, or an administrator who reads the folder.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from common.errors import StorageError

PRIVATE = 0o600
"""Read and written by the owner alone. The default of every write; a file that others may read says so."""

_REMEDY = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the user's disk quota is used up; free some space and run again",
    errno.EFBIG: "the file would be larger than the system allows here; raise the limit (`ulimit -f`) and run again",
    errno.EROFS: "the disk is mounted read-only; choose another folder",
    errno.EACCES: "permission is denied; give this user access to the folder or choose another",
    errno.EPERM: "permission is denied; give this user access to the folder or choose another",
    errno.ENOENT: "the folder or file is not there; create it first",
    errno.EISDIR: "a folder stands where the file should be; choose another name",
    errno.ENOTDIR: "a file stands where a folder should be; choose another place",
    errno.EEXIST: "a file stands where the folder should be; choose another name",
    errno.ENAMETOOLONG: "the name is too long for this disk; choose a shorter one",
    errno.EIO: "the disk reports an input/output error; check the disk before anything else is written to it",
}


def remedy(error: OSError) -> str:
    """What to do about a failure of the system, without its words."""
    code = error.errno or 0
    return _REMEDY.get(code, f"the system reports {errno.errorcode.get(code, 'an unknown error')}")


def is_of_the_system(error: OSError) -> bool:
    """Whether the failure is one that somebody can mend outside of the program."""
    return error.errno in _REMEDY


@contextlib.contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turns an OSError inside into a StorageError that names the path, what was being done and the remedy."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot {doing}: {remedy(error)}") from None


@contextlib.contextmanager
def written_atomic(path: Path, *, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """A file to write inside, which takes the place of `path` at the end: temporary file in the same folder, fsync, rename, fsync of the folder.

    After the end the bytes are on the disk; after an exception, or a kill at any moment, `path` holds what it held before.
    Raises StorageError naming the path and the remedy; nothing is left half-written.
    """
    staging = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    with storage_errors(path, "write"):
        try:
            with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            staging.replace(path)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_atomic(path: Path, data: bytes | str, *, mode: int = PRIVATE) -> None:
    """Replace `path` by `data` (text as UTF-8), in the same way and with the same promises."""
    with written_atomic(path, mode=mode) as file:
        write_all(file.fileno(), data.encode() if isinstance(data, str) else data)


def write_all(descriptor: int, data: bytes) -> None:
    """os.write until nothing is left; a disk that fills in the middle raises on the next call."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held_alone(path: Path, busy: str, *, patience_seconds: float = 5.0) -> Iterator[None]:
    """Hold the lock of file `path` (made if need be) inside. Raises StorageError saying `busy` when another process keeps it for longer than the
    patience, which covers helpers of a killed process that are about to notice. A kill frees the lock; the empty file stays."""
    with storage_errors(path, "open"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        give_up = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise StorageError(f"{path.parent}: {busy}") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)  # frees the lock


def is_empty(folder: Path) -> bool:
    """Whether nothing lies in `folder`, or it is not there. What a file system keeps of its own and a killed write left behind does not count."""
    with storage_errors(folder, "look into the folder"):
        return not folder.exists() or all(path.name.startswith(".") or path.name == "lost+found" for path in folder.iterdir())


def remove_staging(folder: Path) -> int:
    """Delete what a killed `write_atomic` left behind in `folder`; returns how many. Call it where only one process writes."""
    with storage_errors(folder, "tidy"):
        left = [path for path in folder.glob(".*.part") if path.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
    return len(left)
