"""The loop of a federated stage: ask the cohort, add up what comes back, move the adapter, checkpoint; from the last committed round on.

A round closes when every site has answered or the deadline has passed. With too few survivors it is repeated, and then the run stops with
the names of the missing. A replayable exchange (`plain`) repeats under the same attempt number: a site that answered before sends
the same bytes again and spends nothing. Any other exchange repeats under a new attempt, written down before it starts, with new keys.

Protects against: a round that too few sites stand behind, replies of another round, study, model or sender, a crash at any moment.
Does not protect against: sites that send poisoned updates; in a plain sum of a few sites one of them can turn the direction.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.adapters import Adapter
from common.config import Stage, StudyConfig
from common.errors import ProtocolError, TooFewSurvivors
from common.progress import Progress, Silent
from common.protocol import ROUND_MESSAGE, Refusal, RoundReply, RoundRequest, pack_tensors, size_of, travelling
from common.secure.context import RoundContext, line_name
from common.secure.exchange import CoordinatorExchange, ExchangeFactory, Phase, PlainExchange, Summed, require_fit
from common.secure.fixedpoint import grid_step, require_headroom
from server.federate.aggregate import mean_direction, step
from server.federate.checkpoint import RoundRecord, RoundState, load_state, save_state
from server.federate.cohort import Cohort
from server.federate.post import Post

TRIES = 3
"""How often a round is tried before the run stops and waits for a person."""

REPLY_ALLOWANCE_BYTES = 64 * 1024
"""What a reply may hold besides four bytes a word: keys, shares and signatures of an exchange."""

REFUSED_FOR_GOOD = frozenset({"config", "model", "shape", "policy", "budget", "gate"})
"""Codes that another try would not change."""


@dataclass(frozen=True, slots=True)
class Federation:
    """What is fixed for all rounds of a stage.

    noise_multiplier  σ, one public figure for all sites; 0 when the study's engine is `none`
    initial           the adapter of round 0, and base_digest the frozen base it stands on
    """

    study: StudyConfig
    stage: Stage
    member: int | None
    cohort: Cohort
    initial: Adapter
    base_digest: str
    noise_multiplier: float
    exchange: ExchangeFactory = field(default_factory=PlainExchange)

    @property
    def line(self) -> str:
        return line_name(self.stage, self.member)

    @property
    def grid(self) -> float:
        return grid_step(self.study.privacy.clip_norm)

    @property
    def binding(self) -> str:
        """What a checkpoint must have been made from to be resumed."""
        parts = (self.study.digest, self.line, self.base_digest, self.initial.digest, self.exchange.name, repr(self.noise_multiplier))
        cohort = (f"{site}={units!r}" for site, units in sorted(self.cohort.expected_units.items()))
        return hashlib.sha256("\0".join((*parts, *cohort)).encode()).hexdigest()

    def context(self, state: RoundState) -> RoundContext:
        return RoundContext(
            self.study.digest, self.stage, self.member, state.next_round, state.attempt, self.cohort.sites,
            state.adapter.digest, self.base_digest, self.exchange.name,
        )  # fmt: skip


def federate(
    federation: Federation,
    post: Post,
    checkpoint: Path,
    *,
    progress: Progress | None = None,
    on_round: Callable[[RoundRecord], None] | None = None,
    on_state: Callable[[str, RoundState], None] | None = None,
) -> RoundState:
    """Run the rounds of a stage that are not done yet; returns the state after the last.

    `on_round` is told of every finished round, those before a resume included, each after its checkpoint is on the disk.
    `on_state` is shown the state of every newly finished round before that, so that a kill in between repeats both.
    Raises TooFewSurvivors naming who is missing and why, and ConfigError when the cohort's sum could wrap.
    """
    progress = progress or Silent()
    training = federation.study.stage(federation.stage)
    require_fit(federation.exchange, federation.study.privacy.placement)
    for units in federation.cohort.expected_units.values():
        require_room(federation.study, federation.stage, federation.noise_multiplier, units, len(federation.cohort.sites))
    state = load_state(checkpoint, federation.initial.spec, federation.binding)
    if state is None:
        state = RoundState(federation.binding, 0, 0, federation.initial, {}, ())
    progress.start(f"federated rounds of {federation.line}", training.rounds)
    if on_round:
        for record in state.records:
            on_round(record)
    progress.advance(state.next_round)
    while state.next_round < training.rounds:
        state = run_round(federation, post, checkpoint, state)
        if on_state:
            on_state(federation.line, state)
        save_state(checkpoint, state)
        if on_round:
            on_round(state.records[-1])
        progress.advance()
    return state


def require_room(study: StudyConfig, stage: Stage, noise_multiplier: float, expected_units: float, sites: int) -> None:
    """Raises ConfigError when the sum of a round over `sites` sites could wrap. All figures are public."""
    training = study.stage(stage)
    # Several local steps add their sums and noises up, each scaled by the site's own learning rate.
    scale = training.local_steps * max(1.0, training.local_learning_rate)
    require_headroom(
        clip_norm=study.privacy.clip_norm,
        noise_multiplier=noise_multiplier * scale,
        expected_units=expected_units * scale,
        sites=sites,
    )


def run_round(federation: Federation, post: Post, checkpoint: Path, state: RoundState) -> RoundState:
    """One round, tried up to TRIES times; returns the state of the next. The checkpoint only changes when an attempt number is used up."""
    training = federation.study.stage(federation.stage)
    number, started = state.next_round, post.clock.now()
    tally = _Tally()
    exchange: CoordinatorExchange | None = None
    for attempt_left in reversed(range(TRIES)):
        if exchange is None or not exchange.replayable:
            if exchange is not None:
                state = state.with_attempt(state.attempt + 1)
            exchange = federation.exchange.open(federation.context(state), state.adapter.spec.size(number), training.min_survivors)
            if not exchange.replayable:
                # On the disk before a site sees it: after a crash this attempt's keys must not be used again.
                save_state(checkpoint, state.with_attempt(state.attempt + 1))
        try:
            summed = _run_exchange(federation, post, state, exchange, tally)
            break
        except TooFewSurvivors as error:
            hopeless = sum(code in REFUSED_FOR_GOOD for code in tally.missing.values())
            if not attempt_left or len(federation.cohort.sites) - hopeless < training.min_survivors:
                raise TooFewSurvivors(f"{error} ({tally.describe()})") from None
    direction = mean_direction(summed, federation.grid, federation.cohort.expected_units)
    adapter, moments = step(training, number, state.adapter, direction, state.moments)
    record = RoundRecord(
        line=federation.line,
        round=number,
        attempt=state.attempt,
        survivors=summed.survivors,
        missing={site: code for site, code in sorted(tally.missing.items()) if site not in summed.survivors},
        bytes_up=tally.bytes_up,
        bytes_down=tally.bytes_down,
        update_norm=float(np.linalg.norm(direction)),
        seconds=post.clock.now() - started,
    )
    return replace(state, next_round=number + 1, attempt=0, adapter=adapter, moments=moments, records=(*state.records, record))


@dataclass(slots=True)
class _Tally:
    """Counts of one round over its tries."""

    bytes_up: int = 0
    bytes_down: int = 0
    missing: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return "missing: " + ", ".join(f"{site} {code}" for site, code in sorted(self.missing.items()))


def _run_exchange(federation: Federation, post: Post, state: RoundState, exchange: CoordinatorExchange, tally: _Tally) -> Summed:
    while (phase := exchange.requests()) is not None:
        for site, body in _ask(federation, post, state, phase, tally):
            try:
                exchange.receive(site, body)
                tally.missing.pop(site, None)
            except ProtocolError as error:
                tally.missing[site] = error.code
        exchange.close_phase()
    return exchange.result()


def _ask(federation: Federation, post: Post, state: RoundState, phase: Phase, tally: _Tally) -> Iterator[tuple[str, bytes]]:
    """Send one phase and yield the well-formed answers, one by one; everything else is tallied as missing."""
    context, training = federation.context(state), federation.study.stage(federation.stage)
    tensors = travelling(state.adapter) if phase.trains else None
    packed = pack_tensors(tensors or {})
    requests = {
        site: RoundRequest(
            context, phase.name, body, federation.study, federation.noise_multiplier, federation.cohort.expected_units[site], federation.grid, tensors
        ).to_record(packed)
        for site, body in phase.requests.items()
    }  # fmt: skip
    tally.bytes_down += sum(map(size_of, requests.values()))
    transcript = context.transcript()
    limit = 4 * state.adapter.spec.size(state.next_round) + REPLY_ALLOWANCE_BYTES
    group = f"{context.line}/{context.round}/{context.attempt}"
    for answer in post.ask(requests, message_type=ROUND_MESSAGE, group=group, timeout_seconds=training.round_timeout_seconds):
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
            if (reply.site, reply.transcript, reply.phase) != (answer.site, transcript, phase.name):
                raise ProtocolError(f"site `{answer.site}` answered another round, phase or study")
        except ProtocolError as error:
            tally.missing[answer.site] = error.code
            continue
        yield answer.site, reply.body


def total_bytes(records: tuple[RoundRecord, ...]) -> Mapping[str, int]:
    return {"bytes_up": sum(r.bytes_up for r in records), "bytes_down": sum(r.bytes_down for r in records)}
