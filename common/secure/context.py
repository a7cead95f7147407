"""What one round attempt is about: every signature, key derivation and reply is bound to the digest of this value.

Protects against: an old message taken for a new one, one study's update counted in another, and a coordinator that shows
one site another model than the rest: their transcripts differ, and nothing fits together any more.
Does not protect against: a site that lies about what it trained on.
"""

import hashlib
import math
import re
from dataclasses import dataclass

from common.config import Stage
from common.errors import ProtocolError

_DIGEST = re.compile(r"[0-9a-f]{64}")
SITE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MAX_SITES = 10_000


@dataclass(frozen=True, slots=True)
class RoundContext:
    """The public description of one attempt at one round.

    study_digest    SHA-256 of the study's canonical JSON
    member          which reward model of the ensemble; None in the SFT stage
    attempt         counts repeats of a round that must not reuse keys; 0 at first
    sites           the agreed cohort, in alphabetical order; an update counts only inside it
    adapter_digest  SHA-256 of the adapter the round starts from
    base_digest     SHA-256 of the frozen base model's weights
    exchange        name of the protocol that carries the updates
    roster          SHA-256 of the roster that names the sites' keys, where the exchange needs one
    noise_multiplier  σ of each step: a site that was told another one than the rest is in another round
    """

    study_digest: str
    stage: Stage
    member: int | None
    round: int
    attempt: int
    sites: tuple[str, ...]
    adapter_digest: str
    base_digest: str
    exchange: str = "plain"
    roster: str | None = None
    noise_multiplier: float = 0.0

    def __post_init__(self) -> None:
        for name, digest in (
            ("study", self.study_digest),
            ("adapter", self.adapter_digest),
            ("base", self.base_digest),
            ("roster", self.roster),
        ):
            if digest is not None and not _DIGEST.fullmatch(digest):
                raise ProtocolError(f"the {name} digest of a round is not 64 hex digits")
        if (self.member is None) != (self.stage is Stage.SFT) or (self.member or 0) < 0:
            raise ProtocolError(f"stage {self.stage} with member {self.member}: reward rounds name their member, SFT rounds have none")
        if self.round < 0 or self.attempt < 0:
            raise ProtocolError(f"round {self.round}, attempt {self.attempt}: both count from 0")
        if not 0 <= self.noise_multiplier < math.inf:
            raise ProtocolError(f"noise multiplier {self.noise_multiplier:g}: a finite number from 0 on")
        if not 1 <= len(self.sites) <= MAX_SITES:
            raise ProtocolError(f"a round of {len(self.sites)} sites; between 1 and {MAX_SITES:,} can take part")
        if list(self.sites) != sorted(set(self.sites)) or not all(SITE_NAME.fullmatch(site) for site in self.sites):
            raise ProtocolError("the sites of a round must be distinct names of a-z, 0-9 and -, in alphabetical order")
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", self.exchange):
            raise ProtocolError("the name of an exchange is made of a-z, 0-9 and -")

    @property
    def line(self) -> str:
        """The registry line this round works on: `sft`, `reward-0`, …"""
        return line_name(self.stage, self.member)

    def transcript(self) -> bytes:
        """SHA-256 over every field, each with its length before it, so that no two contexts share a preimage."""
        sha = hashlib.sha256(b"wardround round 2\0")
        member = "" if self.member is None else str(self.member)
        fields = (
            self.study_digest, self.stage.value, member, str(self.round), str(self.attempt),
            self.adapter_digest, self.base_digest, self.exchange, self.roster or "", float(self.noise_multiplier).hex(),
            str(len(self.sites)), *self.sites,
        )  # fmt: skip
        for field in fields:
            data = field.encode()
            sha.update(len(data).to_bytes(4, "big") + data)
        return sha.digest()


def line_name(stage: Stage, member: int | None) -> str:
    return stage.value if member is None else f"{stage.value}-{member}"
