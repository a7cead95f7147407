"""Rows of different lengths end to end in one long row: no padding to compute, and nothing of one row's shape in another's arithmetic.

The trunk sees ids (1, N). Positions restart at every row, and attention runs row by row, so no token sees another row. Matrix products
over all tokens run in blocks of a fixed number of tokens: a matrix kernel is chosen by the shape of its input, and another kernel rounds
differently (bfloat16 results moved by a whole unit in the last place with the number of tokens), so with blocks of one shape the
result of a token depends on that token alone.

Protects against: a unit whose gradient moves because another unit was drawn beside it, which would break the sensitivity bound.
Does not protect against: models whose layers mix rows in other ways; the probe of `dp_sgd.py` looks for those and refuses them.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from common.errors import TrainingRefused
from common.models import SharedBase

BLOCK_TOKENS = 256
"""Tokens of one matrix product. Smaller wastes less on the last block, larger is faster a token; measured on a CPU with AMX."""

ATTENTION = "wardround_rows"
_ROW_LENGTHS: ContextVar[tuple[int, ...]] = ContextVar("row_lengths")


@dataclass(frozen=True, slots=True, repr=False)
class Packed:
    """Rows end to end. ids, positions (N,); lengths, one a row, add up to N; starts, where each row begins."""

    ids: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    starts: tuple[int, ...]

    def __repr__(self) -> str:
        return f"Packed({len(self.lengths)} rows, {len(self.ids)} tokens)"


def pack(rows: Sequence[Sequence[int]], device: torch.device) -> Packed:
    lengths = tuple(map(len, rows))
    starts = tuple(sum(lengths[:i]) for i in range(len(lengths)))
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.long, device=device)
    positions = torch.cat([torch.arange(n, device=device) for n in lengths])
    return Packed(ids, positions, lengths, starts)


@contextlib.contextmanager
def attending_within_rows(base: SharedBase, batch: Packed) -> Iterator[None]:
    """Forward and backward passes inside attend within the rows of `batch`, as a causal decoder does within its text."""
    config = base.lm.config
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    token = _ROW_LENGTHS.set(batch.lengths)
    try:
        yield
    finally:
        _ROW_LENGTHS.reset(token)
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
    result: Tensor = RowAttention.apply(query, key, value, _ROW_LENGTHS.get(), scale)  # type: ignore[no-untyped-call]  # torch's apply
    return result, None


AttentionInterface.register(ATTENTION, _attend)


@lru_cache(maxsize=512)
def _causal(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((length, length), float("-inf"), dtype=dtype, device=device).triu_(1)


class RowAttention(torch.autograd.Function):
    """O = softmax(s·QKᵀ + causal)·V, row by row. The backward recomputes the probabilities, so nothing of size length² is kept.

    dV = Pᵀ dO,  dP = dO Vᵀ,  dS = P ∘ (dP − Σ P∘dP),  dQ = s·dS K,  dK = s·dSᵀ Q   (Dao et al. 2022, appendix B.2).
    Query heads that share a key head are stacked along the tokens, so that their sums over dK and dV are part of the product.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
        _, heads, tokens, _ = query.shape
        out = torch.empty(tokens, heads, value.shape[-1], dtype=query.dtype, device=query.device)
        start = 0
        for length in lengths:
            row = slice(start, start + length)
            result = nn.functional.scaled_dot_product_attention(
                query[:, :, row], key[:, :, row], value[:, :, row], is_causal=True, scale=scale, enable_gqa=heads != key.shape[1]
            )
            out[row] = result[0].transpose(0, 1)
            start += length
        ctx.save_for_backward(query, key, value)
        ctx.lengths, ctx.scale = lengths, scale
        return out[None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        grad = gradients[0]
        heads, shared = query.shape[1], key.shape[1]
        groups, width = heads // shared, query.shape[-1]
        wide = torch.float64 if query.dtype == torch.float64 else torch.float32
        d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        start = 0
        for n in ctx.lengths:
            row = slice(start, start + n)
            q = query[0, :, row].reshape(shared, groups * n, width)
            g = grad[0, row].transpose(0, 1).reshape(shared, groups * n, value.shape[-1])
            k, v = key[0, :, row], value[0, :, row]
            scores = torch.bmm(q, k.transpose(1, 2)).to(wide).mul_(ctx.scale).view(shared, groups, n, n)
            probabilities = scores.add_(_causal(n, wide, query.device)).softmax(-1)
            d_scores = torch.bmm(g, v.transpose(1, 2)).to(wide).view(shared, groups, n, n).mul_(probabilities)
            d_scores.addcmul_(probabilities, d_scores.sum(-1, keepdim=True), value=-1).mul_(ctx.scale)
            narrow = d_scores.to(query.dtype).view(shared, groups * n, n)
            d_query[0, :, row] = torch.bmm(narrow, k).view(heads, n, width)
            d_key[0, :, row] = torch.bmm(narrow.transpose(1, 2), q)
            d_value[0, :, row] = torch.bmm(probabilities.to(query.dtype).view(shared, groups * n, n).transpose(1, 2), g)
            start += n
        return d_query, d_key, d_value, None, None


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
