"""Reward models one by one: what a member of an ensemble is, adapters on the shared base, and the zero-shot question likelihood."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from common.adapters import HEAD, Adapter
from common.config import ModelConfig
from common.errors import ModelUnavailable
from common.models import SharedBase
from server.align.logprobs import answer_positions, chosen_logprobs
from server.align.passes import passes, remembered_trunk, token_batches

Floats = NDArray[np.float64]
SCORING_TOKENS = 4096
"""Padded tokens of one scoring batch: no gradients are kept, so a batch costs little memory."""


class Member(Protocol):
    """One reward model of the ensemble."""

    @property
    def name(self) -> str: ...

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        """Scores (n,) on the member's own scale."""
        ...


@dataclass(frozen=True, slots=True)
class AdapterMember:
    """A reward adapter with its scalar head on the shared base, read at the end-of-turn token as in its training.

    An answer that was cut off is read as if it had ended: what it lacks is the missing-end term's business.
    """

    base: SharedBase = field(repr=False)
    name: str
    model: ModelConfig = field(repr=False)

    def __post_init__(self) -> None:
        if self.name not in self.base.heads:
            raise ModelUnavailable(f"no adapter `{self.name}` with a reward head on base model `{self.base.name}`")

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        found: Floats = score_adapters([self], prompts, texts)[0]
        return found


def score_adapters(members: Sequence[AdapterMember], prompts: Sequence[str], texts: Sequence[str]) -> Floats:
    """Scores (members, n) of adapters on one base, each read as its shape says.

    The layers below the lowest adapted one are the same for all members and run once; members that differ in the head alone share all layers.
    """
    base, model = members[0].base, members[0].model
    adapters = [base.get(member.name) for member in members]
    common = min(min(adapter.spec.layers) for adapter in adapters)
    alike: dict[bytes, list[int]] = defaultdict(list)
    for place, adapter in enumerate(adapters):
        alike[_below_the_head(adapter)].append(place)
    scores = np.empty((len(members), len(texts)))
    for reads in sorted({adapter.spec.config.reads for adapter in adapters}):
        groups = [places for places in alike.values() if adapters[places[0]].spec.config.reads == reads]
        shape = adapters[groups[0][0]].spec.config
        bounds = {"max_prompt_tokens": model.max_prompt_tokens, "max_answer_tokens": model.max_answer_tokens}
        rows = [base.encode_for(shape, prompt, text, **bounds) for prompt, text in zip(prompts, texts, strict=True)]
        for batch in token_batches([len(row.ids) for row in rows], SCORING_TOKENS):
            with remembered_trunk(base, common), torch.inference_mode():
                for places in groups:
                    names = [members[place].name for place in places]
                    with passes(base, names[0]):
                        found = base.rewards(names, [rows[i] for i in batch])
                    scores[np.ix_(places, batch)] = found.double().cpu().numpy()
    return scores


def _below_the_head(adapter: Adapter) -> bytes:
    """Of all that the states depend on besides the base."""
    shape = adapter.spec.config
    sha = hashlib.sha256(repr((shape.rank, shape.alpha, shape.reads)).encode())
    for name in sorted(adapter.tensors):
        if name != HEAD:
            sha.update(name.encode() + adapter.tensors[name].tobytes())
    return sha.digest()


@dataclass(frozen=True, slots=True)
class QuestionLikelihood:
    """mean_t log p(q_t | answer, q_<t) under the bare base: an answer to another question makes this one unlikely.

    It was trained on nobody's preferences, so it costs no ε and shares no error with members that were. It reads relevance,
    not truth.
    """

    base: SharedBase = field(repr=False)
    model: ModelConfig = field(repr=False)
    name: str = "question-likelihood"

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        bounds = {"max_prompt_tokens": self.model.max_prompt_tokens, "max_answer_tokens": self.model.max_answer_tokens}
        rows = [self.base.encode_asked(prompt, text, **bounds) for prompt, text in zip(prompts, texts, strict=True)]
        head = self.base.lm.get_output_embeddings()
        assert head is not None
        scores = np.zeros(len(rows))
        for batch in token_batches([len(row.ids) for row in rows], SCORING_TOKENS):
            owners = np.concatenate([np.full(len(rows[i].ids) - rows[i].prompt_length, i) for i in batch])
            with passes(self.base, None), torch.inference_mode():
                hidden, tokens = answer_positions(self.base, [rows[i] for i in batch])
                np.add.at(scores, owners, chosen_logprobs(head, hidden, tokens).double().cpu().numpy())
        mean: Floats = scores / [len(row.ids) - row.prompt_length for row in rows]
        return mean
