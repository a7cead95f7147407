"""Log-probability and entropy of sampled tokens from hidden states, without ever holding the logits of a whole batch."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor, nn

from common.errors import ShapeError
from common.models import Encoded, SharedBase

CHUNK = 256
"""Positions whose logits exist at once: 256 × 49,152 float32 are 50 MB."""


class _ChosenLogProbs(torch.autograd.Function):
    """∂ log p(y)/∂h = (W_y − Σ_j p_j·W_j)/T and ∂H/∂h = −Σ_j p_j·(log p_j + H)·W_j/T, worked out while the logits are there.

    Both are one vector a position, so backward needs neither logits nor softmax again. W is frozen and gets no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, chosen: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor | None]:
        logp = hidden.new_empty(len(hidden), dtype=_accurate(hidden))
        entropy = torch.empty_like(logp) if with_entropy else None
        needed = ctx.needs_input_grad[0]
        of_logp = torch.empty_like(hidden) if needed else None
        of_entropy = torch.empty_like(hidden) if needed and with_entropy else None
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            log_p = (F.linear(hidden[part], weight, bias).to(logp.dtype) / temperature).log_softmax(-1)
            logp[part] = log_p.gather(-1, chosen[part, None])[:, 0]
            if not (needed or with_entropy):
                continue
            p = log_p.exp()
            if of_logp is not None:
                of_logp[part] = (weight[chosen[part]] - p.to(weight.dtype) @ weight) / temperature
            if entropy is not None:
                entropy[part] = -(p * log_p).sum(-1)
                if of_entropy is not None:
                    of_entropy[part] = -((p * (log_p + entropy[part, None])).to(weight.dtype) @ weight) / temperature
        ctx.save_for_backward(of_logp, of_entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, grad_logp: Tensor, grad_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        of_logp, of_entropy = ctx.saved_tensors
        grad = grad_logp[:, None] * of_logp
        if of_entropy is not None and grad_entropy is not None:
            grad = grad + grad_entropy[:, None] * of_entropy
        return grad.to(of_logp.dtype), None, None, None, None, None


def _accurate(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype is torch.float64 else torch.float32


def chosen_logprobs(head: nn.Module, hidden: Tensor, chosen: Tensor, *, temperature: float = 1.0) -> Tensor:
    """log p(chosen) at each position (m,), with p = softmax(head(hidden)/temperature), float32. Gradients flow to `hidden`.

    hidden (m, hidden_size) flattened to two dimensions; chosen (m,). Raises ShapeError when the shapes do not fit.
    """
    logp, _ = _apply(head, hidden, chosen, temperature, False)
    assert logp is not None
    return logp


def chosen_logprobs_and_entropy(head: nn.Module, hidden: Tensor, chosen: Tensor, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """As `chosen_logprobs`, with the entropy of p at each position (m,) in nats; gradients flow through both."""
    logp, entropy = _apply(head, hidden, chosen, temperature, True)
    assert logp is not None
    assert entropy is not None
    return logp, entropy


def against_reference(
    head: nn.Module, hidden: Tensor, reference: Tensor, chosen: Tensor, *, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """log q(chosen) and KL(p ‖ q) = Σ_v p_v·(log p_v − log q_v) over the whole vocabulary, in nats, at each position (m,).

    hidden, reference (m, hidden_size): hidden states of p and of q; both go through `head` and the temperature. For scoring: no gradient is meant.
    """
    logq, kl = (torch.empty(len(hidden), dtype=_accurate(hidden), device=hidden.device) for _ in range(2))
    for start in range(0, len(hidden), CHUNK):
        part = slice(start, start + CHUNK)
        log_p, log_q = ((head(states[part]).to(logq.dtype) / temperature).log_softmax(-1) for states in (hidden, reference))
        logq[part] = log_q.gather(-1, chosen[part, None])[:, 0]
        gap = log_q.neg_().add_(log_p)  # in place, since each of these is a chunk of logits
        kl[part] = log_p.exp_().mul_(gap).sum(-1).clamp_min(0)  # rounding can leave −1e-7 where both agree
    return logq, kl


def _apply(head: nn.Module, hidden: Tensor, chosen: Tensor, temperature: float, entropy: bool) -> tuple[Tensor | None, Tensor | None]:
    if hidden.dim() != 2 or chosen.shape != hidden.shape[:1]:
        raise ShapeError(f"hidden states of shape {tuple(hidden.shape)} do not fit {tuple(chosen.shape)} tokens")
    bias = head.bias if isinstance(head.bias, Tensor) else None
    found: tuple[Tensor | None, Tensor | None] = _ChosenLogProbs.apply(
        hidden, head.get_parameter("weight"), bias, chosen, temperature, entropy
    )  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return found


def answer_positions(base: SharedBase, rows: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Hidden states that predict the answers' tokens (m, hidden) and those tokens (m,), row after row, under the adapter in use.

    Only positions of answers are returned: the prompt is read, not learned. Boundaries come from `Encoded`, never from a token id.
    """
    batch = base.pad([row.ids for row in rows])
    hidden = base.hidden(batch)
    owners = torch.cat([torch.full((len(row.ids) - row.prompt_length,), i) for i, row in enumerate(rows)]).to(hidden.device)
    places = torch.cat([torch.arange(row.prompt_length, len(row.ids)) for row in rows]).to(hidden.device)
    return hidden[owners, places - 1], batch.ids[owners, places]
