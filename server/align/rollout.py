"""Answers sampled from an adapter: batched, left-padded with explicit masks, finished rows leave the batch.

Each row draws from a stream of its own, keyed by the seed, its prompt and how often that prompt came before. So the order
of the prompts changes nothing, bit for bit. Another batch size deals the same draws to a row but rounds its logits
otherwise, which in bfloat16 now and then picks another token.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import ConfigError, ShapeError
from common.models import SharedBase
from common.progress import Progress
from server.align.decoder import Decoder, decoder

NUCLEUS_CANDIDATES = 512
"""A nucleus is looked for among so many likeliest tokens first: sorting the whole vocabulary costs more than a decoding step."""


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """What a model wrote. ids hold the token that ended it when `ended`; an answer that was cut off has none."""

    text: str
    ids: tuple[int, ...]
    ended: bool

    def __repr__(self) -> str:
        return f"Answer({len(self.ids)} tokens, {'ended' if self.ended else 'cut off'})"


def sample(
    base: SharedBase,
    adapter: str | None,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    max_prompt_tokens: int = 96,
    batch_size: int = 48,
    dtype: torch.dtype | None = None,
    stop_ids: Collection[int] = (),
    progress: Progress | None = None,
) -> list[Answer]:
    """One answer a prompt, in the order of the prompts; temperature 0 is greedy. A prompt given twice gets two draws.

    adapter None samples from the bare base. Decoding runs on a merged copy in `dtype`, the base's own if None; the shared base is only read.
    `progress` is told of answers as they are written; the caller has started the stage.
    Raises ShapeError when a bound makes no sense and ModelUnavailable for an adapter that is not there.
    """
    encoded = [base.encode_prompt(prompt, max_prompt_tokens) for prompt in prompts]
    return sample_ids(
        base, adapter, encoded, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, batch_size=batch_size, dtype=dtype,
        stop_ids=stop_ids, progress=progress,
    )  # fmt: skip


def sample_ids(
    base: SharedBase,
    adapter: str | None,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    batch_size: int,
    dtype: torch.dtype | None = None,
    stop_ids: Collection[int] = (),
    progress: Progress | None = None,
) -> list[Answer]:
    """`sample` for prompts that are already token ids. An answer ends with the end of turn or with one of `stop_ids`."""
    if max_new_tokens < 1 or batch_size < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise ShapeError(
            f"max_new_tokens {max_new_tokens} and batch_size {batch_size} must be at least 1, temperature {temperature} at least 0, top_p {top_p} in (0, 1]"
        )
    if not prompts:
        return []
    ends = frozenset((base.end_id, *stop_ids))
    draws = _draws(prompts, max_new_tokens, seed)
    writer = decoder(base, adapter, rows=min(batch_size, len(prompts)), dtype=dtype or base.lm.dtype)
    answers: list[Answer | None] = [None] * len(prompts)
    # Rows of like length share a batch, so that little of it is padding. Ties go by the tokens, not by the caller's order:
    # the same prompts in another order make the same batches, and bfloat16 rounds alike.
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), tuple(prompts[i])))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            uniforms = torch.from_numpy(draws[rows]).to(base.device)
            written = _decode(base, writer, [prompts[i] for i in rows], uniforms, temperature, top_p, ends)
            for i, ids in zip(rows, written, strict=True):
                answers[i] = Answer(base.decode(ids), tuple(ids), ids[-1] in ends)
            if progress is not None:
                progress.advance(len(rows))
    return [answer for answer in answers if answer is not None]


def _decode(
    base: SharedBase,
    writer: Decoder,
    prompts: Sequence[Sequence[int]],
    uniforms: Tensor,
    temperature: float,
    top_p: float,
    ends: Collection[int],
) -> list[list[int]]:
    """Token ids written for one batch; uniforms (rows, max_new_tokens) decide the draws."""
    written: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))  # the row of `written` that each row of the batch stands for
    logits = writer.start(base.pad(prompts, side="left"), uniforms.shape[1])
    for step in range(uniforms.shape[1]):
        chosen = choose(logits, uniforms[alive, step], temperature, top_p)
        tokens = chosen.tolist()
        going = []
        for place, row in enumerate(alive):
            if not written[row] or written[row][-1] not in ends:
                written[row].append(tokens[place])
                if tokens[place] not in ends:
                    going.append(place)
        if not going or step + 1 == uniforms.shape[1]:
            break
        # Moving the cache costs about what one row costs in eight steps, so rows leave in groups.
        if len(going) <= len(alive) - max(1, len(alive) // 8):
            kept = torch.tensor(going, device=chosen.device)
            writer.keep(kept)
            chosen, alive = chosen[kept], [alive[place] for place in going]
        logits = writer.step(chosen)
    return written


def stop_ids(base: SharedBase, texts: Sequence[str]) -> tuple[int, ...]:
    """The ids of texts that are one token each. Raises ConfigError for a text that is none or several."""
    found = []
    for text in texts:
        ids = base.tokenizer(text, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise ConfigError(f"stop token {text!r} is {len(ids)} tokens of base model `{base.name}`; a stop token is one")
        found.append(int(ids[0]))
    return tuple(found)


def choose(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Tensor:
    """Token ids (rows,) by inverting the cumulative distribution at uniforms (rows,) in [0, 1); temperature 0 takes the likeliest.

    logits (rows, vocabulary). top_p keeps the smallest set of likeliest tokens whose probability reaches it (Holtzman et al. 2020).
    """
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / temperature, -1)
    if top_p >= 1:
        return _invert(probabilities, uniforms)
    ranked, ids = probabilities.topk(min(NUCLEUS_CANDIDATES, probabilities.shape[-1]), -1)
    if bool((ranked.sum(-1) < top_p).any()):
        ranked, ids = probabilities.sort(-1, descending=True)
    before = ranked.cumsum(-1) - ranked
    return ids.gather(-1, _invert(ranked.masked_fill(before >= top_p, 0.0), uniforms)[:, None])[:, 0]


def _invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The first index whose cumulative weight exceeds uniform · total; one of weight 0 is never hit."""
    cumulative = weights.cumsum(-1)
    total = cumulative[:, -1]
    # A uniform close to 1 may round up to the total itself, which nothing exceeds.
    target = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]


def _draws(prompts: Sequence[Sequence[int]], length: int, seed: int) -> NDArray[np.float32]:
    """Uniforms (rows, length): row i's stream is keyed by the seed, its prompt, and how often that prompt stood before it."""
    seen: Counter[tuple[int, ...]] = Counter()
    rows = np.empty((len(prompts), length), np.float32)
    for row, prompt in zip(rows, map(tuple, prompts), strict=True):
        key = hashlib.sha256(repr((seed, prompt, seen[prompt])).encode()).digest()
        seen[prompt] += 1
        row[:] = np.random.Generator(np.random.PCG64(int.from_bytes(key))).random(length, np.float32)
    return rows
