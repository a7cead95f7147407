"""GRPO, RLOO and DPO of TRL, really run on `tiny` from an SFT adapter."""

from collections.abc import Sequence

import numpy as np
import pytest

from common.bases import load_base
from common.config import AdapterConfig, ModelConfig, PPOConfig, SimulationConfig, StudyConfig
from common.errors import ConfigError
from common.models import SharedBase
from server.align.alternatives import group_relative, preference_optimisation
from server.align.pretraining import Pair
from server.align.rewards import Reward
from server.align.rollout import Answer
from server.align.terms import Weighted

PROMPTS = [f"Question {i}" for i in range(8)]
STUDY = StudyConfig(
    seed=2,
    model=ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=40, max_answer_tokens=16),
    ppo=PPOConfig(steps=2, prompts_per_step=8, max_new_tokens=6, learning_rate=1e-2),
    simulation=SimulationConfig(hospitals=8),
)
quiet = pytest.mark.filterwarnings("ignore")  # TRL's and accelerate's own deprecations; ours are errors everywhere else


@pytest.fixture
def base() -> SharedBase:
    base = load_base("tiny", "float32")
    spec = base.spec(AdapterConfig(rank=2, alpha=4.0))
    draws = np.random.default_rng(3)
    base.put("sft", spec.initial().with_vector(draws.normal(0, 0.05, spec.size()).astype(np.float32)))
    return base


@quiet
@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_the_same_reward_serves_grpo_and_rloo(base: SharedBase, algorithm: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[str, Answer]] = []

    def count(prompts: Sequence[str], answers: Sequence[Answer]) -> np.ndarray:
        seen.extend(zip(prompts, answers, strict=True))
        return np.array([float(len(set(answer.ids))) for answer in answers])

    before = base.get("sft").digest
    result = group_relative(STUDY, base, "sft", PROMPTS, Reward(None, (Weighted("distinct", count),)), algorithm=algorithm)  # type: ignore[arg-type]  # a parametrised literal
    assert {question for question, _ in seen} <= set(PROMPTS), "terms see the question, not its chat format"
    assert all(1 <= len(answer.ids) <= 6 and answer.ended == (base.end_id in answer.ids) for _, answer in seen)
    rewards = [row["reward"] for row in result.log if "reward" in row]
    assert len(rewards) == 2
    assert rewards[0] == pytest.approx(np.mean([len(set(a.ids)) for _, a in seen[:8]]))
    assert not capsys.readouterr().out, "standard output is the caller's"
    start = base.get("sft")
    assert start.digest == before, "the shared base is only read"
    moved = [name for name, tensor in result.policy.tensors.items() if (tensor != start.tensors[name]).any()]
    assert len(moved) == len(start.tensors)


@quiet
def test_dpo_learns_the_order_of_public_pairs(base: SharedBase) -> None:
    pairs = [Pair(f"Question {i}", "Seek urgent care.", "Take one tablet.") for i in range(8)]
    study = STUDY.model_copy(update={"ppo": STUDY.ppo.model_copy(update={"steps": 8})})
    result = preference_optimisation(study, base, "sft", pairs)
    losses = [row["loss"] for row in result.log if "loss" in row]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-3), "policy and reference start equal"
    assert losses[-1] < 0.5
    base.put("policy", result.policy)


def test_refusals(base: SharedBase) -> None:
    reward = Reward(None, (Weighted("none", lambda prompts, answers: np.zeros(len(answers))),))
    with pytest.raises(ConfigError, match="groups of 3"):
        group_relative(STUDY, base, "sft", PROMPTS, reward, answers_per_prompt=3)
    with pytest.raises(ConfigError, match="too few"):
        group_relative(STUDY, base, "sft", PROMPTS[:1], reward)
    with pytest.raises(ConfigError, match="no public pairs"):
        preference_optimisation(STUDY, base, "sft", [])
