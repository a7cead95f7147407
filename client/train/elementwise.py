"""The parts of a Llama layer that are no matrix product, with a backward of their own: norms and gated activations.

Run op by op, transformers' RMS norm passes over the tokens some twenty times in float32 and keeps two copies of them for the backward, and the
gate keeps three where two are enough. Here a few hundred tokens at a time go through all of it while they lie in the cache; what is
kept is the input in its own type, and the rest is computed again. A frozen weight gets no gradient.

Models of other families run their own modules: this is speed and memory, never needed.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralMLP, MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm

Forward = Callable[[Tensor], Tensor]

NORMS = (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm)
GATES = (LlamaMLP, MistralMLP, Qwen2MLP)
"""Classes whose forward is word for word the same: w·x/√(mean x² + ε), and down(act(gate(x))·up(x))."""

CACHED_TOKENS = 128
"""Tokens of one pass: 128 of width 1,536 in bfloat16 are 0.4 MB, so that a handful of temporaries stay in a core's cache."""


def lean_forwards(lm: nn.Module) -> Iterator[tuple[nn.Module, Forward]]:
    """Modules of `lm` that have a leaner forward, and that forward. A module whose forward someone replaced already is left alone."""
    for module in lm.modules():
        if "forward" in vars(module):
            continue
        if type(module) in NORMS:
            yield module, _norm(module)
        elif type(module) in GATES and isinstance(module.act_fn, nn.SiLU | SiLUActivation):
            yield module, _gated(module)


def _norm(module: Any) -> Forward:
    weight, epsilon = module.weight, float(module.variance_epsilon)

    def forward(hidden: Tensor) -> Tensor:
        result: Tensor = RMSNorm.apply(hidden, weight, epsilon)  # type: ignore[no-untyped-call]  # torch's apply
        return result

    return forward


def _gated(module: Any) -> Forward:
    def forward(x: Tensor) -> Tensor:
        # Looked up at each call: the projections below are swapped too.
        result: Tensor = module.down_proj(Gate.apply(module.gate_proj(x), module.up_proj(x)))  # type: ignore[no-untyped-call]  # torch's apply
        return result

    return forward


class RMSNorm(torch.autograd.Function):
    """y = w·x̂ with x̂ = x·r, r = (mean x² + ε)^−½, in float32 (float64 for float64);  dx = r·(wg − x̂·mean(wg·x̂)).   x (…, width), w frozen (width,)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        rows, wide = x.reshape(-1, x.shape[-1]), _wide(x)
        out = torch.empty(rows.shape, dtype=torch.result_type(x, weight), device=x.device)
        scale = torch.empty(len(rows), 1, dtype=wide, device=x.device)
        for block in _blocks(len(rows)):
            h = rows[block].to(wide)
            r = torch.rsqrt(h.square().mean(-1, keepdim=True) + epsilon)
            scale[block] = r
            torch.mul((h * r).to(x.dtype), weight, out=out[block])
        ctx.save_for_backward(rows, weight, scale)
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, scale = ctx.saved_tensors
        grad, w = gradients[0].reshape(rows.shape), weight.to(scale.dtype)
        dx = torch.empty_like(rows)
        for block in _blocks(len(rows)):
            r = scale[block]
            x = rows[block].to(r.dtype) * r
            g = grad[block].to(r.dtype) * w
            dx[block] = g.addcmul_(x, (g * x).mean(-1, keepdim=True), value=-1).mul_(r)
        return dx.view(gradients[0].shape), None, None


class Gate(torch.autograd.Function):
    """y = silu(gate)·up, silu(z) = z·σ(z), both (…, width); silu(gate) is computed again in the backward."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
        for z, u, y in _together(gate, up, out):
            torch.mul(nn.functional.silu(z), u, out=y)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        gate, up = ctx.saved_tensors
        d_gate, d_up = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (gate, up))
        for z, u, g, dz, du in _together(gate, up, gradients[0], d_gate, d_up):
            torch.mul(g, nn.functional.silu(z), out=du)
            torch.ops.aten.silu_backward.grad_input(g * u, z, grad_input=dz)
        return d_gate, d_up


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + CACHED_TOKENS) for start in range(0, count, CACHED_TOKENS))


def _together(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same few tokens of every tensor, one after the other, (tokens, width) each."""
    return zip(*(tensor.reshape(-1, tensor.shape[-1]).split(CACHED_TOKENS) for tensor in tensors), strict=True)
