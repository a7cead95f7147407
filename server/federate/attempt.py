"""One attempt at a round: the groups of the cohort go through the exchange's phases side by side, and each gives one sum.

All groups are asked the same phase at once, so a large cohort waits no longer than a small one. A group whose sum is ready is
not asked again when another one has to repeat.

Protects against: replies of another round, group, phase or sender; a group that falls below what the exchange needs (it repeats, alone).
Does not protect against: a site that never lets its group close; the round is then repeated and stops with that site's name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from common.errors import ProtocolError, TooFewSurvivors
from common.protocol import ROUND_MESSAGE, Refusal, RoundReply, RoundRequest, pack_tensors, size_of
from common.secure.context import RoundContext
from common.secure.exchange import CoordinatorExchange, Phase, Summed
from server.federate.post import Post

REPLY_ALLOWANCE_BYTES = 64 * 1024
"""What a reply may hold besides four bytes a word: keys, shares and signatures of an exchange."""


@dataclass(slots=True)
class Group:
    """Sites that are summed together. `exchange` is None before the first attempt, `summed` until its sum is ready."""

    sites: tuple[str, ...]
    context: RoundContext | None = None
    exchange: CoordinatorExchange | None = None
    summed: Summed | None = None


@dataclass(slots=True)
class Tally:
    """Counts of one round over its tries."""

    bytes_up: int = 0
    bytes_down: int = 0
    missing: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return "missing: " + ", ".join(f"{site} {code}" for site, code in sorted(self.missing.items()))


MakeRequest = Callable[[RoundContext, Phase, str], RoundRequest]
"""(context, phase, site) → what this site is asked in this phase."""


def run_attempt(
    groups: Sequence[Group],
    post: Post,
    tally: Tally,
    *,
    request: MakeRequest,
    words: int,
    timeout_seconds: float,
    before_opening: Callable[[tuple[str, ...]], None],
) -> None:
    """Bring every group that has an open exchange to its sum. Raises the first group's TooFewSurvivors after the others are done.

    words            length of an update, which bounds a reply
    before_opening   told of the survivors whose sum is about to be opened; writes them down, or raises and nothing is opened
    """
    running = [group for group in groups if group.summed is None]
    failures: list[TooFewSurvivors] = []
    while running:
        asked = [(group, phase) for group in running if (phase := _open(group).requests()) is not None]
        opens = tuple(site for _, phase in asked for site in phase.opens)
        if opens:
            before_opening(opens)
        for group, phase, site, body in _ask(asked, post, tally, request, 4 * words + REPLY_ALLOWANCE_BYTES, timeout_seconds):
            try:
                _open(group).receive(site, body)
                tally.missing.pop(site, None)
            except ProtocolError as error:
                tally.missing[site] = error.code
            del phase, body  # a reply is as large as the model: the next must not find it in memory
        running = [group for group in running if not _close(group, failures)]
    if failures:
        raise failures[0]


def _close(group: Group, failures: list[TooFewSurvivors]) -> bool:
    """Whether the group is done with this attempt: its sum is ready, or too few are left."""
    exchange = _open(group)
    try:
        exchange.close_phase()
    except TooFewSurvivors as error:
        failures.append(error)
        return True
    if exchange.requests() is None:
        group.summed = exchange.result()
    return group.summed is not None


def total(groups: Sequence[Group]) -> Summed:
    """The sum over all groups, in 64 bits: the groups' own sums cannot wrap, nor can theirs."""
    sums = [group.summed for group in groups if group.summed is not None]
    if len(sums) == 1:
        return sums[0]
    return Summed(np.sum([s.words for s in sums], axis=0), tuple(sorted(site for s in sums for site in s.survivors)))


def _open(group: Group) -> CoordinatorExchange:
    assert group.exchange is not None, "an attempt opens every group's exchange first"
    return group.exchange


def _ask(
    asked: Sequence[tuple[Group, Phase]], post: Post, tally: Tally, request: MakeRequest, limit: int, timeout_seconds: float
) -> Iterator[tuple[Group, Phase, str, bytes]]:
    """Send one phase of every group and yield the well-formed answers, one by one; everything else is tallied as missing."""
    records, of_site = {}, {}
    packed = None
    for group, phase in asked:
        assert group.context is not None
        for site in phase.requests:
            made = request(group.context, phase, site)
            packed = packed if packed is not None else pack_tensors(made.tensors or {})
            records[site], of_site[site] = made.to_record(packed), (group, phase, group.context)
    if not records:
        return
    tally.bytes_down += sum(map(size_of, records.values()))
    first = asked[0][0].context
    assert first is not None
    name = f"{first.line}/{first.round}/{first.attempt}/{asked[0][1].name}"
    for answer in post.ask(records, message_type=ROUND_MESSAGE, group=name, timeout_seconds=timeout_seconds):
        group, phase, context = of_site[answer.site]
        if answer.record is None:
            tally.missing[answer.site] = answer.problem or "unreachable"
            continue
        tally.bytes_up += size_of(answer.record)
        try:
            refusal = Refusal.of(answer.record)
            if refusal is not None:
                tally.missing[answer.site] = refusal.code
                continue
            reply = RoundReply.from_record(answer.record, max_body_bytes=limit)
            if (reply.site, reply.transcript, reply.phase) != (answer.site, context.transcript(), phase.name):
                raise ProtocolError(f"site `{answer.site}` answered another round, phase or study")
        except ProtocolError as error:
            tally.missing[answer.site] = error.code
            continue
        yield group, phase, answer.site, reply.body
