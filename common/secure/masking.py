"""Masks in Z₂³²: a stream of words from a key, added by one site and taken away by another, so that the sum does not see it.

The stream is ChaCha20 (RFC 8439) with a 256-bit key, nonce 0 and counter 0, read as little-endian 32-bit words. A key is used for one stream:
it comes out of HKDF-SHA256 (RFC 5869) whose info names the study's transcript and the two ends.

Protects against: whoever lacks the key sees uniform words, whatever the update was (words + stream mod 2³² is a one-time pad as strong as ChaCha20).
Does not protect against: a key used twice, which would give the difference of two updates; the transcript in the info prevents it.
"""

from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.secure.fixedpoint import Words

KEY_BYTES = 32
CHUNK_WORDS = 2**14
"""64 KiB of stream at a time: it stays in the processor's cache, and memory does not grow with the vector."""

_NONCE = bytes(16)  # 32-bit block counter and 96-bit nonce, both 0: the key is used once
_ZEROS = bytes(4 * CHUNK_WORDS)


def derive(secret: bytes, info: bytes) -> bytes:
    """A 256-bit key for the use that `info` names."""
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def add_mask(words: Words, key: bytes) -> None:
    """words ← words + stream(key) mod 2³², in place.   (d,)"""
    for part, mask in _chunks(words, key):
        np.add(part, mask, out=part)


def subtract_mask(words: Words, key: bytes) -> None:
    """words ← words − stream(key) mod 2³², in place.   (d,)"""
    for part, mask in _chunks(words, key):
        np.subtract(part, mask, out=part)


def _chunks(words: Words, key: bytes) -> Iterator[tuple[Words, Words]]:
    """Parts of `words`, each with its part of the stream; the latter is overwritten by the next."""
    stream = Cipher(algorithms.ChaCha20(key, _NONCE), mode=None).encryptor()
    buffer = bytearray(4 * CHUNK_WORDS)
    for start in range(0, words.size, CHUNK_WORDS):
        part = words[start : start + CHUNK_WORDS]
        stream.update_into(memoryview(_ZEROS)[: 4 * part.size], buffer)
        yield part, np.frombuffer(buffer, "<u4", part.size)
