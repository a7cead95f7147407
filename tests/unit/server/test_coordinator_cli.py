"""wardround-coordinator as its users run it: figures before a study, where it stands, whether its records hold; exit codes 0, 1, 2."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.config import StudyConfig, load_study
from common.console import run_command
from common.errors import StorageError, TooFewSurvivors
from server import cli
from server.app import app as server_app
from server.example import example_study
from server.federate.forecast import forecast
from server.launching import submit
from server.run_folder import RunFolder
from simulations.machine.grid import Fault, LocalGrid, run_server
from tests.helpers.federation import site_folders
from tests.unit.server.test_federated_stages import SITES, app, config, introduced, train


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict:
        assert self.out.count("\n") == 1, "one line, one object"
        return json.loads(self.out)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr("sys.argv", ["wardround-coordinator", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return Result(int(stopped.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text('study_id = "toy"\n[model]\nbase = "tiny"\ndtype = "float32"\n[privacy]\nepsilon = 8.0\n[simulation]\nhospitals = 8\n')
    return path


def test_the_example_is_the_default_study(tmp_path: Path) -> None:
    path = example_study(tmp_path / "desk")
    assert load_study(path) == StudyConfig()
    text = path.read_text()
    for name in ("noise_multiplier", "last_layers", "tolerated_colluders", "round_timeout_seconds"):
        assert name in text
    with pytest.raises(StorageError, match="there is a study already"):
        example_study(tmp_path / "desk")


def test_init_says_what_to_do_next(command, tmp_path: Path) -> None:
    first = command("init", tmp_path / "desk")
    assert (first.code, "--dry-run" in first.out) == (0, True)
    again = command("init", tmp_path / "desk", "--json")
    assert (again.code, again.json["error"]["code"]) == (1, "storage")
    assert "choose another folder" in again.json["error"]["reason"]


def test_a_dry_run_gives_the_figures(command, study_file: Path) -> None:
    result = command("launch", study_file, "--dry-run", "--json")
    assert result.code == 0
    sft, reward = result.json["stages"]
    assert (sft["noise_multiplier"], reward["noise_multiplier"]) == pytest.approx((0.7245, 0.7245), abs=0.003)
    assert 7.9 < result.json["epsilon"]["patient"] <= 8.0
    assert sft["bytes_up_a_site_and_round"] == 4 * sft["words"]
    assert (reward["sites"], reward["members"], sft["sites"]) == (4, 2, 8)
    per_round = sum(
        s["sites"] * s["members"] * s["rounds"] * (s["bytes_up_a_site_and_round"] + s["bytes_down_a_site_and_round"]) for s in (sft, reward)
    )
    assert result.json["bytes"] == per_round
    assert 0 < result.json["hours"] < 1
    assert result.json["refusals"] == []
    shown = command("launch", study_file, "--dry-run")
    assert "over the whole study" in shown.out
    assert "ε = " in shown.out


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["privacy.noise_multiplier=0.4"], "above `privacy.epsilon` = 8; leave `privacy.noise_multiplier` out"),
        (["privacy.placement=sum", "secure.exchange=plain"], "exchange `plain` shows the coordinator each update"),
        (["simulation.hospitals=10000", "simulation.declared_units=9000"], "could wrap; split the sites into cohorts"),
        (["privacy.epsilon=0.0001", "privacy.delta=1e-9"], "no noise makes 18 more steps fit"),
    ],
)
def test_what_would_be_refused_is_said_before(command, study_file: Path, overrides: Sequence[str], reason: str) -> None:
    options = [part for override in overrides for part in ("--set", override)]
    result = command("launch", study_file, "--dry-run", "--json", *options)
    assert result.code == 1
    assert any(reason in refusal for refusal in result.json["refusals"]), result.json["refusals"]
    launched = command("launch", study_file, "--out", study_file.parent / "run", *options)
    assert launched.code == 1
    assert reason in launched.err
    assert not (study_file.parent / "run").exists()


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("sft.rounds=true", "`sft.rounds` is True: it should be a valid integer"),
        ('sft.rounds="8"', "`sft.rounds` is '8': it should be a valid integer"),
        ("sft.rounds=8.5", "`sft.rounds` is 8.5: it should be a valid integer"),
        ("privacy.epsilon=nan", "`privacy.epsilon` is nan: it should be a finite number"),
        ("privacy.epsilon=true", "`privacy.epsilon` is True: it should be a valid number"),
        ("privacy.noise_multiplier=1e-9", "it should be greater than or equal to 0.1"),
        ("privacy.clip_norm=1e300", "it should be less than or equal to 1000000"),
        ("privacy.unit=7", "`privacy.unit` is 7: it should be"),
        ("sft.adapter.targets=q_proj", "`sft.adapter.targets` is 'q_proj': it should be a valid array"),
        ("sft=1", "`sft` is 1: it should be an object"),
    ],
)
def test_a_value_of_another_type_or_beyond_its_bound_is_refused(command, study_file: Path, override: str, reason: str) -> None:
    result = command("launch", study_file, "--dry-run", "--json", "--set", override)
    assert (result.code, result.json["error"]["code"]) == (1, "config")
    assert reason in result.json["error"]["reason"], result.json


def test_a_run_is_begun_in_an_empty_folder_and_after_everything_else_was_looked_at(command, study_file: Path) -> None:
    here = Path(__file__).parents[3]
    full, run = study_file.parent, study_file.parent / "run"
    assert "is not empty and holds no run" in command("launch", study_file, "--out", full, "--app", here).err
    assert "no app of Wardround here" in command("launch", study_file, "--out", run, "--app", full).err
    assert "not a run folder" in command("launch", study_file, "--out", run, "--app", here, "--from", full / "nowhere").err
    assert not run.exists()
    result = command("launch", study_file, "--out", run, "--app", here, "--virtual-sites", full / "nowhere", "--json")
    assert (result.code, result.json["error"]["code"]) == (1, "storage")


def test_a_study_without_privacy_says_so(command, study_file: Path) -> None:
    result = command("launch", study_file, "--dry-run", "--set", "privacy.engine=none")
    assert "NOT PRIVATE" in result.out


def test_the_forecast_of_bytes_is_what_travels(tmp_path: Path) -> None:
    """The forecast leaves out headers alone: within a few kilobytes a message of the real bytes of a run."""
    from common.bases import shared_base

    run = introduced(RunFolder.create(tmp_path / "run", config()))
    train(run, "sft")
    rows = RunFolder.open(run.path).metrics.rows("sft")
    stage = forecast(run.study, shared_base("tiny", "float32"), flops_per_second=1e9).stages[0]
    for row in rows:
        assert 0 <= row["bytes_up"] - 6 * stage.bytes_up < 6 * 5_000
    assert rows[0]["bytes_down"] < 6 * 60_000, "the first round starts from the public seed: no adapter travels"
    assert 0 <= rows[1]["bytes_down"] - 6 * stage.bytes_down < 6 * 60_000


def test_usage_errors_exit_with_2(command, study_file: Path) -> None:
    assert command("launch").code == 2
    assert command("launch", study_file, "--fast").code == 2
    assert command("launch", study_file).code == 2
    assert command("log").code in (0, 2)
    assert command("launch", study_file.parent / "none.toml", "--dry-run").code == 1


def test_status_follows_a_run(command, tmp_path: Path) -> None:
    run = introduced(RunFolder.create(tmp_path / "run", config()))
    states = lambda: [(line["line"], line["state"], line["rounds_done"]) for line in command("status", run.path, "--json").json["lines"]]  # noqa: E731
    assert states() == [("sft", "waiting", 0), ("reward-0", "waiting", 0), ("reward-1", "waiting", 0)]
    with pytest.raises(TooFewSurvivors):
        train(run, "sft", faults=[Fault(site, "sft", 1) for site in SITES])
    assert states()[0] == ("sft", "running", 1)
    train(run, "sft", faults=[Fault("site-4", "sft", 1)])
    result = command("status", run.path, "--json").json
    assert (result["next"], result["sites"]) == ("reward-0", list(SITES))
    assert result["lines"][0]["state"] == "done"
    assert result["lines"][0]["late"] == {"site-4": 1}
    shown = command("status", run.path).out
    assert "site-4 1" in shown


def test_log_verify_notices_tampering(command, tmp_path: Path) -> None:
    run = introduced(RunFolder.create(tmp_path / "run", config()))
    train(run, "sft")
    result = command("log", "verify", run.path, "--json")
    assert (result.code, result.json["rows"], result.json["versions"]) == (0, 2, 1)
    weights = run.path / "registry" / "sft" / "0001" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    broken = command("log", "verify", run.path, "--json")
    assert broken.code == 1
    assert "sft/1 is not what was signed" in broken.json["error"]["reason"]


def test_a_folder_that_is_no_run(command, tmp_path: Path) -> None:
    for arguments in (("status", tmp_path), ("resume", tmp_path), ("log", "verify", tmp_path)):
        result = command(*arguments)
        assert result.code == 1
        assert "config.toml is missing" in result.err


def test_launching_needs_the_app(tmp_path: Path) -> None:
    run = introduced(RunFolder.create(tmp_path / "run", config()))
    with pytest.raises(Exception, match="no app of Wardround here; give --app"):
        submit(run, "sft", "local", tmp_path)


def test_the_reason_of_a_failed_stage_is_left_for_who_waits(tmp_path: Path) -> None:
    run = introduced(RunFolder.create(tmp_path / "run", config()))
    grid = LocalGrid(app(), site_folders(tmp_path / "sites", SITES[:4]))
    with pytest.raises(TooFewSurvivors):
        run_server(server_app, grid, {"run-dir": str(run.path), "stage": "sft"})
    path = run.path / "federation" / "sft.failed.json"
    assert "4 of 6 sites said hello" in json.loads(path.read_text())["reason"]
    train(run, "sft")
    assert not path.exists()


def test_a_fault_of_ours_never_shows_its_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def app(standalone_mode: bool) -> int:
        raise KeyError("maria lopez")

    with pytest.raises(SystemExit) as stopped:
        run_command(app, "wardround-coordinator")  # type: ignore[arg-type]  # any callable ends the same way
    assert stopped.value.code == 1
    assert "KeyError at test_coordinator_cli.py" in (err := capsys.readouterr().err)
    assert "lopez" not in err
