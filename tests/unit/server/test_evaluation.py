"""The evaluation on real tiny objects: what it reports is what the parts say, and a better model looks better."""

from collections.abc import Sequence

import numpy as np
import pytest

from common.config import EvaluationConfig, ModelConfig, StudyConfig
from common.models import SharedBase
from common.progress import Silent
from server.align.rewards import Ensemble
from server.evaluate.evaluation import Floats, JudgedPair, evaluate_policy, evaluate_reward, evaluate_sft, own_scale
from server.evaluate.intervals import wilson
from server.evaluate.quality import Example
from tests.helpers.tiny import tiny_with

CONFIG = StudyConfig(
    seed=3, model=ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=40, max_answer_tokens=24), evaluation=EvaluationConfig(max_new_tokens=8, bootstrap=200)
)  # fmt: skip
PROMPTS = [f"I have had a cough for {n} days. What should I do?" for n in range(2, 14)]


class Likes:
    """A reward member that counts one letter."""

    def __init__(self, letter: str) -> None:
        self.name = letter

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        return np.array([t.count(self.name) for t in texts], np.float64)


REWARD = Ensemble((Likes("e"), Likes("o")), variance_penalty=0.5)


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return tiny_with({"sft": 0.02, "policy": 0.2})


def test_sft_improvement_is_before_less_after_with_its_interval(base: SharedBase) -> None:
    examples = [Example(p, "Come back if the fever does not settle.") for p in PROMPTS]
    found = evaluate_sft(base, "sft", examples, CONFIG, Silent())
    assert found.improvement.value == pytest.approx(found.loss_before - found.loss_after)
    assert found.improvement.low <= found.improvement.value <= found.improvement.high
    assert found == evaluate_sft(base, "sft", examples, CONFIG, Silent())


def test_reward_accuracy_apart_by_group() -> None:
    pairs = [
        JudgedPair("a", "eee", "", {"on_policy": "no"}),
        JudgedPair("b", "e", "ee", {"on_policy": "yes"}),
        JudgedPair("c", "oo", "x", {"on_policy": "yes"}),
    ]
    found = evaluate_reward(REWARD, pairs, {"length": wilson(2, 3)}, CONFIG, Silent(), batch=2)
    # combine: "eee" 1.5 − 1.125 = .375 > 0; "e" .375 < "ee" .5; "oo" .5 > 0
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert [m.value for m in found.members] == pytest.approx([1.5 / 3, 2 / 3])
    assert {k: v.value for k, v in found.by["on_policy"].items()} == {"no": 1.0, "yes": 0.5}
    assert found.baselines["length"].value == pytest.approx(2 / 3)


def test_policy_figures_come_from_the_answers(base: SharedBase) -> None:
    figures, generations = evaluate_policy(
        base, REWARD, PROMPTS, lambda i, text: len(text) + i, CONFIG, Silent(), judge_name="length", steps=4, stopped=None
    )
    assert [g.prompt for g in generations] == PROMPTS
    assert figures.judge_before == pytest.approx(np.mean([len(g.sft) + i for i, g in enumerate(generations)]))
    wins = sum((len(g.policy) > len(g.sft)) + 0.5 * (len(g.policy) == len(g.sft)) for g in generations)
    assert figures.win_rate == pytest.approx(wins / len(PROMPTS))
    assert figures.reward_after == pytest.approx(float(REWARD.combined(REWARD.score(PROMPTS, [g.policy for g in generations])).mean()))
    assert figures.kl > 0.1
    again = evaluate_policy(
        base, REWARD, PROMPTS, lambda i, text: len(text) + i, CONFIG, Silent(), judge_name="length", steps=4, stopped=None
    )
    assert again == (figures, generations)


def test_a_policy_that_is_the_sft_model_ties_at_no_distance(base: SharedBase) -> None:
    figures, generations = evaluate_policy(
        base,
        REWARD,
        PROMPTS,
        lambda i, text: len(text),
        CONFIG,
        Silent(),
        judge_name="length",
        policy="sft",
        steps=0,
        stopped=None,
    )
    assert all(g.sft == g.policy for g in generations)
    assert (figures.win_rate, figures.kl) == (0.5, 0.0)
    assert figures.reward_before == figures.reward_after


def test_calibration_uses_the_members_own_units() -> None:
    texts = ["e", "eee", "o", "oooo"]
    scaled = REWARD.fixed_on(["q"] * 4, texts)
    margins = scaled.score(["q"], ["eee"]) - scaled.score(["q"], ["o"])
    assert own_scale(scaled, margins) == pytest.approx([(3 - 1) / 2])
    assert own_scale(REWARD, np.array([[3.0], [-1.0]])) == pytest.approx([1.0])
