"""One frozen base model, any number of LoRA adapters and scalar heads on it; `common/bases.py` loads it.

Prompt and answer boundaries are carried as lengths and masks, never inferred from token ids: SmolLM2's pad token is its
end-of-turn token, so a mask made by comparing ids silently drops the one action that ends an answer.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from common.adapters import HEAD, Adapter, AdapterSpec, TensorSpec
from common.config import AdapterConfig
from common.errors import ModelUnavailable, ShapeError

START, END = "<|im_start|>", "<|im_end|>"
ASKING = "Which question does this answer?\n"
"""Stands before the answer, in the user's turn, where the likelihood of the question is read; the question is the assistant's."""
LIKELIHOOD_SCALE = 4.0
"""Units of reward for a nat a token: likelihoods of a question under two answers differ by some tenths of a nat, scores by about one."""
_POSITIONS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, repr=False)
class Encoded:
    """Token ids of a prompt and its answer. `prompt_length` is carried, so that no mask is ever guessed from an id."""

    ids: tuple[int, ...]
    prompt_length: int

    def __repr__(self) -> str:
        return f"Encoded({self.prompt_length} + {len(self.ids) - self.prompt_length} tokens)"


@dataclass(frozen=True, slots=True, repr=False)
class Padded:
    """A rectangular batch. ids, mask (rows, length); mask is 1 on real tokens. lengths (rows,) counts them."""

    ids: Tensor
    mask: Tensor
    lengths: Tensor

    def __repr__(self) -> str:
        return f"Padded({tuple(self.ids.shape)})"


class SharedBase:
    """A frozen base model in memory once, with named adapters (`put`, `get`, `drop`) of which one or none is in use at a time.

    Protects against: a base that drifts (nothing here merges into it) and an adapter trained under another's name.
    Does not protect against: two threads that switch adapters on the same base at once; give each its own.
    """

    def __init__(self, name: str, lm: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, digest: str) -> None:
        self.name, self.lm, self.tokenizer, self.digest = name, lm, tokenizer, digest
        self.peft: PeftModel | None = None
        self.heads: dict[str, nn.Parameter] = {}
        self._specs: dict[str, AdapterSpec] = {}
        lm.eval()
        lm.requires_grad_(False)
        self.end_id = int(tokenizer.get_vocab().get(END, tokenizer.eos_token_id))
        self.pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_id)

    @property
    def device(self) -> torch.device:
        return self.lm.device

    @property
    def hidden_size(self) -> int:
        return int(self.lm.config.hidden_size)

    # -- text ----------------------------------------------------------------------------------------------------------

    def encode_prompt(self, prompt: str, max_tokens: int) -> list[int]:
        """Chat-formatted prompt, ready for the assistant's turn; the text is cut from its end to `max_tokens` in all."""
        head = self._ids(f"{START}user\n")
        tail = self._ids(f"{END}\n{START}assistant\n")
        return head + self._ids(prompt)[: max(0, max_tokens - len(head) - len(tail))] + tail

    def encode(self, prompt: str, answer: str, *, max_prompt_tokens: int, max_answer_tokens: int) -> Encoded:
        """Prompt and answer; the answer ends with the end-of-turn token, which is always kept."""
        start = self.encode_prompt(prompt, max_prompt_tokens)
        reply = self._ids(answer)[: max_answer_tokens - 1] + [self.end_id]
        return Encoded(tuple(start + reply), len(start))

    def encode_asked(self, prompt: str, answer: str, *, max_prompt_tokens: int, max_answer_tokens: int) -> Encoded:
        """The answer as what is given and the question as what is said: for the likelihood of a question given its answer.

        The answer is cut to the room of a prompt and an answer together, the question to that of a prompt.
        """
        room = max_prompt_tokens + max_answer_tokens
        return self.encode(ASKING + answer, prompt, max_prompt_tokens=room, max_answer_tokens=max_prompt_tokens)

    def encode_for(self, config: AdapterConfig, prompt: str, answer: str, *, max_prompt_tokens: int, max_answer_tokens: int) -> Encoded:
        """What a reward adapter of that shape reads of an answer to `prompt`."""
        encode = self.encode_asked if config.reads == "question" else self.encode
        return encode(prompt, answer, max_prompt_tokens=max_prompt_tokens, max_answer_tokens=max_answer_tokens)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def pad(self, rows: Sequence[Sequence[int]], *, side: Literal["left", "right"] = "right") -> Padded:
        """Rows of different length as one rectangle. The pad id carries no meaning: only the mask does."""
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for i, row in enumerate(rows):
            place = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
            ids[i, place] = torch.tensor(list(row), dtype=torch.long)
            mask[i, place] = 1
        return Padded(ids.to(self.device), mask.to(self.device), mask.sum(1).to(self.device))

    # -- adapters ------------------------------------------------------------------------------------------------------

    def spec(self, config: AdapterConfig, *, head: bool = False) -> AdapterSpec:
        """The tensors that `config` puts on this base. Raises ModelUnavailable when no layer matches."""
        tensors: list[TensorSpec] = []
        total = int(self.lm.config.num_hidden_layers)
        first = 0 if config.last_layers is None else max(0, total - config.last_layers)
        layers = tuple(range(first, total))
        conv = False
        for name, shape, is_conv in self._projections():
            match = re.search(r"\.(?:layers|h)\.(\d+)\.", name)
            if match is None or int(match[1]) not in layers or name.rsplit(".", 1)[-1] not in config.targets:
                continue
            conv |= is_conv
            out_features, in_features = shape
            rank = in_features if name.rsplit(".", 1)[-1] in config.whole else config.rank
            tensors.append(TensorSpec(f"base_model.model.{name}.lora_A.weight", (rank, in_features)))
            tensors.append(TensorSpec(f"base_model.model.{name}.lora_B.weight", (out_features, rank)))
        if not tensors:
            raise ModelUnavailable(
                f"base model `{self.name}` has none of the target layers {', '.join(config.targets)}; set `adapter.targets` to its own names"
            )
        if head:
            tensors.append(TensorSpec(HEAD, (1, self.hidden_size)))
        return AdapterSpec(self.name, config, tuple(sorted(tensors, key=lambda t: t.name)), layers, head, conv)

    def _projections(self) -> Iterator[tuple[str, tuple[int, int], bool]]:
        for name, module in self.lm.named_modules():
            inner = module.get_base_layer() if isinstance(module, LoraLayer) else module
            if ".lora_" in name or name.endswith(".base_layer"):
                continue
            if isinstance(inner, Conv1D):
                yield name, (int(inner.weight.shape[1]), int(inner.weight.shape[0])), True
            elif isinstance(inner, nn.Linear):
                yield name, (inner.out_features, inner.in_features), False

    def put(self, name: str, adapter: Adapter) -> None:
        """Install `adapter` under `name`, replacing what stood there. Nothing becomes trainable by it."""
        if name in self._specs and self._specs[name] != adapter.spec:
            self.drop(name)
        if name not in self._specs:
            self._add(name, adapter.spec)
        with torch.no_grad():
            for tensor_name, parameter in self.parameters(name).items():
                source = torch.tensor(adapter.tensors[tensor_name])
                if parameter.shape != source.shape:
                    raise ShapeError(
                        f"tensor `{tensor_name}` has shape {tuple(source.shape)}; the base model `{self.name}` needs {tuple(parameter.shape)}"
                    )
                parameter.copy_(source)

    def _add(self, name: str, spec: AdapterSpec) -> None:
        config = LoraConfig(
            r=spec.config.rank,
            lora_alpha=spec.config.alpha,  # type: ignore[arg-type]  # PEFT divides by r, so a float is as good as an int
            rank_pattern=spec.whole_ranks(),
            alpha_pattern=spec.whole_ranks(),
            lora_dropout=0.0,
            bias="none",
            target_modules=list(spec.config.targets),
            layers_to_transform=list(spec.layers),
            fan_in_fan_out=spec.fan_in_fan_out,
            task_type="CAUSAL_LM",
        )
        with _without_peft_advice():
            if self.peft is None:
                self.peft = get_peft_model(self.lm, config, adapter_name=name)
            else:
                self.peft.add_adapter(name, config)
        self.lm.requires_grad_(False)
        self._specs[name] = spec
        if spec.head:
            self.heads[name] = nn.Parameter(torch.zeros(1, self.hidden_size, device=self.device), requires_grad=False)

    def get(self, name: str) -> Adapter:
        """The tensors of `name` as they are now, as plain arrays."""
        return Adapter(self._specs[name], {key: p.detach().float().cpu().numpy().copy() for key, p in self.parameters(name).items()})

    def drop(self, name: str) -> None:
        """Forget an adapter and free its memory."""
        if self.peft is not None and name in self._specs:
            with _without_peft_advice():
                self.peft.delete_adapter(name) if len(self._specs) > 1 else self._unwrap()
        self._specs.pop(name, None)
        self.heads.pop(name, None)

    def _unwrap(self) -> None:
        assert self.peft is not None
        self.lm = self.peft.unload()
        self.peft = None

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        """The adapter's parameters by their names on disk, the head included."""
        found: dict[str, nn.Parameter] = {}
        for key, layer in self.lora_layers():
            if name in layer.lora_A:
                found[f"base_model.model.{key}.lora_A.weight"] = layer.lora_A[name].weight
                found[f"base_model.model.{key}.lora_B.weight"] = layer.lora_B[name].weight
        if name in self.heads:
            found[HEAD] = self.heads[name]
        return found

    def lora_layers(self) -> Iterator[tuple[str, Any]]:
        """Every PEFT LoRA layer on the base, with the base's own name of the module."""
        for key, module in self.lm.named_modules():
            if isinstance(module, LoraLayer):
                yield key, module

    @contextlib.contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Forward passes inside run with adapter `name`, or with the bare base for None. `requires_grad` is left as it is."""
        if name is not None and name not in self._specs:
            raise ModelUnavailable(f"no adapter `{name}` on base model `{self.name}`")
        layers = [layer for _, layer in self.lora_layers()]
        before = [(layer._active_adapter, layer._disable_adapters) for layer in layers]
        for layer in layers:
            layer._disable_adapters = name is None
            if name is not None:
                layer._active_adapter = [name]
        try:
            yield
        finally:
            for layer, (active, disabled) in zip(layers, before, strict=True):
                layer._active_adapter, layer._disable_adapters = active, disabled

    # -- forward -------------------------------------------------------------------------------------------------------

    def hidden(self, batch: Padded) -> Tensor:
        """Last hidden states (rows, length, hidden). Positions count real tokens only, so left padding changes nothing."""
        positions = (batch.mask.cumsum(1) - 1).clamp_min(0)
        output = self.lm.base_model(input_ids=batch.ids, attention_mask=batch.mask, position_ids=positions, use_cache=False)
        hidden: Tensor = output.last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (n, hidden_size) → (n, vocabulary). Two dimensions only: on three, torch copies the whole LM head once a row."""
        if hidden.dim() != 2:
            raise ShapeError(f"logits takes positions flattened to two dimensions, not {hidden.dim()}")
        head = self.lm.get_output_embeddings()
        assert head is not None
        result: Tensor = head(hidden)
        return result

    def rewards(self, names: Sequence[str], rows: Sequence[Encoded]) -> Tensor:
        """Scalar rewards (names, rows) by adapters that differ in their heads alone, float32. Rows are those of `encode_for`.

        head · h at the last token; and with `reads = "question"`, plus LIKELIHOOD_SCALE · mean_t log p(question_t | answer, question_<t).
        """
        ends, likelihood = self.ends(names[0], rows)
        read = torch.stack([(ends.float() * self.heads[name].float()).sum(-1) for name in names])
        return read if likelihood is None else read + LIKELIHOOD_SCALE * likelihood

    def ends(self, name: str, rows: Sequence[Encoded]) -> tuple[Tensor, Tensor | None]:
        """What the head of adapter `name` reads: the state (rows, hidden) at each row's last token; and the question's likelihood (rows,), if
        the adapter reads that."""
        batch = self.pad([row.ids for row in rows])
        with self.using(name):
            hidden = self.hidden(batch)
        at_end = hidden[torch.arange(len(hidden), device=hidden.device), batch.lengths - 1]
        return at_end, self._likelihood(hidden, batch, rows) if self._specs[name].config.reads == "question" else None

    def _likelihood(self, hidden: Tensor, batch: Padded, rows: Sequence[Encoded]) -> Tensor:
        """Mean log-probability (rows,) of each row's tokens after its prompt; hidden (rows, length, width)."""
        counts = torch.tensor([len(row.ids) - row.prompt_length for row in rows], device=hidden.device)
        owners = torch.repeat_interleave(torch.arange(len(rows), device=hidden.device), counts)
        places = torch.cat([torch.arange(row.prompt_length, len(row.ids)) for row in rows]).to(hidden.device)
        before, said = hidden[owners, places - 1], batch.ids[owners, places]
        parts = [slice(start, start + _POSITIONS_AT_ONCE) for start in range(0, len(said), _POSITIONS_AT_ONCE)]
        found = [-nn.functional.cross_entropy(self.logits(before[p]).float(), said[p], reduction="none") for p in parts]
        each = torch.cat(found)
        return torch.zeros(len(rows), device=hidden.device).index_add(0, owners, each) / counts


@contextlib.contextmanager
def _without_peft_advice() -> Iterator[None]:
    """PEFT warns which adapter is active next; here `using` says so around every pass. Its call of a renamed property is its own affair."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted", category=UserWarning)
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
