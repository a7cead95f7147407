"""A LoRA projection as one operation: W·x + s·B·A·x, summed in place in both directions.

PEFT's own forward makes the low-rank part as a tensor of its own, scales it and adds it; its backward adds the two gradients of
the input again. On CPU those passes over memory cost a third of a training step. The parameters stay PEFT's.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor, nn


class _Projection(torch.autograd.Function):
    """With t = g·sB:  ∂x = g·W + t·A,  ∂A = tᵀ·x,  ∂B = s·gᵀ·(x·Aᵀ). W and its bias are frozen and get no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        down, up = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = flat @ down.T
        y = F.linear(flat, weight, bias).addmm_(inner, up.T)
        ctx.save_for_backward(flat, weight, down, up, inner)
        ctx.scale, ctx.shape = scale, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, down, up, inner = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        through = grad @ up
        of_x = (grad @ weight).addmm_(through, down).view(ctx.shape) if ctx.needs_input_grad[0] else None
        of_a = (through.T @ flat).float() if ctx.needs_input_grad[3] else None
        of_b = (grad.T @ inner).float().mul_(ctx.scale) if ctx.needs_input_grad[4] else None
        return of_x, None, None, of_a, of_b, None


class Projection:
    """Stands in for the `forward` of one PEFT layer while `adapter` is in use."""

    @staticmethod
    def fits(layer: Any) -> bool:
        """Plain linear layers; others (GPT-2's Conv1D) keep PEFT's forward."""
        return isinstance(layer.get_base_layer(), nn.Linear)

    def __init__(self, layer: Any, adapter: str | None) -> None:
        self._plain: nn.Linear = layer.get_base_layer()
        self._factors: tuple[Tensor, Tensor, float] | None = None
        if adapter is not None and adapter in layer.lora_A:
            self._factors = (layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, float(layer.scaling[adapter]))

    def __call__(self, x: Tensor) -> Tensor:
        if self._factors is None:
            return F.linear(x, self._plain.weight, self._plain.bias)
        y: Tensor = _Projection.apply(x, self._plain.weight, self._plain.bias, *self._factors)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return y
