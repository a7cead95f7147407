"""The loop of a federated stage: ask the cohort, add up what comes back, move the adapter, checkpoint; from the last committed round on.

A round closes when every site has answered or the deadline has passed. With too few survivors it is repeated, and then the run stops with
the names of the missing. A replayable exchange (`plain`) repeats under the same attempt number: a site that answered before sends
the same bytes again and spends nothing. `masked` repeats under a new attempt, written down before it starts, with new keys; once its sum was
about to be opened it is repeated over the same survivors alone, because the sites refuse to sum one update over two sets.

Protects against: a round that too few sites stand behind, replies of another round, study, model or sender, a crash at any moment.
Does not protect against: sites that send poisoned updates; in a plain sum of a few sites one of them can turn the direction.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.adapters import Adapter
from common.config import MINIMUM_SITES, Stage, StudyConfig
from common.errors import TooFewSurvivors
from common.privacy.mechanism import Placement
from common.progress import Progress, Silent
from common.protocol import RoundRequest, travelling
from common.secure.context import RoundContext, line_name
from common.secure.exchange import ExchangeFactory, Phase, PlainExchange, Summed, require_fit
from common.secure.fixedpoint import grid_step, require_headroom
from common.secure.groups import group_count
from server.federate.aggregate import mean_direction, step
from server.federate.attempt import Group, Tally, run_attempt, total
from server.federate.checkpoint import RoundRecord, RoundState, load_state, save_state
from server.federate.cohort import Cohort, deal
from server.federate.post import Post
from server.federate.robust import robust_direction
from server.federate.scoring import OUTLIER, Score, group_losses, kept_groups

TRIES = 3
"""How often a round is tried before the run stops and waits for a person."""

REFUSED_FOR_GOOD = frozenset({"config", "model", "shape", "policy", "budget", "gate", "roster"})
"""Codes that another try would not change."""


@dataclass(frozen=True, slots=True)
class Federation:
    """What is fixed for all rounds of a stage.

    noise_multiplier  σ, one public figure for all sites; 0 when the study's engine is `none`
    initial           the adapter of round 0, and base_digest the frozen base it stands on
    score             the loss on public examples by which groups are compared; None when they are not
    """

    study: StudyConfig
    stage: Stage
    member: int | None
    cohort: Cohort
    initial: Adapter
    base_digest: str
    noise_multiplier: float
    exchange: ExchangeFactory = field(default_factory=PlainExchange)
    score: Score | None = None

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

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The sites that are summed together. A plain sum has no reason to be dealt."""
        sites = self.cohort.sites
        count = group_count(len(sites), self.study.secure.group_size) if self.exchange.hides_updates else 1
        return deal(sites, count, self.study.seed) if count > 1 else (sites,)

    def context(self, state: RoundState, sites: tuple[str, ...]) -> RoundContext:
        return RoundContext(
            self.study.digest, self.stage, self.member, state.next_round, state.attempt, sites, state.adapter.digest, self.base_digest,
            self.exchange.name, self.exchange.roster.digest if self.exchange.roster else None, self.noise_multiplier,
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
    require_fit(federation.exchange.name, federation.exchange.hides_updates, federation.study.privacy.placement)
    for units in federation.cohort.expected_units.values():
        require_room(federation.study, federation.stage, federation.noise_multiplier, units, max(map(len, federation.groups)))
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
    """One round, tried up to TRIES times; returns the state of the next.

    The checkpoint changes only when an attempt number is used up, or before a sum is opened.
    """
    training = federation.study.stage(federation.stage)
    number, started = state.next_round, post.clock.now()
    tally, groups = Tally(), [Group(sites) for sites in federation.groups]
    tensors = travelling(state.adapter)

    def request(context: RoundContext, phase: Phase, site: str) -> RoundRequest:
        units, body = federation.cohort.expected_units[site], phase.requests[site]
        return RoundRequest(context, phase.name, body, federation.study, units, federation.grid, tensors if phase.trains else None)

    for attempt_left in reversed(range(TRIES)):
        state = _open_exchanges(federation, groups, checkpoint, state)

        def write_down(survivors: tuple[str, ...], before: RoundState = state) -> None:
            nonlocal state
            state = replace(state, agreed=tuple(sorted({*state.agreed, *survivors})))
            save_state(checkpoint, state.with_attempt(before.attempt + 1))

        try:
            run_attempt(
                groups,
                post,
                tally,
                request=request,
                words=state.adapter.spec.size(number),
                timeout_seconds=training.round_timeout_seconds,
                before_opening=write_down,
            )
            break
        except TooFewSurvivors as error:
            hopeless = sum(code in REFUSED_FOR_GOOD for code in tally.missing.values())
            if not attempt_left or len(federation.cohort.sites) - hopeless < training.min_survivors:
                raise TooFewSurvivors(f"{error} ({tally.describe()})") from None
    summed = total(_trusted(federation, groups, state, tally))
    direction = _direction(federation, summed)
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
    return replace(state, next_round=number + 1, attempt=0, agreed=(), adapter=adapter, moments=moments, records=(*state.records, record))


def _trusted(federation: Federation, groups: list[Group], state: RoundState, tally: Tally) -> list[Group]:
    """The groups whose step does not harm public examples; the sites of the others are tallied as outliers."""
    if federation.score is None:
        return groups
    losses = group_losses(
        [group.summed for group in groups if group.summed is not None],
        federation.score,
        training=federation.study.stage(federation.stage),
        round_number=state.next_round,
        adapter=state.adapter,
        moments=state.moments,
        grid=federation.grid,
        expected_units=federation.cohort.expected_units,
    )
    kept = kept_groups(losses)
    for group, stays in zip(groups, kept, strict=True):
        if not stays and group.summed is not None:
            tally.missing.update(dict.fromkeys(group.summed.survivors, OUTLIER))
    return [group for group, stays in zip(groups, kept, strict=True) if stays]


def _direction(federation: Federation, summed: Summed) -> NDArray[np.float64]:
    if summed.each is not None:
        return robust_direction(federation.study.secure, summed.each, federation.grid, federation.cohort.expected_units)
    return mean_direction(summed, federation.grid, federation.cohort.expected_units)


def _open_exchanges(federation: Federation, groups: Sequence[Group], checkpoint: Path, state: RoundState) -> RoundState:
    """An exchange for every group without a sum: the one it has if that can be asked again, else a new one under a new attempt."""
    waiting = [group for group in groups if group.summed is None]
    used_up = [group for group in waiting if group.exchange is not None and not group.exchange.replayable]
    if used_up:
        state = state.with_attempt(state.attempt + 1)
    cohort, minimum = federation.cohort.sites, federation.study.stage(federation.stage).min_survivors
    # Under `sum` a repeated round is a new step with new noise; under `site` the same update may be summed over one set only.
    agreed = frozenset(state.agreed if federation.study.privacy.placement is Placement.SITE else ())
    for group in waiting:
        if group.exchange is None or group in used_up:
            group.context = federation.context(state, group.sites)
            # Each group's part of the minimum, rounded up: together they reach it.
            needed = max(MINIMUM_SITES, -(-minimum * len(group.sites) // len(cohort)))
            opened = tuple(site for site in group.sites if site in agreed)
            group.exchange = federation.exchange.open(group.context, state.adapter.spec.size(state.next_round), needed, opened)
    if any(group.exchange is not None and not group.exchange.replayable for group in waiting):
        # On the disk before a site sees it: after a crash this attempt's keys must not be used again.
        save_state(checkpoint, state.with_attempt(state.attempt + 1))
    return state


def total_bytes(records: tuple[RoundRecord, ...]) -> Mapping[str, int]:
    return {"bytes_up": sum(r.bytes_up for r in records), "bytes_down": sum(r.bytes_down for r in records)}
