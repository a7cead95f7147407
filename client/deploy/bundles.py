"""The one app bundle that this hospital lets run on its machine, by the SHA-256 of its bytes.

SITE/bundle.fab   the approved bundle itself; approving another one replaces it, and with it the permission

Protects against: a coordinator that sends other code than the hospital looked at (a SuperNode by itself runs whatever it is sent).
Does not protect against: code that was approved without being read; what changed since the last one is shown for that.
"""

import difflib
import hashlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError, StorageError
from common.storage import write_atomic

BUNDLE_FILE = "bundle.fab"
MAX_BUNDLE_BYTES, MAX_UNPACKED_BYTES, MAX_FILES = 10 * 2**20, 200 * 2**20, 10_000

# What zipfile and the decompressors behind it raise for a damaged, encrypted or unknown archive; bz2 says OSError.
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, ValueError, NotImplementedError, RuntimeError, EOFError)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's bytes, their SHA-256 in hex, and its files."""

    content: bytes
    sha256: str
    files: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"Bundle({self.sha256[:16]}, {len(self.files)} files)"


@dataclass(frozen=True, slots=True)
class Changes:
    """By name, in alphabetical order. `lines` counts added and removed lines of a changed file."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    lines: Mapping[str, tuple[int, int]]

    @property
    def count(self) -> int:
        return len(self.added) + len(self.removed) + len(self.lines)


def read_bundle(path: Path) -> Bundle:
    """Raises StorageError or ConfigError: missing, too large, or no bundle of Wardround."""
    try:
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BUNDLE_BYTES:,} bytes, the most a bundle may have")
        return open_bundle(path.read_bytes(), str(path))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from None


def open_bundle(content: bytes, name: str = "the bundle") -> Bundle:
    """Raises ConfigError when it is no bundle of Wardround; nothing in it is executed."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_UNPACKED_BYTES:
                raise ConfigError(f"{name}: unpacks to more than {MAX_FILES:,} files or {MAX_UNPACKED_BYTES:,} bytes")
            files = {info.filename: archive.read(info) for info in sorted(infos, key=lambda info: info.filename)}
    except _DAMAGED:
        raise ConfigError(f"{name}: not a bundle; ask the coordinator for the file again") from None
    if len(files) != len(infos):
        raise ConfigError(f"{name}: holds a file twice; whoever reads one of them would not see the other")
    if "client/app.py" not in files or "pyproject.toml" not in files:
        raise ConfigError(f"{name}: holds no hospital's app of Wardround")
    return Bundle(content, hashlib.sha256(content).hexdigest(), files)


def approved_bundle(folder: Path) -> Bundle | None:
    """What this site approved last, or None."""
    path = folder / BUNDLE_FILE
    return read_bundle(path) if path.exists() else None


def approve(folder: Path, bundle: Bundle) -> None:
    """From now on this bundle may run here, and no other."""
    write_atomic(folder / BUNDLE_FILE, bundle.content, mode=0o644)


def is_approved(folder: Path, content: bytes) -> bool:
    """Whether these are, byte for byte, the approved bundle's. Read from the disk each time: an approval acts at once."""
    try:
        return content == (folder / BUNDLE_FILE).read_bytes()
    except OSError:
        return False


def changes(before: Bundle | None, after: Bundle) -> Changes:
    old: Mapping[str, bytes] = before.files if before else {}
    both = sorted(name for name in old.keys() & after.files.keys() if old[name] != after.files[name])
    return Changes(
        tuple(sorted(after.files.keys() - old.keys())),
        tuple(sorted(old.keys() - after.files.keys())),
        {name: _count(list(_diff(name, old[name], after.files[name]))) for name in both},
    )


def difference(before: Bundle | None, after: Bundle) -> str:
    """Every changed line, as `diff -u` writes it."""
    old: Mapping[str, bytes] = before.files if before else {}
    names = sorted(old.keys() | after.files.keys())
    return "".join(
        line
        for name in names
        if old.get(name) != after.files.get(name)
        for line in _diff(name, old.get(name, b""), after.files.get(name, b""))
    )


def _diff(name: str, old: bytes, new: bytes) -> list[str]:
    before, after = (data.decode("utf-8", "backslashreplace").splitlines(keepends=True) for data in (old, new))
    return list(difflib.unified_diff(before, after, f"before/{name}", f"after/{name}"))


def _count(lines: list[str]) -> tuple[int, int]:
    body = lines[2:]
    return sum(line.startswith("+") for line in body), sum(line.startswith("-") for line in body)
