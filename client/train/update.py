"""One round at one site: reserve, train, store, commit, hand over the noised update.

    work ──▶ admit by the ledger ──▶ data behind the gate ──▶ for each local step: reserve ▸ sample ▸ private step ──▶ store ▸ commit ──▶ NoisyUpdate

Nothing is read before the budget is known to allow the round, and nothing is handed over before its steps are committed. Under
placement `site` the update is stored (`outbox.py`) and handed over again, byte for byte, when the same round is asked with the same inputs; under
`sum` it carries a share of the noise only, is not stored, and a repeated round is a new step.

Protects against: a crash at any moment (steps are replayed with their keys, charged once), a coordinator that asks again to average the noise
away, a weight that is not q·N_s, an update without noise that looks like one with it (`private` says so).
Does not protect against: what the noised updates of a whole study say together; that is what ε is for.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from client.train.dp_sgd import StepResult, open_step, private_step
from client.train.engines import FastEngine, GradientEngine, HeadEngine, Task
from client.train.examples import PreferenceData, SftData, UnitData, poisson_sample
from client.train.noise import NoiseSource, SystemNoise
from client.train.objectives import CompletionLoss, pair_objective
from client.train.opacus_engine import OpacusEngine
from client.train.outbox import forget_older_updates, store_update, stored_update
from client.train.probing import Watched, is_watched, probe
from client.train.round_work import NoisyUpdate, RoundWork, TrainingSite
from client.train.site_unit import site_step
from common.adapters import Adapter
from common.config import Engine, Stage, StudyConfig
from common.errors import BudgetExhausted, TrainingRefused
from common.events import Event, emit
from common.models import SharedBase
from common.privacy.ledger import Budget, Entry, Reservation, State
from common.privacy.mechanism import Mechanism, Placement, Unit
from common.privacy.schedule import noise_share, round_steps, stage_steps, step_mechanism
from common.secure.fixedpoint import clamp, grid_step

R = TypeVar("R")

ADAPTER = "site-training"
ARITHMETIC = 4
"""Raised when the arithmetic of a step changes: a step reserved by an older version is then not replayed but charged anew."""


@dataclass(frozen=True, slots=True)
class StepDone(Event):
    """A step ran. The counts are private: they stay in the site's own audit log."""

    stage: Stage
    member: int | None
    round: int
    step: int
    private: bool
    replayed: bool
    units_drawn: int
    units_dropped: int


@dataclass(frozen=True, slots=True)
class UpdateResent(Event):
    """The stored update of a committed round was handed over again; nothing was charged."""

    stage: Stage
    member: int | None
    round: int
    attempt: int


def run_round(work: RoundWork, site: TrainingSite, base: SharedBase, *, noise: NoiseSource | None = None) -> NoisyUpdate:
    """Train one round and give out its update. Raises BudgetExhausted, GateRefused, TrainingRefused, ConfigError with nothing given out.

    noise: where step keys come from; the operating system unless a simulation passes its seed.
    """
    noise = noise or SystemNoise()
    study, unit = work.study, work.study.unit(work.stage)
    declared = study.privacy.sampling_rate * site.declared_units(unit)
    if not math.isclose(work.expected_units, declared, rel_tol=1e-9):
        raise TrainingRefused(
            f"the round divides by {work.expected_units:g} units and this site declared {declared:g} (sampling rate times declared units)"
        )
    task = _task(work, base)
    engine = OpacusEngine() if study.privacy.engine is Engine.OPACUS else HeadEngine() if HeadEngine.fits(task) else FastEngine()
    probe(task, engine)
    if study.private:
        _admit(work, site)
    data = _data(work, site, base)
    inputs = inputs_digest(work, base, data)
    stored = stored_update(work, site, inputs)
    if stored is not None:
        emit(UpdateResent(work.stage, work.member, work.round, work.attempt), site.audit)
        return stored
    total, reservations = np.zeros(task.dimensions, np.int64), []
    adapter = work.adapter
    for step in range(round_steps(study, work.stage)):
        entry = Entry(study.study_id, work.line, work.round, work.attempt, step, inputs)
        result, reservation = _step(work, site, task, engine, data, entry, noise)
        emit(
            StepDone(
                work.stage, work.member, work.round, step, study.private, reservation is not None and reservation.replayed,
                result.units_drawn, result.units_dropped,
            ),
            site.audit,
        )  # fmt: skip
        total += result.words
        if reservation is not None:
            reservations.append(reservation)
        adapter = _moved(work, adapter, result)
        base.put(ADAPTER, adapter)
    words = clamp(np.rint(total * study.stage(work.stage).local_learning_rate).astype(np.int64), work.sites)
    update = NoisyUpdate(words, grid_step(study.privacy.clip_norm), work.expected_units, study.private, noise.simulated)
    if study.private:
        if study.privacy.placement is Placement.SITE:
            # On the disk before the keys are erased: from here on the words exist once and for ever, and are never drawn again.
            store_update(work, site, inputs, update, reservations)
        site.ledger.commit(*reservations)
        forget_older_updates(work, site)
    return update


def inputs_digest(work: RoundWork, base: SharedBase, data: UnitData[Any]) -> str:
    """SHA-256 over all that a step's output depends on besides its key, the machine's arithmetic included. `attempt` is not part of it."""
    parts = {
        "arithmetic": [ARITHMETIC, torch.__version__, np.__version__, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), str(base.device), str(base.lm.dtype)],
        "study": work.study.digest,
        "line": work.line,
        "round": work.round,
        "adapter": work.adapter.digest,
        "base": base.digest,
        "data": data.digest(),
        "sigma": work.noise_multiplier,
        "expected_units": work.expected_units,
        "sites": work.sites,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# -- the parts of a round ----------------------------------------------------------------------------------------------


def _task(work: RoundWork, base: SharedBase) -> Task[Any]:
    base.put(ADAPTER, work.adapter)
    trained = work.adapter.spec.trained(work.round)
    if work.stage is Stage.SFT:
        return Task(base, ADAPTER, trained, CompletionLoss())
    reward = work.study.reward
    return Task(base, ADAPTER, trained, pair_objective(reward), reward.head_scale)


def _data(work: RoundWork, site: TrainingSite, base: SharedBase) -> UnitData[Any]:
    model, unit, reward = work.study.model, work.study.unit(work.stage), work.study.reward
    if work.stage is Stage.SFT:
        return SftData(site.vault, site.gate, base, model, unit)
    return PreferenceData(
        site.vault, site.gate, base, model, unit, aspect=reward.aspect(work.member), ties=reward.tie_margin > 0, adapter=reward.adapter
    )


def _mechanism(work: RoundWork) -> Mechanism:
    return step_mechanism(work.study, work.stage, expected_units=work.expected_units, sigma=work.noise_multiplier)


def _limit(study: StudyConfig) -> Budget:
    return Budget(study.privacy.epsilon, study.privacy.delta)


def _admit(work: RoundWork, site: TrainingSite) -> None:
    """Refuse the round before any data is read, unless what is left of it fits the budgets of hospital and study."""
    study, mechanism, line = work.study, _mechanism(work), work.line
    steps = round_steps(study, work.stage)
    this_round = [c for c in site.ledger.charges() if (c.entry.study, c.entry.stage, c.entry.round) == (study.study_id, line, work.round)]
    if study.privacy.placement is Placement.SUM:
        this_round = [c for c in this_round if c.entry.attempt == work.attempt]
    missing = steps - len({c.entry.step for c in this_round if c.state is not State.SKIPPED})
    if missing <= 0:
        return
    rest = stage_steps(study, work.stage) - work.round * steps - (steps - missing)
    try:
        # The rest of the stage in one go, so that its later rounds need no arithmetic.
        site.ledger.admit(study.study_id, [mechanism.times(max(rest, missing))], limit=_limit(study))
    except BudgetExhausted:
        site.ledger.admit(study.study_id, [mechanism.times(missing)], limit=_limit(study))


def _step(
    work: RoundWork, site: TrainingSite, task: Task[R], engine: GradientEngine, data: UnitData[R], entry: Entry, noise: NoiseSource
) -> tuple[StepResult, Reservation | None]:
    privacy, training = work.study.privacy, work.study.stage(work.stage)
    grid = grid_step(privacy.clip_norm)
    if not work.study.private:
        site.ledger.record_unprotected(entry)
        key = noise.step_key(entry, privacy.placement)
        batch = poisson_sample(data, rate=privacy.sampling_rate, rows_per_unit=privacy.rows_per_unit, key=key)
        return open_step(task, engine, batch, grid=grid, sites=work.sites, token_budget=training.microbatch_tokens), None
    mechanism = _mechanism(work)
    reservation = site.ledger.reserve(entry, mechanism, limit=_limit(work.study), keys_from=noise)
    if is_watched(entry):
        engine = Watched(engine, reservation.key)
    around: Any = {
        "key": reservation.key, "grid": grid, "sites": work.sites, "token_budget": training.microbatch_tokens,
        "noise_share": noise_share(work.study, work.stage, sites=work.sites),
    }  # fmt: skip
    if mechanism.unit is Unit.SITE:
        rows, move = data.rows(0), _Walk(work, task.base).move
        result = site_step(
            task, engine, rows, mechanism, move, local_steps=training.local_steps, rows_per_step=privacy.rows_per_unit, **around
        )
        return result, reservation
    batch = poisson_sample(data, rate=mechanism.sampling_rate, rows_per_unit=privacy.rows_per_unit, key=reservation.key)
    return private_step(task, engine, batch, mechanism, **around), reservation


class _Walk:
    """The model of a site that trains inside one release: plain gradient steps that nobody sees."""

    def __init__(self, work: RoundWork, base: SharedBase) -> None:
        self._work, self._base, self._adapter = work, base, work.adapter

    def move(self, gradient: Tensor) -> None:
        work = self._work
        step = gradient.double().cpu().numpy() * work.study.stage(work.stage).local_learning_rate
        self._adapter = self._adapter.with_vector((self._adapter.vector(work.round) - step).astype(np.float32), work.round)
        self._base.put(ADAPTER, self._adapter)


def _moved(work: RoundWork, adapter: Adapter, result: StepResult) -> Adapter:
    """The site's own SGD between local steps: θ ← θ + lr·words·γ/L. Post-processing of a noised sum."""
    training = work.study.stage(work.stage)
    if round_steps(work.study, work.stage) == 1:
        return adapter
    move = result.words * (training.local_learning_rate * grid_step(work.study.privacy.clip_norm) / work.expected_units)
    return adapter.with_vector((adapter.vector(work.round) + move).astype(np.float32), work.round)
