"""Preference-model pretraining on public pairs: it learns, it repeats itself, and it touches its own adapter alone."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from common.bases import load_base
from common.config import AdapterConfig, ModelConfig, PretrainingConfig, RewardConfig
from common.errors import ConfigError, NotFinite, StorageError
from common.models import SharedBase
from common.progress import Silent
from server.align.members import AdapterMember
from server.align.pretraining import Pair, pair_loss, pair_order, pretrain

MODEL = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=32, max_answer_tokens=24)
ADAPTER = AdapterConfig(rank=4, alpha=8.0, last_layers=1)


def public_pairs(n: int) -> list[Pair]:
    return [Pair(f"Question {i}", f"Come back if the fever stays, {i}", f"Take one tablet, {i}") for i in range(n)]


def settings(**changes: object) -> RewardConfig:
    pretraining = PretrainingConfig(pairs=8, pairs_per_step=8, learning_rate=3e-3, head_learning_rate=1e-2)
    return RewardConfig(adapter=ADAPTER, pretraining=pretraining).model_copy(update=changes)


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_base("tiny", "float32")


def test_it_learns_and_repeats_itself_and_leaves_the_rest_alone(base: SharedBase) -> None:
    spec = base.spec(ADAPTER, head=True)
    base.put("sft", base.spec(AdapterConfig(rank=2)).initial())
    before, frozen = base.get("sft").digest, {k: v.clone() for k, v in base.lm.state_dict().items() if "lora_" not in k}
    first = pretrain(base, spec, public_pairs(200), settings(), MODEL, seed=1)
    assert np.mean([s.accuracy for s in first.steps[-5:]]) > 0.9, first.steps
    assert first.steps[-1].loss < first.steps[0].loss
    again = pretrain(base, spec, public_pairs(200), settings(), MODEL, seed=1)
    assert again.adapter.digest == first.adapter.digest
    assert pretrain(base, spec, public_pairs(200), settings(), MODEL, seed=2).adapter.digest != first.adapter.digest
    start = spec.initial()
    assert all((first.adapter.tensors[t.name] != start.tensors[t.name]).any() for t in spec.tensors), "both factors and the head move"
    assert base.get("sft").digest == before
    assert not any(p.requires_grad for p in base.lm.parameters())
    assert all(torch.equal(frozen[k], v) for k, v in base.lm.state_dict().items() if k in frozen)


def test_a_reward_that_reads_the_question_starts_as_its_likelihood_and_learns(base: SharedBase) -> None:
    shape = ADAPTER.model_copy(update={"reads": "question"})
    config, pairs = settings(adapter=shape, centring=0.0), public_pairs(96)
    base.put("likelihood", base.spec(shape, head=True).initial())
    member, prompts = AdapterMember(base, "likelihood", MODEL), [p.prompt for p in pairs]
    before = member(prompts, [p.chosen for p in pairs]) - member(prompts, [p.rejected for p in pairs])
    done = pretrain(base, base.spec(shape, head=True), pairs, config, MODEL, seed=1)
    first = [before[i] for i in pair_order(96, 8, seed=1)[0]]
    assert done.steps[0].loss == pytest.approx(float(np.mean(np.log1p(np.exp(-np.array(first))))), rel=1e-3)
    assert np.mean([s.accuracy for s in done.steps[-4:]]) > 0.9, done.steps
    base.put("likelihood", done.adapter)
    after = member(prompts, [p.chosen for p in pairs]) - member(prompts, [p.rejected for p in pairs])
    assert after.mean() > before.mean() + 0.5
    base.drop("likelihood")


def test_micro_batches_change_nothing(base: SharedBase) -> None:
    spec = base.spec(ADAPTER, head=True)
    whole = pretrain(base, spec, public_pairs(16), settings(microbatch_tokens=100_000), MODEL, seed=1)
    split = pretrain(base, spec, public_pairs(16), settings(microbatch_tokens=64), MODEL, seed=1)
    np.testing.assert_allclose([s.loss for s in whole.steps], [s.loss for s in split.steps], rtol=1e-5)
    np.testing.assert_allclose(whole.adapter.vector(), split.adapter.vector(), atol=2e-4)


class Killed(Exception):
    """Stands for a kill."""


class KilledAfter(Silent):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def advance(self, n: int = 1) -> None:
        self.steps -= n
        if self.steps <= 0:
            raise Killed


def test_a_killed_run_goes_on_to_the_same_bits(base: SharedBase, tmp_path: Path) -> None:
    spec, path = base.spec(ADAPTER, head=True), tmp_path / "state"
    whole = pretrain(base, spec, public_pairs(160), settings(), MODEL, seed=1)
    for steps in (3, 11, 9):  # before the first state is written; after it; in a resumed run
        with pytest.raises(Killed):
            pretrain(base, spec, public_pairs(160), settings(), MODEL, seed=1, state=path, progress=KilledAfter(steps))
    resumed = pretrain(base, spec, public_pairs(160), settings(), MODEL, seed=1, state=path)
    assert resumed.adapter.digest == whole.adapter.digest
    assert resumed.steps == whole.steps
    again = pretrain(base, spec, public_pairs(160), settings(), MODEL, seed=1, state=path)
    assert again.adapter.digest == whole.adapter.digest, "a finished state is the result"
    with pytest.raises(ConfigError, match="belongs to another pretraining, with other pairs, settings or base model"):
        pretrain(base, spec, public_pairs(152), settings(), MODEL, seed=1, state=path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StorageError, match="cannot be read"):
        pretrain(base, spec, public_pairs(160), settings(), MODEL, seed=1, state=path)


def test_pair_loss_by_hand() -> None:
    # −log σ(2 − 1) = log(1 + e⁻¹); c·(4 + 1)/2 = .25 with c = .1.
    found = pair_loss(torch.tensor([2.0]), torch.tensor([1.0]), 0.1)
    assert abs(float(found) - (math.log1p(math.exp(-1)) + 0.25)) < 1e-6
    assert abs(float(pair_loss(torch.zeros(3), torch.zeros(3), 0.1)) - math.log(2)) < 1e-6


def test_refusals(base: SharedBase) -> None:
    with pytest.raises(ConfigError, match="no public pairs"):
        pretrain(base, base.spec(ADAPTER, head=True), [], settings(), MODEL, seed=1)
    with pytest.raises(ConfigError, match="reward head"):
        pretrain(base, base.spec(ADAPTER), public_pairs(2), settings(), MODEL, seed=1)
    hot = settings(pretraining=PretrainingConfig(pairs=8, pairs_per_step=4, learning_rate=1e30, head_learning_rate=1e30))
    with pytest.raises(NotFinite, match=r"reward\.pretraining\.learning_rate"):
        pretrain(base, base.spec(ADAPTER, head=True), public_pairs(16), hot, MODEL, seed=1)
    assert "pretraining" not in base.heads, "a failed run leaves no adapter behind"
    assert "Take one" not in repr(public_pairs(1))
