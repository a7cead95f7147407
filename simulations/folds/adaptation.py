"""The hospitals' rounds of the reward stage on given pairs, in one process and without messages.

Each site draws, clips and noises by its own private step (`client/train`), the sums are applied by the coordinator's optimizer
(`server/federate/aggregate.py`), and σ is what the study's budget allows. What a federation adds to that (masks, vaults, ledgers) changes no
bit of the sum. The noise comes from a known seed: it measures what privacy costs, and protects nobody.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from client.train.dp_sgd import open_step, private_step
from client.train.engines import GradientEngine, Task
from client.train.examples import poisson_sample
from client.train.noise import SeededNoise
from client.train.objectives import Objective
from common.adapters import Adapter
from common.config import Stage, StudyConfig
from common.errors import ConfigError
from common.models import SharedBase
from common.privacy.ledger import Entry
from common.privacy.mechanism import Unit
from common.privacy.schedule import noise_multiplier, noise_share, round_steps, step_mechanism
from common.secure.context import line_name
from common.secure.exchange import Summed
from common.secure.fixedpoint import clamp, grid_step
from server.federate.aggregate import OptimizerState, mean_direction, step
from simulations.folds.pairs import ExpertPair
from simulations.seeding import stream

R = TypeVar("R")
_NAME = "adapting"


@dataclass(frozen=True, slots=True)
class SitePairs(Generic[R]):
    """One hospital's pairs as rows of the objective; every pair is a unit of its own."""

    pairs: Sequence[R]

    def digest(self) -> str:
        return ""

    def units(self) -> Sequence[int]:
        return range(len(self.pairs))

    def rows(self, unit: int) -> Sequence[R]:
        return [self.pairs[unit]]


def pairs_of(pairs: Sequence[ExpertPair], sites: Sequence[str], study: StudyConfig) -> dict[str, list[ExpertPair]]:
    """The pairs of each hospital: questions are shuffled and dealt like cards, at most `simulation.pairs` of a question."""
    questions = sorted({pair.question for pair in pairs})
    random.Random(stream("deal", study.seed)).shuffle(questions)
    most = study.simulation.pairs
    return {
        site: [p for question in questions[number :: len(sites)] for p in [p for p in pairs if p.question == question][:most]]
        for number, site in enumerate(sites)
    }


def adapt(
    study: StudyConfig,
    base: SharedBase,
    start: Adapter,
    sites: Mapping[str, SitePairs[R]],
    objective: Objective[R],
    engine: GradientEngine,
    *,
    member: int,
    noise_seed: int,
) -> Adapter:
    """`reward.rounds` rounds of member `member` over its cohort `sites`, from `start`. With `engine = "none"` in the study: NOT PRIVATE.

    Raises ConfigError for a unit other than the pair, or for several local steps: this loop has neither.
    """
    reward, privacy, line = study.reward, study.privacy, line_name(Stage.REWARD, member)
    if study.unit(Stage.REWARD) is not Unit.PAIR or round_steps(study, Stage.REWARD) != 1:
        raise ConfigError('folds protect pairs, one step a round: set `privacy.preference_unit = "pair"` and `reward.local_steps = 1`')
    units = privacy.sampling_rate * study.simulation.declared_preference_units
    mechanism = (
        step_mechanism(study, Stage.REWARD, expected_units=units, sigma=noise_multiplier(study, Stage.REWARD)) if study.private else None
    )
    grid, keys = grid_step(privacy.clip_norm), {site: SeededNoise(noise_seed, site) for site in sites}
    adapter: Adapter = start
    state: OptimizerState = {}
    for number in range(reward.rounds):
        base.put(_NAME, adapter)
        task = Task(base, _NAME, start.spec.trained(number), objective, reward.head_scale)
        total = np.zeros(task.dimensions, np.int64)
        for site, pairs in sites.items():
            key = keys[site].step_key(Entry(study.study_id, line, number, 0, 0, ""), privacy.placement)
            drawn = poisson_sample(pairs, rate=privacy.sampling_rate, rows_per_unit=privacy.rows_per_unit, key=key)
            if mechanism is None:
                result = open_step(task, engine, drawn, grid=grid, sites=len(sites), token_budget=reward.microbatch_tokens)
            else:
                result = private_step(
                    task, engine, drawn, mechanism, key=key, grid=grid, sites=len(sites), token_budget=reward.microbatch_tokens,
                    noise_share=noise_share(study, Stage.REWARD, sites=len(sites)),
                )  # fmt: skip
            total += clamp(np.rint(result.words * reward.local_learning_rate).astype(np.int64), len(sites))
        direction = mean_direction(Summed(total, tuple(sorted(sites))), grid, dict.fromkeys(sites, units))
        adapter, state = step(reward, number, adapter, direction, state)
    base.drop(_NAME)
    return adapter
