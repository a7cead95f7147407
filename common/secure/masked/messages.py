"""The bytes of the masked exchange: one fixed layout a message, big-endian, no optional part, so that a value has one encoding.

Every message begins with its tag. Lists are counted by 16 bits and stand in ascending order of the sites' numbers, their places in the
cohort. Words are little-endian, as everywhere.

Protects against: a message that two readers would read differently; lists out of order, with doubles, too long or too short; trailing bytes.
Does not protect against: well-formed lies; `site.py` and `coordinator.py` check signatures and commitments.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from common.errors import ProtocolError
from common.privacy.heads import LedgerHead
from common.secure.identity import SIGNATURE_BYTES
from common.secure.shares import SHARE_BYTES, share_from_bytes, share_to_bytes

MAX_GROUP = 256
"""Sites that can be masked together: every site agrees on a key with every other. More are dealt into groups."""

KEY_BYTES, DIGEST_BYTES, TAG_BYTES = 32, 32, 16
BOX_BYTES = 2 * SHARE_BYTES + TAG_BYTES

ADVERTISE, KEYS, SHARES, BOXES, MASKED, SURVIVORS, SIGNED, SIGNERS, UNMASK = range(1, 10)
"""Tags: an odd message comes from a site, an even one from the coordinator."""

_HEAD_LENGTH = 1 + 2 * KEY_BYTES + 8 + DIGEST_BYTES
ADVERTISE_BYTES = _HEAD_LENGTH + SIGNATURE_BYTES

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Advertise:
    """A site's two public keys of one attempt: `box_key` for shares sealed to it, `mask_key` for the pair masks."""

    box_key: bytes
    mask_key: bytes
    ledger: LedgerHead
    signature: bytes

    @property
    def signed(self) -> bytes:
        return struct.pack(
            f">B{KEY_BYTES}s{KEY_BYTES}sQ{DIGEST_BYTES}s", ADVERTISE, self.box_key, self.mask_key, self.ledger.rows, self.ledger.digest
        )

    def to_bytes(self) -> bytes:
        return self.signed + self.signature

    @classmethod
    def from_bytes(cls, data: bytes) -> "Advertise":
        reader = _Reader(data, ADVERTISE)
        box_key, mask_key = reader.take(KEY_BYTES), reader.take(KEY_BYTES)
        ledger = LedgerHead(int.from_bytes(reader.take(8), "big"), reader.take(DIGEST_BYTES))
        return reader.end(cls(box_key, mask_key, ledger, reader.take(SIGNATURE_BYTES)))


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one site sends another through the coordinator: both shares, sealed, and the commitments to them."""

    box: bytes
    self_commitment: bytes
    key_commitment: bytes

    def to_bytes(self) -> bytes:
        return self.box + self.self_commitment + self.key_commitment


@dataclass(frozen=True, slots=True)
class Shares:
    """A site's sealed shares by recipient, itself included, and the commitment to its self-mask seed."""

    seed_commitment: bytes
    sealed: Mapping[int, Sealed]
    signature: bytes

    @property
    def signed(self) -> bytes:
        return bytes([SHARES]) + self.seed_commitment + _listed(self.sealed, Sealed.to_bytes)

    def to_bytes(self) -> bytes:
        return self.signed + self.signature

    @classmethod
    def from_bytes(cls, data: bytes) -> "Shares":
        reader = _Reader(data, SHARES)
        commitment, sealed = reader.take(DIGEST_BYTES), reader.listed(_sealed)
        return reader.end(cls(commitment, sealed, reader.take(SIGNATURE_BYTES)))


@dataclass(frozen=True, slots=True)
class Masked:
    """The masked words as they travel, and the signature over their digest. What was read is a view: the words are not copied."""

    words: bytes | memoryview
    signature: bytes

    def to_bytes(self) -> bytes:
        return b"".join((bytes([MASKED]), self.signature, self.words))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Masked":
        reader = _Reader(data, MASKED)
        signature = reader.take(SIGNATURE_BYTES)
        return cls(reader.rest(), signature)


@dataclass(frozen=True, slots=True)
class Unmask:
    """One share of each site of the mask set: (whether it is of the self mask, the share)."""

    shares: Mapping[int, tuple[bool, int]]
    signature: bytes

    @property
    def signed(self) -> bytes:
        return bytes([UNMASK]) + _listed(self.shares, lambda share: bytes([share[0]]) + share_to_bytes(share[1]))

    def to_bytes(self) -> bytes:
        return self.signed + self.signature

    @classmethod
    def from_bytes(cls, data: bytes) -> "Unmask":
        reader = _Reader(data, UNMASK)
        shares = reader.listed(_share)
        return reader.end(cls(shares, reader.take(SIGNATURE_BYTES)))


def keys_to_bytes(keys: Mapping[int, Advertise]) -> bytes:
    """Everybody's keys, as the coordinator passes them on."""
    return bytes([KEYS]) + _listed(keys, Advertise.to_bytes)


def keys_from_bytes(data: bytes) -> dict[int, Advertise]:
    reader = _Reader(data, KEYS)
    return reader.end(reader.listed(lambda r: Advertise.from_bytes(r.take(ADVERTISE_BYTES))))


def boxes_to_bytes(boxes: Mapping[int, Sealed]) -> bytes:
    """The boxes for one site, by sender."""
    return bytes([BOXES]) + _listed(boxes, Sealed.to_bytes)


def boxes_from_bytes(data: bytes) -> dict[int, Sealed]:
    reader = _Reader(data, BOXES)
    return reader.end(reader.listed(_sealed))


def survivors_to_bytes(survivors: Iterable[int]) -> bytes:
    return bytes([SURVIVORS]) + _listed(dict.fromkeys(survivors, b""), lambda nothing: nothing)


def survivors_from_bytes(data: bytes) -> tuple[int, ...]:
    reader = _Reader(data, SURVIVORS)
    return reader.end(tuple(reader.listed(lambda _: None)))


def signed_to_bytes(signature: bytes) -> bytes:
    return bytes([SIGNED]) + signature


def signed_from_bytes(data: bytes) -> bytes:
    reader = _Reader(data, SIGNED)
    return reader.end(reader.take(SIGNATURE_BYTES))


def signers_to_bytes(signatures: Mapping[int, bytes]) -> bytes:
    return bytes([SIGNERS]) + _listed(signatures, bytes)


def signers_from_bytes(data: bytes) -> dict[int, bytes]:
    reader = _Reader(data, SIGNERS)
    return reader.end(reader.listed(lambda r: r.take(SIGNATURE_BYTES)))


# -- reading and writing -----------------------------------------------------------------------------------------------


class _Reader:
    """Takes a message apart from its first byte to its last. Raises ProtocolError where it ends too early or too late."""

    def __init__(self, data: bytes, tag: int) -> None:
        if not data or data[0] != tag:
            raise ProtocolError(f"a message with tag {data[0] if data else 'none'} arrived where {tag} is due")
        self._data, self._at = data, 1

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise ProtocolError("a message of the exchange is cut short")
        self._at += size
        return part

    def rest(self) -> memoryview:
        return memoryview(self._data)[self._at :]

    def listed(self, item: Callable[["_Reader"], T]) -> dict[int, T]:
        count = int.from_bytes(self.take(2), "big")
        if not 1 <= count <= MAX_GROUP:
            raise ProtocolError(f"a list of {count} sites; between 1 and {MAX_GROUP} are masked together")
        found: dict[int, T] = {}
        before = -1
        for _ in range(count):
            number = int.from_bytes(self.take(2), "big")
            if not before < number < MAX_GROUP:
                raise ProtocolError("the sites of a list are numbered in ascending order, each once")
            found[number], before = item(self), number
        return found

    def end(self, value: T) -> T:
        if self._at != len(self._data):
            raise ProtocolError("a message of the exchange goes on after its end")
        return value


def _listed(items: Mapping[int, T], write: Callable[[T], bytes]) -> bytes:
    return len(items).to_bytes(2, "big") + b"".join(number.to_bytes(2, "big") + write(item) for number, item in sorted(items.items()))


def _sealed(reader: _Reader) -> Sealed:
    return Sealed(reader.take(BOX_BYTES), reader.take(DIGEST_BYTES), reader.take(DIGEST_BYTES))


def _share(reader: _Reader) -> tuple[bool, int]:
    kind = reader.take(1)[0]
    if kind > 1:
        raise ProtocolError("a share is of the self mask or of the mask key")
    return bool(kind), share_from_bytes(reader.take(SHARE_BYTES))
