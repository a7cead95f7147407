"""Rows of different lengths end to end in one long row: no padding to compute, and nothing of one row's shape in another's arithmetic.

The trunk sees ids (1, N). Positions restart at every row, and attention runs row by row, so no token sees another row. Two answers to one
prompt share the prompt's tokens: they are one stem and two branches. Matrix products
over all tokens run in blocks of a fixed number of tokens: a matrix kernel is chosen by the shape of its input, and another kernel rounds
differently (bfloat16 results moved by a whole unit in the last place with the number of tokens), so with blocks of one shape the
result of a token depends on that token alone.

Protects against: a unit whose gradient moves because another unit was drawn beside it, which would break the sensitivity bound. For numbers
that are not finite a kernel may still carry them over; `engines.py` sees to that.
Does not protect against: models whose layers mix rows in other ways; `probing.py` looks for those and refuses them.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from common.errors import TrainingRefused
from common.models import SharedBase

BLOCK_TOKENS = 512
"""Tokens of one matrix product. Smaller wastes less on the last block, larger is faster a token; measured on a CPU with AMX."""

ATTENTION = "wardround_rows"


@dataclass(frozen=True, slots=True)
class View:
    """Tokens [start, end) of the packed batch see themselves causally and all of the stem [stem_start, stem_end) before them."""

    start: int
    end: int
    stem_start: int = 0
    stem_end: int = 0


_VIEWS: ContextVar[tuple[View, ...]] = ContextVar("views")


@dataclass(frozen=True, slots=True, repr=False)
class Packed:
    """Rows end to end. ids, positions (N,); places: for each sequence of each row, where each of its tokens stands; ends, one a row."""

    ids: Tensor
    positions: Tensor
    views: tuple[View, ...]
    places: tuple[tuple[Sequence[int], ...], ...]
    ends: tuple[int, ...]

    def __repr__(self) -> str:
        return f"Packed({len(self.ends)} rows, {len(self.ids)} tokens)"


def pack(rows: Sequence[Sequence[Sequence[int]]], device: torch.device) -> Packed:
    """Rows of one or more token sequences. What the sequences of a row have in common at their beginning is computed once.

    Two answers to one prompt are one stem and two branches: a causal model gives the stem the same states under both.
    """
    ids: list[int] = []
    positions: list[int] = []
    views: list[View] = []
    places: list[tuple[Sequence[int], ...]] = []
    ends: list[int] = []
    for sequences in rows:
        start, stem = len(ids), _common_start(sequences)
        first, *others = sequences
        ids += first
        positions += range(len(first))
        views.append(View(start, len(ids)))
        found: list[Sequence[int]] = [range(start, len(ids))]
        for other in others:
            branch = len(ids)
            ids += other[stem:]
            positions += range(stem, len(other))
            views.append(View(branch, len(ids), start, start + stem))
            found.append([*range(start, start + stem), *range(branch, len(ids))])
        places.append(tuple(found))
        ends.append(len(ids))
    as_tensor = partial(torch.tensor, dtype=torch.long, device=device)
    return Packed(as_tensor(ids), as_tensor(positions), tuple(views), tuple(places), tuple(ends))


def _common_start(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens that all sequences begin with, short of the last token of any: every branch keeps one to be read."""
    if len(sequences) < 2:
        return 0
    limit = min(map(len, sequences)) - 1
    return next((i for i in range(limit) if len({sequence[i] for sequence in sequences}) > 1), limit)


@contextlib.contextmanager
def attending_within_rows(base: SharedBase, batch: Packed) -> Iterator[None]:
    """Forward and backward passes inside attend within the rows of `batch`, as a causal decoder does within its text."""
    config = base.lm.config
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    token = _VIEWS.set(batch.views)
    try:
        yield
    finally:
        _VIEWS.reset(token)
        config._attn_implementation = before


def trunk(base: SharedBase, batch: Packed) -> Tensor:
    """Last hidden states (N, hidden) of a packed batch; call it inside `attending_within_rows`."""
    output = base.lm.base_model(input_ids=batch.ids[None], position_ids=batch.positions[None], use_cache=False)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface. query (1, heads, N, d), key and value (1, kv heads, N, d) → (1, N, heads, d)."""
    for option in ("softcap", "sliding_window", "position_bias", "s_aux"):
        if options.get(option) is not None:
            raise TrainingRefused(
                f"the base model's attention uses `{option}`, for which the packed engine has no rule; use another base model"
            )
    if attention_mask is not None or not getattr(module, "is_causal", True) or options.get("dropout", 0.0):
        raise TrainingRefused("the packed engine attends causally within rows, without mask and without dropout; use another base model")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    result: Tensor = RowAttention.apply(query, key, value, _VIEWS.get(), scale)  # type: ignore[no-untyped-call]  # torch's apply
    return result, None


AttentionInterface.register(ATTENTION, _attend)


@lru_cache(maxsize=512)
def _mask(stem: int, own: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(own, stem + own) to be added to scores: 0 where a token may look, −∞ where it may not."""
    return torch.full((own, stem + own), float("-inf"), dtype=dtype, device=device).triu_(stem + 1)


class RowAttention(torch.autograd.Function):
    """O = softmax(s·QKᵀ + mask)·V, view by view. The backward recomputes the probabilities, so nothing of size length² is kept.

    dV = Pᵀ dO,  dP = dO Vᵀ,  dS = P ∘ (dP − Σ P∘dP),  dQ = s·dS K,  dK = s·dSᵀ Q   (Dao et al. 2022, appendix B.2).
    Query heads that share a key head are stacked along the tokens, so that their sums over dK and dV are part of the product.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, views: tuple[View, ...], scale: float) -> Tensor:
        _, heads, tokens, _ = query.shape
        out = torch.empty(tokens, heads, value.shape[-1], dtype=query.dtype, device=query.device)
        for view in views:
            own = slice(view.start, view.end)
            keys, values = (_seen(tensor[0], view)[None] for tensor in (key, value))
            stem = keys.shape[2] - (view.end - view.start)
            mask = _mask(stem, view.end - view.start, query.dtype, query.device) if stem else None
            result = nn.functional.scaled_dot_product_attention(
                query[:, :, own], keys, values, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=heads != key.shape[1]
            )
            out[own] = result[0].transpose(0, 1)
        ctx.save_for_backward(query, key, value)
        ctx.views, ctx.scale = views, scale
        return out[None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        grad = gradients[0]
        heads, shared = query.shape[1], key.shape[1]
        groups, width = heads // shared, query.shape[-1]
        wide = torch.float64 if query.dtype == torch.float64 else torch.float32
        d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for view in ctx.views:
            n, own = view.end - view.start, slice(view.start, view.end)
            q = query[0, :, own].reshape(shared, groups * n, width)
            g = grad[0, own].transpose(0, 1).reshape(shared, groups * n, value.shape[-1])
            k, v = _seen(key[0], view), _seen(value[0], view)
            stem = k.shape[1] - n
            scores = torch.bmm(q, k.transpose(1, 2)).to(wide).mul_(ctx.scale).view(shared, groups, n, stem + n)
            probabilities = scores.add_(_mask(stem, n, wide, query.device)).softmax(-1)
            d_scores = torch.bmm(g, v.transpose(1, 2)).to(wide).view(shared, groups, n, stem + n).mul_(probabilities)
            d_scores.addcmul_(probabilities, d_scores.sum(-1, keepdim=True), value=-1).mul_(ctx.scale)
            narrow = d_scores.to(query.dtype).view(shared, groups * n, stem + n)
            d_query[0, :, own] = torch.bmm(narrow, k).view(heads, n, width)
            d_k = torch.bmm(narrow.transpose(1, 2), q)
            d_v = torch.bmm(probabilities.to(query.dtype).view(shared, groups * n, stem + n).transpose(1, 2), g)
            for total, part in ((d_key, d_k), (d_value, d_v)):
                total[0, :, own] = part[:, stem:]
                if stem:  # its own view came first and wrote there already
                    total[0, :, view.stem_start : view.stem_end] += part[:, :stem]
        return d_query, d_key, d_value, None, None


def _seen(tensor: Tensor, view: View) -> Tensor:
    """(heads, N, d) → the keys or values that a view looks at, (heads, stem + own, d)."""
    own = tensor[:, view.start : view.end]
    return own if view.stem_start == view.stem_end else torch.cat([tensor[:, view.stem_start : view.stem_end], own], dim=1)


def blocks(count: int) -> Iterator[tuple[slice, bool]]:
    """The blocks that cover `count` tokens, and whether each is whole."""
    for start in range(0, count, BLOCK_TOKENS):
        yield slice(start, min(start + BLOCK_TOKENS, count)), start + BLOCK_TOKENS <= count


def multiply(tokens: Tensor, matrix: Tensor, low: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
    """tokens (N, in)·matrix (in, out), plus (tokens·first)·second for a low-rank pair → (N, out), and tokens·first (N, rank).

    Always in blocks of BLOCK_TOKENS rows; the last is filled up with zeros.
    """
    first, second = low if low is not None else (None, None)
    out = tokens.new_empty(len(tokens), matrix.shape[1])
    narrow = None if first is None else tokens.new_empty(len(tokens), first.shape[1])
    for block, whole in blocks(len(tokens)):
        source = tokens[block]
        if not whole:
            source = tokens.new_zeros(BLOCK_TOKENS, tokens.shape[1])
            source[: block.stop - block.start] = tokens[block]
        target = out[block] if whole else tokens.new_empty(BLOCK_TOKENS, matrix.shape[1])
        torch.mm(source, matrix, out=target)
        if first is not None and second is not None and narrow is not None:
            inner = torch.mm(source, first)
            target.addmm_(inner, second)
            narrow[block] = inner[: block.stop - block.start]
        if not whole:
            out[block] = target[: block.stop - block.start]
    return out, narrow
