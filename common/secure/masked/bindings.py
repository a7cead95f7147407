"""What every key, box, commitment and signature of the masked exchange is bound to: three transcripts, each over the one before.

    context.transcript()   study, line, round, attempt, roster, cohort, adapter, base, σ: what the round is about
    keys transcript        … and everybody's signed keys, in order: two sites that were shown different keys share nothing any more
    set transcript         … and whose shares arrived: the sites that mask each other

Protects against: a message of one study, round, attempt, pair or direction used in another, because it opens nothing there.
Does not protect against: sites that agree on a wrong context; each checks it against its own study, policy and roster first.
"""

import hashlib
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from common.errors import ProtocolError, SealBroken
from common.secure.masked.messages import Sealed
from common.secure.masking import derive
from common.secure.shares import SHARE_BYTES, share_from_bytes, share_to_bytes

_NONCE = bytes(12)  # each box key seals one box


def threshold(sites: int) -> int:
    """t = ⌊2n/3⌋ + 1: two sets of t sites out of n share more than n/3 of them, so at least one that is honest."""
    return 2 * sites // 3 + 1


def keys_transcript(context: bytes, keys: bytes) -> bytes:
    return _digest(b"keys", context, keys)


def set_transcript(keys: bytes, mask_set: Iterable[int]) -> bytes:
    return _digest(b"set", keys, _numbers(mask_set))


def advertised(context: bytes, number: int, signed: bytes) -> bytes:
    """What is signed over two public keys and a ledger head."""
    return _digest(b"advertise", context, _number(number), signed)


def shared(keys: bytes, number: int, signed: bytes) -> bytes:
    return _digest(b"share", keys, _number(number), signed)


def masked(mask_set: bytes, number: int, words: bytes | memoryview) -> bytes:
    return _digest(b"update", mask_set, _number(number), hashlib.sha256(words).digest())


def agreed(mask_set: bytes, survivors: Iterable[int]) -> bytes:
    """What t sites sign before anything is unmasked: the same bytes at every one of them."""
    return _digest(b"survivors", mask_set, _numbers(survivors))


def unmasked(agreed_list: bytes, number: int, signed: bytes) -> bytes:
    return _digest(b"unmask", agreed_list, _number(number), signed)


# -- keys --------------------------------------------------------------------------------------------------------------


def self_mask_key(seed: bytes, keys: bytes, number: int) -> bytes:
    return derive(seed, _info(b"self mask", keys, _number(number)))


def pair_mask_key(private: X25519PrivateKey, peer: bytes, keys: bytes, one: int, other: int) -> bytes:
    """The same at both ends."""
    low, high = sorted((one, other))
    return derive(agree(private, peer), _info(b"pair mask", keys, _number(low) + _number(high)))


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """X25519 (RFC 7748). Raises ProtocolError for a public key of small order, with which everybody knows the secret."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise ProtocolError("a public key of the exchange is not a valid one") from None


# -- commitments and boxes ---------------------------------------------------------------------------------------------


def seed_commitment(keys: bytes, number: int, seed: bytes) -> bytes:
    """Binding, and hiding because the seed has 256 random bits."""
    return _digest(b"seed", keys, _number(number), seed)


def share_commitment(keys: bytes, of_self_mask: bool, dealer: int, recipient: int, share: int) -> bytes:
    return _digest(b"share of", keys, bytes([of_self_mask]) + _number(dealer) + _number(recipient), share_to_bytes(share))


def seal_shares(
    private: X25519PrivateKey, peer: bytes, keys: bytes, sender: int, recipient: int, self_share: int, key_share: int
) -> Sealed:
    """Both shares for one recipient. ChaCha20-Poly1305 under a key for this direction alone; the commitments are in the AAD."""
    commitments = (share_commitment(keys, True, sender, recipient, self_share), share_commitment(keys, False, sender, recipient, key_share))
    cipher, aad = _box(private, peer, keys, sender, recipient, b"".join(commitments))
    return Sealed(cipher.encrypt(_NONCE, share_to_bytes(self_share) + share_to_bytes(key_share), aad), *commitments)


def open_shares(private: X25519PrivateKey, peer: bytes, keys: bytes, sender: int, recipient: int, sealed: Sealed) -> tuple[int, int]:
    """(share of the self mask's seed, share of the mask key). Raises SealBroken for a box that is not the one sealed for this place."""
    cipher, aad = _box(private, peer, keys, sender, recipient, sealed.self_commitment + sealed.key_commitment)
    try:
        plain = cipher.decrypt(_NONCE, sealed.box, aad)
        shares = share_from_bytes(plain[:SHARE_BYTES]), share_from_bytes(plain[SHARE_BYTES:])
    except (InvalidTag, ProtocolError):
        raise SealBroken from None
    commitments = (sealed.self_commitment, sealed.key_commitment)
    if commitments != tuple(
        share_commitment(keys, kind, sender, recipient, share) for kind, share in zip((True, False), shares, strict=True)
    ):
        raise SealBroken
    return shares


def _box(private: X25519PrivateKey, peer: bytes, keys: bytes, sender: int, recipient: int, bound: bytes) -> tuple[ChaCha20Poly1305, bytes]:
    # Sender before recipient, in key and AAD: a box that is sent back to whoever made it does not open.
    direction = _number(sender) + _number(recipient)
    return ChaCha20Poly1305(derive(agree(private, peer), _info(b"box", keys, direction))), keys + direction + bound


def _info(use: bytes, transcript: bytes, ends: bytes) -> bytes:
    return b"wardround masked 1 " + use + b"\0" + transcript + ends


def _digest(use: bytes, *parts: bytes) -> bytes:
    """SHA-256 over the use and every part with its length before it."""
    sha = hashlib.sha256(b"wardround masked 1 " + use + b"\0")
    for part in parts:
        sha.update(len(part).to_bytes(4, "big") + part)
    return sha.digest()


def _number(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _numbers(numbers: Iterable[int]) -> bytes:
    return b"".join(map(_number, sorted(numbers)))
