"""Long-term keys: who signs for a site, and who for the coordinator. Ed25519 (RFC 8032), with the purpose of each signature in what is signed.

    key = SigningKey.generate()                    at the site, once; stored by the caller, never sent
    signature = key.sign("advertise", message)
    key.public.verify("advertise", message, signature)

Protects against: a message signed for one purpose shown as another; a key compared over the telephone by a few letters (its
fingerprint is twelve words, 96 bits).
Does not protect against: whoever holds the private key; a key that was never compared out of band (`roster.py` is what sites pin).
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.errors import RosterRefused, SealBroken
from common.secure.words import in_words

KEY_BYTES, SIGNATURE_BYTES = 32, 64
FINGERPRINT_BYTES = 12
_HEX_KEY = re.compile(r"[0-9a-f]{64}")
_PURPOSE = re.compile(r"[a-z][a-z-]{0,30}")


def fingerprint(digest: bytes) -> str:
    """The first 96 bits of a SHA-256 digest in twelve words. Finding other data with the same words costs 2⁹⁶ tries."""
    return in_words(digest[:FINGERPRINT_BYTES])


def same_words(one: str, other: str) -> bool:
    """Whether two fingerprints hold the same words, however they are spaced or punctuated."""
    return re.findall(r"[a-z]+", one.lower()) == re.findall(r"[a-z]+", other.lower())


@dataclass(frozen=True, slots=True)
class PublicKey:
    """32 bytes of Ed25519."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise RosterRefused(f"a public key has {KEY_BYTES} bytes, not {len(self.raw)}")

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Raises RosterRefused for anything but 64 hex digits in lower case."""
        if not _HEX_KEY.fullmatch(text):
            raise RosterRefused(f"a public key is written as {2 * KEY_BYTES} hex digits in lower case")
        return cls(bytes.fromhex(text))

    @property
    def hex(self) -> str:
        return self.raw.hex()

    @property
    def fingerprint(self) -> str:
        """Twelve words to compare out of band."""
        return fingerprint(hashlib.sha256(b"wardround key 1\0" + self.raw).digest())

    def verify(self, purpose: str, message: bytes, signature: bytes) -> None:
        """Return when `signature` is this key's for `message` and `purpose`. Raises SealBroken otherwise."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, _bound(purpose, message))
        except (InvalidSignature, ValueError):
            raise SealBroken from None


class SigningKey:
    """A private Ed25519 key. Prints nothing of itself; `to_bytes` is for the vault or a file that its owner alone can read."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return "SigningKey(<hidden>)"

    @classmethod
    def generate(cls) -> "SigningKey":
        """A fresh key from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, data: bytes) -> "SigningKey":
        """Raises SealBroken when `data` is not a private key of 32 bytes."""
        if len(data) != KEY_BYTES:
            raise SealBroken
        return cls(Ed25519PrivateKey.from_private_bytes(data))

    def to_bytes(self) -> bytes:
        return self._key.private_bytes_raw()

    def sign(self, purpose: str, message: bytes) -> bytes:
        """64 bytes over purpose and message; deterministic, so the same message is always signed with the same bytes."""
        return self._key.sign(_bound(purpose, message))


def _bound(purpose: str, message: bytes) -> bytes:
    # The purpose ends with a zero byte it cannot hold itself: no two (purpose, message) share what is signed.
    if not _PURPOSE.fullmatch(purpose):
        raise ValueError(f"the purpose of a signature is made of a-z and -, not {purpose!r}")
    return b"wardround signature 1 " + purpose.encode() + b"\0" + message
