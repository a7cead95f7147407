"""AI feedback: both orders are asked, the source is named, and a model that was taught a principle follows it."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from common.bases import load_base
from common.config import AdapterConfig, ModelConfig, PretrainingConfig, StudyConfig
from common.errors import ConfigError, ModelUnavailable
from common.models import SharedBase
from server.align import constitution
from server.align.constitution import AiPreference, ai_preferences, source_of, train_ai_member
from server.align.pretraining import Pair
from server.align.stage import ensemble_members, load_models
from server.run_folder import RunFolder
from tests.unit.server.test_align_stage import STUDY, put

CONFIG = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=48, max_answer_tokens=32)
PAIRS = [Pair(f"Question {i}", f"Seek care {i}.", f"Rest for {i} days.") for i in range(6)]
PRINCIPLES = ("is safer", "is clearer")


@pytest.fixture
def base() -> SharedBase:
    base = load_base("tiny", "float32")
    spec = base.spec(AdapterConfig(rank=2, alpha=4.0))
    base.put("sft", spec.initial().with_vector(np.random.default_rng(1).normal(0, 0.2, spec.size()).astype(np.float32)))
    return base


def test_which_answer_came_as_chosen_changes_nothing(base: SharedBase) -> None:
    found = ai_preferences(base, "sft", PAIRS, PRINCIPLES, CONFIG)
    swapped = ai_preferences(base, "sft", [Pair(p.prompt, p.rejected, p.chosen) for p in PAIRS], PRINCIPLES, CONFIG)
    assert [f.pair for f in found] == [s.pair for s in swapped]
    np.testing.assert_allclose([f.margin for f in found], [s.margin for s in swapped], atol=1e-9)
    assert all(f.margin > 0 for f in found)


def test_a_judge_that_only_likes_the_first_has_no_preference(base: SharedBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constitution, "_first_wins", lambda base, model, questions, config: np.full(len(questions), 3.0))
    assert ai_preferences(base, "sft", PAIRS, PRINCIPLES, CONFIG) == []


def test_every_pair_names_its_source_and_hides_its_text(base: SharedBase) -> None:
    found = ai_preferences(base, "sft", PAIRS, PRINCIPLES, CONFIG)
    digest = base.get("sft").digest
    assert {f.source for f in found} == {source_of("sft", digest, PRINCIPLES)}
    assert found[0].source.startswith(f"ai:sft:{digest[:12]}:")
    assert source_of("sft", digest, PRINCIPLES) != source_of("sft", digest, PRINCIPLES[:1])
    assert "Seek" not in repr(found[0])
    assert not isinstance(found[0], Pair), "it cannot be taken for a pair without its mark"
    least = sorted(f.margin for f in found)[2]
    assert len(ai_preferences(base, "sft", PAIRS, PRINCIPLES, CONFIG, least_margin=least)) == len(found) - 3
    with pytest.raises(ConfigError, match="at least one principle"):
        ai_preferences(base, "sft", PAIRS, (), CONFIG)
    assert isinstance(found[0], AiPreference)


def test_the_member_of_ai_feedback_has_a_line_of_its_own_that_says_so(tmp_path: Path) -> None:
    reward = STUDY.reward.model_copy(update={"constitution": PRINCIPLES, "pretraining": PretrainingConfig(pairs=6)})
    study = STUDY.model_copy(update={"reward": reward})
    run, base = RunFolder.create(tmp_path / "run", study), load_base("tiny", "float32")
    for seed, line in enumerate(("sft", "reward-0", "reward-1")):
        put(run, base, line, seed)
    with pytest.raises(ModelUnavailable, match="no version of `reward-ai`"):
        load_models(run, base)
    version = train_ai_member(run, base, PAIRS)
    assert version.parents == ("sft/1",)
    assert str(version.figures["source"]).startswith("ai:sft:")
    assert 0 <= version.figures["agreement_with_public_pairs"] <= 1
    assert train_ai_member(run, base, PAIRS) == version
    assert [v.line for v in load_models(run, base)] == ["sft", "reward-0", "reward-1", "reward-ai"]
    assert [m.name for m in ensemble_members(base, study)] == ["reward-0", "reward-1", "reward-ai"]
    with pytest.raises(ValidationError, match="judges the public pairs of pretraining"):
        StudyConfig(reward={"constitution": PRINCIPLES})
