"""What a person and a program see: exit codes, one JSON object, one sentence for each failure."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from simulations import cli
from tests.helpers.figures import figures
from tests.helpers.run_folder import write_run


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
        == f"wardround: {tmp_path}/summary.json: there is no such file; a run writes it when it completes (`wardround simulate … --out {tmp_path} --resume`)\n"
    )


def test_a_fault_of_the_program_names_its_place_and_not_its_text(wardround, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: Path) -> Path:
        raise RuntimeError("Mrs Miller, born 3 May")

    monkeypatch.setattr(cli, "write_report", broken)
    result = wardround("report", tmp_path)
    assert result.code == 1
    assert "RuntimeError at test_cli.py:" in result.err
    assert "Miller" not in result.err


def test_an_interrupt_says_how_to_go_on(wardround, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(run: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "write_report", stopped)
    result = wardround("report", tmp_path)
    assert result.code == 1
    assert result.out == ""
    assert "run the same command with --resume" in result.err
