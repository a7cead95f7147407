"""Decoding one token a step from a merged copy of the base, with a key-value cache from which finished rows are dropped.

Merging happens in the copy alone: merging into the shared base and back again rounds its weights a little each time.
Autocast is not used here: with one token a row, its casts cost more than the products they speed up.
"""

import copy
from typing import Any, Protocol

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from common.errors import ModelUnavailable
from common.models import Padded, SharedBase
from server.align.llama import LlamaDecoder


class Decoder(Protocol):
    """Next-token logits for a batch of rows: `start` with the prompts, `step` with one id a row, `keep` the rows that go on."""

    def start(self, prompts: Padded, new_tokens: int) -> Tensor:
        """Read left-padded prompts and make room for `new_tokens` more. Returns logits (rows, vocabulary) of the first one, float32."""

    def step(self, ids: Tensor) -> Tensor:
        """Append one token a row, ids (rows,). Returns the logits (rows, vocabulary) of the next one, float32."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only; the others leave the cache."""


def decoder(base: SharedBase, adapter: str | None, *, rows: int, dtype: torch.dtype = torch.bfloat16) -> Decoder:
    """A decoder of the base with `adapter` merged, for batches of about `rows`. Raises ModelUnavailable for an adapter that is not there."""
    if adapter is not None and not any(adapter in layer.lora_A for _, layer in base.lora_layers()):
        raise ModelUnavailable(f"no adapter `{adapter}` on base model `{base.name}`")
    if LlamaDecoder.fits(base.lm):
        return LlamaDecoder(base.lm, lambda module: merged_weight(module, adapter, dtype), rows)
    return CacheDecoder(merged_copy(base, adapter, dtype))


@torch.no_grad()
def merged_weight(module: Any, adapter: str | None, dtype: torch.dtype) -> Tensor:
    """The weight of a layer with `adapter` folded in, W + (α/r)·B·A, summed in float32 and returned in `dtype`."""
    lora = isinstance(module, LoraLayer)
    weight: Tensor = (module.get_base_layer() if lora else module).weight
    if not lora or adapter not in module.lora_A:
        return weight.to(dtype)
    delta: Tensor = module.get_delta_weight(adapter)
    return (weight.float() + delta.float()).to(dtype)


def merged_copy(base: SharedBase, adapter: str | None, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    """The base with `adapter` folded in, as a new model in `dtype`, without any LoRA layer. The shared base is only read."""
    plain: dict[int, object] = {}
    for _, layer in base.lora_layers():
        stand_in: nn.Module = copy.deepcopy(layer.get_base_layer())
        stand_in.get_parameter("weight").data = merged_weight(layer, adapter, dtype)
        plain[id(layer)] = stand_in
    # deepcopy looks an object up in its memo first: a LoRA layer is thereby copied as the plain layer that stands for it.
    model: PreTrainedModel = copy.deepcopy(base.lm, plain)
    nn.Module.to(model, dtype)
    nn.Module.eval(model)
    return model


class CacheDecoder:
    """Any causal model of transformers, through its own forward and its own cache."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def start(self, prompts: Padded, new_tokens: int) -> Tensor:  # noqa: ARG002  # this cache grows by itself
        self._cache = DynamicCache(config=self._model.config)
        self._mask = prompts.mask
        self._positions = (prompts.mask.cumsum(1) - 1).clamp_min(0)
        return self._forward(prompts.ids)

    def step(self, ids: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(ids), 1)], 1)
        self._positions = self._positions[:, -1:] + 1
        return self._forward(ids[:, None])

    def keep(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _forward(self, ids: Tensor) -> Tensor:
        output = self._model.base_model(
            input_ids=ids, attention_mask=self._mask, position_ids=self._positions, past_key_values=self._cache, use_cache=True
        )
        head = self._model.get_output_embeddings()
        assert head is not None
        # Only the last position is asked for: the LM head is a fifth of the model.
        logits: Tensor = head(output.last_hidden_state[:, -1])
        return logits.float()
