"""The report's privacy figures are those of the ledgers, whatever the study had planned."""

from pathlib import Path

import pytest

from common.config import PrivacyConfig, StudyConfig
from common.privacy.accounting import CERTIFICATE_DISCRETIZATION, epsilon
from common.privacy.ledger import Budget, Entry, Ledger
from common.privacy.mechanism import Mechanism, Placement, Unit
from server.evaluate.accounts import PrivateStep, epsilon_by_site, privacy_figures

STUDY = StudyConfig(study_id="toy", privacy=PrivacyConfig(epsilon=8))


class Cabinet(dict[str, bytes]):
    def put(self, name: str, value: bytes) -> None:
        self[name] = value

    def erase(self, name: str) -> None:
        self.pop(name, None)


class Seeded:
    simulated = True

    def step_key(self, entry: Entry, placement: Placement) -> bytes:
        return bytes(32)


def spend(folder: Path, site: str, steps: dict[str, int], *, unit: Unit = Unit.PATIENT, simulated: bool = True) -> list[PrivateStep]:
    ledger = Ledger.open(folder / f"{site}.jsonl", {u: Budget(10, 1e-6) for u in Unit}, Cabinet())
    for line, count in steps.items():
        mechanism = Mechanism(0.9, 0.1, 1.0, 9.0, unit if line.startswith("reward") else Unit.PATIENT)
        for number in range(count):
            entry = Entry("toy", line, number, 0, 0, "00")
            ledger.commit(ledger.reserve(entry, mechanism, keys_from=Seeded() if simulated else None))
    return [PrivateStep(charge.entry.stage, charge.mechanism, charge.simulated) for charge in ledger.charges()]


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[PrivateStep]]:
    folder = tmp_path_factory.mktemp("ledgers")
    return {
        "alder": spend(folder, "alder", {"sft": 3, "reward-0": 2}),
        "birch": spend(folder, "birch", {"sft": 3, "reward-1": 2}),
        "cedar": spend(folder, "cedar", {"sft": 2}),
    }


def test_epsilon_is_that_of_the_steps_in_the_ledger(ledgers: dict[str, list[PrivateStep]]) -> None:
    step = Mechanism(0.9, 0.1, 1.0, 9.0, Unit.PATIENT)
    found = epsilon_by_site(STUDY, ledgers)
    assert found["alder"] == found["birch"] == epsilon([step.times(5)], 1e-6, discretization=CERTIFICATE_DISCRETIZATION)
    assert found["cedar"] == epsilon([step.times(2)], 1e-6, discretization=CERTIFICATE_DISCRETIZATION)


def test_the_statement_lists_every_kind_of_step(ledgers: dict[str, list[PrivateStep]]) -> None:
    found = privacy_figures(STUDY, ledgers)
    assert [(m.stage, m.sites, m.steps) for m in found.mechanisms] == [
        ("sft", ("alder", "birch"), 3), ("sft", ("cedar",), 2), ("reward-0", ("alder",), 2), ("reward-1", ("birch",), 2),
    ]  # fmt: skip
    assert found.by_stage["reward"].keys() == {"alder", "birch"}
    total = epsilon_by_site(STUDY, ledgers)["alder"]
    assert found.by_stage["sft"]["alder"] < total
    assert found.cross_checks["prv"] == pytest.approx(total, abs=0.05)
    assert found.cross_checks["rdp"] >= total
    assert total < found.several_sites["2"] < found.several_sites["3"]
    assert found.randomness == "seeded"


def test_stages_of_another_unit_are_not_added(tmp_path: Path) -> None:
    charges = spend(tmp_path, "alder", {"sft": 2, "reward-0": 2}, unit=Unit.PAIR)
    alone = spend(tmp_path, "birch", {"sft": 2})
    both = epsilon_by_site(STUDY, {"alder": charges, "birch": alone})
    assert both["alder"] == both["birch"]
    found = privacy_figures(STUDY, {"alder": charges, "birch": alone})
    assert {m.unit for m in found.mechanisms} == {"patient", "pair"}
    assert found.other_units == {"pair": {"alder": both["alder"], "birch": 0.0}}  # two steps of the same kind, in an account of their own


def test_randomness_of_the_system_is_said(tmp_path: Path) -> None:
    assert privacy_figures(STUDY, {"alder": spend(tmp_path, "alder", {"sft": 1}, simulated=False)}).randomness == "system"


def test_nothing_spent_is_zero() -> None:
    assert epsilon_by_site(STUDY, {"alder": []}) == {"alder": 0.0}
    assert privacy_figures(STUDY, {"alder": []}).cross_checks == {}
