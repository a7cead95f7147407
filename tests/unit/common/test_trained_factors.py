"""Which tensors a study trains: a head alone stands on public pretraining, and SFT has no head."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError

from common.adapters import HEAD, Adapter, AdapterSpec, TensorSpec
from common.bases import load_base
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


def whole_spec(factors: Factors) -> AdapterSpec:
    config = AdapterConfig(rank=2, targets=("q_proj", "o_proj"), whole=("o_proj",), factors=factors)
    return load_base("tiny", "float32").spec(config, head=True)


@pytest.mark.parametrize(
    ("factors", "round_number", "trained"),
    [
        (Factors.FFA, 0, {"q_proj.lora_B", "o_proj.lora_B"}),
        (Factors.LORA, 0, {"q_proj.lora_A", "q_proj.lora_B", "o_proj.lora_B"}),
        (Factors.ROLORA, 0, {"q_proj.lora_B", "o_proj.lora_B"}),
        (Factors.ROLORA, 1, {"q_proj.lora_A", "o_proj.lora_B"}),
    ],
)
def test_a_whole_layer_is_trained_in_every_round_and_its_identity_in_none(factors: Factors, round_number: int, trained: set[str]) -> None:
    spec = whole_spec(factors)
    assert {".".join(t.name.split(".")[-3:-1]) for t in spec.trained(round_number) if t.name != HEAD} == trained
    identities = [array for name, array in spec.initial().tensors.items() if ".o_proj.lora_A." in name]
    assert [np.array_equal(array, np.eye(64)) for array in identities] == [True, True]


def test_peft_opens_whole_layers_and_computes_the_same(tmp_path: Path) -> None:
    """The file is plain LoRA with a rank pattern, and the layer's effective weight is W + B."""
    base, spec = load_base("tiny", "float32"), replace(whole_spec(Factors.FFA), head=False)
    spec = replace(spec, tensors=tuple(t for t in spec.tensors if t.name != HEAD))
    draws = np.random.default_rng(0)
    start = spec.initial()
    adapter = start.with_vector(draws.normal(0, 0.1, spec.size()).astype(np.float32))
    adapter.save(tmp_path)
    assert Adapter.load(tmp_path).digest == adapter.digest
    base.put("local", adapter)
    ids = torch.tensor([[5, 9, 77, 300]])
    with torch.inference_mode(), base.using("local"):
        ours = base.lm(input_ids=ids).logits
    opened = PeftModel.from_pretrained(load_base("tiny", "float32").lm, str(tmp_path))
    by_hand = load_base("tiny", "float32").lm
    with torch.inference_mode():
        assert torch.allclose(opened(input_ids=ids).logits, ours, atol=1e-6)
        for name, layer in by_hand.named_modules():
            if name.endswith(("o_proj", "q_proj")):
                a, b = (torch.tensor(adapter.tensors[f"base_model.model.{name}.lora_{factor}.weight"]) for factor in "AB")
                layer.weight += b if name.endswith("o_proj") else b @ a * (spec.config.alpha / spec.config.rank)
        assert torch.allclose(by_hand(input_ids=ids).logits, ours, atol=1e-5)


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        ({"targets": ["q_proj"], "whole": ["o_proj"]}, "names o_proj, which `adapter.targets` does not"),
        ({"whole": ["o_proj"], "factors": "head"}, "would train nothing of those layers"),
    ],
)
def test_whole_layers_that_could_not_train_are_refused(adapter: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        AdapterConfig.model_validate(adapter)
