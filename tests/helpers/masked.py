"""A masked exchange in memory: sites and coordinator as pure state machines, with a coordinator in between that may do what it likes."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from common.config import Stage
from common.errors import WardroundError
from common.secure.context import RoundContext
from common.secure.exchange import CoordinatorExchange, Phase, Summed
from common.secure.fixedpoint import Integers, Words, to_words
from common.secure.identity import SigningKey
from common.secure.masked.coordinator import MaskedCoordinator
from common.secure.masked.site import Credentials, MaskedSite
from common.secure.roster import Roster
from common.secure.shares import Entropy

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
COORDINATOR = SigningKey.from_bytes(bytes([255]) * 32)
NAMES = tuple(f"site-{i}" for i in range(10))
LENGTH = 40


def key_of(site: str) -> SigningKey:
    return SigningKey.from_bytes(hashlib.sha256(site.encode()).digest())


def roster_of(sites: tuple[str, ...], version: int = 1) -> Roster:
    roster = Roster.found("north", COORDINATOR.public, {site: key_of(site).public for site in sites}, issued=NOW, days=30)
    for _ in range(version - 1):
        roster = roster.renew(issued=NOW, days=30)
    return roster


def context_of(sites: tuple[str, ...], roster: Roster, **changes: object) -> RoundContext:
    context = RoundContext(
        "0" * 64, Stage.SFT, None, 0, 0, sites, "1" * 64, "2" * 64, exchange="masked", roster=roster.digest, noise_multiplier=1.0
    )
    return replace(context, **changes)  # type: ignore[arg-type]  # a test's shorthand


def counter_entropy(seed: bytes) -> Entropy:
    """Bytes that any test can draw again: SHAKE-256 over seed and a counter."""
    drawn = iter(range(10**9))
    return lambda size: hashlib.shake_256(seed + next(drawn).to_bytes(8, "big")).digest(size)


def update_of(site: str, length: int = LENGTH) -> Integers:
    seed = int.from_bytes(hashlib.sha256(b"update " + site.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).integers(-100_000, 100_000, length, dtype=np.int32)


def sum_of(sites: tuple[str, ...], length: int = LENGTH) -> list[int]:
    return [int(x) for x in sum(update_of(site, length).astype(np.int64) for site in sites)]


@dataclass
class Hospitals:
    """The sites of one cohort, each with what it keeps between messages."""

    names: tuple[str, ...] = NAMES[:5]
    kind: type[MaskedSite] = MaskedSite
    min_sites: int = 3
    length: int = LENGTH
    update: Callable[[str], Integers] | None = None
    kinds: Mapping[str, type[MaskedSite]] = field(default_factory=dict)
    entropy: Callable[[str], Entropy] | None = None
    kept: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, WardroundError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.roster = roster_of(self.names)
        self.context = context_of(self.names, self.roster)
        self.drawn = {name: self.entropy(name) for name in self.names} if self.entropy else {}

    def credentials(self, name: str) -> Credentials:
        return Credentials(name, key_of(name), self.roster, NOW, self.min_sites)

    def site(self, name: str) -> MaskedSite:
        kind = self.kinds.get(name, self.kind)
        return kind(self.credentials(name), self.drawn[name]) if self.drawn else kind(self.credentials(name))

    def ask(self, name: str, phase: str, request: bytes, context: RoundContext | None = None) -> bytes:
        """The site's answer; raises what the site raises, and then it kept nothing new."""
        sites = (context or self.context).sites

        def words() -> Words:
            return to_words(self.update(name) if self.update else update_of(name, self.length), len(sites))

        self.kept[name], answer = self.site(name).reply(context or self.context, phase, request, self.kept.get(name, b""), words)
        return answer

    def try_ask(self, name: str, phase: str, request: bytes, context: RoundContext | None = None) -> bytes | None:
        """The answer, or None when the site refused; why stands in `refused`."""
        try:
            return self.ask(name, phase, request, context)
        except WardroundError as error:
            self.refused[name] = error
            return None

    def coordinator(self, min_survivors: int = 3, agreed: tuple[str, ...] = ()) -> MaskedCoordinator:
        return MaskedCoordinator(self.context, self.length, min_survivors, self.roster, agreed)


Tamper = Callable[[str, str, bytes], bytes | None]
"""(phase, site, bytes) → other bytes, or None when the message gets lost."""


def unchanged(phase: str, site: str, data: bytes) -> bytes | None:
    return data


def drive(
    hospitals: Hospitals, exchange: CoordinatorExchange, *, request: Tamper = unchanged, reply: Tamper = unchanged
) -> tuple[Summed, list[Phase]]:
    """Run an attempt to its end; raises what `close_phase` raises. Refused replies count as lost, and are kept in `hospitals.refused`."""
    phases = []
    while (phase := exchange.requests()) is not None:
        phases.append(phase)
        for site, body in phase.requests.items():
            asked = request(phase.name, site, body)
            answer = hospitals.try_ask(site, phase.name, asked) if asked is not None else None
            answered = reply(phase.name, site, answer) if answer is not None else None
            if answered is not None:
                try:
                    exchange.receive(site, answered)
                except WardroundError as error:
                    hospitals.refused[site] = error
        exchange.close_phase()
    return exchange.result(), phases
