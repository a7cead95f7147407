"""Real hospitals train together over the grid: both wings, every check, every ledger; killed in the middle and continued with the same bits."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from client.app import app as client_app
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from common.adapters import Adapter
from common.config import StudyConfig
from common.errors import TooFewSurvivors
from common.privacy.ledger import State
from common.privacy.mechanism import Unit
from server.app import app as server_app
from server.run_folder import RunFolder, federated_lines
from simulations.hospitals import introduce
from simulations.machine.grid import Fault, LocalGrid, When, run_server
from simulations.machine.workers import Workers
from tests.helpers.sites import PATIENTS, make_site

SITES = tuple(f"site-{i}" for i in range(6))


def study(**changes: object) -> StudyConfig:
    tree = {
        "study_id": "small",
        "seed": 3,
        "model": {"base": "tiny", "dtype": "float32"},
        "privacy": {"epsilon": 8.0, "sampling_rate": 0.25, "rows_per_unit": 1},
        "sft": {"rounds": 3, "adapter": {"rank": 2, "alpha": 4.0}},
        "reward": {"rounds": 2, "members": 2, "adapter": {"rank": 2, "alpha": 4.0, "last_layers": 1}},
        "simulation": {"hospitals": len(SITES)},
    }
    return StudyConfig.model_validate({**tree, **changes})


def make(path: Path, config: StudyConfig | None = None, sites: Sequence[str] = SITES, **options: object) -> RunFolder:
    for name in sites:
        make_site(path / "sites" / name, **options)  # type: ignore[arg-type]  # a test's shorthand
    return RunFolder.create(path, config or study())


def train(run: RunFolder, line: str, faults: Iterable[Fault] = (), grid: type[LocalGrid] = LocalGrid) -> None:
    folders = sorted(folder for folder in (run.path / "sites").iterdir())
    introduce(folders, run, now=datetime.now(UTC))
    run_server(server_app, grid(client_app, folders, faults=faults), {"run-dir": str(run.path), "stage": line})


def site(run: RunFolder, name: str) -> Site:
    return Site.open(run.path / "sites" / name)


def test_every_line_is_trained_and_every_step_is_charged(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for line in federated_lines(run.study):
        train(run, line)
    registry = RunFolder.open(run.path).registry
    registry.verify()
    for line in federated_lines(run.study):
        version = registry.latest(line)
        assert version.figures["fewest_survivors"] == (6 if line == "sft" else 3)
        vector = Adapter.load(version.folder).vector(0)
        assert np.isfinite(vector).all()
        assert version.figures["adapter_digest"] != version.figures["start_digest"]
    for name in SITES:
        with site(run, name) as hospital:
            charges = hospital.ledger.charges()
            assert [charge.state for charge in charges] == [State.COMMITTED] * 5
            assert {charge.entry.stage for charge in charges} in ({"sft", "reward-0"}, {"sft", "reward-1"}), "one member each"
            assert hospital.ledger.epsilon(Unit.PATIENT) <= run.study.privacy.epsilon
            egress = [row.body for row in hospital.audit.rows() if row.kind == "egress"]
            sent = Counter((row["schema"], str(row["about"]).split("/")[0]) for row in egress)
            member = next(c.entry.stage for c in charges if c.entry.stage != "sft")
            assert sent == {("hello-reply/2", "hello"): 3, ("round-reply/2", "sft"): 3 * 5, ("round-reply/2", member): 2 * 5}
            assert not [row for row in hospital.audit.rows() if row.kind == "refusal"]


def test_sites_in_two_processes_end_with_the_same_bits(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    fault = [Fault("site-4", "sft", 1, When.AFTER)]
    train(one, "sft", fault)
    folders = sorted((two.path / "sites").iterdir())
    introduce(folders, two, now=datetime.now(UTC))
    with Workers(2) as workers:
        grid = LocalGrid("client.app:app", folders, faults=fault, workers=workers)
        run_server(server_app, grid, {"run-dir": str(two.path), "stage": "sft"})
    digests = {RunFolder.open(run.path).registry.latest("sft").digest for run in (one, two)}
    assert len(digests) == 1
    figures = [[{**row, "seconds": 0} for row in RunFolder.open(run.path).metrics.rows()] for run in (one, two)]
    assert figures[0] == figures[1]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the product catches it."""


class DyingGrid(LocalGrid):
    """The coordinator dies in round 1 after two sites have answered."""

    streams = False

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ids = list(message_ids)
        for message_id in ids:
            metadata = self._waiting[message_id].metadata
            if metadata.group_id == "sft/1/0/update" and self._nodes[metadata.dst_node_id].folder.name == "site-2":
                raise Killed
        return super().pull_messages(ids)


def test_a_killed_coordinator_ends_with_the_same_bits_and_nothing_is_spent_twice(tmp_path: Path) -> None:
    whole, killed = make(tmp_path / "whole"), make(tmp_path / "killed")
    train(whole, "sft")
    with pytest.raises(Killed):
        train(killed, "sft", grid=DyingGrid)
    train(killed, "sft")
    assert RunFolder.open(killed.path).registry.latest("sft").digest == RunFolder.open(whole.path).registry.latest("sft").digest
    figures = [[{**row, "seconds": 0, "attempt": 0} for row in RunFolder.open(run.path).metrics.rows()] for run in (whole, killed)]
    assert figures[0] == figures[1]
    resent = []
    for name in SITES:
        with site(killed, name) as hospital:
            assert [charge.state for charge in hospital.ledger.charges()] == [State.COMMITTED] * 3
            resent.append(sum(row.kind == "UpdateResent" for row in hospital.audit.rows()))
    assert resent == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("when", "charged"), [(When.BEFORE, 2), (When.AFTER, 3)])
def test_a_dropout_is_charged_when_it_trained(tmp_path: Path, when: When, charged: int) -> None:
    run = make(tmp_path / "run")
    train(run, "sft", faults=[Fault("site-4", "sft", 1, when)])
    assert [row["survivors"] for row in RunFolder.open(run.path).metrics.rows("sft")] == [6, 5, 6]
    with site(run, "site-4") as hospital:
        assert len(hospital.ledger.charges()) == charged


def test_a_site_without_budget_refuses_and_the_others_go_on(tmp_path: Path) -> None:
    """site-0 agreed to less ε than the study asks for, and is turned down by its own policy before anything is read."""
    run = make(tmp_path / "run", sites=SITES[1:])
    make_site(run.path / "sites" / "site-0", policy=HospitalPolicy(max_epsilon=1.0, allowed_exchanges=("plain",)))
    train(run, "sft")
    rows = RunFolder.open(run.path).metrics.rows("sft")
    assert [(row["survivors"], row["missing"]) for row in rows] == [(5, {"site-0": "policy"})] * 3
    with site(run, "site-0") as hospital:
        assert hospital.ledger.charges() == []
        reasons = [row.body["reason"] for row in hospital.audit.rows() if row.kind == "refusal"]
        assert len(reasons) == 3
        assert "epsilon 8 is above this hospital's 1" in str(reasons[0])


def test_notes_that_never_passed_the_gate_train_nobody(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for name in SITES:
        (run.path / "sites" / name / "gate.json").unlink()
    with pytest.raises(TooFewSurvivors, match="site-0 gate, site-1 gate"):
        train(run, "sft")
    with site(run, "site-0") as hospital:
        assert hospital.ledger.charges() == []


def test_weights_are_the_declared_figures(tmp_path: Path) -> None:
    """A site of twice the patients weighs twice as much: the sum is divided by Σ L_s."""
    run = make(tmp_path / "run", sites=SITES[1:])
    make_site(run.path / "sites" / "site-0", patients=2 * PATIENTS)
    train(run, "sft")
    enrolment = RunFolder.open(run.path).enrolment()
    assert enrolment is not None
    assert enrolment.declared["site-0"][Unit.PATIENT] == 2 * PATIENTS
