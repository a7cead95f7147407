"""From a run that a network carried to its summary and release; a simulated one, and one with gaps, are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from common.bases import load_base
from common.config import EvaluationConfig, GatesConfig, StudyConfig, WatchConfig
from common.privacy.mechanism import Placement, Unit
from server.evaluate.asked import asked_of_sites
from server.evaluate.deployed import is_simulated
from server.evaluate.summary import load_summary
from server.federate.cohort import Enrolment
from server.run_folder import RunFolder, federated_lines, parse_line
from tests.unit.server.test_align_stage import PROMPTS, STUDY
from tests.unit.server.test_coordinator_cli import command  # noqa: F401  # a fixture

SITES = {f"site-{i}": {Unit.PATIENT: 20} for i in range(8)}
GATES = GatesConfig(reward_accuracy=0.0, beat_baselines=False, sft_loss_improves=False, win_rate_above=0.0)


def lines(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def study(**privacy: object) -> StudyConfig:
    ppo = STUDY.ppo.model_copy(update={"watch": WatchConfig(judges=1, pairs=8, window=2, fall=5.0)})
    evaluation = EvaluationConfig(gates=GATES, max_new_tokens=6)
    return STUDY.model_copy(update={"ppo": ppo, "evaluation": evaluation, "privacy": STUDY.privacy.model_copy(update=privacy)})


def trained(folder: Path, of: StudyConfig, *, grid: str = "HttpGrid", attempts: int = 0) -> RunFolder:
    """A run as the federated stages of a deployment leave it."""
    run, base = RunFolder.create(folder, of), load_base("tiny", "float32")
    run.enrol(Enrolment(SITES))
    for seed, line in enumerate(federated_lines(of)):
        stage, member = parse_line(line)
        spec = base.spec(of.stage(stage).adapter, head=line != "sft")
        adapter = spec.initial().with_vector(np.random.default_rng(seed).normal(0, 0.1, spec.size()).astype(np.float32))
        cohort = Enrolment(SITES).cohort(of, stage, member)
        figures = {"grid": grid, "noise_multiplier": 4.0, "rounds": 2, "sites": list(cohort.sites), "bytes_up": 1000}
        run.registry.put(line, adapter.save, figures=figures)
        for step in range(2):
            run.metrics.record(line, step, {"attempt": attempts})
    return run


def test_a_deployed_run_is_summarized_and_released(tmp_path: Path, command) -> None:  # noqa: F811
    run = trained(tmp_path / "run", study())
    public = [{"prompt": f"Question {i}", "chosen": "Come back if it stays.", "rejected": "Rest."} for i in range(8)]
    judges = command("pretrain", run.path, "--judge-pairs", lines(tmp_path / "j.jsonl", public), "--json")
    assert list(judges.json) == ["judge-0/1"], judges.err
    prompts = lines(tmp_path / "p.jsonl", [{"prompt": p} for p in PROMPTS])
    assert command("align", run.path, "--prompts", prompts).code == 0
    pairs = lines(tmp_path / "pairs.jsonl", [{"prompt": f"Held {i}", "chosen": "Seek care today.", "rejected": "Rest."} for i in range(6)])
    held_out = lines(tmp_path / "held.jsonl", [{"prompt": f"Unseen question {i}"} for i in range(4)])
    planted = lines(tmp_path / "planted.jsonl", [{"kind": "canary", "value": "zebra-quartz-lantern"}])
    assert (
        "4 of 4 prompts are among those of PPO"
        in command("summarize", run.path, "--held-out", lines(tmp_path / "s.jsonl", [{"prompt": p} for p in PROMPTS[:4]])).err
    )

    part = command("summarize", run.path, "--pairs", pairs)
    assert "leaks: DOES NOT HOLD" in part.out
    assert "win_rate: DOES NOT HOLD" in part.out
    refused = command("release", run.path)
    assert refused.code == 1
    assert "was not measured" in refused.err

    whole = ("summarize", run.path, "--pairs", pairs, "--held-out", held_out, "--planted", planted, "--json")
    found = command(*whole)
    assert found.code == 0, found.err
    assert all(gate["held"] for gate in found.json["gates"].values()), found.json["gates"]
    assert (found.json["simulated"], found.json["deid"], found.json["sites"], found.json["patients"]) == (False, None, 8, 160)
    assert 0 < found.json["epsilon"]["site-0"] < 8
    assert found.json["leaks"]["places"] > 5
    page = (run.path / "report.html").read_text()
    assert "Its counts, its review and its attestation stay with it" in page
    assert command("release", run.path, "--json").json["released"] == "policy/1"

    (run.path / "notes.txt").write_text("the zebra quartz lantern")
    leaking = command(*whole)
    assert leaking.json["gates"]["leaks"]["held"] is False
    assert command("release", run.path).code == 1


def test_what_a_simulation_carried_is_never_released_as_real(tmp_path: Path) -> None:
    assert not is_simulated(trained(tmp_path / "real", study()))
    for grid in ("LocalGrid", "InMemoryGrid"):
        assert is_simulated(trained(tmp_path / grid, study(), grid=grid))


def test_steps_are_those_asked_of_each_site(tmp_path: Path) -> None:
    run = trained(tmp_path / "site", study(), attempts=1)
    accounts = asked_of_sites(run)
    assert {len(steps) for steps in accounts.values()} == {4}, "two rounds of SFT and two of one reward member; a repeat is the same step"
    assert {step.mechanism.noise_multiplier for steps in accounts.values() for step in steps} == {4.0}
    shared = trained(tmp_path / "sum", study(placement=Placement.SUM), attempts=1)
    assert {len(steps) for steps in asked_of_sites(shared).values()} == {8}, "a repeated round is a new step"


def test_a_public_start_comes_before_the_members(tmp_path: Path, command) -> None:  # noqa: F811
    of = study()
    pairs = [{"prompt": f"Question {i}", "chosen": "Come back.", "rejected": "Rest."} for i in range(8)]
    early = RunFolder.create(tmp_path / "early", of)
    file = lines(tmp_path / "pairs.jsonl", pairs)
    assert list(command("pretrain", early.path, "--pairs", file, "--json").json) == ["reward-public/1"]
    assert early.registry.latest("reward-public").figures["pairs"] == 8
    assert (
        "8 pairs of the judges are among those of the reward" in command("pretrain", early.path, "--pairs", file, "--judge-pairs", file).err
    )
    late = trained(tmp_path / "late", of)
    assert "`reward-0` began without a public start" in command("pretrain", late.path, "--pairs", file).err
    assert command("pretrain", late.path).code == 2
    unwatched = RunFolder.create(tmp_path / "unwatched", STUDY)
    assert "`ppo.watch.judges` is 0" in command("pretrain", unwatched.path, "--judge-pairs", file).err


def test_a_missing_policy_is_named(tmp_path: Path, command) -> None:  # noqa: F811
    run = trained(tmp_path / "run", study())
    assert "no prompts yet" in command("summarize", run.path).err
    (run.path / "prompts.jsonl").write_text('{"prompt": "Why?"}\n')
    missing = command("summarize", run.path)
    assert missing.code == 1
    assert "no version of `judge-0`" in missing.err
    with pytest.raises(Exception, match="there is no such file"):
        load_summary(run.path)
