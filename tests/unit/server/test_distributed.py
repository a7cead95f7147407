"""Two processes under ZeRO-2 and ZeRO-3 against one: the same losses to four decimals, and the same adapter to rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig, ModelConfig, PretrainingConfig, RewardConfig, SimulationConfig, StudyConfig
from common.errors import ConfigError
from server.align.distributed import pretrain_distributed
from server.align.pretraining import Pair, pretrain
from server.public_texts import read_pairs

ROOT = Path(__file__).resolve().parents[3]
STUDY = StudyConfig(
    seed=5,
    model=ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=32, max_answer_tokens=24),
    reward=RewardConfig(
        adapter=AdapterConfig(rank=4, alpha=8.0),
        pretraining=PretrainingConfig(pairs=24, pairs_per_step=4, learning_rate=3e-3, head_learning_rate=1e-2),
    ),
    simulation=SimulationConfig(hospitals=8),
)
PAIRS = [Pair(f"Question {i}", f"Come back if the fever stays, {i}", f"Take one tablet, {i}") for i in range(24)]


def write(folder: Path) -> tuple[Path, Path]:
    study, pairs = folder / "study.toml", folder / "pairs.jsonl"
    study.write_text(tomli_w.dumps(STUDY.model_dump(mode="json", exclude_none=True)))
    rows = ({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in PAIRS)
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return study, pairs


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_two_processes_give_the_losses_of_one(stage: str, tmp_path: Path) -> None:
    base = load_base("tiny", "float32")
    alone = pretrain(base, base.spec(STUDY.reward.adapter, head=True), PAIRS, STUDY.reward, STUDY.model, seed=STUDY.seed)
    study, pairs = write(tmp_path)
    command = [
        Path(sys.executable).parent / "accelerate", "launch", "--config_file", ROOT / f"configs/deepspeed/{stage}.yaml",
        "-m", "server.align.distributed", study, pairs, tmp_path / "out",
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "DS_BUILD_OPS": "0", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run([str(c) for c in command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [json.loads(line)["loss"] for line in done.stdout.splitlines() if line.startswith("{")]
    expected = [step.loss for step in alone.steps]
    assert losses == pytest.approx(expected, abs=5e-5), (losses, expected)
    assert losses[-1] < losses[0]
    found = Adapter.load(tmp_path / "out")
    np.testing.assert_allclose(found.vector(), alone.adapter.vector(), atol=1e-3)


def test_a_reward_that_reads_the_question_is_left_to_one_process() -> None:
    reward = STUDY.reward.model_copy(update={"adapter": STUDY.reward.adapter.model_copy(update={"reads": "question"})})
    with pytest.raises(ConfigError, match=r"set `reward\.adapter\.reads = \"answer\"`, or use one process"):
        pretrain_distributed(STUDY.model_copy(update={"reward": reward}), PAIRS)


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    _, pairs = write(tmp_path)
    assert read_pairs(pairs) == PAIRS
    pairs.write_text(pairs.read_text() + '{"prompt": "x"}\n')
    with pytest.raises(ConfigError, match=r"pairs\.jsonl, line 25: a line is"):
        read_pairs(pairs)
