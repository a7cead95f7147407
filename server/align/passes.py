"""Forward passes on the shared base for scoring and for training: which arithmetic runs, and how rows are dealt into batches.

A base stored in bfloat16 computes under bfloat16 autocast, one stored in float32 in float32.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch

from common.models import SharedBase


@contextlib.contextmanager
def passes(base: SharedBase, adapter: str | None, *, gradients: bool = False, fused: bool = True) -> Iterator[None]:
    """Forward passes inside run with `adapter`, and record a graph only with `gradients`.

    Attention is the fused kernel, or written out with `gradients` or when `fused` is off; the two round differently.
    Open it anew after each optimizer step: autocast keeps the bfloat16 copies of trained tensors until it is left.
    """
    written_out = gradients or not fused
    half = base.lm.dtype is torch.bfloat16
    attention = base.lm.config._attn_implementation
    layers = [layer for _, layer in base.lora_layers()]
    if written_out:
        # On CPU the backward pass of the fused attention kernel took a third of a training step; written out it takes a twentieth.
        base.lm.set_attn_implementation("eager")
    for layer in layers:
        # Autocast casts for each product anyway: PEFT's own cast to float32 before it would be a second copy of the input.
        layer.cast_input_dtype_enabled = not half
    try:
        with torch.autocast(base.device.type, torch.bfloat16, enabled=half), torch.set_grad_enabled(gradients), base.using(adapter):
            yield
    finally:
        for layer in layers:
            layer.cast_input_dtype_enabled = True
        if written_out:
            base.lm.set_attn_implementation(attention)


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in batches of at most `budget` padded tokens, rows of like length together; a longer row is a batch of its own."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[i] <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
