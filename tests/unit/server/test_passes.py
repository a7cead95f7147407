"""Passes: the same numbers whichever attention runs, everything put back afterwards, batches within their budget."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.config import AdapterConfig
from common.models import load_base
from server.align.passes import passes, token_batches


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_both_kinds_of_pass_agree_and_leave_nothing_behind(dtype: str, bound: float) -> None:
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


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 200))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = token_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
