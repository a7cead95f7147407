"""Rewards: the ensemble's arithmetic, its fixed scale, plain terms, and every refusal."""

import numpy as np
import pytest

from common.config import AdapterConfig, ModelConfig
from common.errors import ConfigError, ModelUnavailable, NotFinite, ShapeError
from common.models import load_base
from server.align.members import AdapterMember
from server.align.prompts import prompts_of_step
from server.align.rewards import Ensemble, Reward
from server.align.rollout import Answer
from server.align.terms import Length, Weighted, missing_end


class Fixed:
    """A member that looks its scores up."""

    def __init__(self, name: str, scores: dict[str, float]) -> None:
        self.name, self.scores = name, scores

    def __call__(self, prompts: list[str], texts: list[str]) -> np.ndarray:
        return np.array([self.scores[text] for text in texts])


FIRST = Fixed("reward-0", {"a": 1.0, "b": 3.0, "c": 9.0})
SECOND = Fixed("reward-1", {"a": 10.0, "b": 30.0, "c": 10.0})
ANSWERS = [Answer("a", (5, 2), True), Answer("b", (5, 6, 7), False), Answer("c", (5, 6, 7, 8, 2), True)]


def test_mean_minus_variance_by_hand() -> None:
    # Fixed on a and b: the first has mean 2, deviation 1; the second mean 20, deviation 10.
    ensemble = Ensemble((FIRST, SECOND), variance_penalty=0.5).fixed_on(["", ""], ["a", "b"])
    scores = ensemble.score([""] * 3, ["a", "b", "c"])
    np.testing.assert_allclose(scores, [[-1, 1, 7], [-1, 1, -1]])
    # c: mean 3, variance 16.
    np.testing.assert_allclose(ensemble.combined(scores), [-1, 1, 3 - 0.5 * 16])
    rewarded = Reward(ensemble, clip=4.0)([""] * 3, ANSWERS)
    np.testing.assert_allclose(rewarded.total, [-1, 1, -4])
    np.testing.assert_allclose(rewarded.disagreement, [0, 0, 4])


def test_scale_is_fixed_once_and_for_all() -> None:
    ensemble = Ensemble((FIRST, SECOND)).fixed_on([""] * 3, ["a", "b", "c"])
    alone = ensemble.score([""], ["c"])
    np.testing.assert_array_equal(alone[:, 0], ensemble.score([""] * 3, ["a", "b", "c"])[:, 2])
    np.testing.assert_allclose(ensemble.score([""] * 3, ["a", "b", "c"]).std(1), 1)
    np.testing.assert_allclose(Ensemble((FIRST, SECOND)).score([""], ["c"])[:, 0], [9, 10])


def test_penalties_are_not_clipped_and_are_reported_apart() -> None:
    reward = Reward(Ensemble((FIRST,)), (Weighted("missing_end", missing_end, 0.5), Weighted("length", Length(3.2), 0.1)), clip=2.0)
    found = reward([""] * 3, ANSWERS)
    np.testing.assert_allclose(found.by_term["ensemble"], [1, 2, 2])
    np.testing.assert_allclose(found.by_term["missing_end"], [0, -0.5, 0])
    # The band is 2.4 to 4 tokens; the answers have 2, 3 and 5.
    np.testing.assert_allclose(found.by_term["length"], [-0.04, 0, -0.1])
    np.testing.assert_allclose(found.total, [0.96, 1.5, 1.9])
    assert not found.disagreement.any()


def test_an_adapter_member_reads_each_answer_at_its_own_end() -> None:
    base = load_base("tiny", "float32")
    config = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=48, max_answer_tokens=24)
    base.put("reward-0", base.spec(AdapterConfig(rank=2, alpha=4.0, last_layers=1), head=True).initial())
    member = AdapterMember(base, "reward-0", config)
    prompts, texts = ["I have a cough", "Fever for three days, and a rash"], ["Rest.", "Seek urgent care if it does not fade."]
    together = member(prompts, texts)
    for prompt, text, score in zip(prompts, texts, together, strict=True):
        ids = base.encode(prompt, text, max_prompt_tokens=48, max_answer_tokens=24).ids
        assert ids[-1] == base.end_id
        with base.using("reward-0"):
            hidden = base.hidden(base.pad([ids]))[0, -1]
        assert abs(float(hidden.float() @ base.heads["reward-0"][0]) - score) < 1e-5
    assert together[0] != together[1]


@pytest.mark.parametrize("last_layers", [1, None])
def test_members_scored_together_score_as_alone(last_layers: int | None) -> None:
    base = load_base("tiny", "float32")
    spec, draws = base.spec(AdapterConfig(rank=2, last_layers=last_layers), head=True), np.random.default_rng(0)
    for k in range(2):
        base.put(f"reward-{k}", spec.initial().with_vector(draws.normal(0, 0.3, spec.size()).astype(np.float32)))
    config = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=48, max_answer_tokens=24)
    members = tuple(AdapterMember(base, f"reward-{k}", config) for k in range(2))
    prompts, texts = [f"Question {i}" for i in range(9)], ["Rest. " * (i + 1) for i in range(9)]
    together = Ensemble(members).score(prompts, texts)
    np.testing.assert_array_equal(together, [member(prompts, texts) for member in members])
    assert (together[0] != together[1]).all()
    assert not any("forward" in vars(module) for module in base.lm.modules())


def test_one_member_with_a_penalty_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"λ is 0\.5 with one reward member"):
        Ensemble((FIRST,), variance_penalty=0.5)
    with pytest.raises(ConfigError, match="at least one member"):
        Ensemble(())
    with pytest.raises(ConfigError, match="ensemble or at least one term"):
        Reward(None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused_by_name(bad: float) -> None:
    broken = Fixed("reward-1", {"a": 1.0, "b": bad, "c": 2.0})
    with pytest.raises(NotFinite, match="`reward-1` is not finite for 1 of 3"):
        Reward(Ensemble((FIRST, broken)))([""] * 3, ANSWERS)
    with pytest.raises(NotFinite, match="term `rule` is not finite for 3 of 3"):
        Reward(None, (Weighted("rule", lambda prompts, answers: np.full(3, bad)),))([""] * 3, ANSWERS)


def test_a_member_without_an_opinion_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="scores all 2 reference answers alike"):
        Ensemble((FIRST, Fixed("reward-1", {"a": 2.0, "b": 2.0}))).fixed_on(["", ""], ["a", "b"])
    with pytest.raises(ShapeError, match="1 scales for 2 members"):
        Ensemble((FIRST, SECOND), scales=Ensemble((FIRST,)).fixed_on(["", ""], ["a", "b"]).scales)
    with pytest.raises(ShapeError, match="for 3 answers"):
        Reward(None, (Weighted("rule", lambda prompts, answers: np.zeros(2)),))([""] * 3, ANSWERS)
    with pytest.raises(ModelUnavailable, match="no adapter `reward-9` with a reward head"):
        AdapterMember(load_base("tiny", "float32"), "reward-9", ModelConfig(base="tiny"))


def test_prompts_come_in_full_rounds() -> None:
    prompts = [f"p{i}" for i in range(10)]
    drawn = [p for step in range(5) for p in prompts_of_step(prompts, step, 4, seed=3)]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == sorted(prompts)
    assert drawn[:10] != drawn[10:]
    assert prompts_of_step(prompts, 2, 4, seed=3) == drawn[8:12]
    assert [p for step in range(5) for p in prompts_of_step(prompts, step, 4, seed=4)] != drawn
    with pytest.raises(ConfigError, match="10 prompts are fewer"):
        prompts_of_step(prompts, 0, 11, seed=3)
