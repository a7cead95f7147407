"""A merged copy of the base that decodes one token a step, with a key-value cache from which finished rows are dropped.

Merging happens in the copy alone: merging into the shared base and back again rounds its weights a little each time.
Autocast is not used here. With one token a row, its casts cost more than the products they speed up.
"""

import copy

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from common.errors import ModelUnavailable
from common.models import Padded, SharedBase


def merged_copy(base: SharedBase, adapter: str | None, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    """The base with `adapter` folded into its weights, W + (α/r)·B·A, as a new model in `dtype`. The shared base is only read."""
    replaced: dict[int, object] = {}
    found = adapter is None
    for _, layer in base.lora_layers():
        plain: nn.Module = copy.deepcopy(layer.get_base_layer())
        if adapter is not None and adapter in layer.lora_A:
            found = True
            with torch.no_grad():
                weight: Tensor = plain.get_parameter("weight")
                weight.data = (weight.float() + layer.get_delta_weight(adapter).float()).to(dtype)
        replaced[id(layer)] = plain
    if not found:
        raise ModelUnavailable(f"no adapter `{adapter}` on base model `{base.name}`")
    # deepcopy looks an object up in its memo first: a LoRA layer is thereby copied as the plain layer that stands for it.
    model: PreTrainedModel = copy.deepcopy(base.lm, replaced)
    nn.Module.to(model, dtype)
    nn.Module.eval(model)
    return model


class Decoder:
    """Next-token logits for a batch of rows, step by step: `start` with the prompts, `step` with one id a row, `keep` the rows that go on."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def start(self, prompts: Padded) -> Tensor:
        """Read left-padded prompts. Returns logits (rows, vocabulary) of the first new token, float32."""
        self._cache = DynamicCache(config=self._model.config)
        self._mask = prompts.mask
        self._positions = (prompts.mask.cumsum(1) - 1).clamp_min(0)
        return self._forward(prompts.ids, self._positions)

    def step(self, ids: Tensor) -> Tensor:
        """Append one token a row, ids (rows,). Returns the logits (rows, vocabulary) of the next one, float32."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(ids), 1)], 1)
        self._positions = self._positions[:, -1:] + 1
        return self._forward(ids[:, None], self._positions)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only; the others leave the cache."""
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        output = self._model.base_model(
            input_ids=ids, attention_mask=self._mask, position_ids=positions, past_key_values=self._cache, use_cache=True
        )
        head = self._model.get_output_embeddings()
        assert head is not None
        # Only the last position is asked for: the LM head is a fifth of the model.
        logits: Tensor = head(output.last_hidden_state[:, -1])
        return logits.float()
