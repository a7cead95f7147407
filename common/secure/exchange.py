"""How the updates of one round attempt become their sum: the two sides of the exchange, as state machines of bytes.

The coordinator asks phase by phase; each site answers a phase from the request, the public context and the state it kept
from the phase before. A site's state is bytes in, bytes out, because a Flower ClientApp may be another process at every
message; the caller seals it in the vault. The coordinator's side lives as long as the attempt and keeps one running sum.

    coordinator                                          site
    phase = exchange.requests()          ── phase ──▶    state, reply = exchange.reply(context, phase, request, state, words)
    exchange.receive(site, reply)        ◀── reply ──
    exchange.close_phase()               … until requests() is None
    exchange.result()

`plain` has one phase. A masking exchange has more (keys, shares, masked words, survivors, unmasking) behind the same calls.

Protects against (plain): a reply of the wrong length, a site that answers twice or does not belong, words that could make the sum wrap.
Does not protect against (plain): a coordinator that reads each site's update. Under placement `site` that update already
carries the site's full noise, so the privacy guarantee holds against that coordinator too; nothing hides which site sent it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from common.errors import ConfigError, ProtocolError, TooFewSurvivors
from common.privacy.mechanism import Placement
from common.secure.context import RoundContext
from common.secure.fixedpoint import Integers, Sums, Words, from_words, require_within, words_from_bytes, words_to_bytes
from common.secure.roster import Roster


@dataclass(frozen=True, slots=True)
class Phase:
    """What the coordinator asks next.

    trains   this phase calls for the update, so the adapter must travel with it
    opens    not empty: the answers open the sum over exactly these sites, and their names are written down before anybody is asked
    """

    name: str
    trains: bool
    requests: Mapping[str, bytes]
    opens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summed:
    """The sum over the survivors, in grid integers (d,), and who they are, in alphabetical order.

    each   every site's own integers, where the exchange shows them and the aggregation needs them
    """

    words: Sums
    survivors: tuple[str, ...]
    each: Mapping[str, Integers] | None = None


class SiteExchange(Protocol):
    """The hospital's side. `reply` raises ProtocolError for a phase or request that does not fit; nothing is trained then.

    hides_updates   whether the coordinator learns the sum alone; an exchange that does not hide is refused with placement `sum`
    """

    name: str
    hides_updates: bool

    def reply(
        self, context: RoundContext, phase: str, request: bytes, state: bytes, words: Callable[[], Words]
    ) -> tuple[bytes, bytes]: ...  # (new state, reply); an empty new state means that nothing is to be kept


class CoordinatorExchange(Protocol):
    """The coordinator's side of one attempt.

    replayable   a site may answer the same attempt again with the same bytes; otherwise a repeat is a new attempt with new keys
    requests     the next phase, for the sites that have not answered it; None when the sum is ready
    receive      raises ProtocolError and leaves the sum as it was when a reply does not belong
    close_phase  raises TooFewSurvivors; the phase stays open, so that a replayable exchange can ask again
    """

    name: str
    replayable: bool

    def requests(self) -> Phase | None: ...
    def receive(self, site: str, reply: bytes) -> None: ...
    def close_phase(self) -> None: ...
    def result(self) -> Summed: ...


class ExchangeFactory(Protocol):
    """Makes the coordinator's side of one attempt over vectors of `length` words.

    roster   the keys that the exchange stands on; None when it needs none
    agreed   the sites for which an earlier attempt of this round was opened, if any: their updates may be summed over no other set
    """

    name: str
    hides_updates: bool

    @property
    def roster(self) -> Roster | None: ...
    def open(self, context: RoundContext, length: int, min_survivors: int, agreed: tuple[str, ...] = ()) -> CoordinatorExchange: ...


UPDATE = "update"


class PlainSite:
    """Sends the words as they are: four bytes each."""

    name, hides_updates = "plain", False

    def reply(self, context: RoundContext, phase: str, request: bytes, state: bytes, words: Callable[[], Words]) -> tuple[bytes, bytes]:
        if phase != UPDATE or request or state:
            raise ProtocolError(
                f"the plain exchange has one phase, `{UPDATE}`, with an empty request; phase `{phase}` does not belong to it"
            )
        update = words()
        require_within(from_words(update), len(context.sites))
        return b"", words_to_bytes(update)


class PlainCoordinator:
    """Adds each reply to one running sum of int64 and forgets it: memory does not grow with the number of sites."""

    name = "plain"
    replayable = True

    def __init__(self, context: RoundContext, length: int, min_survivors: int) -> None:
        self._context, self._length, self._min_survivors = context, length, min_survivors
        self._sum: Sums = np.zeros(length, np.int64)
        self._received: set[str] = set()
        self._closed = False

    def requests(self) -> Phase | None:
        if self._closed:
            return None
        return Phase(UPDATE, True, {site: b"" for site in self._context.sites if site not in self._received})

    def receive(self, site: str, reply: bytes) -> None:
        if site not in self._context.sites or self._closed:
            raise ProtocolError(f"site `{site}` does not take part in this phase")
        if site in self._received:
            raise ProtocolError(f"site `{site}` answered twice; the second answer is not counted")
        values = from_words(words_from_bytes(reply, self._length))
        require_within(values, len(self._context.sites))
        self._sum += values
        self._received.add(site)

    def close_phase(self) -> None:
        if len(self._received) < self._min_survivors:
            raise TooFewSurvivors(
                f"{len(self._received)} of {len(self._context.sites)} sites answered round {self._context.round} of `{self._context.line}`, "
                f"and the study needs {self._min_survivors}; resume when the others are back, or raise `round_timeout_seconds`"
            )
        self._closed = True

    def result(self) -> Summed:
        if not self._closed:
            raise ProtocolError("the sum of a round is read after its last phase is closed")
        return Summed(self._sum, tuple(sorted(self._received)))


class PlainExchange:
    """The exchange called `plain` in configuration and report: the coordinator sees each site's (noised) update."""

    name, hides_updates, roster = "plain", False, None

    def open(self, context: RoundContext, length: int, min_survivors: int, agreed: tuple[str, ...] = ()) -> CoordinatorExchange:  # noqa: ARG002  # a plain sum shows each update anyway
        return PlainCoordinator(context, length, min_survivors)


def require_fit(exchange: str, hides_updates: bool, placement: Placement) -> None:
    """Raises ConfigError for noise in shares (placement `sum`) over an exchange that shows each share to the coordinator."""
    if placement is Placement.SUM and not hides_updates:
        raise ConfigError(
            f'`privacy.placement = "sum"` gives each site only a share of the noise, and the exchange `{exchange}` shows the coordinator '
            'each update; use `placement = "site"`'
        )
