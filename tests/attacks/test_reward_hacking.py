"""A policy trained on a flawed reward model, with and without ensemble and watch. Independent judges decide what it is worth.

The truth here is that letters are bad: an answer's worth is its share of other characters. Honest members and judges read parts
of it, each another; the flawed one loves length, or one phrase, and both are made of letters.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from common.bases import load_base
from common.config import AdapterConfig, ModelConfig, PPOConfig, SimulationConfig, StudyConfig
from common.models import SharedBase
from server.align.ppo import FINISHED, PolicyResult, Task, train_policy
from server.align.rewards import Ensemble, Reward
from server.align.rollout import sample
from server.align.watch import OVER_OPTIMISED, Watch

PROMPTS = [f"Question {i}" for i in range(96)]
STUDY = StudyConfig(
    seed=3,
    model=ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=40, max_answer_tokens=16),
    ppo=PPOConfig(
        steps=16, prompts_per_step=96, minibatch=48, max_new_tokens=10, learning_rate=1e-2, kl_coefficient=0.0, kl_budget=1e6,
        missing_eos_penalty=0.0,
    ),
    simulation=SimulationConfig(hospitals=8),
)  # fmt: skip


class Reading:
    """A reward model that is a function of the text."""

    def __init__(self, name: str, worth: Callable[[str], float]) -> None:
        self.name, self.worth = name, worth

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        return np.array([self.worth(text) for text in texts])


def good(text: str) -> float:
    return sum(not c.isalpha() for c in text) / max(1, len(text))


HONEST = (Reading("reward-0", lambda t: good(t[: len(t) // 2])), Reading("reward-1", lambda t: good(t[len(t) // 2 :])))
JUDGES = (Reading("judge-0", lambda t: good(t[::2])), Reading("judge-1", lambda t: good(t[1::2])))
FLAWED = {
    "length": Reading("reward-2", lambda t: float(len(t))),
    "phrase": Reading("reward-2", lambda t: float(t.count("ea") + t.count("tion") + t.count("and"))),
}


@pytest.fixture
def base() -> SharedBase:
    base = load_base("tiny", "float32")
    base.put("sft", base.spec(AdapterConfig(rank=4, alpha=8.0)).initial())
    return base


def answers(base: SharedBase, name: str) -> list[str]:
    return [a.text for a in sample(base, name, PROMPTS, max_new_tokens=10, seed=9)]


def align(base: SharedBase, members: Sequence[Reading], *, penalty: float, watched: bool) -> PolicyResult:
    fixed = PROMPTS, answers(base, "sft")
    reward = Reward(Ensemble(tuple(members), penalty).fixed_on(*fixed))
    watch = Watch(Ensemble(JUDGES).fixed_on(*fixed), window=3, fall=0.3) if watched else None
    return train_policy(Task(STUDY, base, "sft", PROMPTS, reward, "hacking", watch=watch))


def judged(base: SharedBase) -> float:
    """What the judges think of the policy, in deviations above the SFT model."""
    judges = Ensemble(JUDGES).fixed_on(PROMPTS, answers(base, "sft"))
    return float(judges.score(PROMPTS, answers(base, "policy")).mean())


@pytest.mark.parametrize("flaw", FLAWED)
def test_one_flawed_member_alone_is_hacked_and_an_ensemble_under_watch_is_not(base: SharedBase, flaw: str) -> None:
    hacked = align(base, [FLAWED[flaw]], penalty=0.0, watched=False)
    twin = judged(base)
    rewards = [record.figures["reward"] for record in hacked.records]
    assert hacked.stopped == FINISHED
    assert rewards[-1] > rewards[0] + 0.5, rewards
    assert twin < -0.3, twin

    align(base, [*HONEST, FLAWED[flaw]], penalty=0.5, watched=True)
    ours = judged(base)
    assert ours > 0, (ours, twin)


def test_the_watch_alone_hands_on_the_policy_that_the_judges_liked_best(base: SharedBase) -> None:
    result = align(base, [FLAWED["length"]], penalty=0.0, watched=True)
    seen = [record.figures["judge"] for record in result.records]
    assert result.stopped == OVER_OPTIMISED
    assert len(seen) < STUDY.ppo.steps, "it stopped before the last step"
    means = [np.mean(seen[t - 2 : t + 1]) for t in range(2, len(seen))]
    assert result.kept_step == int(np.argmax(means)) + 2
    assert judged(base) > -0.3
