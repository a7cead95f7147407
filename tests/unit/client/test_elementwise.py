"""Norms and gates with a backward of their own are transformers' own, value for value, and their gradients autograd's."""

from functools import partial
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, Qwen2Config
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from client.train.elementwise import CACHED_TOKENS, GATES, NORMS, lean_forwards

CONFIGS = (LlamaConfig, MistralConfig, Qwen2Config)
TOKENS = 2 * CACHED_TOKENS + 5


def modules(dtype: torch.dtype) -> list[Any]:
    torch.manual_seed(1)
    norms: list[Any] = [norm(64) for norm in NORMS]
    for norm in norms:
        torch.nn.init.normal_(norm.weight, 1.0, 0.3)
    gates = [gate(config(hidden_size=64, intermediate_size=80)) for gate, config in zip(GATES, CONFIGS, strict=True)]
    return [module.to(dtype).requires_grad_(False) for module in [*norms, *gates]]


def through(module: Any, forward: Any, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    x = torch.randn(1, TOKENS, 64, dtype=dtype, requires_grad=True)
    y = forward(x)
    y.backward(torch.randn(y.shape, dtype=dtype))
    assert x.grad is not None
    assert all(p.grad is None for p in module.parameters())
    return y.detach(), x.grad


@pytest.mark.parametrize("index", range(len(NORMS) + len(GATES)))
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_values_are_the_modules_own_and_gradients_autograds(index: int, dtype: torch.dtype, error: float) -> None:
    module = modules(dtype)[index]
    ((found, lean),) = lean_forwards(module)
    assert found is module
    (ours, our_gradient), (theirs, their_gradient) = (through(module, forward, dtype) for forward in (lean, module))
    assert torch.equal(ours, theirs)
    moved = float((our_gradient - their_gradient).norm() / their_gradient.norm())
    assert moved <= error, f"{moved:.1e}"


def test_a_token_does_not_depend_on_the_tokens_around_it() -> None:
    for module in modules(torch.bfloat16):
        ((_, lean),) = lean_forwards(module)
        torch.manual_seed(3)
        x, g = (torch.randn(1, TOKENS, 64).bfloat16() for _ in range(2))
        whole = x.clone().requires_grad_()
        lean(whole).backward(g)
        for part in (slice(0, 1), slice(7, 40), slice(CACHED_TOKENS - 3, CACHED_TOKENS + 9)):
            alone = x[:, part].clone().requires_grad_()
            lean(alone).backward(g[:, part])
            assert whole.grad is not None
            assert alone.grad is not None
            assert torch.equal(whole.grad[:, part], alone.grad), type(module).__name__


def test_other_activations_and_modules_that_someone_replaced_are_left_alone() -> None:
    gelu = LlamaMLP(LlamaConfig(hidden_size=64, intermediate_size=8, hidden_act="gelu"))
    norm = LlamaRMSNorm(8)
    assert [module for module, _ in lean_forwards(torch.nn.ModuleList([gelu, norm]))] == [norm]
    norm.forward = partial(LlamaRMSNorm.forward, norm)  # type: ignore[method-assign]  # what a tool that watches modules does
    assert not list(lean_forwards(norm))
