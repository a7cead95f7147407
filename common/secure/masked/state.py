"""What a site keeps between two phases of an attempt. Bytes in, bytes out: the caller seals them in the vault.

Secrets leave it as soon as they are of no further use: the private keys and the seed with the masked words, the peers' shares with the
unmasking. What stays is `Opened`: for which update and which survivors this site has let a sum be opened.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from common.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Opened:
    """The sum with the update of this digest was opened for exactly these survivors, in round `round` of `line`."""

    line: str
    round: int
    words: str
    survivors: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class SiteState:
    """phase: the last one answered, empty before the first. Keys, seed and shares are hex; `keys` is everybody's, as the coordinator sent them."""

    phase: str = ""
    transcript: str = ""
    box_key: str = ""
    mask_key: str = ""
    seed: str = ""
    advertise: str = ""
    keys: str = ""
    shares: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    words: str = ""
    survivors: tuple[int, ...] = ()
    opened: Opened | None = None

    def __repr__(self) -> str:
        return f"SiteState({self.phase or 'nothing'})"

    def to_bytes(self) -> bytes:
        tree = asdict(self)
        tree["shares"] = {number: [hex(a), hex(b)] for number, (a, b) in self.shares.items()}
        return json.dumps(tree, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "SiteState":
        """Raises ProtocolError when the state is not one that this version wrote; the next attempt starts without it."""
        if not data:
            return cls()
        try:
            tree: dict[str, Any] = json.loads(data)
            tree["shares"] = {int(number): (int(a, 16), int(b, 16)) for number, (a, b) in tree["shares"].items()}
            tree["survivors"] = tuple(tree["survivors"])
            if tree["opened"] is not None:
                tree["opened"] = Opened(**{**tree["opened"], "survivors": tuple(tree["opened"]["survivors"])})
            return cls(**tree)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ProtocolError("what this site kept of the exchange cannot be read; restore its vault from a backup") from None
