"""Reserve, replay, commit, refuse; and what a kill, a restore and a second process may not change."""

import contextlib
import json
import multiprocessing
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.errors import BudgetExhausted, ConfigError, JournalBroken, StorageError
from common.journal import Journal
from common.privacy.accounting import calibrate, epsilon, epsilon_merged
from common.privacy.ledger import Budget, Entry, Ledger, Reservation, State
from common.privacy.mechanism import Mechanism, Placement, Unit

STEP = Mechanism(2.0, 0.1, 1.0, 9.0, Unit.PATIENT)
WIDE = {Unit.PATIENT: Budget(10.0, 1e-6)}


class Folder:
    """The smallest true key cabinet: one file a key, written before `put` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)

    def put(self, name: str, value: bytes) -> None:
        with (self.path / name).open("wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())

    def get(self, name: str) -> bytes | None:
        path = self.path / name
        return path.read_bytes() if path.exists() else None

    def erase(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)


def entry(step: int = 0, *, inputs: str = "a" * 64, attempt: int = 0, study: str = "study", stage: str = "sft") -> Entry:
    return Entry(study, stage, round=step, attempt=attempt, step=0, inputs_digest=inputs)


def open_ledger(folder: Path, budgets: dict[Unit, Budget] | None = None) -> Ledger:
    return Ledger.open(folder / "ledger.jsonl", WIDE if budgets is None else budgets, Folder(folder / "keys"))


def _refusal(ledger: Ledger, step: Entry, limit: Budget | None = None) -> str | None:
    try:
        ledger.reserve(step, STEP, limit=limit)
    except BudgetExhausted as error:
        return str(error)
    return None


def test_reserve_then_commit_is_one_charge_and_erases_the_key(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    reservation = ledger.reserve(entry(), STEP)
    assert len(reservation.key) == 32
    assert not reservation.replayed
    assert [c.state for c in ledger.charges()] == [State.RESERVED]
    ledger.commit(reservation)
    ledger.commit(reservation)  # said twice, meant once
    assert [c.state for c in ledger.charges()] == [State.COMMITTED]
    assert not list((tmp_path / "keys").glob("ledger-step-*"))
    assert ledger.spent(Unit.PATIENT) == [STEP]
    assert ledger.epsilon(Unit.PATIENT) == epsilon([STEP], 1e-6)
    assert ledger.remaining(Unit.PATIENT) == 10.0 - ledger.epsilon(Unit.PATIENT)
    assert reservation.key.hex() not in (tmp_path / "ledger.jsonl").read_text()
    assert reservation.key.hex() not in repr(reservation)


def test_keys_of_two_steps_differ(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    assert ledger.reserve(entry(0), STEP).key != ledger.reserve(entry(1), STEP).key


def test_a_crashed_step_is_replayed_with_its_key_and_charged_once(tmp_path: Path) -> None:
    first = open_ledger(tmp_path).reserve(entry(), STEP)
    again = open_ledger(tmp_path)  # as after a restart
    second = again.reserve(entry(), STEP)
    assert second.replayed
    assert second.key == first.key
    assert again.spent(Unit.PATIENT) == [STEP]
    again.commit(second)
    assert open_ledger(tmp_path).spent(Unit.PATIENT) == [STEP]


def test_a_repeated_round_is_the_same_step_under_site_and_a_new_one_under_sum(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first = ledger.reserve(entry(), STEP)
    assert ledger.reserve(entry(attempt=1), STEP).key == first.key
    shared = replace(STEP, placement=Placement.SUM)
    one = ledger.reserve(entry(1), shared)
    two = ledger.reserve(entry(1, attempt=1), shared)
    assert one.key != two.key
    assert len(ledger.charges()) == 3


@pytest.mark.parametrize("change", ["inputs", "mechanism", "key"])
def test_a_step_that_cannot_be_replayed_stays_spent(tmp_path: Path, change: str) -> None:
    first = open_ledger(tmp_path).reserve(entry(), STEP)
    ledger = open_ledger(tmp_path)
    if change == "key":
        (tmp_path / "keys" / "ledger-step-0").unlink()
    second = ledger.reserve(
        entry(inputs="b" * 64 if change == "inputs" else "a" * 64), replace(STEP, clip_norm=2.0) if change == "mechanism" else STEP
    )
    assert not second.replayed
    assert second.key != first.key
    assert [c.state for c in ledger.charges()] == [State.SKIPPED, State.RESERVED]
    assert sum(m.steps for m in ledger.spent(Unit.PATIENT)) == 2
    with pytest.raises(JournalBroken, match="not an open reservation"):
        ledger.commit(first)


def test_a_committed_step_asked_for_again_is_a_new_charge(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first = ledger.reserve(entry(), STEP)
    ledger.commit(first)
    second = ledger.reserve(entry(), STEP)
    assert second.key != first.key
    assert sum(m.steps for m in ledger.spent(Unit.PATIENT)) == 2


def test_a_crash_between_commit_and_erasure_leaves_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger(tmp_path)
    reservation = ledger.reserve(entry(), STEP)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "erase", lambda self, name: None)
        ledger.commit(reservation)
    assert (tmp_path / "keys" / "ledger-step-0").exists()
    open_ledger(tmp_path)
    assert not (tmp_path / "keys" / "ledger-step-0").exists()


def test_a_crash_between_key_and_row_charges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("common.journal.Journal.append", lambda *a: (_ for _ in ()).throw(StorageError("full")))
        with pytest.raises(StorageError):
            ledger.reserve(entry(), STEP)
    assert open_ledger(tmp_path).spent(Unit.PATIENT) == []
    assert len(open_ledger(tmp_path).reserve(entry(), STEP).key) == 32


def test_a_calibrated_schedule_fits_exactly_and_the_next_step_does_not(tmp_path: Path) -> None:
    step = replace(STEP, noise_multiplier=calibrate(2.0, 1e-6, 0.1, 5))
    ledger = open_ledger(tmp_path, {Unit.PATIENT: Budget(2.0, 1e-6)})
    ledger.admit("study", [step.times(5)])
    for i in range(5):
        ledger.commit(ledger.reserve(entry(i), step))
    head = ledger.head
    with pytest.raises(
        BudgetExhausted, match=r"would rise from (1\.99|2\.00).* to 2\..*above the 2\.000 that this hospital allows; train fewer steps"
    ):
        ledger.reserve(entry(5), step)
    assert ledger.head == head
    assert not list((tmp_path / "keys").glob("ledger-step-*"))


def test_a_schedule_that_does_not_fit_is_refused_as_a_whole(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, {Unit.PATIENT: Budget(2.0, 1e-6)})
    with pytest.raises(BudgetExhausted):
        ledger.admit("study", [STEP.times(5000)])
    assert ledger.head[0] == 0


def test_the_study_may_be_stricter_than_the_hospital(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    limit = Budget(1.5, 1e-6)
    ledger.reserve(entry(0), STEP, limit=limit)
    refusals = [_refusal(ledger, entry(i), limit) for i in range(1, 60)]
    assert any("study `study` allows itself" in (r or "") for r in refusals)
    ledger.reserve(entry(30, study="other"), STEP, limit=limit)  # another study has its own limit; the hospital's budget counts both


def test_all_studies_and_data_sets_share_the_hospitals_budget(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, {Unit.PATIENT: Budget(2.0, 1e-6)})
    refusals = [_refusal(ledger, entry(i, study=f"study-{i}", inputs=f"{i:064d}")) for i in range(60)]
    assert "this hospital allows" in (refusals[-1] or "")
    assert 1.9 < ledger.epsilon(Unit.PATIENT) <= 2.0


def test_units_have_separate_accounts(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, WIDE | {Unit.PAIR: Budget(4.0, 1e-6)})
    ledger.reserve(entry(0), STEP)
    ledger.reserve(entry(1), replace(STEP, unit=Unit.PAIR))
    assert ledger.epsilon(Unit.PATIENT) == ledger.epsilon(Unit.PAIR) == epsilon([STEP], 1e-6)
    with pytest.raises(BudgetExhausted, match="no budget for the unit `annotator`"):
        ledger.reserve(entry(2), replace(STEP, unit=Unit.ANNOTATOR))


def test_an_admitted_schedule_needs_no_more_arithmetic(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    step = replace(STEP, noise_multiplier=1.2345)
    ledger.admit("study", [step.times(40)])
    before = epsilon_merged.cache_info().misses
    for i in range(40):
        ledger.reserve(entry(i), step)
    assert epsilon_merged.cache_info().misses == before


def test_training_without_privacy_costs_everything(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.record_unprotected(entry())
    ledger.record_unprotected(entry())
    assert ledger.head[0] == 1
    assert open_ledger(tmp_path).epsilon(Unit.PATIENT) == float("inf")
    assert ledger.remaining(Unit.PATIENT) == 0
    with pytest.raises(BudgetExhausted, match="trained without privacy"):
        ledger.reserve(entry(1), STEP)


def test_a_ledger_from_before_the_training_without_privacy_does_not_make_epsilon_finite_again(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.commit(ledger.reserve(entry(), STEP))
    before = (tmp_path / "ledger.jsonl").read_bytes()
    ledger.record_unprotected(entry(1))
    assert open_ledger(tmp_path).epsilon(Unit.PATIENT) == float("inf")
    (tmp_path / "ledger.jsonl").write_bytes(before)
    twin = Ledger.open(tmp_path / "ledger.jsonl", WIDE, Folder(tmp_path / "another vault"))
    assert twin.epsilon(Unit.PATIENT) < 8.0, "a vault that has not seen the row admits private studies again"
    with pytest.raises(JournalBroken, match="older or foreign copy"):
        open_ledger(tmp_path)


def test_an_older_ledger_beside_the_newer_vault_is_refused(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.commit(ledger.reserve(entry(0), STEP))
    old = (tmp_path / "ledger.jsonl").read_bytes()
    ledger.reserve(entry(1), STEP)
    (tmp_path / "ledger.jsonl").write_bytes(old)
    with pytest.raises(JournalBroken, match="older or foreign copy"):
        open_ledger(tmp_path)
    (tmp_path / "ledger.jsonl").unlink()
    with pytest.raises(JournalBroken, match="older or foreign copy"):
        open_ledger(tmp_path)


def test_a_foreign_row_is_refused(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger._journal.append("refund", {"row": 0})
    with pytest.raises(JournalBroken, match="not one that this version writes"):
        open_ledger(tmp_path)


def test_verify_finds_a_changed_figure(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.reserve(entry(), STEP)
    path = tmp_path / "ledger.jsonl"
    path.write_text(path.read_text().replace('"sigma":2.0', '"sigma":9.0'))
    with pytest.raises(JournalBroken):
        ledger.verify()


def test_rows_say_who_what_and_when(tmp_path: Path) -> None:
    keys, at = Folder(tmp_path / "keys"), datetime(2026, 11, 21, 12, tzinfo=UTC)
    ledger = Ledger.open(tmp_path / "ledger.jsonl", WIDE, keys, clock=lambda: at)
    ledger.reserve(entry(3, stage="reward-1"), STEP)
    (charge,) = ledger.charges()
    assert (charge.entry.stage, charge.entry.round, charge.mechanism, charge.at) == ("reward-1", 3, STEP, "2026-11-21T12:00:00+00:00")
    assert json.loads((tmp_path / "ledger.jsonl").read_text())["body"]["simulated"] is False


@pytest.mark.parametrize(("eps", "delta"), [(0.0, 1e-6), (-1.0, 1e-6), (1.0, 0.0), (1.0, 1.0)])
def test_a_budget_of_nothing_is_refused(eps: float, delta: float) -> None:
    with pytest.raises(ConfigError, match="protects nobody"):
        Budget(eps, delta)


def test_several_steps_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one step"):
        open_ledger(tmp_path).reserve(entry(), STEP.times(2))


def _spend(folder: str, worker: int) -> None:
    ledger = open_ledger(Path(folder), {Unit.PATIENT: Budget(2.0, 1e-6)})
    for i in range(100):
        try:
            ledger.reserve(entry(1000 * worker + i), STEP)
        except BudgetExhausted:
            return


def test_two_processes_cannot_spend_the_last_of_it_twice(tmp_path: Path) -> None:
    workers = [multiprocessing.Process(target=_spend, args=(str(tmp_path), n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    ledger = open_ledger(tmp_path, {Unit.PATIENT: Budget(2.0, 1e-6)})
    ledger.verify()
    (spent,) = ledger.spent(Unit.PATIENT)
    assert epsilon([spent], 1e-6) <= 2.0 < epsilon([spent.times(spent.steps + 1)], 1e-6)


def _release(folder: str, connection: object) -> None:
    """Reserve, tell the key (the release), commit; for ever."""
    ledger = open_ledger(Path(folder), {Unit.PATIENT: Budget(1000.0, 1e-6)})
    done = {c.entry.round for c in ledger.charges() if c.state is State.COMMITTED}
    for i in range(10_000):
        if i in done:
            continue
        reservation: Reservation = ledger.reserve(entry(i), replace(STEP, noise_multiplier=50.0))
        connection.send((i, reservation.key, reservation.replayed))  # type: ignore[attr-defined]  # multiprocessing's Connection
        ledger.commit(reservation)


def test_kill_at_random_moments_never_under_reports_or_charges_twice(tmp_path: Path) -> None:
    """Twelve SIGKILLs of a running spender. Every released step has a charge, and no step has two keys or two charges."""
    released: dict[int, set[bytes]] = {}
    for life in range(12):
        ours, theirs = multiprocessing.Pipe()
        worker = multiprocessing.Process(target=_release, args=(str(tmp_path), theirs))
        worker.start()
        theirs.close()
        try:
            for _ in range(1 + life % 5):
                step, key, _ = ours.recv()
                released.setdefault(step, set()).add(key)
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            while True:  # what was sent before the kill
                step, key, _ = ours.recv()
                released.setdefault(step, set()).add(key)
        except (EOFError, ConnectionResetError):
            pass
        worker.join()
        ours.close()
    ledger = open_ledger(tmp_path, {Unit.PATIENT: Budget(1000.0, 1e-6)})
    ledger.verify()
    charged = [c.entry.round for c in ledger.charges()]
    assert len(released) >= 12
    assert set(released) <= set(charged), "a release without a charge"
    assert len(charged) == len(set(charged)), "a step charged twice"
    assert all(len(keys) == 1 for keys in released.values()), "a replay with another key"


def test_the_steps_of_a_round_are_committed_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill at any append of the commit leaves both steps open or both closed; one of each would make the first be spent again."""
    ledger = open_ledger(tmp_path)
    entries = [Entry("study", "sft", 0, 0, step, "0" * 64) for step in range(2)]
    both = [ledger.reserve(entry, STEP) for entry in entries]
    real, calls = Journal.append, iter(range(10))

    def second_append_dies(self: Journal, kind: str, body: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(self, kind, body)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", second_append_dies)
        with contextlib.suppress(KeyboardInterrupt):
            ledger.commit(*both)
    again = open_ledger(tmp_path)
    assert len({charge.state for charge in again.charges()}) == 1
    assert len(again.charges()) == 2
