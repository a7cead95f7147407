"""Rewards: the ensemble's arithmetic, its fixed scale, plain terms, and every refusal."""

from unittest.mock import patch

import numpy as np
import pytest
import torch

from common.adapters import HEAD, Adapter
from common.bases import load_base
from common.config import AdapterConfig, Factors, ModelConfig
from common.errors import ConfigError, ModelUnavailable, NotFinite, ShapeError
from common.models import ASKING, LIKELIHOOD_SCALE
from server.align.members import AdapterMember, QuestionLikelihood, score_adapters
from server.align.prompts import prompts_of_step
from server.align.rewards import Ensemble, Reward, RunningScale
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


@pytest.mark.parametrize(("last_layers", "factors"), [(1, Factors.FFA), (None, Factors.FFA), (None, Factors.HEAD)])
def test_members_scored_together_score_as_alone(last_layers: int | None, factors: Factors) -> None:
    base = load_base("tiny", "float32")
    spec, draws = base.spec(AdapterConfig(rank=2, last_layers=last_layers, factors=factors), head=True), np.random.default_rng(0)
    for k in range(2):
        base.put(f"reward-{k}", spec.initial().with_vector(draws.normal(0, 0.3, spec.size()).astype(np.float32)))
    config = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=48, max_answer_tokens=24)
    members = tuple(AdapterMember(base, f"reward-{k}", config) for k in range(2))
    prompts, texts = [f"Question {i}" for i in range(9)], ["Rest. " * (i + 1) for i in range(9)]
    together = Ensemble(members).score(prompts, texts)
    np.testing.assert_array_equal(together, [member(prompts, texts) for member in members])
    assert (together[0] != together[1]).all()
    assert not any("forward" in vars(module) for module in base.lm.modules())


def test_members_that_differ_in_the_head_alone_run_the_layers_once() -> None:
    base, draws, passes = load_base("tiny", "float32"), np.random.default_rng(0), []
    config = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=48, max_answer_tokens=24)
    spec = base.spec(AdapterConfig(rank=2, factors=Factors.HEAD), head=True)
    for k in range(3):
        base.put(f"reward-{k}", spec.initial().with_vector(draws.normal(0, 0.3, spec.size()).astype(np.float32)))
    with patch.object(base, "rewards", side_effect=lambda names, rows: passes.append(names) or type(base).rewards(base, names, rows)):
        Ensemble(tuple(AdapterMember(base, f"reward-{k}", config) for k in range(3))).score(["Question"], ["Rest."])
    assert passes == [["reward-0", "reward-1", "reward-2"]]


def test_a_member_that_reads_the_question_starts_as_its_likelihood_and_hears_its_head() -> None:
    base = load_base("tiny", "float32")
    config = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=48, max_answer_tokens=24)
    spec = base.spec(AdapterConfig(rank=2, reads="question"), head=True)
    base.put("reward-0", spec.initial())
    prompts, texts = ["I have a cough", "Fever for three days, and a rash"], ["Rest.", "Seek urgent care if it does not fade."]
    likelihood, member = QuestionLikelihood(base, config), AdapterMember(base, "reward-0", config)
    np.testing.assert_allclose(member(prompts, texts), LIKELIHOOD_SCALE * likelihood(prompts, texts), rtol=1e-5)
    head = np.random.default_rng(0).normal(0, 0.3, (1, base.hidden_size)).astype(np.float32)
    base.put("reward-1", Adapter(spec, {**spec.initial().tensors, HEAD: head}))
    moved = AdapterMember(base, "reward-1", config)(prompts, texts)
    for prompt, text, score in zip(prompts, texts, moved - member(prompts, texts), strict=True):
        ids = base.encode_asked(prompt, text, max_prompt_tokens=48, max_answer_tokens=24).ids
        assert float(base.hidden(base.pad([ids]))[0, -1].float() @ torch.from_numpy(head[0])) == pytest.approx(score, abs=1e-3)
    both = score_adapters([AdapterMember(base, f"reward-{k}", config) for k in range(2)], prompts, texts)
    np.testing.assert_allclose(both, [member(prompts, texts), moved], rtol=1e-6)


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


def test_worst_member_and_weights_by_hand() -> None:
    worst = Ensemble((FIRST, SECOND), combine="worst")
    np.testing.assert_allclose(worst.combined(np.array([[1.0, 5.0], [2.0, 3.0]])), [1, 3])
    # Weights 3 and 1: mean (3·1 + 5)/4 = 2, variance (3·1² + 3²)/4 = 3.
    weighted = Ensemble((FIRST, SECOND), 0.5, weights=(3.0, 1.0))
    np.testing.assert_allclose(weighted.combined(np.array([[1.0], [5.0]])), [2 - 0.5 * 3])
    with pytest.raises(ConfigError, match="3 weights for 2 reward members"):
        Ensemble((FIRST, SECOND), weights=(1.0, 1.0, 1.0))


def test_a_running_scale_is_that_of_all_values_at_once() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=40)
    running = RunningScale()
    for part in np.array_split(values, 7):
        running = running.after(part)
    assert (running.count, running.mean) == (40, pytest.approx(values.mean()))
    np.testing.assert_allclose(running.applied(values), (values - values.mean()) / values.std())
    np.testing.assert_array_equal(RunningScale().after(np.ones(3)).applied(np.ones(3)), 0)


def test_running_normalisation_scales_the_learned_part_alone() -> None:
    reward = Reward(Ensemble((FIRST,)), (Weighted("missing_end", missing_end, 0.5),), clip=9.0)
    found = reward([""] * 3, ANSWERS, RunningScale())
    scores = np.array([1.0, 3.0, 9.0])
    np.testing.assert_allclose(found.by_term["ensemble"], (scores - scores.mean()) / scores.std())
    np.testing.assert_allclose(found.by_term["missing_end"], [0, -0.5, 0])
    np.testing.assert_allclose(found.learned, scores)
    assert found.running == RunningScale().after(scores)
    assert reward([""] * 3, ANSWERS).running is None


def test_sigmoid_of_the_difference_to_the_reference_by_hand() -> None:
    reward = Reward(Ensemble((FIRST,)), references={"p": 1.0, "q": 3.0})
    found = reward(["p", "q", "q"], ANSWERS)
    np.testing.assert_allclose(found.total, [0.5, 0.5, 1 / (1 + np.exp(-6.0))])
    with pytest.raises(ConfigError, match="1 of 3 prompts have no reference reward"):
        reward(["p", "q", "new"], ANSWERS)


def test_the_likelihood_of_the_question_reads_each_row_as_if_alone() -> None:
    base = load_base("tiny", "float32")
    member = QuestionLikelihood(base, ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=40, max_answer_tokens=40))
    prompts, texts = ["What about my headache?", "I have a cough for three days."], ["Take one tablet of paracetamol.", "Rest."]
    together = member(prompts, texts)
    alone = [float(member([p], [t])[0]) for p, t in zip(prompts, texts, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    row = base.encode(ASKING + texts[1], prompts[1], max_prompt_tokens=80, max_answer_tokens=40)
    logits = base.lm(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    by_hand = [float(logits[t - 1, row.ids[t]].detach()) for t in range(row.prompt_length, len(row.ids))]
    assert abs(np.mean(by_hand) - together[1]) < 1e-5


def test_the_likelihood_stands_beside_adapters_in_one_ensemble() -> None:
    base = load_base("tiny", "float32")
    config = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=40, max_answer_tokens=24)
    base.put("reward-0", base.spec(AdapterConfig(rank=2, alpha=4.0, last_layers=1), head=True).initial())
    members = (QuestionLikelihood(base, config), AdapterMember(base, "reward-0", config))
    scores = Ensemble(members).score(["A cough"] * 2, ["Rest.", "Seek care."])
    np.testing.assert_allclose(scores, [member(["A cough"] * 2, ["Rest.", "Seek care."]) for member in members], atol=1e-6)
