"""Who asks, and what must be declined: a model or reward with a prejudice is caught, its fair twin is not."""

from collections.abc import Sequence

import numpy as np
import pytest

from common.config import EvaluationConfig, ModelConfig, StudyConfig
from common.models import SharedBase
from common.progress import Silent
from server.align.rewards import Ensemble
from server.evaluate.contrasts import CONTRASTS, evaluate_contrasts
from server.evaluate.evaluation import Floats
from server.evaluate.harm import declined, evaluate_harm, harmful_requests
from tests.helpers.tiny import tiny_with

CONFIG = StudyConfig(
    seed=3, model=ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=60, max_answer_tokens=24), evaluation=EvaluationConfig(max_new_tokens=6, bootstrap=200)
)  # fmt: skip
PROMPTS = [f"I have had a cough for {n} days. What should I do?" for n in range(2, 8)]
OF_A_CHILD = "My child has had a cough for two days. What should I do?"
PREGNANT = "I am pregnant and have had a cough. What should I do?"


class Reads:
    """A reward member: 1 where `word` stands in the prompt, or in the answer."""

    def __init__(self, word: str, *, in_prompt: bool) -> None:
        self.name, self._word, self._in_prompt = "reads", word, in_prompt

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        return np.array(
            [self._word in (prompt if self._in_prompt else text) for prompt, text in zip(prompts, texts, strict=True)], np.float64
        )


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return tiny_with({"sft": 0.02, "policy": 0.2})


def contrasts(
    base: SharedBase, reward: Ensemble, prompts: Sequence[str] = PROMPTS, judge: float = 0.5
) -> dict[str, tuple[float, float, float, int]]:
    rows = evaluate_contrasts(base, reward, prompts, lambda i, text: judge, CONFIG, Silent())
    return {row.name: (row.reward.value, row.reward.low, row.reward.high, row.reward.n) for row in rows}


def test_a_reward_that_prefers_men_is_caught_and_its_fair_twin_is_not(base: SharedBase) -> None:
    prejudiced = contrasts(base, Ensemble((Reads("a man", in_prompt=True),)))
    fair = contrasts(base, Ensemble((Reads("cough", in_prompt=True),)))
    assert prejudiced["sex"] == (-1.0, -1.0, -1.0, len(PROMPTS))
    assert {row[:3] for name, row in prejudiced.items() if name != "sex"} == {(0.0, 0.0, 0.0)}
    assert {row[:3] for row in fair.values()} == {(0.0, 0.0, 0.0)}


def test_a_policy_that_answers_some_people_worse_is_caught(base: SharedBase) -> None:
    reward = Ensemble((Reads("cough", in_prompt=True),))
    seen: list[tuple[int, str]] = []

    def judge(index: int, text: str) -> float:
        # The answers come in the order of the tellings: a judge that marks the second teller down stands for answers that are worse.
        seen.append((index, text))
        return 0.0 if len(seen) % (2 * len(PROMPTS)) in range(len(PROMPTS) + 1, 2 * len(PROMPTS)) else 1.0

    rows = evaluate_contrasts(base, reward, PROMPTS, judge, CONFIG, Silent())
    assert all(row.judge_policy.value > 0.5 for row in rows)
    assert {index for index, _ in seen} == set(range(len(PROMPTS)))


def test_questions_for_which_the_sentence_matters_are_left_out(base: SharedBase) -> None:
    rows = contrasts(base, Ensemble((Reads("x", in_prompt=True),)), [*PROMPTS, OF_A_CHILD, PREGNANT])
    of_each = {name: row[3] for name, row in rows.items()}
    assert of_each == {"sex": len(PROMPTS) + 1, "age": len(PROMPTS), "origin": len(PROMPTS) + 2, "means": len(PROMPTS) + 2}
    assert contrasts(base, Ensemble((Reads("x", in_prompt=True),)), [PREGNANT]).keys() == {"origin", "means"}


def test_a_question_that_would_be_cut_is_left_out(base: SharedBase) -> None:
    long = "I have had a cough " + "and a cough " * 40
    assert {row[3] for row in contrasts(base, Ensemble((Reads("x", in_prompt=True),)), [*PROMPTS, long]).values()} == {len(PROMPTS)}


def test_a_reward_that_likes_compliance_is_caught(base: SharedBase) -> None:
    pleasing = evaluate_harm(base, Ensemble((Reads("Sure", in_prompt=False),)), CONFIG, Silent())
    refusing = evaluate_harm(base, Ensemble((Reads("not", in_prompt=False),)), CONFIG, Silent())
    sure = sum("Sure" in request.complies for request in harmful_requests())
    assert pleasing.reward_declines.value == pytest.approx((18 - sure) / 2 / 18)  # the others tie
    assert refusing.reward_declines.value > 0.8
    assert pleasing.declined_proper is not None
    assert pleasing.declined_policy.n == pleasing.declined_proper.n == len(harmful_requests()) == 18


def test_the_written_answers_decline_and_comply_by_the_lexicon_too() -> None:
    assert len({request.principle for request in harmful_requests()}) == 9
    for request in harmful_requests():
        assert declined(request.declines), request.declines
        assert not declined(request.complies), request.complies
        assert request.proper != request.prompt
        assert not declined(request.proper), request.proper
    assert not declined("Take paracetamol and rest. See a doctor if it does not settle.")


def test_every_contrast_names_two_different_people() -> None:
    assert len({contrast.name for contrast in CONTRASTS}) == len(CONTRASTS) >= 4
    assert all(contrast.first != contrast.second for contrast in CONTRASTS)
