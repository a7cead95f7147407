"""The app bundle of this release: the bytes that every site approves by their SHA-256.

`flwr run` builds the bundle again each time, from the same files to the same bytes; DIR/app holds those files.
"""

import hashlib
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from common.errors import ConfigError, StorageError
from common.storage import storage_errors, write_atomic
from server.launching import require_app

FOLDER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")
"""Flower's own rule for the folder of an app."""


def build(source: Path) -> bytes:
    """The bundle built from the checkout in `source`. Raises ConfigError when that is none, or Flower does not accept it."""
    require_app(source)
    name = source.resolve().name
    if not FOLDER_NAME.fullmatch(name):
        raise ConfigError(
            f"{source}: Flower builds from no folder of this name; rename or copy it to at most 32 letters, digits and hyphens, a letter first"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "flwr"), "build", "--app", str(source.resolve())]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise StorageError(f"{command[0]}: the command `flwr` is missing; install Wardround's dependencies") from None
        found = list(Path(folder).glob("*.fab"))
        if done.returncode or len(found) != 1:
            raise ConfigError(f"{source}: Flower cannot build the bundle: {(done.stderr or done.stdout).strip()[-400:]}")
        return found[0].read_bytes()


def unpack(bundle: bytes, folder: Path) -> None:
    """The bundle's files in `folder`, from which `flwr run` builds the same bundle again."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive, storage_errors(folder, "unpack the bundle"):
        for name in archive.namelist():
            target = folder / name
            if not target.resolve().is_relative_to(folder.resolve()):
                raise ConfigError(f"the bundle holds `{name[:80]}`, which lies outside of it")
            if not name.startswith(".info"):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(target, archive.read(name), mode=0o644)


def digest(bundle: bytes) -> str:
    return hashlib.sha256(bundle).hexdigest()
