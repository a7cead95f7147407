"""Flower's Grid in one process: nothing shared, faults as planned, the process as it was, and memory that does not grow with the sites."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from common.adapters import AdapterSpec, TensorSpec
from common.config import AdapterConfig, StudyConfig
from common.errors import ConfigError
from server.federate.cohort import deal
from server.federate.rounds import federate
from simulations.machine.faults import planned_faults
from simulations.machine.grid import Fault, LocalGrid, When, identity
from tests.helpers.federation import federation, post, site_folders, study, toy_app


def echo(log: list[str]) -> ClientApp:
    app = ClientApp()

    @app.train("round")
    def work(message: Message, context: Context) -> Message:
        log.append(Path(str(context.node_config["site-dir"])).name)
        message.content["c"]["n"] = 2 * int(message.content["c"]["n"])
        return Message(message.content, reply_to=message)

    return app


def ask(grid: LocalGrid, record: RecordDict, group: str = "sft/0/0") -> list[Message]:
    with identity():
        nodes = grid.get_node_ids()
        return list(grid.send_and_receive([Message(record, dst_node_id=n, message_type="train.round", group_id=group) for n in nodes]))


def test_a_message_is_a_copy(tmp_path: Path) -> None:
    record = RecordDict({"c": ConfigRecord({"n": 3})})
    replies = ask(LocalGrid(echo([]), site_folders(tmp_path, "abc")), record)
    assert [reply.content["c"]["n"] for reply in replies] == [6, 6, 6], "no site sees what another made of the message"
    assert record["c"]["n"] == 3


def test_a_site_works_when_its_answer_is_pulled(tmp_path: Path) -> None:
    log: list[str] = []
    grid = LocalGrid(echo(log), site_folders(tmp_path, "abc"))
    with identity():
        ids = list(
            grid.push_messages(
                Message(RecordDict({"c": ConfigRecord({"n": 1})}), dst_node_id=n, message_type="train.round") for n in grid.get_node_ids()
            )
        )
        assert log == []
        assert len(list(grid.pull_messages([ids[1]]))) == 1
    assert log == ["b"]
    assert list(grid.pull_messages([ids[1], "unknown"])) == [], "an answer is given once"


@pytest.mark.parametrize(("when", "worked"), [(When.BEFORE, ["a", "c"]), (When.AFTER, ["a", "b", "c"])])
def test_faults_strike_the_planned_round_alone(tmp_path: Path, when: When, worked: list[str]) -> None:
    log: list[str] = []
    grid = LocalGrid(echo(log), site_folders(tmp_path, "abc"), faults=[Fault("b", "reward-1", 2, when)])
    record = RecordDict({"c": ConfigRecord({"n": 1})})
    assert [reply.has_error() for reply in ask(grid, record, "reward-1/2/0")] == [False, True, False]
    assert log == worked
    for other in ("reward-1/20/0", "reward-0/2/0", "sft/2/0", "hello"):
        assert not any(reply.has_error() for reply in ask(grid, record, other))


def test_a_fault_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a fault is planned for `zoe`"):
        LocalGrid(echo([]), site_folders(tmp_path, "abc"), faults=[Fault("zoe", "sft", 0)])


def test_a_raising_app_leaves_its_kind_and_no_text(tmp_path: Path) -> None:
    app = ClientApp()

    @app.train("round")
    def work(message: Message, context: Context) -> Message:
        raise ValueError("maria lopez")

    replies = ask(LocalGrid(app, site_folders(tmp_path, "abc")), RecordDict())
    assert all(reply.has_error() and reply.error.reason == "ValueError" for reply in replies)


def test_the_identity_of_the_process_is_given_back() -> None:
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)

    def work() -> None:
        with identity(7):
            assert TaskIdentity.node_id == 7
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id) == before


WIDE = AdapterSpec(
    "toy", AdapterConfig(rank=2), (TensorSpec("m.lora_A.weight", (2, 5)), TensorSpec("m.lora_B.weight", (100_000, 2))), (0,), False
)


def test_memory_does_not_grow_with_the_sites(tmp_path: Path) -> None:
    """The peak of a round is a few copies of one update, at 4 sites and at 32."""

    def peak(count: int) -> float:
        names = [f"site-{i:02d}" for i in range(count)]
        app = toy_app(lambda site, number, size: np.ones(size, np.int32), spec=lambda request: WIDE)
        grid = LocalGrid(app, site_folders(tmp_path / str(count), names))
        plan = federation(study(hospitals=count, rounds=2), names, initial=WIDE.initial())
        with identity():
            tracemalloc.start()
            federate(plan, post(grid, names), tmp_path / f"state-{count}")
            top = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return top / (4 * WIDE.size(0))

    few, many = peak(4), peak(32)
    assert many < 1.1 * few, f"{few:.1f} and {many:.1f} updates' worth of memory"


# -- planned dropouts --------------------------------------------------------------------------------------------------


def with_dropouts(seed: int, dropouts: str = "one-per-cohort") -> StudyConfig:
    return StudyConfig.model_validate(
        {"seed": seed, "reward": {"members": 2, "rounds": 10}, "simulation": {"hospitals": 8, "dropouts": dropouts}}
    )


def test_one_site_of_each_cohort_misses_one_round() -> None:
    names = [f"site-{i}" for i in range(8)]
    seen = set()
    for seed in range(30):
        faults = planned_faults(with_dropouts(seed), names)
        assert faults == planned_faults(with_dropouts(seed), names)
        assert [fault.line for fault in faults] == ["reward-0", "reward-1"]
        for fault, cohort in zip(faults, deal(names, 2, seed), strict=True):
            assert fault.site in cohort
            assert 0 <= fault.round < 10
        seen.update(fault.when for fault in faults)
    assert seen == set(When)
    assert planned_faults(with_dropouts(0, "none"), names) == []
