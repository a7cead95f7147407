"""Bytes at rest: AES-256-GCM under a key file that only its owner can read.

Protects against: a stolen disk or backup without the key file; rows that are swapped, moved to another patient or edited
(the kind, the handle and the owner of a row are authenticated with it); guessing which patient a handle stands for.
Does not protect against: whoever can read the key file or this process's memory; deleted rows left in freed disk blocks;
a lost key file, which makes the vault unreadable for ever; more than 2³² rows under one key (random 96-bit nonces).
"""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.errors import SealBroken, StorageError
from common.storage import sync_folder

KEY_BYTES = 32
NONCE_BYTES = 12
HANDLE_BYTES = 16


def create_key_file(path: Path, key: bytes | None = None) -> bytes:
    """`key`, or a fresh one of 256 bits from the operating system, written with mode 600. Refuses to overwrite a key that is there."""
    key = secrets.token_bytes(KEY_BYTES) if key is None else key
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise StorageError(f"{path}: a key is there already; a new one would make the vault unreadable") from None
    except OSError as error:
        raise StorageError(f"{path}: the key file cannot be created ({error.strerror})") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)  # its name too: after a power cut a vault without its key is lost
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageError(f"{path}: the key file cannot be written ({error.strerror}); free some space and run again") from None
    return key


def read_key_file(path: Path) -> bytes:
    """The key. Raises StorageError when it is missing, has the wrong length, or is readable by anyone but its owner."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise StorageError(f"{path}: mode {mode:03o} lets others read the key; run `chmod 600 {path}`")
        key = path.read_bytes()
    except FileNotFoundError:
        raise StorageError(f"{path}: the key file is missing; restore it from its backup, the vault cannot be read without it") from None
    except OSError as error:
        raise StorageError(f"{path}: the key file cannot be read ({error.strerror})") from None
    if len(key) != KEY_BYTES:
        raise StorageError(f"{path}: the key file holds {len(key)} bytes instead of {KEY_BYTES}; restore it from its backup")
    return key


class Sealer:
    """Seals rows and derives their handles, from two keys split off one master key by HKDF-SHA256."""

    def __init__(self, master: bytes) -> None:
        self._cipher = AESGCM(_derive(master, b"wardround vault 1 data"))
        self._index_key = _derive(master, b"wardround vault 1 index")

    def __repr__(self) -> str:
        return "Sealer(<hidden>)"

    def handle(self, kind: str, identifier: str) -> bytes:
        """A keyed HMAC of an identifier: equal for equal identifiers here, meaningless anywhere else."""
        message = kind.encode() + b"\0" + identifier.encode("utf-8", "surrogatepass")
        return hmac.digest(self._index_key, message, hashlib.sha256)[:HANDLE_BYTES]

    def seal(self, kind: str, handle: bytes, owner: int, plain: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, _bound(kind, handle, owner))

    def open(self, kind: str, handle: bytes, owner: int, sealed: bytes) -> bytes:
        """The plain bytes. Raises SealBroken for any row that is not exactly the one that was sealed in this place."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound(kind, handle, owner))
        except (InvalidTag, ValueError):
            raise SealBroken from None


def _bound(kind: str, handle: bytes, owner: int) -> bytes:
    # kind, handle and owner are in the AAD: a sealed row cannot be passed off as another row or as another patient's
    return b"wardround vault 1\0" + kind.encode() + b"\0" + owner.to_bytes(8, "big") + handle


def _derive(master: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(master)
