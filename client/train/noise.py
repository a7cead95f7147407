"""All random draws of a private step, from one 256-bit key: who takes part, which of their rows, and the noise.

The key is reserved in the ledger and sealed in the vault before the step, so that a crashed step can be replayed with the same draws; it is
erased at commit, after which nobody can take the noise off again. Each purpose has its own AES-256-CTR stream under a derived key.

Protects against: noise that can be predicted (torch's and NumPy's generators can), draws of one purpose used for another, and noise on the
low bits of floats: it is rounded to the grid γ, which is far coarser than float64.
Does not protect against: a machine whose random source or memory is read by others. Rounding a continuous Gaussian is a mitigation of
floating-point attacks (Mironov 2012), not a proof; the guarantee is the continuous Gaussian's, because rounding after noise only loses information.
"""

import hashlib
import hmac
import math
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from common.privacy.ledger import KEY_BYTES, Entry, KeySource, SystemKeys
from common.privacy.mechanism import Placement

_TWO_53 = 2.0**53


class NoiseSource(KeySource, Protocol):
    """Where the keys of steps come from: `SystemNoise` for patients, `SeededNoise` for simulations and tests."""


class SystemNoise(SystemKeys):
    """The operating system's CSPRNG. The default everywhere."""


class SeededNoise:
    """Keys derived from a seed, so that a simulation can be repeated. Whoever knows the seed can remove the noise: it protects nobody.

    Steps run with it are marked `simulated` in the ledger, and nothing made from them may be released.
    """

    simulated = True

    def __init__(self, seed: int, site: str = "") -> None:
        self._key = hashlib.sha256(f"wardround simulated noise\0{seed}\0{site}".encode()).digest()

    def step_key(self, entry: Entry, placement: Placement) -> bytes:
        # Under `site` a repeated attempt is the same step; it must meet the same noise, whichever attempt reserved it.
        attempt = entry.attempt if placement is Placement.SUM else 0
        name = f"{entry.study}\0{entry.stage}\0{entry.round}\0{attempt}\0{entry.step}"
        return hmac.digest(self._key, name.encode(), hashlib.sha256)


class Stream:
    """An endless stream of random numbers from a key and a purpose; the same pair always gives the same numbers."""

    def __init__(self, key: bytes, purpose: str) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a step key has {KEY_BYTES} bytes, not {len(key)}")
        derived = hmac.digest(key, b"wardround stream 1\0" + purpose.encode(), hashlib.sha256)
        # A fixed counter start is safe: the derived key is used for this one stream and never again.
        self._cipher = Cipher(algorithms.AES256(derived), modes.CTR(bytes(16))).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """(count,) uniform 64-bit words."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), dtype="<u8").astype(np.uint64, copy=False)

    def bernoulli(self, rate: float, count: int) -> NDArray[np.bool_]:
        """(count,) independent draws, each true with probability ⌊rate·2⁵³⌋/2⁵³, which is never above `rate`."""
        return (self.words(count) >> np.uint64(11)) < np.uint64(math.floor(rate * _TWO_53))

    def choose(self, count: int, at_most: int) -> NDArray[np.int64]:
        """`at_most` of `count` positions, uniformly without replacement, ascending; all of them when there are no more."""
        order = np.argsort(self.words(count), kind="stable")
        return np.sort(order[:at_most]).astype(np.int64)

    def gaussian(self, count: int) -> NDArray[np.float64]:
        """(count,) standard normal float64 by Box and Muller (1958), from two 53-bit uniforms a pair; |z| < 8.6."""
        pairs = (count + 1) // 2
        words = self.words(2 * pairs) >> np.uint64(11)
        radius = words[:pairs].astype(np.float64)
        radius += 1.0  # u in (0, 1]: the logarithm below is finite
        radius /= _TWO_53
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angle = words[pairs:].astype(np.float64)
        angle *= 2.0 * math.pi / _TWO_53
        normal = np.empty(2 * pairs)
        np.multiply(radius, np.cos(angle), out=normal[:pairs])
        np.multiply(radius, np.sin(angle), out=normal[pairs:])
        return normal[:count]


def rounded_gaussian(stream: Stream, standard_deviation: float, count: int) -> NDArray[np.int64]:
    """(count,) integers: a continuous Gaussian of that standard deviation (in grid steps), rounded to the nearest integer."""
    draws = stream.gaussian(count)
    draws *= standard_deviation
    return np.rint(draws, out=draws).astype(np.int64)
