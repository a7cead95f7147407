"""The alignment stage in a run folder: from registry to registry, killed and resumed, and refused when a stage before it is missing."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from common.adapters import Adapter
from common.bases import load_base
from common.config import (
    AdapterConfig,
    ModelConfig,
    PPOConfig,
    RewardConfig,
    RuleConfig,
    SimulationConfig,
    StudyConfig,
    TrainingConfig,
    WatchConfig,
)
from common.errors import ConfigError, ModelUnavailable, StorageError
from common.models import SharedBase
from server.align import stage
from server.align.checkpoint import PolicyState, save_state
from server.align.judges import train_judges
from server.align.pretraining import Pair
from server.align.stage import align, load_models, prepare
from server.run_folder import RunFolder

PROMPTS = [f"Question {i} about a cough" for i in range(8)]
SMALL = AdapterConfig(rank=2, alpha=4.0)
STUDY = StudyConfig(
    study_id="aligned",
    seed=4,
    model=ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=40, max_answer_tokens=16),
    sft=TrainingConfig(adapter=SMALL),
    reward=RewardConfig(adapter=SMALL.model_copy(update={"last_layers": 1}), members=2),
    ppo=PPOConfig(steps=3, prompts_per_step=4, max_new_tokens=6, length_penalty=0.1),
    simulation=SimulationConfig(hospitals=8),
)


def put(run: RunFolder, base: SharedBase, line: str, seed: int) -> None:
    """Register a random adapter, as a federated stage would."""
    head = line != "sft"
    spec = base.spec((STUDY.reward if head else STUDY.sft).adapter, head=head)
    draws = np.random.default_rng(seed)
    adapter = spec.initial().with_vector(draws.normal(0, 0.1, spec.size()).astype(np.float32))
    run.registry.put(line, adapter.save)


@pytest.fixture
def base() -> SharedBase:
    return load_base("tiny", "float32")


@pytest.fixture
def run(tmp_path: Path, base: SharedBase) -> RunFolder:
    run = RunFolder.create(tmp_path / "run", STUDY)
    for seed, line in enumerate(("sft", "reward-0", "reward-1")):
        put(run, base, line, seed)
    return run


def test_from_registry_to_registry(run: RunFolder, base: SharedBase) -> None:
    version = align(run, base, PROMPTS)
    assert version.name == "policy/1"
    assert version.parents == ("sft/1", "reward-0/1", "reward-1/1")
    assert Adapter.load(version.folder).digest == base.get("policy").digest
    assert version.figures["stopped"] == "finished"
    rows = run.metrics.rows("ppo")
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert {"reward", "kl", "length", "disagreement", "reward_ensemble", "reward_missing_end", "reward_length"} <= rows[0].keys()
    assert not run.checkpoint("policy").exists()
    # Done is done: another call returns the same version, from another process too.
    fresh = load_base("tiny", "float32")
    assert align(run, fresh, PROMPTS) == version
    assert fresh.get("policy").digest == base.get("policy").digest


def test_a_stage_killed_after_a_step_ends_with_the_same_policy(
    run: RunFolder, base: SharedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = align(run, base, PROMPTS)

    class Killed(Exception):
        pass

    def save_then_die(path: Path, state: PolicyState) -> None:
        save_state(path, state)
        if state.steps == 2:
            raise Killed

    other = RunFolder.create(tmp_path / "other", STUDY)
    for seed, line in enumerate(("sft", "reward-0", "reward-1")):
        put(other, base, line, seed)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "save_state", save_then_die)
        with pytest.raises(Killed):
            align(other, load_base("tiny", "float32"), PROMPTS)
    assert other.registry.find("policy") is None
    again = align(other, load_base("tiny", "float32"), PROMPTS)
    assert again.digest == whole.digest
    assert again.figures == whole.figures

    def timeless(of: RunFolder) -> list[dict[str, object]]:
        return [{k: v for k, v in row.items() if not k.startswith("cpu_seconds")} for row in of.metrics.rows("ppo")]

    assert timeless(other) == timeless(run)


def killed_at(run: RunFolder, step: int, moment: str) -> None:
    """Align in this process and die of SIGKILL when the state after `step` steps is about to be saved, or has just been."""

    def save_or_die(path: Path, state: PolicyState) -> None:
        if (state.steps, moment) == (step, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        save_state(path, state)
        if (state.steps, moment) == (step, "after"):
            os.kill(os.getpid(), signal.SIGKILL)

    stage.save_state = save_or_die
    align(run, load_base("tiny", "float32"), PROMPTS)


def test_sigkill_between_any_two_steps_changes_no_bit(run: RunFolder, base: SharedBase, tmp_path: Path) -> None:
    whole = align(run, base, PROMPTS)

    def exact(of: RunFolder) -> list[dict[str, object]]:
        return [{k: v for k, v in row.items() if not k.startswith("cpu_seconds")} for row in of.metrics.rows("ppo")]

    context = multiprocessing.get_context("fork")
    for step, moment in [(step, moment) for step in range(1, STUDY.ppo.steps + 1) for moment in ("before", "after")]:
        other = RunFolder.create(tmp_path / f"{step}-{moment}", STUDY)
        for seed, line in enumerate(("sft", "reward-0", "reward-1")):
            put(other, base, line, seed)
        child = context.Process(target=killed_at, args=(other, step, moment))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        other = RunFolder.open(other.path)
        assert other.registry.find("policy") is None
        again = align(other, load_base("tiny", "float32"), PROMPTS)
        assert (again.digest, again.figures) == (whole.digest, whole.figures), (step, moment)
        assert exact(other) == exact(run), (step, moment)


def test_the_reward_is_fixed_once(run: RunFolder, base: SharedBase) -> None:
    load_models(run, base)
    first = prepare(run, base, PROMPTS)[0]
    scores = first.ensemble.score(PROMPTS, ["Rest."] * 8) if first.ensemble else None
    stored = run.path / "federation" / "reward-scale.json"
    before = stored.read_text()
    again = prepare(run, base, PROMPTS)[0]
    assert again.ensemble is not None
    np.testing.assert_array_equal(again.ensemble.score(PROMPTS, ["Rest."] * 8), scores)
    assert stored.read_text() == before
    prepare(run, base, PROMPTS[:4])
    assert json.loads(stored.read_text())["binding"] != json.loads(before)["binding"], "other prompts, another scale"
    stored.write_text("{")
    with pytest.raises(StorageError, match="remove it to fix the reward's scale again"):
        prepare(run, base, PROMPTS)[0]


def test_a_stage_before_it_that_is_missing_is_named(tmp_path: Path, base: SharedBase) -> None:
    run = RunFolder.create(tmp_path / "run", STUDY)
    put(run, base, "sft", 0)
    put(run, base, "reward-0", 1)
    with pytest.raises(ModelUnavailable, match="no version of `reward-1`"):
        align(run, base, PROMPTS)


def test_rules_shaping_and_judges_of_the_study_reach_the_run(tmp_path: Path, base: SharedBase) -> None:
    ppo = STUDY.ppo.model_copy(
        update={
            "shaping": "sigmoid",
            "running_normalisation": True,
            "rules": (RuleConfig(name="no_dose", must_not=("# mg",)),),
            "watch": WatchConfig(judges=2, pairs=8, window=2, fall=5.0),
        }
    )
    study = STUDY.model_copy(update={"ppo": ppo})
    run = RunFolder.create(tmp_path / "run", study)
    for seed, line in enumerate(("sft", "reward-0", "reward-1")):
        put(run, base, line, seed)
    with pytest.raises(ModelUnavailable, match="no version of `judge-0`"):
        align(run, base, PROMPTS)
    pairs = [Pair(f"Question {i}", "Come back if it stays.", "Rest.") for i in range(16)]
    with pytest.raises(ConfigError, match="15 pairs are too few for 2 judges"):
        train_judges(run, base, pairs[1:])
    assert [v.name for v in train_judges(run, base, pairs)] == ["judge-0/1", "judge-1/1"]
    assert run.registry.latest("judge-0").digest != run.registry.latest("judge-1").digest
    version = align(run, base, PROMPTS)
    assert version.parents == ("sft/1", "reward-0/1", "reward-1/1", "judge-0/1", "judge-1/1")
    rows = run.metrics.rows("ppo")
    assert {"judge", "reward_rule_no_dose", "reward_ensemble", "cpu_seconds_judges"} <= rows[0].keys()
    stored = json.loads((run.path / "federation" / "reward-scale.json").read_text())
    assert len(stored["references"]) == len(PROMPTS)
    assert len(stored["judge_scales"]) == 2
