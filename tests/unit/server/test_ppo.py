"""PPO on `tiny`: it starts at the SFT model, climbs its reward, moves nothing else, stops at its budget, and resumes bit for bit."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.bases import load_base
from common.config import AdapterConfig, ModelConfig, PPOConfig, SimulationConfig, StudyConfig
from common.errors import ConfigError, NotFinite, StorageError
from common.models import SharedBase
from server.align.advantages import policy_objective, value_objective
from server.align.checkpoint import PolicyState, StepRecord, load_state, save_state
from server.align.controller import KlController
from server.align.experience import Stopwatch, collect
from server.align.ppo import FINISHED, OVER_BUDGET, Task, assess, decide, install, start, step, train_policy
from server.align.rewards import Ensemble, Reward
from server.align.rollout import Answer, sample_ids, stop_ids
from server.align.terms import Weighted
from server.align.update import policy_loss, value_loss
from server.align.watch import Watch
from server.evaluate.quality import sequence_kl

PROMPTS = [f"Question {i} about a cough" for i in range(10)]


EMBEDDING = load_base("tiny", "float32").lm.get_input_embeddings().weight.detach()
LIKED = (EMBEDDING @ EMBEDDING.new_tensor(np.random.default_rng(5).normal(size=EMBEDDING.shape[1])) > 0).numpy()
"""The half of the vocabulary that lies on one side of a plane: a policy need only learn one direction to prefer it."""


def liked(prompts: Sequence[str], answers: Sequence[Answer]) -> np.ndarray:
    """A reward that can be climbed in a few steps: the share of liked tokens, from 0 to 4."""
    return np.array([4 * LIKED[list(answer.ids)].mean() for answer in answers])


def study(**ppo: object) -> StudyConfig:
    settings: dict[str, object] = {
        "steps": 3, "prompts_per_step": 6, "minibatch": 3, "max_new_tokens": 8, "learning_rate": 5e-3, "variance_penalty": 0.0, "kl_budget": 1e6,
    }  # fmt: skip
    return StudyConfig(
        seed=11,
        model=ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=40, max_answer_tokens=16),
        ppo=PPOConfig.model_validate(settings | ppo),
        simulation=SimulationConfig(hospitals=8),
    )


@pytest.fixture
def base() -> SharedBase:
    base = load_base("tiny", "float32")
    spec = base.spec(AdapterConfig(rank=2, alpha=4.0))
    draws = np.random.default_rng(3)
    base.put("sft", spec.initial().with_vector(draws.normal(0, 0.05, spec.size()).astype(np.float32)))
    base.put("reward-0", base.spec(AdapterConfig(rank=2, last_layers=1), head=True).initial())
    return base


def task(base: SharedBase, config: StudyConfig, term: object = liked, **changes: object) -> Task:
    settings: dict[str, object] = {"prompts": PROMPTS, "reward_digest": "liked", "reward": Reward(None, (Weighted("liked", term),))}  # type: ignore[arg-type]  # a Term
    return Task(config, base, "sft", **(settings | changes))  # type: ignore[arg-type]


def figures(state: PolicyState) -> list[tuple[int, dict[str, float]]]:
    return [(record.step, dict(record.figures)) for record in state.records]


def test_the_policy_starts_as_the_sft_model(base: SharedBase) -> None:
    first = step(task(base, study()), start(task(base, study())))
    assert first.records[0].figures["kl"] == 0.0
    assert first.records[0].figures["kl_k1"] == 0.0
    assert first.kept_step == 0


@pytest.mark.parametrize("trunk", ["shared", "own"])
def test_it_climbs_its_reward_and_moves_only_what_is_named(base: SharedBase, trunk: str) -> None:
    frozen = {name: tensor.clone() for name, tensor in base.lm.state_dict().items()}
    others = {name: base.get(name).digest for name in ("sft", "reward-0")}
    settings = study(steps=10, prompts_per_step=40, minibatch=20, value_trunk=trunk, kl_coefficient=0.0, learning_rate=1e-2)
    result = train_policy(task(base, settings, prompts=[f"Question {i}" for i in range(40)]))
    rewards = [record.figures["reward"] for record in result.records]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.3, rewards
    assert [record.step for record in result.records] == list(range(11))
    assert (result.kept_step, result.stopped) == (10, FINISHED)
    assert result.records[-1].figures["kl"] > 0
    assert any(record.figures["clipped"] > 0 for record in result.records[:-1]), "two epochs, so that the clip acts"
    assert {name: base.get(name).digest for name in others} == others
    now = base.lm.state_dict()
    assert all(torch.equal(frozen[name], now[name]) for name in frozen)
    assert base.get("policy").digest == result.policy.digest != base.get("sft").digest
    assert not any(p.requires_grad for p in base.lm.parameters())
    assert "value" not in "".join(base.heads)


class Short:
    """A judge and a reward model that likes short answers."""

    name = "short"

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        return np.array([-float(len(text)) for text in texts])


def test_resume_between_any_two_steps_is_bit_identical(base: SharedBase, tmp_path: Path) -> None:
    """With everything that has a state: own value trunk, running scale, watch, KL controller, Adam."""
    path = tmp_path / "policy.safetensors"
    whole: list[PolicyState] = []
    settings = study(value_trunk="own", entropy_coefficient=0.01, running_normalisation=True, answers_per_prompt=2, top_p=0.95)
    parts = {"reward": Reward(Ensemble((Short(),))), "watch": Watch(Ensemble((Short(),)), window=2, fall=1.0)}
    run = task(base, settings, **parts)
    result = train_policy(run, save=whole.append)
    for killed_after in range(len(whole)):
        fresh = load_base("tiny", "float32")  # a new process: nothing survives but the file
        fresh.put("sft", base.get("sft"))
        save_state(path, whole[killed_after])
        again = task(fresh, settings, **parts)
        seen: list[PolicyState] = []
        resumed = train_policy(again, load_state(path, again.binding), save=seen.append)
        assert resumed.policy.digest == result.policy.digest
        assert figures((seen or whole)[-1]) == figures(whole[-1])


def test_several_answers_a_prompt_share_a_batch(base: SharedBase) -> None:
    seen: list[Sequence[str]] = []

    def counted(prompts: Sequence[str], answers: Sequence[Answer]) -> np.ndarray:
        seen.append(prompts)
        return liked(prompts, answers)

    step(task(base, study(answers_per_prompt=3), counted), start(task(base, study(answers_per_prompt=3))))
    assert len(seen[0]) == 18
    assert len(set(seen[0])) == 6
    assert seen[0][0] == seen[0][2] != seen[0][3]


def test_an_answer_ends_at_a_stop_token(base: SharedBase) -> None:
    ids = base.tokenizer("e", add_special_tokens=False).input_ids
    prompts = [base.encode_prompt(f"{i}", 40) for i in range(60)]
    plain, stopped = (
        sample_ids(base, None, prompts, max_new_tokens=60, temperature=1.0, top_p=1.0, seed=1, batch_size=60, stop_ids=s) for s in ((), ids)
    )
    ended = [a for a in stopped if a.ended]
    assert ended
    assert all(a.ids[-1] in (base.end_id, *ids) and not set(ids) & set(a.ids[:-1]) for a in ended)
    cut = [b.ids[: len(a.ids)] == a.ids for a, b in zip(stopped, plain, strict=True)]
    assert all(cut), "up to its end, an answer is the one that would have been written anyway"
    assert stop_ids(base, ["e"]) == tuple(ids)
    with pytest.raises(ConfigError, match="a stop token is one"):
        stop_ids(base, ["patient e"])


def test_a_run_over_its_kl_budget_stops_at_the_last_policy_within(base: SharedBase) -> None:
    states: list[PolicyState] = []
    result = train_policy(task(base, study(steps=12, learning_rate=3e-2, kl_coefficient=0.0, kl_budget=0.5)), save=states.append)
    kl = [record.figures["kl"] + record.figures["kl_error"] for record in result.records]
    assert result.stopped == OVER_BUDGET
    assert kl[-1] > 0.5 >= max(kl[:-1])
    assert result.kept_step == len(kl) - 2
    np.testing.assert_array_equal(result.policy.vector(), replace(result.policy, tensors=dict(states[-1].kept)).vector())
    # The state that was over the budget is not the one that is handed on.
    assert any((states[-1].kept[name] != states[-1].trained[f"policy/{name}"]).any() for name in states[-1].kept)


def test_the_kl_that_decides_is_that_of_the_evaluation(base: SharedBase) -> None:
    run = task(base, study(temperature=0.8))
    state = step(run, start(run))
    _, head = install(run, state)
    found = collect(base, PROMPTS, run.reward, head, run.config, reference="sft", max_prompt_tokens=40, seed=3, watch=Stopwatch())
    expected = sequence_kl(base, "policy", "sft", found.rows, temperature=0.8)
    assert expected.mean() > 0.01
    np.testing.assert_allclose(found.kl.sum(1), expected, rtol=1e-4)
    figures = assess(found, run.config, 0.1)[1]
    assert (figures["kl"], figures["kl_error"]) == pytest.approx((expected.mean(), expected.std() / 10**0.5), rel=1e-4)
    # Two answers to each of five prompts are five draws, not ten.
    pairs = expected.reshape(5, 2).mean(1)
    assert assess(found, study(answers_per_prompt=2).ppo, 0.1)[1]["kl_error"] == pytest.approx(pairs.std() / 5**0.5, rel=1e-4)


def test_what_few_answers_cannot_tell_counts_against_the_budget(base: SharedBase) -> None:
    run = task(base, study(kl_budget=10.0))
    state = replace(start(run), steps=1, kept_step=0, records=(StepRecord(0, {}, {}),))
    known, unknown = (decide(run, state, StepRecord(1, {"kl": 9.5, "kl_error": error}, {})) for error in (0.4, 0.6))
    assert (known.stopped, known.kept_step) == (None, 1)
    assert (unknown.stopped, unknown.kept_step) == (OVER_BUDGET, 0)


def test_public_examples_keep_their_likelihood(base: SharedBase) -> None:
    examples = [base.encode(p, "Seek urgent care.", max_prompt_tokens=40, max_answer_tokens=16) for p in PROMPTS]
    settings = {"steps": 6, "kl_coefficient": 0.0}
    with_ptx = train_policy(task(base, study(**settings, ptx_coefficient=2.0), examples=examples))
    losses = [record.figures["ptx_loss"] for record in with_ptx.records[:-1]]
    assert losses[-1] < losses[0] - 0.2, losses
    with pytest.raises(ConfigError, match=r"ptx_coefficient` is 2\.0 but there are no public examples"):
        task(base, study(ptx_coefficient=2.0))


def test_micro_batches_change_nothing(base: SharedBase) -> None:
    whole, split = (step(task(base, c), start(task(base, c))) for c in (study(microbatch_tokens=4096), study(microbatch_tokens=64)))
    for name, tensor in whole.trained.items():
        np.testing.assert_allclose(split.trained[name], tensor, atol=1e-4, err_msg=name)
    assert abs(whole.records[0].figures["policy_loss"] - split.records[0].figures["policy_loss"]) < 1e-5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reward_that_is_no_number_is_refused_and_the_saved_state_stands(base: SharedBase, bad: float, tmp_path: Path) -> None:
    calls = iter([0.0, 0.0, bad])
    broken = task(base, study(), lambda prompts, answers: liked(prompts, answers) + next(calls))
    states: list[PolicyState] = []
    with pytest.raises(NotFinite, match="reward term `liked` is not finite for 6 of 6"):
        train_policy(broken, save=states.append)
    assert states[-1].steps == 2
    assert not any(p.requires_grad for p in base.lm.parameters())
    assert train_policy(task(base, study()), states[-1]).policy.digest == train_policy(task(base, study())).policy.digest


def test_a_gradient_that_is_no_number_is_refused(base: SharedBase) -> None:
    with pytest.raises(NotFinite, match="gradient of a PPO step"):
        train_policy(task(base, study(value_learning_rate=1e30, steps=6)))


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(base: SharedBase, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    run = task(base, study())
    assert load_state(path, run.binding) is None
    save_state(path, start(run))
    for other in (task(base, study(steps=4)), task(base, study(), prompts=PROMPTS[::-1]), task(base, study(), reward_digest="odd")):
        with pytest.raises(ConfigError, match="belongs to another study"):
            load_state(path, other.binding)
        with pytest.raises(ConfigError, match="belongs to another study"):
            train_policy(other, start(run))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StorageError, match="remove it to start PPO again"):
        load_state(path, run.binding)


def test_a_record_holds_numbers_and_no_text(base: SharedBase) -> None:
    state = step(task(base, study()), start(task(base, study())))
    text = json.dumps([asdict(record) for record in state.records], allow_nan=False)
    assert "cough" not in text
    assert set(state.records[0].seconds) == {"generate", "reward", "score", "reference", "update"}


def test_too_few_prompts_are_refused_before_any_work(base: SharedBase) -> None:
    with pytest.raises(ConfigError, match="10 prompts are fewer"):
        task(base, study(prompts_per_step=11))


def test_the_controller_by_hand() -> None:
    controller = KlController(coefficient=0.1, start=0.05, target=6.0, horizon=16.0)
    assert controller.after(12.0, 16).coefficient == pytest.approx(0.12)  # error 1, held at .2
    assert controller.after(6.6, 8).coefficient == pytest.approx(0.1 * (1 + 0.1 * 0.5))
    assert controller.after(0.0, 16).coefficient == pytest.approx(0.08)
    low = controller
    for _ in range(10):
        low = low.after(0.0, 16)
    assert low.coefficient == 0.05, "one-sided: never below its start"


def test_the_losses_with_gradients_equal_the_arithmetic_on_arrays() -> None:
    draws = np.random.default_rng(0)
    logp, old, advantages, values, before, returns = draws.normal(size=(6, 1, 50))
    mask = np.ones((1, 50))
    t = [torch.tensor(a[0]) for a in (logp, old, advantages, values, before, returns)]
    each, clipped = policy_loss(t[0], t[1], t[2], 0.2)
    by_hand = policy_objective(logp, old, advantages, mask, 0.2)
    assert (float(each.mean()), float(clipped.double().mean())) == pytest.approx((by_hand.loss, by_hand.clipped))
    each, held = value_loss(t[3], t[4], t[5], 0.2)
    by_hand = value_objective(values, before, returns, mask, 0.2)
    assert (float(each.mean()), float(held.double().mean())) == pytest.approx((by_hand.loss, by_hand.clipped))
