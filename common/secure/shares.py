"""Shamir's secret sharing over a prime field: t points of a random polynomial of degree t − 1 give its value at 0, fewer give nothing.

Source: Shamir 1979, "How to share a secret". The field is the integers modulo p = 2²⁵⁶ + 297, the smallest prime above every 256-bit secret.

Protects against: t − 1 sites that put their shares together learn nothing about the secret, whatever they can compute.
Does not protect against: a wrong share, which gives a wrong secret (`masked/` commits to every share); the time that Python's
integers take, which depends on their values.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence

from common.errors import ProtocolError

PRIME = 2**256 + 297
SECRET_BYTES, SHARE_BYTES = 32, 33

Entropy = Callable[[int], bytes]
"""n → n random bytes. `secrets.token_bytes` outside tests."""


def split(secret: bytes, threshold: int, points: Sequence[int], entropy: Entropy = secrets.token_bytes) -> list[int]:
    """f(x) for each x of `points`, with f(0) = secret and random coefficients; any `threshold` of them give the secret back.

    Raises ProtocolError unless 1 ≤ threshold ≤ number of points, the points are distinct and in 1 … p − 1, the secret has 32 bytes.
    """
    if len(secret) != SECRET_BYTES:
        raise ProtocolError(f"a secret of {len(secret)} bytes cannot be shared; it must have {SECRET_BYTES}")
    _require_points(points)
    if not 1 <= threshold <= len(points):
        raise ProtocolError(f"a threshold of {threshold} among {len(points)} sites: between 1 and all of them are needed")
    # 384 bits modulo a 257-bit prime: further from uniform than 2⁻¹²⁷ is none of the coefficients.
    coefficients = [int.from_bytes(secret, "big"), *(int.from_bytes(entropy(48), "big") % PRIME for _ in range(threshold - 1))]
    return [_value(coefficients, x) for x in points]


def combine(shares: Mapping[int, int]) -> bytes:
    """The secret from shares by point. Raises ProtocolError when what comes out is no 256-bit secret: a share was wrong or one is missing."""
    weights = weights_at_zero(tuple(shares))
    value = sum(weight * shares[x] for x, weight in weights.items()) % PRIME
    if value >> (8 * SECRET_BYTES):
        raise ProtocolError("the shares do not belong to one secret")
    return value.to_bytes(SECRET_BYTES, "big")


def weights_at_zero(points: Sequence[int]) -> dict[int, int]:
    """Lagrange's λ_x = Π_{y ≠ x} y / (y − x) mod p, so that f(0) = Σ λ_x f(x)."""
    _require_points(points)
    weights = {}
    for x in points:
        above, below = 1, 1
        for y in points:
            if y != x:
                above, below = above * y % PRIME, below * (y - x) % PRIME
        weights[x] = above * pow(below, -1, PRIME) % PRIME
    return weights


def share_to_bytes(share: int) -> bytes:
    return share.to_bytes(SHARE_BYTES, "big")


def share_from_bytes(data: bytes) -> int:
    """Raises ProtocolError for another length or a number outside the field."""
    share = int.from_bytes(data, "big")
    if len(data) != SHARE_BYTES or share >= PRIME:
        raise ProtocolError("a share that is no element of the field")
    return share


def _value(coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):  # Horner
        value = (value * x + coefficient) % PRIME
    return value


def _require_points(points: Sequence[int]) -> None:
    if not points or len(set(points)) != len(points) or not all(0 < x < PRIME for x in points):
        raise ProtocolError("the points of a polynomial are distinct and above 0")
