"""Streams of randomness named by what they are for, so that adding a draw in one place moves nothing in another."""

import hashlib


def stream(*name: str | int) -> int:
    """A 64-bit seed from the parts of a name: the same name, the same stream, in every process."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, name)).encode()).digest()[:8], "big")
