"""The whole path, from invented notes to the report: run once, and killed in every stage; both end with the same figures."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.hospital.site import Site
from common.config import StudyConfig, load_study
from common.errors import WardroundError
from common.progress import Silent
from server.evaluate.report import HELD_OUT
from server.evaluate.summary import Summary, load_summary
from server.metrics import Metrics
from server.registry import Registry
from simulations.study import run_study

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.toml"
SMALLER = ["simulation.patients=3", "simulation.declared_units=3", "simulation.declared_preference_units=3", "simulation.pairs=4"]
REFUSED = 3
KILLED_IN = (
    ("de-identify", 3),  # in the third hospital
    ("federated rounds of sft", 2),
    ("label pairs", 2),
    ("pretrain the reward model", 1),
    ("federated rounds of reward-1", 1),
    ("align the policy by PPO", 2),
    ("evaluate the models", 2),
)


@pytest.fixture(scope="module")
def config() -> StudyConfig:
    return load_study(SMOKE, SMALLER)


@pytest.fixture(scope="module")
def uninterrupted(config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the command itself, in a process of its own."""
    run = tmp_path_factory.mktemp("whole") / "run"
    overrides = [part for override in SMALLER for part in ("--set", override)]
    result = subprocess.run(
        [sys.executable, "-m", "simulations.cli", "simulate", str(SMOKE), "--out", str(run), "--json", "--require-gates", *overrides],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Warning" not in result.stderr
    assert json.loads(result.stdout) == load_summary(run).model_dump(mode="json")
    return run


@pytest.fixture(scope="module")
def killed(config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study, stopped by a full disk twice, killed seven times, and resumed each time."""
    run = tmp_path_factory.mktemp("killed") / "run"

    def no_room(run: Path) -> None:
        assert _run_in_a_child(config, run, Silent(), largest_file_bytes=60_000) == REFUSED
        assert not [path for path in run.rglob("*") if path.suffix == ".part" or path.name in ("summary.json", "report.html")]

    no_room(run)  # to make a site
    for stage, after in KILLED_IN:
        assert _run_in_a_child(config, run, KillAt(stage, after)) == -signal.SIGKILL, f"the run was not killed in {stage}"
        assert not (run / "summary.json").exists()
    no_room(run)  # to write the report
    assert _run_in_a_child(config, run, Silent()) == 0
    return run


class KillAt(Silent):
    """Kills its own process when stage `name` has advanced `after` times."""

    def __init__(self, name: str, after: int) -> None:
        self.name, self.left, self.here = name, after, False

    def start(self, stage: str, total: int) -> None:
        self.here = stage.startswith(self.name)

    def advance(self, n: int = 1) -> None:
        self.left -= self.here and n > 0
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _run_in_a_child(config: StudyConfig, run: Path, progress: Silent, *, largest_file_bytes: int | None = None) -> int:
    """Exit code of a forked process that runs or resumes the study; minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if largest_file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, largest_file_bytes))
            run_study(config, run, resume=True, progress=progress)
            code = 0
        except WardroundError:
            code = REFUSED
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_every_promised_file_is_there(uninterrupted: Path) -> None:
    for name in ("config.toml", "metrics.jsonl", "summary.json", "report.html", "registry/journal.jsonl", "generations.jsonl"):
        assert (uninterrupted / name).stat().st_size > 0, name
    sites = sorted((uninterrupted / "sites").iterdir())
    assert len(sites) == 6
    for site in sites:
        assert (site / "ledger.jsonl").exists()
        assert (site / "audit.jsonl").exists()
    registry = Registry.open(uninterrupted / "registry")
    registry.verify()
    assert {v.line for v in registry.versions()} == {"sft", "reward-public", "judge-0", "reward-0", "reward-1", "policy"}


def test_figures_of_the_whole_path(uninterrupted: Path, config: StudyConfig) -> None:
    summary = load_summary(uninterrupted)
    assert summary.stamps == ("SIMULATED",)
    assert (summary.sites, summary.rounds) == (6, 3 + 2 * 2)
    assert summary.patients == 18
    assert len(summary.epsilon) == 6
    assert all(0.98 * config.privacy.epsilon <= e <= config.privacy.epsilon for e in summary.epsilon.values())
    assert summary.deid.identifiers > 10 * summary.deid.notes / 2
    assert summary.leaks is not None
    assert summary.leaks.planted > 18 * 4
    assert summary.leaks.found == 0
    assert set(summary.seconds) == {
        "hospitals",
        "sft",
        "candidates",
        "labels",
        "pretraining",
        "judges",
        "constitution",
        "reward-0",
        "reward-1",
        "ppo",
        "evaluation",
        "yardsticks",
        "accounting",
    }
    assert summary.peak_rss_mb > 100
    steps = [row["step"] for row in Metrics(uninterrupted / "metrics.jsonl").rows(HELD_OUT)]
    assert steps == [0, 1, 2, 3]


def test_a_run_that_was_killed_in_every_stage_ends_with_the_same_figures(uninterrupted: Path, killed: Path) -> None:
    one, other = load_summary(uninterrupted).comparable(), load_summary(killed).comparable()
    assert {key: (one[key], other[key]) for key in one if one[key] != other[key]} == {}


def test_no_ledger_row_is_lost_or_spent_twice(killed: Path, config: StudyConfig) -> None:
    for folder in sorted((killed / "sites").iterdir()):
        with Site.open(folder) as site:
            site.ledger.verify()
            charges = site.ledger.charges()
        steps = [(c.entry.stage.partition("-")[0], c.entry.round, c.state) for c in charges]
        assert sorted(steps) == sorted([("sft", r, "committed") for r in range(3)] + [("reward", r, "committed") for r in range(2)])


def test_metrics_have_one_line_a_step(uninterrupted: Path, killed: Path) -> None:
    def figures(run: Path) -> list[tuple[str, int, dict[str, object]]]:
        rows = Metrics(run / "metrics.jsonl").rows()
        return sorted((str(r["stage"]), int(str(r["step"])), {k: v for k, v in r.items() if "seconds" not in k}) for r in rows)

    assert figures(uninterrupted) == figures(killed)


def test_no_text_of_a_hospital_outside_the_sites(uninterrupted: Path) -> None:
    """Beside the planted values: not one line of a note stands in the run folder outside sites/."""
    notes = [
        json.loads(line)["text"] for path in uninterrupted.glob("sites/*/export/notes.jsonl") for line in path.read_text().splitlines()
    ]
    lines = {line for note in notes for line in note.splitlines() if len(line) > 60}
    assert len(lines) > 50
    for path in uninterrupted.rglob("*"):
        if path.is_file() and "sites" not in path.relative_to(uninterrupted).parts:
            text = path.read_bytes().decode("utf-8", "replace")
            assert not any(line in text for line in lines), path


def test_resuming_a_finished_run_changes_nothing(uninterrupted: Path, config: StudyConfig) -> None:
    before = load_summary(uninterrupted)
    again: Summary = run_study(config, uninterrupted, resume=True)
    assert again.comparable() == before.comparable()
    assert again.seconds == before.seconds


def test_the_report_names_the_run(uninterrupted: Path) -> None:
    page = (uninterrupted / "report.html").read_text()
    assert "SIMULATED" in page
    assert re.search(r"ε at most <strong>7\.\d+</strong>", page)


@pytest.mark.slow
def test_killed_at_random_moments(uninterrupted: Path, config: StudyConfig, tmp_path: Path) -> None:
    """Killed by a timer, wherever that falls: between two bytes of a journal as well as in the middle of a step.

    A round that is killed begins again under fresh keys, so more messages may have left and been searched; no figure of the study moves.
    """
    run, draw, kills = tmp_path / "run", random.Random(3), 0
    while kills < 40 and _run_in_a_child(config, run, Timer(draw.uniform(0.05, 4.0))) != 0:
        kills += 1
    assert kills > 5
    assert _run_in_a_child(config, run, Silent()) == 0
    one, other = load_summary(uninterrupted).comparable(), load_summary(run).comparable()
    searched, searched_too = _take_searched(one), _take_searched(other)
    assert one == other
    assert searched_too >= searched


def _take_searched(figures: dict[str, Any]) -> int:
    """How many places were searched for leaks, taken out of a summary with all that depends on it."""
    del figures["leaks"]["message_bytes"], figures["gates"]["leaks"]["reason"]
    return int(figures["leaks"].pop("places"))


class Timer(Silent):
    """Kills its own process some seconds after the first stage began."""

    def __init__(self, seconds: float) -> None:
        self.seconds: float | None = seconds

    def start(self, stage: str, total: int) -> None:
        if self.seconds is not None:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whose default is to end the process at once
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
            self.seconds = None
