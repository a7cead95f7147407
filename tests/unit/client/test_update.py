"""A round at one site: what is refused, charged once, replayed bit for bit, resent, and stamped."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.records import CleanNote, Dialogue, Preference
from client.sealed.vault import Vault
from client.train import outbox
from client.train import update as module
from client.train.noise import SeededNoise
from client.train.round_work import NoisyUpdate, RoundWork
from client.train.update import run_round
from common.bases import load_base
from common.config import AdapterConfig, Engine, PrivacyConfig, RewardConfig, Stage, StudyConfig, TrainingConfig
from common.errors import BudgetExhausted, GateRefused, TrainingRefused
from common.journal import Journal
from common.models import SharedBase
from common.privacy.ledger import Budget, Ledger, State
from common.privacy.mechanism import Placement, Unit
from common.privacy.schedule import noise_multiplier, noise_share

PATIENTS, RATE = 20, 0.25


@dataclass
class Hospital:
    """The smallest true site: a real vault, ledger and audit log in a folder."""

    folder: Path
    budget: float = 10.0
    vault: Vault = field(init=False)
    ledger: Ledger = field(init=False)
    audit: Journal = field(init=False)
    gate: Callable[[bytes], None] = field(default=lambda digest: None)
    name: str = "north"

    def __post_init__(self) -> None:
        self.vault = Vault.open(self.folder) if (self.folder / "vault.db").exists() else _filled(self.folder)
        budgets = {unit: Budget(self.budget, 1e-6) for unit in (Unit.PATIENT, Unit.PAIR, Unit.RECORD)}
        self.ledger = Ledger.open(self.folder / "ledger.jsonl", budgets, self.vault)
        self.audit = Journal.open(self.folder / "audit.jsonl")

    def declared_units(self, unit: Unit) -> int:
        return PATIENTS

    def states(self) -> list[State]:
        return [charge.state for charge in self.ledger.charges()]


def _filled(folder: Path) -> Vault:
    vault = Vault.create(folder, simulated_seed=1)
    vault.put_notes(
        CleanNote(f"n{p}", f"p{p}", "text", dialogues=(Dialogue(f"what about item {p}", f"take {p} tablets"),)) for p in range(PATIENTS)
    )
    vault.put_preferences(
        Preference(f"q{p}", f"prompt {p}", f"see a doctor {p}", "nothing", annotator_id="a", patient_id=f"p{p}") for p in range(PATIENTS)
    )
    return vault


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_base("tiny", "float32")


def study_of(
    *, engine: Engine = Engine.FAST, placement: Placement = Placement.SITE, local_steps: int = 1, rounds: int = 4, **privacy: Any
) -> StudyConfig:
    adapter = AdapterConfig(rank=2, alpha=4.0)
    return StudyConfig(
        privacy=PrivacyConfig(engine=engine, placement=placement, sampling_rate=RATE, **privacy),
        sft=TrainingConfig(rounds=rounds, local_steps=local_steps, adapter=adapter),
        reward=RewardConfig(rounds=rounds, adapter=replace_adapter(adapter)),
    )


def replace_adapter(adapter: AdapterConfig) -> AdapterConfig:
    return adapter.model_copy(update={"last_layers": 1})


def work_of(base: SharedBase, study: StudyConfig, stage: Stage = Stage.SFT, **changes: Any) -> RoundWork:
    spec = base.spec(study.stage(stage).adapter, head=stage is Stage.REWARD)
    sigma = noise_multiplier(study, stage) if study.private else 0.0
    work = RoundWork(study, stage, 0 if stage is Stage.REWARD else None, 0, 0, spec.initial(), sigma, RATE * PATIENTS, 4)
    return replace(work, **changes)


def run(work: RoundWork, hospital: Hospital, base: SharedBase, seed: int | None = 7) -> NoisyUpdate:
    return run_round(work, hospital, base, noise=None if seed is None else SeededNoise(seed, hospital.name))


@pytest.mark.parametrize("stage", list(Stage))
def test_a_round_is_charged_once_and_its_keys_are_erased(tmp_path: Path, base: SharedBase, stage: Stage) -> None:
    hospital = Hospital(tmp_path)
    update = run(work_of(base, study_of(), stage), hospital, base)
    assert update.words.shape == (base.spec(study_of().stage(stage).adapter, head=stage is Stage.REWARD).size(0),)
    assert (update.private, update.simulated, update.grid) == (True, True, 2.0**-16)
    assert hospital.states() == [State.COMMITTED]
    assert hospital.vault.get("ledger-step-0") is None
    (row,) = hospital.audit.rows()
    assert row.kind == "StepDone"
    assert row.body["replayed"] is False
    assert hospital.ledger.charges()[0].simulated


def test_the_systems_noise_is_the_default_and_differs_every_time(tmp_path: Path, base: SharedBase) -> None:
    updates = []
    for name in "ab":
        (tmp_path / name).mkdir()
        updates.append(run(work_of(base, study_of()), Hospital(tmp_path / name), base, seed=None))
    assert not updates[0].simulated
    assert not np.array_equal(updates[0].words, updates[1].words)


def test_the_same_round_again_is_the_same_bytes_for_nothing(tmp_path: Path, base: SharedBase) -> None:
    hospital = Hospital(tmp_path)
    first = run(work_of(base, study_of()), hospital, base, seed=None)
    for attempt in (0, 1, 2):
        again = run(work_of(base, study_of(), attempt=attempt), Hospital(tmp_path), base, seed=None)
        assert np.array_equal(first.words, again.words)
    assert hospital.states() == [State.COMMITTED]
    assert [row.kind for row in Hospital(tmp_path).audit.rows()] == ["StepDone", *["UpdateResent"] * 3]


@pytest.mark.parametrize("change", ["adapter", "data", "file"])
def test_other_inputs_or_a_lost_update_are_a_new_charge(tmp_path: Path, base: SharedBase, change: str) -> None:
    hospital, work = Hospital(tmp_path), work_of(base, study_of(epsilon=5.0))
    first = run(work, hospital, base, seed=None)
    if change == "adapter":
        work = replace(work, adapter=work.adapter.with_vector(work.adapter.vector() + 0.5))
    elif change == "data":
        hospital.vault.put_note(CleanNote("new", "p0", "text"))
    else:
        path = tmp_path / "outbox" / "sft.0.update"
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    second = run(work, hospital, base, seed=None)
    assert not np.array_equal(first.words, second.words)
    assert hospital.states() == [State.COMMITTED, State.COMMITTED]


def test_a_repeated_round_under_sum_is_a_new_step(tmp_path: Path, base: SharedBase) -> None:
    hospital, study = Hospital(tmp_path), study_of(placement=Placement.SUM, noise_multiplier=3.0)
    first, second = (run(work_of(base, study, attempt=attempt), hospital, base) for attempt in (0, 1))
    assert not np.array_equal(first.words, second.words)
    assert len(hospital.states()) == 2
    assert not list(tmp_path.glob("outbox/*")), "an update with a share of the noise only must not lie on the disk"


def test_the_round_before_is_kept_until_the_next_one_is_committed(
    tmp_path: Path, base: SharedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital, study = Hospital(tmp_path), study_of()
    first = run(work_of(base, study), hospital, base, seed=None)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "commit", _die)
        with pytest.raises(Kill):
            run(work_of(base, study, round=1), hospital, base, seed=None)
    assert np.array_equal(first.words, run(work_of(base, study), hospital, base, seed=None).words)
    run(work_of(base, study, round=1), hospital, base, seed=None)
    assert hospital.states() == [State.COMMITTED] * 2
    assert [path.name for path in (tmp_path / "outbox").iterdir()] == ["sft.1.update"]


def test_shares_of_the_noise_add_up_to_sigma_for_the_smallest_set_of_survivors() -> None:
    study = study_of(placement=Placement.SUM, noise_multiplier=3.0)
    survivors = study.sft.min_survivors
    assert survivors * noise_share(study, Stage.SFT, sites=survivors) ** 2 == pytest.approx(1.0)
    colluding = study_of(placement=Placement.SUM, noise_multiplier=3.0, tolerated_colluders=1)
    assert (survivors - 1) * noise_share(colluding, Stage.SFT, sites=9) ** 2 == pytest.approx(1.0)
    assert noise_share(study_of(), Stage.SFT, sites=4) == 1.0
    with pytest.raises(ValueError, match="nobody's noise would be left"):
        study_of(placement=Placement.SUM, tolerated_colluders=survivors)
    with pytest.raises(TrainingRefused, match=f"cohort has {survivors - 1} sites"):
        noise_share(study, Stage.SFT, sites=survivors - 1)


class Kill(BaseException):
    """Stands for SIGKILL: nothing in the product catches it."""


def _die(*_: Any, **__: Any) -> Any:
    raise Kill


MOMENTS: dict[str, tuple[Any, str, int]] = {
    "before the row": (Journal, "append", 0),
    "after the row": (module, "poisson_sample", 0),
    "in the second step": (module, "private_step", 1),
    "before the update is stored": (outbox, "write_atomic", 0),
    "before the commit": (Ledger, "commit", 0),
    "between commit and erasure": (Vault, "erase", 0),
}


def _fail_after(patch: pytest.MonkeyPatch, moment: str) -> None:
    """The function of that moment kills the process at its call number `after`."""
    owner, name, after = MOMENTS[moment]
    real, calls = getattr(owner, name), iter(range(100))
    patch.setattr(owner, name, lambda *args, **options: _die() if next(calls) >= after else real(*args, **options))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("seeded", [True, False])
def test_a_crash_at_any_moment_changes_neither_words_nor_charges(
    tmp_path: Path, base: SharedBase, monkeypatch: pytest.MonkeyPatch, moment: str, seeded: bool
) -> None:
    """Killed twice at the same place, then let through. With system keys the replay can only agree because the key was kept."""
    seed = 7 if seeded else None
    work = work_of(base, study_of(local_steps=2))
    for name in "ab":
        (tmp_path / name).mkdir()
    words: list[Any] = []
    for _ in range(1 if moment == "between commit and erasure" else 2):  # opening the ledger finishes an erasure
        hospital = Hospital(tmp_path / "a")
        with monkeypatch.context() as patch:
            _fail_after(patch, moment)
            _watch(patch, words)
            with pytest.raises(Kill):
                run(work, hospital, base, seed)
    hospital = Hospital(tmp_path / "a")
    with monkeypatch.context() as patch:
        _watch(patch, words)
        final = run(work, hospital, base, seed)
    assert hospital.states() == [State.COMMITTED] * 2
    assert hospital.vault.get("ledger-step-0") is None
    for step in (0, 1):
        same = [w for s, w in words if s == step]
        assert all(np.array_equal(w, same[0]) for w in same), f"step {step} was replayed with other words"
    if seeded:
        assert np.array_equal(final.words, run(work, Hospital(tmp_path / "b"), base, seed).words)


def _watch(patch: pytest.MonkeyPatch, words: list[Any]) -> list[Any]:
    """Record the words of every step that runs, with its number."""
    inner = module._step

    def step(work: Any, site: Any, task: Any, engine: Any, data: Any, entry: Any, noise: Any) -> Any:
        result = inner(work, site, task, engine, data, entry, noise)
        words.append((entry.step, result[0].words))
        return result

    patch.setattr(module, "_step", step)
    return words


def _child(folder: str, connection: Any) -> None:
    base = load_base("tiny", "float32")
    hospital = Hospital(Path(folder))
    study = study_of(epsilon=10.0, noise_multiplier=20.0, rounds=1000)
    done = {c.entry.round for c in hospital.ledger.charges() if c.state is State.COMMITTED}
    for number in range(max(done, default=0), 1000):
        update = run(work_of(base, study, round=number), hospital, base, seed=None)
        connection.send((number, update.words.tobytes()))


def test_sigkill_at_random_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Six lives of a training process. Every update given out is charged once, and one round never has two updates."""
    context = multiprocessing.get_context("fork")
    given: dict[int, set[bytes]] = {}
    delays = random.Random(3)
    for _ in range(6):
        ours, theirs = context.Pipe()
        child = context.Process(target=_child, args=(str(tmp_path), theirs))
        child.start()
        theirs.close()
        try:
            for _ in range(delays.randint(1, 3)):
                number, words = ours.recv()
                given.setdefault(number, set()).add(words)
            ours.poll(delays.random() * 0.05)  # somewhere inside the next round
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            while True:
                number, words = ours.recv()
                given.setdefault(number, set()).add(words)
        except (EOFError, ConnectionResetError):
            pass
        child.join()
        ours.close()
    ledger = Hospital(tmp_path).ledger
    ledger.verify()
    rounds = [charge.entry.round for charge in ledger.charges()]
    assert len(given) >= 6
    assert len(rounds) == len(set(rounds)), "a round charged twice"
    assert set(given) <= set(rounds), "an update without a charge"
    assert all(len(words) == 1 for words in given.values()), "two updates of one round"


def test_a_budget_that_does_not_reach_refuses_before_any_data_is_read(tmp_path: Path, base: SharedBase) -> None:
    hospital = Hospital(tmp_path, budget=0.5)
    hospital.gate = _die  # data would be read behind the gate
    with pytest.raises(BudgetExhausted, match="this hospital allows"):
        run(work_of(base, study_of()), hospital, base)
    assert hospital.states() == []


def test_the_study_cannot_spend_more_than_it_said(tmp_path: Path, base: SharedBase) -> None:
    hospital, study = Hospital(tmp_path), study_of(epsilon=2.0, noise_multiplier=0.8)
    with pytest.raises(BudgetExhausted, match="allows itself"):
        run(work_of(base, study), hospital, base)


def test_the_last_step_of_a_budget_can_still_be_replayed(tmp_path: Path, base: SharedBase, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(rounds=1, epsilon=3.0)
    study = study.model_copy(update={"privacy": study.privacy.model_copy(update={"preference_unit": Unit.PAIR})})
    hospital = Hospital(tmp_path, budget=3.0)
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "write_atomic", _die)
        with pytest.raises(Kill):
            run(work_of(base, study), hospital, base)
    run(work_of(base, study), Hospital(tmp_path, budget=3.0), base)
    assert hospital.states() == [State.COMMITTED]
    with pytest.raises(BudgetExhausted):
        run(work_of(base, study, round=1), hospital, base)


def test_a_data_set_without_a_token_is_refused_before_anything_is_charged(tmp_path: Path, base: SharedBase) -> None:
    hospital = Hospital(tmp_path)

    def closed(digest: bytes) -> None:
        raise GateRefused("no token")

    hospital.gate = closed
    with pytest.raises(GateRefused):
        run(work_of(base, study_of()), hospital, base)
    assert hospital.states() == []


def test_a_divisor_that_is_not_the_declared_one_is_refused(tmp_path: Path, base: SharedBase) -> None:
    with pytest.raises(TrainingRefused, match="declared 5"):
        run(work_of(base, study_of(), expected_units=6.0), Hospital(tmp_path), base)


def test_training_without_privacy_is_stamped_and_recorded(tmp_path: Path, base: SharedBase) -> None:
    hospital = Hospital(tmp_path)
    update = run(work_of(base, study_of(engine=Engine.NONE)), hospital, base)
    assert not update.private
    assert "NOT PRIVATE" in repr(update)
    assert hospital.ledger.epsilon(Unit.PATIENT) == float("inf")
    with pytest.raises(BudgetExhausted, match="trained without privacy"):
        run(work_of(base, study_of()), hospital, base)


def test_the_opacus_engine_gives_the_same_words(tmp_path: Path, base: SharedBase) -> None:
    words = []
    for engine in (Engine.FAST, Engine.OPACUS):
        (tmp_path / engine).mkdir()
        words.append(run(work_of(base, study_of(engine=engine)), Hospital(tmp_path / engine), base).words)
    assert np.abs(words[0] - words[1]).max() <= 1


def test_local_steps_add_up_and_move_the_site_between_them(tmp_path: Path, base: SharedBase) -> None:
    """Two local steps equal two rounds of one step with the same keys, moved by hand in between."""
    study = study_of(local_steps=2, noise_multiplier=2.0)
    hospital = Hospital(tmp_path)
    both = run(work_of(base, study), hospital, base)
    assert hospital.states() == [State.COMMITTED] * 2
    seen: list[Any] = []
    (tmp_path / "again").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        _watch(patch, seen)
        run(work_of(base, study), Hospital(tmp_path / "again"), base)
    assert np.array_equal(both.words, sum(w.astype(np.int64) for _, w in seen))
    assert not np.array_equal(seen[0][1], seen[1][1])


def test_an_empty_vault_sends_noise(tmp_path: Path, base: SharedBase) -> None:
    Vault.create(tmp_path, simulated_seed=1).close()
    hospital = Hospital(tmp_path)
    study = study_of()
    update = run(work_of(base, study), hospital, base)
    sigma = noise_multiplier(study, Stage.SFT)
    assert update.words.std() * update.grid == pytest.approx(sigma, rel=0.1)
    assert hospital.audit.rows()[0].body["units_drawn"] == 0
