"""A stage from hello to registry, through the real ServerApp: enrolment, cohorts, lineage, resume, and what is refused."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from safetensors import safe_open

from common.adapters import Adapter
from common.bases import shared_base
from common.config import Stage, StudyConfig
from common.errors import ConfigError, ModelUnavailable, ProtocolError, StorageError, TooFewSurvivors
from common.protocol import Refusal, RoundRequest
from server.app import app as server_app
from server.federate.checkpoint import RoundState
from server.federate.stages import stage_spec
from server.run_folder import RunFolder, federated_lines, parse_line
from simulations.machine.grid import Fault, LocalGrid, run_server
from tests.helpers.federation import site_folders, toy_app, toy_roster
from tests.helpers.masked import COORDINATOR

SITES = tuple(f"site-{i}" for i in range(6))


def config(**changes: object) -> StudyConfig:
    tree = {
        "study_id": "toy",
        "model": {"base": "tiny", "dtype": "float32"},
        "privacy": {"noise_multiplier": 1.0},
        "sft": {"rounds": 2, "round_timeout_seconds": 0.05},
        "reward": {"rounds": 2, "members": 2, "round_timeout_seconds": 0.05},
        "simulation": {"hospitals": 6},
    }
    return StudyConfig.model_validate({**tree, **changes})


def real_spec(request: RoundRequest):
    return stage_spec(request.study, request.context.stage, shared_base("tiny", "float32"))


def app(**options: object) -> ClientApp:
    return toy_app(spec=real_spec, all_sites=SITES, **options)  # type: ignore[arg-type]  # a test's shorthand


def train(run: RunFolder, line: str, client: ClientApp | None = None, sites: Iterable[str] = SITES, faults: Iterable[Fault] = ()) -> None:
    grid = LocalGrid(client or app(), site_folders(run.path / "sites", sites), faults=faults)
    run_server(server_app, grid, {"run-dir": str(run.path), "stage": line})


def introduced(run: RunFolder) -> RunFolder:
    run.put_roster(toy_roster(SITES).sign(COORDINATOR))
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return introduced(RunFolder.create(tmp_path / "run", config()))


def test_all_lines_of_a_study(run: RunFolder) -> None:
    seen: list[RoundRequest] = []
    for line in federated_lines(run.study):
        train(run, line, app(seen=seen))
    again = RunFolder.open(run.path)
    again.registry.verify()
    sft, zero, one = (again.registry.latest(line) for line in ("sft", "reward-0", "reward-1"))
    assert (zero.parents, one.parents) == (("sft/1",), ("sft/1",))
    cohorts = [set(version.figures["sites"]) for version in (zero, one)]
    assert cohorts[0] | cohorts[1] == set(SITES)
    assert not cohorts[0] & cohorts[1]
    assert {request.context.sites for request in seen if request.context.member == 0} == {tuple(sorted(cohorts[0]))}
    adapter = Adapter.load(sft.folder)
    assert adapter.digest == sft.figures["adapter_digest"] != sft.figures["start_digest"]
    assert sft.figures["bytes_up"] == sum(row["bytes_up"] for row in again.metrics.rows("sft"))
    assert [(row["stage"], row["step"], row["survivors"]) for row in again.metrics.rows()] == [
        ("sft", 0, 6), ("sft", 1, 6), ("reward-0", 0, 3), ("reward-0", 1, 3), ("reward-1", 0, 3), ("reward-1", 1, 3),
    ]  # fmt: skip
    assert not list((run.path / "federation").glob("*.safetensors")), "a finished stage needs no checkpoint"


def test_a_finished_line_is_not_trained_again(run: RunFolder) -> None:
    train(run, "sft")
    seen: list[RoundRequest] = []
    train(run, "sft", app(seen=seen))
    assert not seen
    assert len(RunFolder.open(run.path).registry.versions("sft")) == 1


def test_reward_members_start_from_the_public_preference_model(run: RunFolder) -> None:
    spec = stage_spec(run.study, Stage.REWARD, shared_base("tiny", "float32"))
    start = spec.initial()
    public = Adapter(spec, {name: tensor + np.float32(0.01) for name, tensor in start.tensors.items()})
    run.registry.put("reward-public", public.save)
    seen: list[RoundRequest] = []
    train(run, "reward-0", app(seen=seen))
    assert next(request for request in seen if request.tensors is not None).adapter(spec).digest == public.digest
    assert RunFolder.open(run.path).registry.latest("reward-0").parents == ("reward-public/1",)


def test_a_public_model_of_another_shape_is_refused(run: RunFolder) -> None:
    run.registry.put("reward-public", stage_spec(run.study, Stage.SFT, shared_base("tiny", "float32")).initial().save)
    with pytest.raises(ModelUnavailable, match=r"other tensors than `reward\.adapter` describes"):
        train(run, "reward-0")


def test_an_interrupted_stage_goes_on(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(TooFewSurvivors, match="0 of 6 sites answered phase `advertise` of round 1"):
        train(run, "sft", faults=[Fault(site, "sft", 1) for site in SITES])
    train(run, "sft")
    whole = introduced(RunFolder.create(tmp_path / "whole", config()))
    train(whole, "sft")
    resumed = RunFolder.open(run.path)
    assert resumed.registry.latest("sft").digest == whole.registry.latest("sft").digest
    assert [row["bytes_up"] for row in resumed.metrics.rows()] == [row["bytes_up"] for row in RunFolder.open(whole.path).metrics.rows()]


# -- the enrolment -----------------------------------------------------------------------------------------------------


def test_all_sites_must_be_there_when_a_study_begins(run: RunFolder) -> None:
    with pytest.raises(TooFewSurvivors, match="5 of 6 sites said hello before the study began; connect the others"):
        train(run, "sft", sites=SITES[:5])
    assert run.enrolment() is None


def test_a_guest_is_refused(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match="7 sites said hello and the study describes 6"):
        train(run, "sft", sites=[*SITES, "site-9"])


def silent(sites: Iterable[str]) -> ClientApp:
    inner, client = app(), ClientApp()

    @client.query("hello")
    def hello(message: Message, context: Context) -> Message:
        if Path(str(context.node_config["site-dir"])).name in sites:
            return Message(Refusal("config").to_record(), reply_to=message)
        return inner(message, context)

    @client.train("round")
    def one_round(message: Message, context: Context) -> Message:
        return inner(message, context)

    return client


def test_refusals_to_enrol_are_told(run: RunFolder) -> None:
    with pytest.raises(TooFewSurvivors, match=r"4 of 6 sites.*2 nodes refused: config"):
        train(run, "sft", silent(SITES[:2]))


def test_later_a_missing_site_is_only_missing(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.federate.stages.HELLO_SECONDS", 0.05)
    train(run, "reward-0")
    train(run, "sft", silent(SITES[:1]))
    rows = RunFolder.open(run.path).metrics.rows("sft")
    assert [(row["survivors"], row["missing"]) for row in rows] == [(5, {"site-0": "unreachable"})] * 2


def renamed(names: dict[str, str]) -> Callable[[str], str]:
    return lambda name: names.get(name, name)


def test_a_declared_figure_cannot_change(run: RunFolder) -> None:
    train(run, "sft")
    with pytest.raises(ProtocolError, match="`site-3` declares other numbers of units"):
        train(run, "reward-0", app(declared=lambda site: 900 if site == "site-3" else 90))


def test_a_copy_of_a_site_is_noticed(run: RunFolder) -> None:
    grid = LocalGrid(app(), site_folders(run.path / "sites", SITES[:5]) + site_folders(run.path / "copy", SITES[:1]))
    with pytest.raises(ProtocolError, match="two nodes call themselves `site-0`"):
        run_server(server_app, grid, {"run-dir": str(run.path), "stage": "sft"})
    train(run, "sft")
    grid = LocalGrid(app(), site_folders(run.path / "sites", SITES) + site_folders(run.path / "copy", SITES[:1]))
    with pytest.raises(ProtocolError, match="two nodes call themselves `site-0`"):
        run_server(server_app, grid, {"run-dir": str(run.path), "stage": "reward-0"})


def test_weights_follow_the_declared_figures(run: RunFolder) -> None:
    seen: list[RoundRequest] = []
    train(run, "sft", app(seen=seen, declared=lambda site: 10 * (1 + int(site[-1]))))
    assert sorted({request.expected_units for request in seen}) == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_folder_belongs_to_one_study(run: RunFolder) -> None:
    assert RunFolder.create(run.path, config()).study == run.study
    with pytest.raises(ConfigError, match="this folder holds study `toy` with other figures"):
        RunFolder.create(run.path, config(seed=5))


def test_a_changed_config_is_noticed_by_the_enrolment(run: RunFolder) -> None:
    train(run, "sft")
    path = run.path / "config.toml"
    path.write_text(path.read_text().replace("rounds = 2", "rounds = 3", 1))
    with pytest.raises(ConfigError, match="enrolled in a study with other figures"):
        train(RunFolder.open(run.path), "reward-0")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"not a run folder, config\.toml is missing"):
        RunFolder.open(tmp_path)
    grid = LocalGrid(app(), site_folders(tmp_path, SITES))
    with pytest.raises(ConfigError, match="absolute path of a run folder"):
        run_server(server_app, grid, {"run-dir": "runs/x", "stage": "sft"})


def test_a_damaged_enrolment_is_refused(run: RunFolder) -> None:
    train(run, "sft")
    (run.path / "federation" / "enrolment.json").write_text(json.dumps({"sites": []}))
    with pytest.raises(StorageError, match="the enrolment cannot be read"):
        run.enrolment()


@pytest.mark.parametrize("line", ["", "policy", "reward", "reward-", "reward-01", "reward--1", "sft-0", "reward-2"])
def test_other_stages_are_refused(run: RunFolder, line: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a federated stage|there is no member 2"):
        train(run, line)


def test_lines_parse() -> None:
    assert parse_line("sft") == (Stage.SFT, None)
    assert parse_line("reward-12") == (Stage.REWARD, 12)


def test_progress_is_told_of_rounds(run: RunFolder) -> None:
    told: list[object] = []

    class Watch:
        def start(self, stage: str, total: int) -> None:
            told.append((stage, total))

        def advance(self, n: int = 1) -> None:
            told.append(n)

        def note(self, text: str) -> None:
            told.append(text)

    grid = LocalGrid(app(), site_folders(run.path / "sites", SITES))
    run_server(server_app, grid, {"run-dir": str(run.path), "stage": "sft"}, progress=Watch())
    assert told == [("federated rounds of sft", 2), 0, 1, 1]


def test_the_adapter_of_each_round_is_shown_before_it_is_saved(run: RunFolder) -> None:
    shown: list[tuple[str, int, str, int]] = []

    def look(line: str, state: RoundState) -> None:
        with safe_open(run.checkpoint(line), framework="numpy") as saved:
            rounds_saved = json.loads(saved.metadata()["state"])["next_round"]
        shown.append((line, state.next_round, state.adapter.digest, rounds_saved))
        if state.next_round == 2 and len(shown) == 2:
            raise KeyboardInterrupt  # a kill between the look and the save

    def train_watched() -> None:
        grid = LocalGrid(app(), site_folders(run.path / "sites", SITES))
        run_server(server_app, grid, {"run-dir": str(run.path), "stage": "sft"}, on_state=look)

    with pytest.raises(KeyboardInterrupt):
        train_watched()
    train_watched()
    assert [(line, number) for line, number, _, _ in shown] == [("sft", 1), ("sft", 2), ("sft", 2)]
    assert shown[1][2] == shown[2][2]
    assert [saved for *_, saved in shown] == [0, 1, 1]
