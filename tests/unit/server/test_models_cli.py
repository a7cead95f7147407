"""align, evaluate, release and rollback as the desk types them, on a run folder with `tiny`."""

import json
from pathlib import Path

import pytest

from common.bases import load_base
from common.errors import ConfigError
from server.evaluate.gate import summarize
from server.evaluate.summary import Version as Row
from server.public_texts import read_prompts, read_questions, read_site_pairs
from server.run_folder import RunFolder
from tests.helpers.figures import figures
from tests.unit.server.test_align_stage import PROMPTS, STUDY, put
from tests.unit.server.test_coordinator_cli import command  # noqa: F401  # a fixture

QUESTIONS = [{"question": "Which?", "options": ["one tablet", "a stiff neck", "none"], "answer_index": 1}] * 4


def lines(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run, base = RunFolder.create(tmp_path / "run", STUDY), load_base("tiny", "float32")
    for seed, line in enumerate(("sft", "reward-0", "reward-1")):
        put(run, base, line, seed)
    return run


def test_from_prompts_to_a_policy_to_figures(run: RunFolder, command, tmp_path: Path) -> None:  # noqa: F811
    refused = command("align", run.path)
    assert (refused.code, refused.out) == (1, "")
    assert "give public ones with `align RUN --prompts F.jsonl`" in refused.err
    done = command("align", run.path, "--prompts", lines(tmp_path / "p.jsonl", [{"prompt": p} for p in PROMPTS]), "--json")
    assert done.json["policy"] == "policy/1"
    assert done.json["stopped"] == "finished"
    assert command("align", run.path, "--json").json == done.json, "a policy that is there is not trained again"

    pairs = [{"prompt": f"Question {i}", "chosen": "Seek care.", "rejected": "Rest.", "site": "ab"[i % 2]} for i in range(6)]
    found = command("evaluate", run.path, "--pairs", lines(tmp_path / "pairs.jsonl", pairs), "--json").json
    assert set(found) == {"pairs", "accuracy", "accuracy_low", "accuracy_high", "by_site"}
    assert found["pairs"] == 6
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    assert {site: e["pairs"] for site, e in found["by_site"].items()} == {"a": 3, "b": 3}

    exam = command("evaluate", run.path, "--questions", lines(tmp_path / "q.jsonl", QUESTIONS), "--json").json["questions"]
    assert exam["chance"] == pytest.approx(1 / 3)
    assert {name: exam[name]["questions"] for name in ("base", "sft", "policy")} == {"base": 4, "sft": 4, "policy": 4}
    assert command("evaluate", run.path).code == 2


def test_new_reward_models_make_a_new_policy_and_can_be_rolled_back(run: RunFolder, command, tmp_path: Path) -> None:  # noqa: F811
    prompts = lines(tmp_path / "p.jsonl", [{"prompt": p} for p in PROMPTS])
    assert command("align", run.path, "--prompts", prompts, "--json").json["policy"] == "policy/1"
    put(run, load_base("tiny", "float32"), "reward-1", 77)
    assert command("align", run.path, "--json").json["policy"] == "policy/2"
    assert run.registry.latest("policy").parents == ("sft/1", "reward-0/1", "reward-1/2")
    assert run.metrics.rows("ppo-2")
    told = command("rollback", "reward-1/1", "--run", run.path, "--json").json
    assert (told["in_use"], told["before"]) == ("reward-1/1", "reward-1/2")
    assert command("rollback", "policy/1", "--run", run.path).out.strip() == "policy/1 is in use instead of policy/2"
    assert command("align", run.path, "--json").json["policy"] == "policy/1", "it stands on the reward models that are in use"
    assert command("log", "verify", run.path).code == 0
    assert command("rollback", "policy/9", "--run", run.path).code == 1


def test_a_release_needs_real_hospitals_every_gate_and_this_very_policy(run: RunFolder, command, tmp_path: Path) -> None:  # noqa: F811
    version = run.registry.put("policy", load_base_policy)
    row = Row(line="policy", number=1, digest=version.digest)

    def summary(**changes: object) -> None:
        of = figures().model_copy(update={"simulated": False, "config_digest": run.study.digest, "lineage": (row,)} | changes)
        summarize(of, run.study).write(run.path)

    assert "summary.json: there is no such file" in command("release", run.path).err
    summary(simulated=True)
    refused = command("release", run.path)
    assert refused.code == 1
    assert "the run is a simulation" in refused.err
    summary(leaks=None)
    assert "leaks" in command("release", run.path).err
    summary(lineage=())
    assert "is not about policy/1" in command("release", run.path).err
    summary()
    done = command("release", run.path, "--json")
    assert (done.code, done.json["released"], done.json["digest"]) == (0, "policy/1", version.digest)
    assert [r.kind for r in RunFolder.open(run.path).registry.journal.rows()][-1] == "release"
    assert command("log", "verify", run.path).code == 0


def load_base_policy(folder: Path) -> None:
    (folder / "adapter.bin").write_text("weights")


@pytest.mark.parametrize(
    ("read", "line"),
    [
        (read_prompts, {"question": "x"}),
        (read_prompts, {"prompt": " "}),
        (read_site_pairs, {"prompt": "p", "chosen": "c"}),
        (read_questions, {"question": "q", "options": ["a", "b"], "answer_index": 2}),
        (read_questions, {"question": "q", "options": ["a"], "answer_index": 0}),
    ],
)
def test_a_line_that_is_something_else_is_named_without_its_text(read, line: dict, tmp_path: Path) -> None:
    path = lines(tmp_path / "f.jsonl", [line])
    with pytest.raises(ConfigError, match=r"f\.jsonl, line 1: a line is \{"):
        read(path)
    with pytest.raises(ConfigError, match="the file is empty"):
        read(lines(tmp_path / "empty.jsonl", []))


def test_files_of_lines_are_read_as_they_come_and_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes('\ufeff{"prompt": "one\u2028two"}\r\n\r\n{"prompt": "three"}'.encode())
    assert read_prompts(path) == ["one\u2028two", "three"]
    for data, said in ((b"\xff\xff", "not a text file in UTF-8"), (b"[" * 100_000, "line 1"), (b"\n\n", "the file is empty")):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=said):
            read_prompts(path)
    with pytest.raises(ConfigError, match="Is a directory"):
        read_prompts(tmp_path)
