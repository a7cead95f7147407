"""The gradient of every privacy unit, in one backward pass: what DP-SGD clips.

For a LoRA layer y = Wx + s·BAx the gradients of B and A are products over tokens, dB = s·gᵀ(xAᵀ) and dA = s·(gB)ᵀx. Taken over the tokens of
one unit at a time they cost what their sum over the batch costs, and W needs none. So while `recording`, each projection of the base runs
through an autograd function that adds each unit's share to a `UnitStore` instead of a summed `.grad`. A layer that is trained whole is the case
A = I: dB = gᵀx is the gradient of its weight.

Protects against: a trained tensor without a rule here (refused), a base weight that trains by accident (refused), LoRA variants whose
gradient differs (DoRA, dropout, bias, merged weights: refused).
Does not protect against: layers that mix rows; `packed.py` keeps rows apart and `probing.py` checks it.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft.tuners.lora import layer as peft_layers
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from client.train.elementwise import lean_forwards
from client.train.packed import multiply
from common.adapters import HEAD, TensorSpec
from common.errors import TrainingRefused
from common.models import SharedBase


class UnitStore:
    """The gradients of the units of one packed batch. `flat` (units, d) in the order of the adapter's vector.

    spans  for each unit, the tokens [start, end) of the packed batch that are its own; units stand one after the other
    """

    def __init__(self, trained: Sequence[TensorSpec], spans: Sequence[tuple[int, int]], dtype: torch.dtype, device: torch.device) -> None:
        self.spans = tuple(spans)
        self.flat = torch.zeros(len(self.spans), sum(t.size for t in trained), dtype=dtype, device=device)
        self._views: dict[str, Tensor] = {}
        start = 0
        for tensor in trained:
            self._views[tensor.name] = self.flat[:, start : start + tensor.size].view(-1, *tensor.shape)
            start += tensor.size

    def __repr__(self) -> str:
        return f"UnitStore({tuple(self.flat.shape)})"

    def add_products(self, name: str, left: Tensor, right: Tensor, scale: float) -> None:
        """For each unit u: gradient of `name` += scale · left[u]ᵀ right[u], over the tokens of u.   left (N, a), right (N, b) → (a, b)"""
        view = self._views[name]
        for unit, (start, end) in enumerate(self.spans):
            view[unit].add_(torch.mm(left[start:end].T, right[start:end]), alpha=scale)

    def add_rows(self, name: str, units: Sequence[int], rows: Tensor) -> None:
        """Gradient of `name` (shape (1, b)) of unit units[i] += rows[i].   rows (n, b)"""
        view = self._views[name]
        for unit, row in zip(units, rows, strict=True):
            view[unit, 0].add_(row)


class Projection(torch.autograd.Function):
    """y = x·W (+ bias) + s·(x·Aᵀ)·Bᵀ over packed tokens; the backward adds each unit's dA and dB to the store.

    x (1, N, in), matrix W (in, out) frozen, a (r, in), b (out, r) or both None for a layer without adapter. Only dx is handed on to
    autograd; `names` are the tensors (A, B) that are trained, None for one that is frozen.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a: Tensor | None,
        b: Tensor | None,
        matrix: Tensor,
        bias: Tensor | None,
        scale: float,
        names: tuple[str | None, str | None],
        store: UnitStore | None,
    ) -> Tensor:
        compute = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else matrix.dtype
        with torch.autocast(x.device.type, enabled=False):
            tokens = x.reshape(-1, x.shape[-1]).to(compute)
            w = matrix.to(compute)
            saved: list[Tensor | None] = [w]
            if a is None or b is None:
                y, _ = multiply(tokens, w)
            else:
                a, b = a.to(compute), (b * scale).to(compute)
                y, low = multiply(tokens, w, (a.T, b.T))
                saved += [a, b, low if names[1] else None, tokens if names[0] else None]
            if bias is not None:
                y.add_(bias.to(compute))
        ctx.save_for_backward(*saved)
        ctx.names, ctx.scale, ctx.store, ctx.input_dtype = names, scale, store, x.dtype
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        w, *adapter = ctx.saved_tensors
        g = gradients[0].reshape(-1, gradients[0].shape[-1]).to(w.dtype)
        wanted = ctx.needs_input_grad[0]
        dx: Tensor | None = None
        if not adapter:
            dx = multiply(g, w.T)[0] if wanted else None
        else:
            a, b, low, tokens = adapter
            name_a, name_b = ctx.names
            g_low: Tensor | None = None
            # b carries the scale s already, so g·(sB) is the gradient that reaches the low-rank space.
            if wanted:
                dx, g_low = multiply(g, w.T, (b, a))
            elif name_a:
                g_low, _ = multiply(g, b)
            if name_b:
                ctx.store.add_products(name_b, g, low, ctx.scale)
            if name_a:
                ctx.store.add_products(name_a, g_low, tokens, 1.0)
        shaped = None if dx is None else dx.view(*gradients[0].shape[:-1], -1).to(ctx.input_dtype)
        return shaped, None, None, None, None, None, None, None


class HeadReading(torch.autograd.Function):
    """score_i = h_i · w in float32 (float64 for a float64 base); the backward adds each unit's dw, times `factor`, to the store.

    hidden (n, width), weight (1, width), units[i] owns row i → (n,). `factor` is the head's share of the norm: the same reparametrisation
    for every unit, made before clipping.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, units: Sequence[int], factor: float, store: UnitStore | None) -> Tensor:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        ctx.save_for_backward(hidden, weight)
        ctx.units, ctx.factor, ctx.store = units, factor, store
        return (hidden.to(wide) * weight.to(wide)).sum(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        g = gradients[0][:, None]
        if ctx.store is not None:
            ctx.store.add_rows(HEAD, ctx.units, g * hidden.to(g.dtype) * ctx.factor)
        return (g * weight.to(g.dtype)).to(hidden.dtype), None, None, None, None


@contextlib.contextmanager
def recording(base: SharedBase, name: str, trained: Sequence[TensorSpec], store: UnitStore | None) -> Iterator[None]:
    """Forward passes inside use adapter `name`; backward passes put every unit's gradient of the `trained` tensors into `store`.

    The base's projections, norms and gates are swapped on the instances and swapped back at the end, `requires_grad` included. Without a store nothing is
    recorded and no gradient reaches the adapter. Raises TrainingRefused when a tensor that would train has no rule.
    """
    parameters = base.parameters(name)
    wanted = {tensor.name for tensor in trained} if store is not None else set()
    refuse_unruled(base, parameters, wanted)
    layers = dict(base.lora_layers())
    swapped: list[nn.Module] = []
    try:
        with base.using(name):
            for key in sorted(wanted):
                parameters[key].requires_grad_(True)
            for key, module in _projections(base):
                layer = layers.get(key)
                forward = _plain(module) if layer is None or name not in layer.lora_A else _adapted(layer, key, name, wanted, store)
                # An attribute of the instance hides the method of its class, and leaves hooks and state dict alone.
                target: nn.Module = module if layer is None else layer
                target.forward = forward
                swapped.append(target)
            for target, lean in lean_forwards(base.lm):
                target.forward = lean
                swapped.append(target)
            yield
    finally:
        for target in swapped:
            del target.forward
        for key in wanted:
            parameters[key].requires_grad_(False)


def _projections(base: SharedBase) -> Iterator[tuple[str, nn.Module]]:
    """Every matrix product of the trunk: LoRA layers by their own name, other linear layers as they are. Not the LM head."""
    head = base.lm.get_output_embeddings()
    inside: set[int] = set()
    for key, module in base.lm.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module  # a module by a mixin that PEFT's types do not show
            inside.update(id(child) for child in layer.modules())
            yield key, layer
        elif isinstance(module, nn.Linear | Conv1D) and id(module) not in inside and module is not head:
            yield key, module


def _matrix(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """(in, out) weight and bias of a linear layer; Conv1D stores its weight that way round."""
    inner = module.get_base_layer() if isinstance(module, LoraLayer) else module
    assert isinstance(inner, nn.Linear | Conv1D)
    return (inner.weight if isinstance(inner, Conv1D) else inner.weight.T), inner.bias


def _plain(module: nn.Module) -> Any:
    matrix, bias = _matrix(module)

    def forward(x: Tensor) -> Tensor:
        result: Tensor = Projection.apply(x, None, None, matrix, bias, 0.0, (None, None), None)  # type: ignore[no-untyped-call]  # torch's apply
        return result

    return forward


def _adapted(layer: Any, key: str, name: str, wanted: set[str], store: UnitStore | None) -> Any:
    matrix, bias = _matrix(layer)
    a, b, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, float(layer.scaling[name])
    names = tuple(f"base_model.model.{key}.{factor}.weight" for factor in ("lora_A", "lora_B"))
    recorded = tuple(n if n in wanted else None for n in names)

    def forward(x: Tensor) -> Tensor:
        result: Tensor = Projection.apply(x, a, b, matrix, bias, scale, recorded, store)  # type: ignore[no-untyped-call]  # torch's apply
        return result

    return forward


def refuse_unruled(base: SharedBase, parameters: dict[str, nn.Parameter], wanted: set[str]) -> None:
    """Raises TrainingRefused unless every tensor that would train is one whose gradient can be taken unit by unit."""
    for key in sorted(wanted):
        if key not in parameters:
            raise TrainingRefused(f"tensor `{key}` is to be trained and is not part of the adapter on base model `{base.name}`")
        if not (key == HEAD or ".lora_A." in key or ".lora_B." in key):
            raise TrainingRefused(
                f"tensor `{key}` is to be trained and has no rule for gradients of one unit; train LoRA factors, layers of `adapter.whole`, and the head"
            )
    for key, parameter in base.lm.named_parameters():
        if parameter.requires_grad:
            raise TrainingRefused(
                f"parameter `{key}` of the base requires a gradient; the base is frozen, switch it off before a private step"
            )
    for key, layer in base.lora_layers():
        problem = _unsupported(layer)
        if problem:
            raise TrainingRefused(f"LoRA layer `{key}` {problem}, for which there is no rule; use plain LoRA without dropout or bias")


def _unsupported(layer: LoraLayer) -> str | None:
    if not isinstance(layer, peft_layers.Linear) or not isinstance(layer.get_base_layer(), nn.Linear | Conv1D):
        return f"is a {type(layer).__name__} over a {type(layer.get_base_layer()).__name__}"
    if layer.merged:
        return "is merged into its base"
    if any(layer.use_dora.values()) or layer.lora_variant:
        return "uses a LoRA variant"
    if any(not isinstance(dropout, nn.Identity) and getattr(dropout, "p", 1.0) > 0 for dropout in layer.lora_dropout.values()):
        return "uses dropout"
    if any(layer.lora_bias.values()):
        return "trains a bias"
    if not all(math.isfinite(scale) for scale in layer.scaling.values()):
        return "has no finite scale"
    return None
