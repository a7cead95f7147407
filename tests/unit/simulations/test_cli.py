"""What a person and a program see: exit codes, one JSON object, one sentence for each failure."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from common.config import StudyConfig, load_study
from server.evaluate.gate import summarize
from server.evaluate.summary import Summary
from simulations import cli
from tests.helpers.figures import figures
from tests.helpers.run_folder import write_run

SMOKE = Path(__file__).resolve().parents[3] / "configs" / "smoke.toml"


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def wardround(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the console script in this process."""

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["wardround", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


def test_report_is_written_again(wardround, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    result = wardround("report", run, "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == {"report": str(run / "report.html")}
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_compare_shows_runs_side_by_side(wardround, tmp_path: Path) -> None:
    one = write_run(tmp_path / "one")
    two = write_run(tmp_path / "two", of=figures().model_copy(update={"bytes_up": 1, "ppo": None}))
    shown = wardround("compare", one, two)
    assert shown.code == 0
    assert "312,000,000" in shown.out
    assert "6 of 7" not in shown.out
    assert "5 of 7" in shown.out
    rows = list(csv.reader(io.StringIO(wardround("compare", one, two, "--csv").out)))
    assert rows[0] == ["figure", "one", "two"]
    assert ["ppo.kl", "4.7", ""] in rows
    assert ["bytes_up", "312000000", "1"] in rows
    found = json.loads(wardround("compare", one, two, "--json").out)
    assert found["runs"] == ["one", "two"]
    assert found["figures"]["epsilon_max"] == [7.55, 7.55]


def test_runs_of_one_name_keep_their_paths(wardround, tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run")
    assert json.loads(wardround("compare", one, two, "--json").out)["runs"] == [str(one), str(two)]


@pytest.mark.parametrize("arguments", [["report"], ["compare"], ["report", "x", "--no-such-option"], ["no-such-command"]])
def test_wrong_usage_is_two(wardround, arguments: list[str]) -> None:
    result = wardround(*arguments)
    assert result.code == 2
    assert result.out == ""


def test_a_failure_is_one_sentence_without_traceback(wardround, tmp_path: Path) -> None:
    result = wardround("report", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert (
        result.err
        == f"wardround: {tmp_path}/summary.json: there is no such file; `wardround-coordinator summarize {tmp_path}` writes it, or `wardround simulate … --out {tmp_path} --resume` at its end\n"
    )


def test_a_fault_of_the_program_names_its_place_and_not_its_text(wardround, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: Path) -> Path:
        raise RuntimeError("Mrs Miller, born 3 May")

    monkeypatch.setattr(cli, "write_report", broken)
    result = wardround("report", tmp_path)
    assert result.code == 1
    assert "RuntimeError at test_cli.py:" in result.err
    assert "Miller" not in result.err


REFUSED = {
    "no such file": (["nowhere.toml"], "nowhere.toml: there is no such file"),
    "unknown key": ([SMOKE, "--set", "privacy.epsilom=3"], "`privacy.epsilom`: there is no such key; did you mean `epsilon`?"),
    "a budget of 0": ([SMOKE, "--set", "privacy.epsilon=0"], "with privacy.epsilon=0: `privacy.epsilon` is 0: it should be greater than 0"),
    "a budget without end": ([SMOKE, "--set", "privacy.epsilon=inf"], "`privacy.epsilon` is inf: it should be"),
    "a rate without end": ([SMOKE, "--set", "ppo.learning_rate=inf"], "`ppo.learning_rate` is inf: it should be a finite number"),
    "a word for a number": ([SMOKE, "--set", "ppo.steps=many"], "`ppo.steps` is 'many': it should be a valid integer"),
    "a number for a section": ([SMOKE, "--set", "model=3"], "`model` is 3: it should be"),
    "a negative seed": ([SMOKE, "--seed", "-1"], "with seed=-1: `seed` is -1: it should be greater than or equal to 0"),
    "more survivors than sites": ([SMOKE, "--set", "sft.min_survivors=7"], "`sft.min_survivors` is 7, but only 6 sites can answer"),
    "survivors that drop out": ([SMOKE, "--set", "simulation.dropouts=one-per-cohort"], "`reward.min_survivors` is 3, but only 2 sites"),
    "a folder for a config": ([SMOKE.parent], "cannot be read (Is a directory)"),
    "a program for a config": ([Path("/bin/sh")], "not a text file in UTF-8"),
    "two hospitals": ([SMOKE, "--set", "simulation.hospitals=2"], "a federation needs at least 3"),
    "one member with a penalty": ([SMOKE, "--set", "reward.members=1"], "`ppo.variance_penalty` is above 0 with one reward member"),
    "no such base model": ([SMOKE, "--set", "model.base=/nowhere/model"], "base model `/nowhere/model` cannot be loaded"),
    "data for invented hospitals": ([SMOKE, "--data", "."], "public"),
    "public data without a folder": ([SMOKE, "--set", "simulation.source=public"], "--data"),
    "not a TOML file": ([Path(__file__)], "not valid TOML"),
    "an override without a value": ([SMOKE, "--set", "seed"], "is not of the form section.key=value"),
}


@pytest.mark.parametrize(("arguments", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_run_is_refused_before_anything_is_written(wardround, tmp_path: Path, arguments: list[object], said: str) -> None:
    result = wardround("simulate", *map(str, arguments), "--out", tmp_path / "run")
    assert result.code == 1
    assert result.out == ""
    assert said in result.err
    assert result.err.count("\n") == 1
    assert result.err.startswith("wardround: ")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_in_it_is_left_alone(wardround, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = wardround("simulate", SMOKE, "--out", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert "choose another with --out" in result.err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("out", ["/dev/null", "/dev/null/run", "/proc/wardround"])
def test_a_run_folder_that_cannot_be_is_refused_with_a_remedy(wardround, out: str) -> None:
    result = wardround("simulate", SMOKE, "--out", out)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"wardround: {out}: cannot ")
    assert "choose another" in result.err or "create it first" in result.err


def test_a_run_that_another_process_works_on_is_left_alone(wardround, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simulations.stages import open_run

    run = open_run(tmp_path / "run", load_study(SMOKE), resume=False)
    monkeypatch.setattr("server.run_folder.PATIENCE_SECONDS", 0.1)
    before = sorted(path.name for path in run.path.iterdir())
    with run.alone():
        result = wardround("simulate", SMOKE, "--out", run.path, "--resume", "--json")
    assert result.code == 1
    assert json.loads(result.out)["error"]["code"] == "storage"
    assert "another process works on this run; wait for it, or stop it and resume" in result.err
    assert sorted({path.name for path in run.path.iterdir()} - {".lock"}) == before


@pytest.mark.parametrize(("words", "said"), [(("--csv", "--json"), "not for both"), (("ONE",), "name each run once")])
def test_compare_refuses_what_it_could_not_show(wardround, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    one = write_run(tmp_path / "one")
    result = wardround("compare", one, *(str(one / ".") if word == "ONE" else word for word in words))
    assert result.code == 2
    assert said in result.err


def test_simulate_prints_figures_or_json_and_gates_decide_the_exit(wardround, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import simulations.study

    good = summarize(figures(), StudyConfig())
    bad = summarize(figures().model_copy(update={"leaks": None}), StudyConfig())
    asked: list[dict[str, object]] = []

    def finished(config: StudyConfig, run: Path, **options: object) -> Summary:
        asked.append({"seed": config.seed, "hospitals": config.simulation.hospitals, "run": run, **options})
        return bad if config.seed == 9 else good

    monkeypatch.setattr(simulations.study, "run_study", finished)
    shown = wardround("simulate", SMOKE, "--out", tmp_path, "--require-gates", "--resume", "--set", "simulation.hospitals=7")
    assert shown.code == 0
    for part in ("study demo · SIMULATED", "0.840 [0.784, 0.896] of 160", "7.550", "0 of 18,220", "report:"):
        assert part in shown.out
    assert asked[0]["hospitals"] == 7
    assert (asked[0]["resume"], asked[0]["run"]) == (True, tmp_path)
    as_json = wardround("simulate", SMOKE, "--seed", "9", "--json")
    assert as_json.code == 0
    assert json.loads(as_json.out)["gates"]["leaks"]["held"] is False
    assert asked[1]["run"] == Path("runs/smoke")
    gated = wardround("simulate", SMOKE, "--seed", "9", "--json", "--require-gates")
    assert gated.code == 1
    assert json.loads(gated.out)["seed"] == 7
    assert "1 of 7 gates do not hold: leaks:" in gated.err


def test_an_interrupt_says_how_to_go_on(wardround, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(run: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "write_report", stopped)
    result = wardround("report", tmp_path)
    assert result.code == 1
    assert result.out == ""
    assert "run the same command with --resume" in result.err
