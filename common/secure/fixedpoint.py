"""Floats as integers on a public grid, integers as words of Z₂³², and the room a sum of many sites needs there.

An update travels as whole multiples of the grid γ. Integers add without rounding and in any order, so the sum of the
sites is exact, and the same words can carry masks that cancel modulo 2³².

Protects against: a sum that wraps around and turns a large step into its opposite (refused from public figures, before
anything is trained).
Does not protect against: a site that sends words of its own invention; they stay within their share of the range, no more.
"""

import math

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, ProtocolError, ShapeError

Integers = NDArray[np.int32]
"""Multiples of the grid, signed, as the private step gives them out."""

Words = NDArray[np.uint32]
"""The same integers modulo 2³² (two's complement), as they travel."""

Sums = NDArray[np.int64]
"""Multiples of the grid, summed over sites."""

LARGEST = 2**31 - 1
GRID_BITS = 16
HEADROOM_SIGMAS = 8.0
"""A coordinate of the noise leaves ±8σ once in 10¹⁵ draws: clamping beyond it never meets a value in practice."""


def grid_step(clip_norm: float) -> float:
    """γ = C·2⁻¹⁶: the one public grid of a stage, so that the clip bound C − γ√d/2 loses under 1 % at a million coordinates."""
    return clip_norm * 2.0**-GRID_BITS


def limit(sites: int) -> int:
    """Largest |word| of one site such that the sum over `sites` sites stays inside ±(2³¹ − 1)."""
    if sites < 1:
        raise ConfigError(f"a sum over {sites} sites has no words; at least one site must take part")
    return LARGEST // sites


def require_headroom(*, clip_norm: float, noise_multiplier: float, expected_units: float, sites: int) -> None:
    """Refuse a federation whose sum could wrap: needs n·(L·C + 8σC)/γ ≤ 2³¹ − 1 from public figures alone.

    L·C bounds a coordinate of the mean batch, 8σC the noise. Raises ConfigError with both sides and the remedy.
    """
    needed = (expected_units + HEADROOM_SIGMAS * noise_multiplier) * clip_norm / grid_step(clip_norm)
    if not math.isfinite(needed) or needed > limit(sites):
        raise ConfigError(
            f"{sites} sites leave each of them words up to {limit(sites):,}, and a step of {expected_units:g} units with noise multiplier "
            f"{noise_multiplier:g} needs {needed:,.0f}: the sum could wrap; split the sites into cohorts or lower `privacy.sampling_rate`"
        )


def clamp(values: NDArray[np.signedinteger], sites: int) -> Integers:
    """Values cut to ±limit(sites). Post-processing of an already noised update: a drawn value is cut, never refused."""
    bound = limit(sites)
    clamped: Integers = np.clip(values, -bound, bound).astype(np.int32)
    return clamped


def to_words(values: Integers, sites: int) -> Words:
    """Signed integers (d,) → words (d,) modulo 2³². Raises ShapeError on another type, ProtocolError when n·max could wrap."""
    if values.dtype != np.int32 or values.ndim != 1:
        raise ShapeError(f"an update is a vector of int32, not {values.dtype} with {values.ndim} dimensions")
    require_within(values, sites)
    return values.view(np.uint32)


def from_words(words: Words) -> Integers:
    """Words modulo 2³² → the signed integers they stand for, in [−2³¹, 2³¹)."""
    if words.dtype != np.uint32 or words.ndim != 1:
        raise ShapeError(f"words are a vector of uint32, not {words.dtype} with {words.ndim} dimensions")
    return words.view(np.int32)


def require_within(values: Integers, sites: int) -> None:
    """Raises ProtocolError when a value leaves ±limit(sites), so that the sum of `sites` such updates could wrap."""
    bound = limit(sites)
    if values.size and (int(values.max()) > bound or int(values.min()) < -bound):
        raise ProtocolError(f"an update holds a word beyond ±{bound:,}, the share of one of {sites} sites: the sum could wrap")


def words_to_bytes(words: Words) -> bytes:
    """Little-endian, four bytes a word."""
    return words.astype("<u4", copy=False).tobytes()


def words_from_bytes(data: bytes | memoryview, length: int) -> Words:
    """Exactly `length` words. Raises ProtocolError on any other number of bytes."""
    if len(data) != 4 * length:
        raise ProtocolError(f"an update of {len(data):,} bytes arrived where {4 * length:,} are due ({length:,} words)")
    return np.frombuffer(data, dtype="<u4").astype(np.uint32, copy=False)


def to_floats(sums: Sums, grid: float) -> NDArray[np.float64]:
    """Sum of integers (d,) × γ, in float64: exact up to 2⁵³ grid steps."""
    return sums.astype(np.float64) * grid
