"""Passes: the same numbers whichever attention runs, everything put back afterwards, batches within their budget."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from common import bases
from common.bases import load_base
from common.config import AdapterConfig
from common.models import SharedBase
from server.align.passes import passes, remembered_trunk, token_batches


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_both_kinds_of_pass_agree_and_leave_nothing_behind(dtype: str, bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "multiplies_bfloat16", lambda: True)
    base = load_base("tiny", dtype)  # type: ignore[arg-type]  # a parametrised literal
    base.put("sft", base.spec(AdapterConfig(rank=2, alpha=4.0)).initial())
    batch = base.pad([base.encode_prompt(text, 48) for text in ("Fever", "A rash that does not fade")])
    with passes(base, "sft"):
        scored = base.hidden(batch)
        assert torch.is_autocast_enabled("cpu") == (dtype == "bfloat16")
    trained = base.parameters("sft")
    for parameter in trained.values():
        parameter.requires_grad_(True)
    with passes(base, "sft", gradients=True):
        hidden = base.hidden(batch)
    real = batch.mask.bool()
    assert float((hidden - scored)[real].detach().float().abs().max()) < bound
    hidden[real].float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype is torch.float32 for p in trained.values())
    assert base.lm.config._attn_implementation == "sdpa"
    assert not any("forward" in vars(layer) for _, layer in base.lora_layers())
    assert not scored.requires_grad


def gpt2_like(tokenizer: PreTrainedTokenizerFast) -> SharedBase:
    """An architecture whose layers, projections and outputs are not Llama's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = GPT2Config(vocab_size=600, n_embd=32, n_layer=3, n_head=2, n_positions=128, bos_token_id=0, eos_token_id=2)
        return SharedBase("gpt2-like", GPT2LMHeadModel(config), tokenizer, "0")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_remembered_trunk_runs_once_and_changes_nothing(kind: str) -> None:
    tiny = load_base("tiny", "float32")
    base = tiny if kind == "llama" else gpt2_like(tiny.tokenizer)
    spec = base.spec(AdapterConfig(rank=2, last_layers=1, targets=("q_proj", "c_attn")))
    draws = np.random.default_rng(0)
    for name in ("first", "second"):
        base.put(name, spec.initial().with_vector(draws.normal(0, 0.3, spec.size()).astype(np.float32)))
    batch = base.pad([base.encode_prompt(text, 48) for text in ("Fever", "A rash that does not fade")])

    def hidden(name: str) -> torch.Tensor:
        with passes(base, name):
            return base.hidden(batch)

    apart = [hidden("first"), hidden("second")]
    lowest = (base.lm.base_model.layers if kind == "llama" else base.lm.base_model.h)[0]
    calls: list[int] = []
    hook = (lowest.self_attn if kind == "llama" else lowest.attn).register_forward_hook(lambda *_: calls.append(1))
    with remembered_trunk(base, min(spec.layers)):
        together = [hidden("first"), hidden("second")]
    hook.remove()
    assert len(calls) == 1
    assert all(torch.equal(x, y) for x, y in zip(apart, together, strict=True))
    assert not torch.equal(*apart)
    assert "forward" not in vars(lowest)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 200))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = token_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
