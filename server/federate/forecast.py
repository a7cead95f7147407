"""What a study will ask of its sites, worked out before anybody is asked: noise, ε, bytes, hours, and what would be refused.

Everything is computed from the study and the base model; no site is contacted and nothing is spent.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from common.config import Stage, StudyConfig
from common.errors import WardroundError
from common.journal import JSON
from common.models import SharedBase
from common.privacy.accounting import epsilon
from common.privacy.mechanism import Unit
from common.privacy.schedule import declared_units, noise_multiplier, noise_share, stage_steps, whole_schedule
from common.secure.exchange import require_fit
from common.secure.exchanges import hides_updates
from common.secure.groups import sum_sizes
from server.federate.cohort import deal
from server.federate.rounds import require_room
from server.federate.stages import stage_spec

NETWORK_BITS_PER_SECOND = 10e6
ROUND_OVERHEAD_SECONDS = 10.0
FLOPS_A_PARAMETER_AND_TOKEN = 6.0
"""Forward 2, backward 4: a frozen base needs less, attention a little more."""

ASSUMPTIONS = (
    f"each site trains on a machine like this one, all at the same time, every row at its full length; {NETWORK_BITS_PER_SECOND / 1e6:.0f} "
    f"Mbit/s each way; {ROUND_OVERHEAD_SECONDS:.0f} s a round for starting and polling"
)


@dataclass(frozen=True, slots=True)
class StageForecast:
    """One stage at one site; `lines` says how often it runs at the coordinator (once for each reward member).

    words        trained numbers of one round          bytes_up, bytes_down   of one site and round, at most
    noise_multiplier   σ, None when the study trains without privacy or no σ fits
    """

    stage: Stage
    unit: Unit
    lines: int
    sites: int
    rounds: int
    steps: int
    min_survivors: int
    noise_multiplier: float | None
    words: int
    bytes_up: int
    bytes_down: int
    hours: float


@dataclass(frozen=True, slots=True)
class Forecast:
    stages: tuple[StageForecast, ...]
    epsilon: dict[Unit, float]
    refusals: tuple[str, ...]

    @property
    def hours(self) -> float:
        """Reward members train one after another."""
        return sum(stage.hours * stage.lines for stage in self.stages)

    @property
    def bytes_all(self) -> int:
        """Over all sites and rounds, both ways."""
        return sum((s.bytes_up + s.bytes_down) * s.rounds * s.sites * s.lines for s in self.stages)


def forecast(study: StudyConfig, base: SharedBase, *, flops_per_second: float | None = None) -> Forecast:
    """Work everything out. Refusals are collected, each with its number, bound and remedy; an empty list means that it can be launched."""
    speed, refusals = flops_per_second or measured_flops(), _Refusals()
    refusals.gather(lambda: require_fit(study.secure.exchange, hides_updates(study.secure.exchange), study.privacy.placement))
    stages = tuple(_stage(study, stage, base, speed, refusals) for stage in Stage)
    epsilons: dict[Unit, float] = {}
    for unit in sorted({study.unit(stage) for stage in Stage}) if study.private else ():
        spent = refusals.gather(partial(_cost, study, unit))
        if spent is not None:
            epsilons[unit] = spent
            if spent > study.privacy.epsilon:
                refusals.found.append(
                    f"the whole study costs one {unit} ε = {spent:.2f}, above `privacy.epsilon` = {study.privacy.epsilon:g}; "
                    "leave `privacy.noise_multiplier` out to have it calibrated, or train fewer rounds"
                )
    return Forecast(stages, epsilons, tuple(dict.fromkeys(refusals.found)))


def _cost(study: StudyConfig, unit: Unit) -> float:
    """ε of the whole schedule; it does not depend on L, so any declared figure gives the same."""
    return epsilon(whole_schedule(study, unit, expected_units=1.0), study.privacy.delta)


T = TypeVar("T")


class _Refusals:
    def __init__(self) -> None:
        self.found: list[str] = []

    def gather(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except WardroundError as error:
            self.found.append(str(error))
            return None


def _stage(study: StudyConfig, stage: Stage, base: SharedBase, speed: float, refusals: _Refusals) -> StageForecast:
    training, simulation, privacy = study.stage(stage), study.simulation, study.privacy
    reward = stage is Stage.REWARD
    names = [f"site-{i}" for i in range(simulation.hospitals)]
    cohorts = refusals.gather(lambda: deal(names, study.reward.members, study.seed)) if reward else (tuple(names),)
    sites = max((len(cohort) for cohort in cohorts or ()), default=len(names))
    units = privacy.sampling_rate * declared_units(study, stage)
    sigma = refusals.gather(lambda: noise_multiplier(study, stage)) if study.private else None
    refusals.gather(lambda: require_room(study, stage, sigma or 0.0, units, max(sum_sizes(study, stage))))
    refusals.gather(lambda: noise_share(study, stage, sites=min(sum_sizes(study, stage))))
    spec = stage_spec(study, stage, base)
    words = max(spec.size(0), spec.size(1))
    # A reward member that starts from the public preference model takes its frozen factors along; others are rebuilt from the seed.
    down = sum(tensor.size for tensor in spec.tensors) if reward and study.reward.pretraining.pairs else words
    tokens = units * privacy.rows_per_unit * (study.model.max_prompt_tokens + study.model.max_answer_tokens) * (2 if reward else 1)
    compute = FLOPS_A_PARAMETER_AND_TOKEN * base.lm.num_parameters() * tokens * training.local_steps / speed
    network = 8 * 4 * (words + down) / NETWORK_BITS_PER_SECOND
    return StageForecast(
        stage=stage,
        unit=study.unit(stage),
        lines=study.reward.members if reward else 1,
        sites=sites,
        rounds=training.rounds,
        steps=stage_steps(study, stage) if study.private else training.rounds * training.local_steps,
        min_survivors=training.min_survivors,
        noise_multiplier=sigma,
        words=words,
        bytes_up=4 * words,
        bytes_down=4 * down + len(study.to_json()),
        hours=training.rounds * (compute + network + ROUND_OVERHEAD_SECONDS) / 3600,
    )


def measured_flops(side: int = 768, repeats: int = 4) -> float:
    """Floating-point operations a second of this machine in float32 matrix products, the best of a few tries of some milliseconds."""
    matrix = torch.rand(side, side)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def forecast_json(study: StudyConfig, found: Forecast) -> dict[str, JSON]:
    return {
        "study_id": study.study_id,
        "study_digest": study.digest,
        "delta": study.privacy.delta,
        "epsilon": {unit.value: value for unit, value in found.epsilon.items()},
        "exchange": study.secure.exchange,
        "stages": [
            {
                "stage": s.stage.value, "unit": s.unit.value, "members": s.lines, "sites": s.sites, "rounds": s.rounds, "steps": s.steps,
                "min_survivors": s.min_survivors, "noise_multiplier": s.noise_multiplier, "words": s.words,
                "bytes_up_a_site_and_round": s.bytes_up, "bytes_down_a_site_and_round": s.bytes_down, "hours": s.hours * s.lines,
            }
            for s in found.stages
        ],
        "bytes": found.bytes_all,
        "hours": found.hours,
        "assumptions": ASSUMPTIONS,
        "refusals": list(found.refusals),
    }  # fmt: skip
