"""PPO tried out beside a run's own: from several seeds, and against a flawed reward; killed, resumed, and shown in the report."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from common.bases import shared_base
from common.config import AdapterConfig, EvaluationConfig, StudyConfig, load_study
from common.errors import ModelUnavailable, StorageError
from common.progress import Silent
from server.align.checkpoint import PolicyState, save_state
from server.evaluate.gate import summarize
from server.run_folder import RunFolder
from simulations.cli import app
from simulations.hospitals import source_of
from simulations.machine.workers import Workers
from simulations.trials import keeping
from simulations.trials.hacking import hacking, loves_a_phrase
from simulations.trials.learning import learning
from simulations.world import World
from tests.helpers.figures import figures
from tests.unit.server.test_align_stage import put

SMALL = AdapterConfig(rank=2, alpha=4.0)


@pytest.fixture
def study() -> StudyConfig:
    smoke = load_study(Path(__file__).parents[3] / "configs" / "smoke.toml")
    ppo = smoke.ppo.model_copy(update={"steps": 2, "watch": smoke.ppo.watch.model_copy(update={"judges": 0}), "max_new_tokens": 6})
    evaluation = EvaluationConfig(prompts=8, max_new_tokens=6, gates=smoke.evaluation.gates)
    reward = smoke.reward.model_copy(update={"adapter": SMALL.model_copy(update={"last_layers": 1})})
    return smoke.model_copy(
        update={"ppo": ppo, "evaluation": evaluation, "reward": reward, "sft": smoke.sft.model_copy(update={"adapter": SMALL})}
    )


@pytest.fixture
def run(study: StudyConfig, tmp_path: Path) -> RunFolder:
    run, base = RunFolder.create(tmp_path / "run", study), shared_base("tiny", "float32")
    for seed, line in enumerate(("sft", "reward-0", "reward-1")):
        put(run, base, line, seed)
    return run


def world(run: RunFolder) -> World:
    return World(run, source_of(run.study), Silent(), Workers(1))


def test_each_seed_trains_a_policy_of_its_own_and_is_measured_once(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = learning(world(run), [1, 2])
    assert [row.seed for row in rows] == [1, 2]
    assert rows[0].reward_before == rows[1].reward_before, "the same SFT model, questions and draws"
    assert rows[0].reward_after != rows[1].reward_after
    assert all(row.steps == 2 and row.stopped == "finished" and row.kl > 0 and row.cpu_seconds > 0 for row in rows)
    assert run.registry.find("policy") is None, "the run's own policy is not touched"
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "train_policy", None)
        assert learning(world(run), [1, 2]) == rows
    damaged = next((run.path / "trials").glob("seed-1-*/figures.json"))
    damaged.write_text("{")
    with pytest.raises(StorageError, match="remove it to measure the trial again"):
        learning(world(run), [1])


def test_a_trial_killed_after_a_step_ends_with_the_same_figures(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = learning(world(run), [1])
    folder = next((run.path / "trials").glob("seed-1-*"))
    (folder / "figures.json").unlink()

    class Killed(Exception):
        pass

    def save_then_die(path: Path, state: PolicyState) -> None:
        save_state(path, state)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "save_state", save_then_die)
        with pytest.raises(Killed):
            learning(world(run), [1])
    assert (folder / "ppo.safetensors").exists()
    (again,) = learning(world(run), [1])
    assert again.model_dump(exclude={"cpu_seconds"}) == whole.model_dump(exclude={"cpu_seconds"})
    assert not (folder / "ppo.safetensors").exists()


def test_every_flaw_is_tried_alone_and_under_watch_with_judges_of_the_trials_own(run: RunFolder) -> None:
    rows = hacking(world(run), 2)
    assert [(row.flaw.partition(":")[0], row.protected) for row in rows] == [
        ("length", False),
        ("length", True),
        ("phrase", False),
        ("phrase", True),
    ]
    assert len({row.worth_before for row in rows}) == 1
    assert all(row.kl > 0 for row in rows if not row.protected)
    assert run.registry.find("judge-0") is None, "the run's own registry is not touched"
    assert (run.path / "trials" / "registry" / "judge-1").is_dir()
    before = sorted((run.path / "trials").iterdir())
    assert hacking(world(run), 2) == rows
    assert sorted((run.path / "trials").iterdir()) == before


def test_the_phrase_is_the_common_pair_of_words_whose_answers_are_surely_worth_least() -> None:
    texts = ["it may go", "it may rain", "so it may", "is a help", "is a cold", "a bad day", "a bad day", "once only"]
    flawed = loves_a_phrase(texts, np.array([-1.0, -1.1, -0.9, 1.0, 2.0, -8.0, 4.0, -9.0]))
    assert flawed.name == "phrase: it may", "a single answer, or two of which one is good, may be chance"
    assert flawed([""] * 2, ["It may pass, it may not", "no"]).tolist() == pytest.approx([2 - 0.006, -0.001])
    rare = [f"w{i} v{i}" for i in range(20)]
    flawed = loves_a_phrase([*rare * 3, "bad luck", "bad luck"], np.array([*np.arange(60.0), -9.0, -9.1]))
    assert flawed.name == "phrase: w0 v0", "a phrase that the model hardly says could not be found by PPO"


def test_a_run_without_reward_models_is_named(study: StudyConfig, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "early", study)
    with pytest.raises(ModelUnavailable, match="no version of `sft`"):
        learning(world(run), [1])


def test_the_commands_print_their_rows_and_put_them_into_the_report(run: RunFolder) -> None:
    summarize(figures(), run.study).write(run.path)
    asked = CliRunner().invoke(app, ["learning", str(run.path), "--seed", "1", "--json"])
    assert asked.exit_code == 0, asked.stderr
    (row,) = json.loads(asked.stdout)["rows"]
    assert {"seed", "rise", "kl", "judge_before", "judge_after", "win_rate", "cpu_seconds"} <= row.keys()
    shown = CliRunner().invoke(app, ["hacking", str(run.path), "--steps", "1"])
    assert shown.exit_code == 0, shown.stderr
    assert "flaw" in shown.stdout
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["ppo"]["seeds"] == [row]
    assert len(summary["ppo"]["hacking"]) == 4
    page = (run.path / "report.html").read_text()
    assert "PPO again from other seeds" in page
    assert "deliberately flawed" in page
