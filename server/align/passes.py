"""Forward passes on the shared base for scoring and for training: which arithmetic runs, and how rows are dealt into batches.

A base stored in bfloat16 computes under bfloat16 autocast, one stored in float32 in float32.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from common.models import SharedBase
from server.align.lora import Projection


@contextlib.contextmanager
def passes(base: SharedBase, adapter: str | None, *, gradients: bool = False, fused: bool = True) -> Iterator[None]:
    """Forward passes inside run with `adapter`, and record a graph only with `gradients`.

    Attention is the fused kernel, or written out with `gradients` or when `fused` is off; the two round differently.
    Open it anew after each optimizer step: autocast keeps the bfloat16 copies of trained tensors until it is left.
    """
    written_out = gradients or not fused
    half = base.lm.dtype is torch.bfloat16
    attention = base.lm.config._attn_implementation
    layers = [layer for _, layer in base.lora_layers() if Projection.fits(layer)]
    if written_out:
        # On CPU the backward pass of the fused attention kernel took a third of a training step; written out it takes a twentieth.
        base.lm.set_attn_implementation("eager")
    for layer in layers:
        layer.forward = Projection(layer, adapter)
    try:
        with torch.autocast(base.device.type, torch.bfloat16, enabled=half), torch.set_grad_enabled(gradients), base.using(adapter):
            yield
    finally:
        for layer in layers:
            del layer.forward
        if written_out:
            base.lm.set_attn_implementation(attention)


@contextlib.contextmanager
def remembered_trunk(base: SharedBase, layers: int) -> Iterator[None]:
    """Inside, the lowest `layers` layers run once and then return what they returned: for several adapters that only differ above them.

    One batch a context. Nothing below may depend on the adapter in use, and no gradient may be wanted below.
    """
    trunk = base.lm.base_model
    blocks = list(trunk.get_submodule("layers" if hasattr(trunk, "layers") else "h").children())
    patched: list[nn.Module] = blocks[:layers]
    for block in patched:
        block.forward = _once(block.forward)
    try:
        yield
    finally:
        for block in patched:
            del block.forward


def _once(forward: Callable[..., Any]) -> Callable[..., Any]:
    found: list[Any] = []

    def remembered(*args: Any, **kwargs: Any) -> Any:
        if not found:
            found.append(forward(*args, **kwargs))
        return found[0]

    return remembered


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in batches of at most `budget` padded tokens, rows of like length together; a longer row is a batch of its own."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[i] <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
