"""One round at one site: reserve, train, store, commit, hand over the noised update.

    work ──▶ admit by the ledger ──▶ data behind the gate ──▶ for each local step: reserve ▸ sample ▸ private step ──▶ store ▸ commit ──▶ NoisyUpdate

Nothing is read before the budget is known to allow the round, and nothing is handed over before its steps are committed. Under
placement `site` the last committed update of each line lies in `FOLDER/outbox/LINE.ROUND.update` (noised words, nothing else) and is handed over
again, byte for byte, when the same round is asked with the same inputs; under `sum` it carries a share of the noise only, is not stored, and a
repeated round is a new step.

Protects against: a crash at any moment (steps are replayed with their keys, charged once), a coordinator that asks again to average the noise
away, a weight that is not q·N_s, an update without noise that looks like one with it (`private` says so).
Does not protect against: what the noised updates of a whole study say together; that is what ε is for.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from client.examples import Gate, PreferenceData, SftData, TrainingVault, UnitData, poisson_sample
from client.train.dp_sgd import StepResult, open_step, private_step, probe
from client.train.engines import FastEngine, GradientEngine, Task
from client.train.noise import NoiseSource, SystemNoise
from client.train.objectives import CompletionLoss, PairLoss
from client.train.opacus_engine import OpacusEngine
from common.adapters import Adapter
from common.config import Engine, Stage, StudyConfig
from common.errors import BudgetExhausted, ConfigError, TrainingRefused
from common.events import Event, emit
from common.journal import Journal
from common.models import SharedBase
from common.privacy.ledger import Budget, Entry, Ledger, Reservation, State
from common.privacy.mechanism import Mechanism, Placement, Unit
from common.privacy.schedule import stage_steps, step_mechanism
from common.secure.context import line_name
from common.secure.fixedpoint import clamp, grid_step
from common.storage import storage_errors, write_atomic

R = TypeVar("R")

ADAPTER = "site-training"
ARITHMETIC = 1
"""Raised when the arithmetic of a step changes: a step reserved by an older version is then not replayed but charged anew."""


class TrainingSite(Protocol):
    """What training needs of a site."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def vault(self) -> TrainingVault: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def audit(self) -> Journal: ...
    @property
    def gate(self) -> Gate: ...
    def declared_units(self, unit: Unit) -> int: ...


@dataclass(frozen=True, slots=True)
class RoundWork:
    """What one round asks of this site, as the coordinator's message says it.

    member            which reward model; None in the SFT stage
    noise_multiplier  σ (ignored with `engine = "none"`)
    expected_units    L = q·N_s, public
    sites             sites of the sum, which bounds the words
    """

    study: StudyConfig
    stage: Stage
    member: int | None
    round: int
    attempt: int
    adapter: Adapter
    noise_multiplier: float
    expected_units: float
    sites: int


@dataclass(frozen=True, slots=True, repr=False)
class NoisyUpdate:
    """words: int32 multiples of `grid` (d,): local learning rate times the sum over L units of their clipped negative gradients, plus noise.

    private is False when the study's engine is `none`: then these words are NOT PRIVATE. simulated: the noise came from a known seed.
    """

    words: NDArray[np.int32]
    grid: float
    expected_units: float
    private: bool
    simulated: bool

    def __repr__(self) -> str:
        return f"NoisyUpdate({self.words.size} words{'' if self.private else ', NOT PRIVATE'}{', simulated' if self.simulated else ''})"


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
    task, engine = _task(work, base), OpacusEngine() if study.privacy.engine is Engine.OPACUS else FastEngine()
    probe(task, engine)
    if study.private:
        _admit(work, site)
    data = _data(work, site, base)
    inputs = inputs_digest(work, base, data)
    stored = _stored_update(work, site, inputs)
    if stored is not None:
        emit(UpdateResent(work.stage, work.member, work.round, work.attempt), site.audit)
        return stored
    total, reservations = np.zeros(task.dimensions, np.int64), []
    adapter = work.adapter
    for step in range(study.stage(work.stage).local_steps):
        entry = Entry(study.study_id, line_name(work.stage, work.member), work.round, work.attempt, step, inputs)
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
            _store_update(work, site, inputs, update, reservations)
        site.ledger.commit(*reservations)
        _forget_older_updates(work, site)
    return update


def inputs_digest(work: RoundWork, base: SharedBase, data: UnitData[Any]) -> str:
    """SHA-256 over all that a step's output depends on besides its key, the machine's arithmetic included. `attempt` is not part of it."""
    parts = {
        "arithmetic": [ARITHMETIC, torch.__version__, np.__version__, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), str(base.device)],
        "study": work.study.digest,
        "line": line_name(work.stage, work.member),
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
    return Task(base, ADAPTER, trained, PairLoss(reward.centring, reward.tie_margin), reward.head_scale)


def _data(work: RoundWork, site: TrainingSite, base: SharedBase) -> UnitData[Any]:
    model, unit, reward = work.study.model, work.study.unit(work.stage), work.study.reward
    if work.stage is Stage.SFT:
        return SftData(site.vault, site.gate, base, model, unit)
    return PreferenceData(site.vault, site.gate, base, model, unit, aspect=reward.aspect(work.member), ties=reward.tie_margin > 0)


def _mechanism(work: RoundWork) -> Mechanism:
    return step_mechanism(work.study, work.stage, expected_units=work.expected_units, sigma=work.noise_multiplier)


def _limit(study: StudyConfig) -> Budget:
    return Budget(study.privacy.epsilon, study.privacy.delta)


def _admit(work: RoundWork, site: TrainingSite) -> None:
    """Refuse the round before any data is read, unless what is left of it fits the budgets of hospital and study."""
    study, mechanism, line = work.study, _mechanism(work), line_name(work.stage, work.member)
    steps = study.stage(work.stage).local_steps
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
    batch = poisson_sample(data, rate=mechanism.sampling_rate, rows_per_unit=privacy.rows_per_unit, key=reservation.key)
    result = private_step(
        task,
        engine,
        batch,
        mechanism,
        key=reservation.key,
        grid=grid,
        sites=work.sites,
        token_budget=training.microbatch_tokens,
        noise_share=noise_share(work.study, work.stage),
    )
    return result, reservation


def noise_share(study: StudyConfig, stage: Stage) -> float:
    """This site's part of the standard deviation σC: 1, or under placement `sum` 1/√(m_min − c), so that every surviving sum reaches σ.

    m_min is the smallest number of survivors that the stage accepts, c the sites assumed to subtract their own noise.
    """
    if study.privacy.placement is Placement.SITE:
        return 1.0
    honest = study.stage(stage).min_survivors - study.privacy.tolerated_colluders
    if honest < 1:
        raise ConfigError(
            f"`privacy.tolerated_colluders` is {study.privacy.tolerated_colluders} and a round may close with {study.stage(stage).min_survivors} "
            "survivors: nobody's noise would be left; lower the one or raise `min_survivors`"
        )
    return 1 / math.sqrt(honest)


def _moved(work: RoundWork, adapter: Adapter, result: StepResult) -> Adapter:
    """The site's own SGD between local steps: θ ← θ + lr·words·γ/L. Post-processing of a noised sum."""
    training = work.study.stage(work.stage)
    if training.local_steps == 1:
        return adapter
    move = result.words * (training.local_learning_rate * grid_step(work.study.privacy.clip_norm) / work.expected_units)
    return adapter.with_vector((adapter.vector(work.round) + move).astype(np.float32), work.round)


# -- the outbox --------------------------------------------------------------------------------------------------------


def _outbox(work: RoundWork, site: TrainingSite) -> Path:
    return site.folder / "outbox" / f"{line_name(work.stage, work.member)}.{work.round}.update"


def _forget_older_updates(work: RoundWork, site: TrainingSite) -> None:
    """Only after the commit: until then the round before may be asked for again."""
    path = _outbox(work, site)
    with storage_errors(path.parent, "tidy the outbox"):
        for other in path.parent.glob(f"{line_name(work.stage, work.member)}.*.update"):
            if other != path:
                other.unlink(missing_ok=True)


def _store_update(work: RoundWork, site: TrainingSite, inputs: str, update: NoisyUpdate, reservations: Sequence[Reservation]) -> None:
    path = _outbox(work, site)
    with storage_errors(path.parent, "create the outbox"):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    words = update.words.astype("<i4").tobytes()
    header = {
        "inputs": inputs,
        "rows": [r.index for r in reservations],
        "sha256": hashlib.sha256(words).hexdigest(),
        "simulated": update.simulated,
    }
    write_atomic(path, json.dumps(header).encode() + b"\n" + words)


def _stored_update(work: RoundWork, site: TrainingSite, inputs: str) -> NoisyUpdate | None:
    """The committed update of this very round, if it was made from the same inputs. A damaged file counts as none: the step is charged anew."""
    path = _outbox(work, site)
    if not work.study.private or work.study.privacy.placement is not Placement.SITE or not path.exists():
        return None
    with storage_errors(path, "read the stored update"):
        first, _, words = path.read_bytes().partition(b"\n")
    try:
        header: dict[str, Any] = json.loads(first)
        sound = header["inputs"] == inputs and header["sha256"] == hashlib.sha256(words).hexdigest()
    except (ValueError, KeyError, TypeError):
        return None
    states = {charge.index: charge.state for charge in site.ledger.charges()}
    if not sound or any(states.get(row) is not State.COMMITTED for row in header["rows"]):
        return None
    return NoisyUpdate(
        np.frombuffer(words, "<i4").astype(np.int32),
        grid_step(work.study.privacy.clip_norm),
        work.expected_units,
        True,
        header["simulated"],
    )
