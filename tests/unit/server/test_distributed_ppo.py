"""PPO on two processes under ZeRO-2 and ZeRO-3 against one: the same figures to four decimals, and a run that changes its processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator

from common.adapters import Adapter
from common.bases import load_base
from common.config import StudyConfig
from common.errors import ConfigError
from common.models import Encoded, SharedBase
from server.align.distributed_ppo import Party, joined, train_together
from server.align.experience import Stopwatch, collect
from server.align.ppo import install, start
from server.align.stage import align, load_models, plan
from server.public_texts import encoded_examples
from server.run_folder import RunFolder
from tests.unit.server.test_align_stage import PROMPTS, STUDY, put

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {
    "prompts_per_step": 4,
    "answers_per_prompt": 2,
    "minibatch": 4,
    "learning_rate": 5e-3,
    "entropy_coefficient": 0.01,
    "kl_budget": 1e6,
}
SHARED = STUDY.model_copy(update={"ppo": STUDY.ppo.model_copy(update=SETTINGS)})
MORE = {"value_trunk": "own", "running_normalisation": True, "ptx_coefficient": 0.5, "temperature": 0.8}
"""What goes another way on several processes: a second trunk, a scale over all shares, examples that ride along."""
WHOLE = SHARED.model_copy(update={"ppo": SHARED.ppo.model_copy(update=MORE)})
STUDIES = {"shared": SHARED, "whole": WHOLE}
EXAMPLES = [{"prompt": f"Why does my knee hurt {i}?", "answer": "Rest it. Come back if it swells." + " Soon." * i} for i in range(5)]


def prepared(folder: Path, base: SharedBase, study: StudyConfig = SHARED) -> RunFolder:
    run = RunFolder.create(folder, study)
    for seed, line in enumerate(("sft", "reward-0", "reward-1")):
        put(run, base, line, seed)
    run.prompts_file.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    (folder / "examples.jsonl").write_text("".join(json.dumps(example) + "\n" for example in EXAMPLES))
    return run


def examples(run: RunFolder, base: SharedBase) -> list[Encoded]:
    return encoded_examples(base, run.study, run.path / "examples.jsonl")


def launch(zero: str, run: RunFolder, *, stop_after: int | None = None) -> None:
    """Train with two processes; with `stop_after` both kill themselves after that many steps."""
    module = ["-m", "server.align.distributed_ppo"] if stop_after is None else ["-m", "tests.helpers.killed_ppo", str(stop_after)]
    command = [
        Path(sys.executable).parent / "accelerate", "launch", "--config_file", ROOT / f"configs/deepspeed/{zero}.yaml",
        *module, run.path, "--examples", run.path / "examples.jsonl",
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "DS_BUILD_OPS": "0", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run([str(c) for c in command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=580, check=False)
    assert (done.returncode == 0) == (stop_after is None), done.stderr[-4000:]


def equal_to_four_decimals(one: RunFolder, other: RunFolder) -> None:
    rows, theirs = (r.metrics.rows("ppo") for r in (one, other))
    assert len(rows) == len(theirs) == SHARED.ppo.steps + 1
    for row, their in zip(rows, theirs, strict=True):
        of = {key: value for key, value in row.items() if not key.startswith("cpu_seconds") and isinstance(value, float)}
        assert {key: their[key] for key in of} == pytest.approx(of, abs=5e-5), row["step"]
    found, expected = (Adapter.load(r.registry.latest("policy").folder) for r in (other, one))
    np.testing.assert_allclose(found.vector(), expected.vector(), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["zero2", "zero3"])
@pytest.mark.parametrize("name", STUDIES)
def test_two_processes_give_the_figures_of_one(zero: str, name: str, tmp_path: Path) -> None:
    base, study = load_base("tiny", "float32"), STUDIES[name]
    alone, together = prepared(tmp_path / "one", base, study), prepared(tmp_path / "two", base, study)
    align(alone, base, PROMPTS, examples=examples(alone, base))
    launch(zero, together)
    equal_to_four_decimals(alone, together)


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_a_run_that_was_killed_goes_on_with_the_same_figures(zero: str, tmp_path: Path) -> None:
    base = load_base("tiny", "float32")
    alone, together = prepared(tmp_path / "one", base, WHOLE), prepared(tmp_path / "two", base, WHOLE)
    align(alone, base, PROMPTS, examples=examples(alone, base))
    launch(zero, together, stop_after=2)
    assert together.registry.find("policy") is None
    with pytest.raises(ConfigError, match="left by several processes; go on with as many"):
        align(together, load_base("tiny", "float32"), PROMPTS, examples=examples(together, base))
    launch(zero, together)
    equal_to_four_decimals(alone, together)
    assert not list((together.path / "federation").glob("policy*"))


@pytest.mark.parametrize("name", STUDIES)
def test_one_process_without_deepspeed_gives_the_figures_of_the_loop(name: str, tmp_path: Path) -> None:
    base, study = load_base("tiny", "float32"), STUDIES[name]
    alone, together = prepared(tmp_path / "one", base, study), prepared(tmp_path / "two", base, study)
    align(alone, base, PROMPTS, examples=examples(alone, base))
    fresh = load_base("tiny", "float32")
    errand = plan(together, fresh, PROMPTS, load_models(together, fresh), examples=examples(together, fresh))
    result = train_together(Accelerator(cpu=True), errand.task, None, moments=tmp_path / "moments", save=errand.save)
    errand.register(result)
    equal_to_four_decimals(alone, together)
    rows = together.metrics.rows("ppo")
    assert ("ptx_loss" in rows[0]) == (study.ppo.ptx_coefficient > 0)


class Alone:
    """One process, as accelerate shows it without DeepSpeed."""

    num_processes, process_index = 1, 0


def test_processes_that_cannot_share_evenly_are_refused(tmp_path: Path) -> None:
    base = load_base("tiny", "float32")
    run = prepared(tmp_path / "even", base)
    task = plan(run, base, PROMPTS, load_models(run, base)).task
    three = type("Three", (Alone,), {"num_processes": 3})()
    with pytest.raises(ConfigError, match=r"`ppo\.prompts_per_step` is 4, which does not fall evenly to 3 processes"):
        Party(three, task, start(task), tmp_path)


def test_shares_join_to_the_experience_of_one(tmp_path: Path) -> None:
    base = load_base("tiny", "float32")
    run = prepared(tmp_path / "run", base)
    task = plan(run, base, PROMPTS, load_models(run, base)).task
    _, head = install(task, start(task))

    def collected(prompts: list[str]):
        asked = [p for p in prompts for _ in range(2)]
        return collect(base, asked, task.reward, head, task.config, reference="sft", max_prompt_tokens=40, seed=3, watch=Stopwatch())

    whole, found = collected(PROMPTS[:4]), joined([collected(PROMPTS[0:4:2]), collected(PROMPTS[1:4:2])], 2)
    assert (found.prompts, found.rows) == (whole.prompts, whole.rows)
    for name in ("mask", "logp", "reference", "kl", "values"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-5, err_msg=name)
    for name in ("total", "learned", "shaped", "disagreement"):
        np.testing.assert_allclose(getattr(found.rewarded, name), getattr(whole.rewarded, name), atol=1e-5, err_msg=name)
    assert found.entropy == pytest.approx(whole.entropy, abs=1e-5)
