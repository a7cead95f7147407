"""Which tensors a study trains: a head alone stands on public pretraining, and SFT has no head."""

import pytest
from pydantic import ValidationError

from common.adapters import HEAD, AdapterSpec, TensorSpec
from common.config import AdapterConfig, Factors, StudyConfig

NAME = "base_model.model.layers.0.q_proj.lora_{}.weight"


def test_the_head_alone_is_trained_and_travels() -> None:
    tensors = (TensorSpec(NAME.format("A"), (2, 5)), TensorSpec(NAME.format("B"), (7, 2)), TensorSpec(HEAD, (1, 5)))
    spec = AdapterSpec("toy", AdapterConfig(rank=2, factors=Factors.HEAD), tensors, (0,), head=True)
    assert [t.name for t in spec.trained(0)] == [t.name for t in spec.trained(1)] == [HEAD]
    assert spec.size() == spec.initial().vector().size == 5


def test_a_study_that_would_train_nothing_or_a_bare_base_is_refused() -> None:
    head = {"adapter": {"factors": "head"}}
    with pytest.raises(ValidationError, match=r"SFT stage has no reward head; use \"ffa\""):
        StudyConfig.model_validate({"sft": head})
    with pytest.raises(ValidationError, match=r"set `reward\.pretraining\.pairs` above 0"):
        StudyConfig.model_validate({"reward": head})
    assert StudyConfig.model_validate({"reward": {**head, "pretraining": {"pairs": 8}}}).reward.adapter.factors is Factors.HEAD
