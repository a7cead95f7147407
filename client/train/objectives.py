"""What is learned: the answer's tokens given the prompt, or which of two answers a clinician preferred. One number a row.

A row's loss depends on that row alone: own token sum over own token count, never a mean over the batch (Hugging Face's `outputs.loss` is one,
and makes the gradient of a row depend on its neighbours). Rows are read at explicit positions; no mask is inferred from token ids.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from client.train.packed import BLOCK_TOKENS
from common.config import RewardConfig
from common.errors import TrainingRefused
from common.models import LIKELIHOOD_SCALE, Encoded, SharedBase

R = TypeVar("R")

ReadScores = Callable[[Tensor, Sequence[int]], Tensor]
"""(hidden (n, width), index of the row that owns each) → scores (n,): the reward head as the engine in use computes it."""


@dataclass(frozen=True, slots=True, repr=False)
class EncodedPair:
    """Two answers to one prompt, the better one first unless it is a tie. `weight` is a bounded public function of the agreement on this
    pair alone."""

    chosen: Encoded
    rejected: Encoded
    weight: float = 1.0
    tie: bool = False

    def __repr__(self) -> str:
        return f"EncodedPair({len(self.chosen.ids)} + {len(self.rejected.ids)} tokens)"


class Objective(Protocol, Generic[R]):
    """How rows become token sequences, where the trunk's output is read, and what each row's loss is."""

    def sequences(self, row: R) -> Sequence[tuple[int, ...]]:
        """The token sequences that the trunk must see for this row."""
        ...

    def reads(self, row: R) -> Sequence[range]:
        """For each sequence, the positions whose hidden state the loss needs."""
        ...

    def losses(self, base: SharedBase, hidden: Tensor, rows: Sequence[R], scores: ReadScores) -> Tensor:
        """hidden: the states read, in order, (sum of reads, width) → losses (rows,), each a function of its own row alone."""
        ...

    def made_up(self, lengths: Sequence[int], draw: Callable[[int], tuple[int, ...]]) -> list[R]:
        """Rows of no meaning, of about those lengths, from `draw(n)` → n token ids: what the start-up probe runs on."""
        ...


class CompletionLoss:
    """Supervised fine-tuning: L_row = −(1/n)·Σ_t log p(answer_t | prompt, answer_<t), over the n tokens of the answer."""

    def sequences(self, row: Encoded) -> Sequence[tuple[int, ...]]:
        if not 0 < row.prompt_length < len(row.ids):
            raise TrainingRefused(f"a row of {len(row.ids)} tokens with a prompt of {row.prompt_length} has no answer to learn")
        return [row.ids]

    def reads(self, row: Encoded) -> Sequence[range]:
        # The state at position t predicts token t + 1.
        return [range(row.prompt_length - 1, len(row.ids) - 1)]

    def losses(self, base: SharedBase, hidden: Tensor, rows: Sequence[Encoded], scores: ReadScores) -> Tensor:
        del scores  # language modelling has no reward head
        targets = torch.tensor([token for row in rows for token in row.ids[row.prompt_length :]], device=hidden.device)
        counts = [len(row.ids) - row.prompt_length for row in rows]
        owners = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)], device=hidden.device)
        return cross_entropy(base, hidden, targets, owners, counts)

    def made_up(self, lengths: Sequence[int], draw: Callable[[int], tuple[int, ...]]) -> list[Encoded]:
        return [Encoded(draw(n), n // 2) for n in lengths]


class PairLoss:
    """Bradley and Terry 1952: L_pair = −w·log σ(s) + c·(r_chosen² + r_rejected²)/2 with s = r_chosen − r_rejected, scores read at the last token.

    The second term (`centring` c) fixes the constant that differences leave free, so that scores of different members can be averaged.

    With `tie_margin` η > 0 ties are learned too, by Rao and Kupper 1967 (θ = e^η):
        P(chosen) = σ(s − η)        P(tie) = (e^{2η} − 1)·σ(s − η)·σ(−s − η)
    Raises TrainingRefused for a tie when η is 0, whose probability would be 0.
    """

    def __init__(self, centring: float, tie_margin: float = 0.0) -> None:
        self.centring, self.tie_margin = centring, tie_margin

    def sequences(self, row: EncodedPair) -> Sequence[tuple[int, ...]]:
        return [row.chosen.ids, row.rejected.ids]

    def reads(self, row: EncodedPair) -> Sequence[range]:
        return [range(len(answer.ids) - 1, len(answer.ids)) for answer in (row.chosen, row.rejected)]

    def losses(self, base: SharedBase, hidden: Tensor, rows: Sequence[EncodedPair], scores: ReadScores) -> Tensor:
        del base  # the head is the adapter's, and the engine's to read
        owners = [i for i in range(len(rows)) for _ in range(2)]
        chosen, rejected = scores(hidden, owners).view(-1, 2).unbind(1)
        weight = torch.tensor([row.weight for row in rows], dtype=chosen.dtype, device=chosen.device)
        fit = -self._log_likelihood(chosen - rejected, [row.tie for row in rows]) * weight
        return fit + self.centring * (chosen.square() + rejected.square()) / 2

    def _log_likelihood(self, margin: Tensor, ties: Sequence[bool]) -> Tensor:
        """margin s (pairs,) → log-likelihood (pairs,) of what was observed."""
        log_sigmoid, eta = torch.nn.functional.logsigmoid, self.tie_margin
        won = log_sigmoid(margin - eta)
        if not any(ties):
            return won
        if eta <= 0:
            raise TrainingRefused("a tie cannot be learned with `reward.tie_margin = 0`; set it above 0, or leave ties out")
        tied = won + log_sigmoid(-margin - eta) + math.log(math.expm1(2 * eta))
        return torch.where(torch.tensor(list(ties), device=margin.device), tied, won)

    def made_up(self, lengths: Sequence[int], draw: Callable[[int], tuple[int, ...]]) -> list[EncodedPair]:
        pairs = []
        for n in lengths:
            prompt = draw(n // 2)
            chosen, rejected = (Encoded(prompt + draw(n - n // 2 + more), n // 2) for more in (0, 3))
            pairs.append(EncodedPair(chosen, rejected))
        return pairs


class QuestionPairLoss(PairLoss):
    """The same with r = LIKELIHOOD_SCALE · mean_t log p(question_t | answer, question_<t) + head · h at the question's end.

    A row's sequences are those of `SharedBase.encode_asked`: the answer is given and the question is said. Only the head's part is centred; a
    likelihood has no constant left free.
    """

    def reads(self, row: EncodedPair) -> Sequence[range]:
        # The states before the question's tokens predict them; the last one is the head's.
        return [range(answer.prompt_length - 1, len(answer.ids)) for answer in (row.chosen, row.rejected)]

    def losses(self, base: SharedBase, hidden: Tensor, rows: Sequence[EncodedPair], scores: ReadScores) -> Tensor:
        answers = [answer for row in rows for answer in (row.chosen, row.rejected)]
        counts = [len(answer.ids) - answer.prompt_length for answer in answers]
        ends = torch.tensor([sum(counts[: i + 1]) + i for i in range(len(counts))], device=hidden.device)
        said = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
        said[ends] = False
        targets = torch.tensor([token for answer in answers for token in answer.ids[answer.prompt_length :]], device=hidden.device)
        owners = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)], device=hidden.device)
        likelihood = -cross_entropy(base, hidden[said], targets, owners, counts)
        of_head = scores(hidden[ends], [i for i in range(len(rows)) for _ in range(2)])
        chosen, rejected = (LIKELIHOOD_SCALE * likelihood.to(of_head.dtype) + of_head).view(-1, 2).unbind(1)
        weight = torch.tensor([row.weight for row in rows], dtype=chosen.dtype, device=chosen.device)
        fit = -self._log_likelihood(chosen - rejected, [row.tie for row in rows]) * weight
        return fit + self.centring * of_head.view(-1, 2).square().sum(1) / 2


def pair_objective(reward: RewardConfig) -> PairLoss:
    """The objective of a study's reward stage."""
    kind = QuestionPairLoss if reward.adapter.reads == "question" else PairLoss
    return kind(reward.centring, reward.tie_margin)


def cross_entropy(base: SharedBase, hidden: Tensor, targets: Tensor, owners: Tensor, counts: Sequence[int]) -> Tensor:
    """Mean token loss of each row.  hidden (n, width), targets and owners (n,), counts one a row → (rows,). Differentiable in `hidden` only."""
    head = base.lm.get_output_embeddings()
    assert head is not None
    per_row = torch.tensor(counts, dtype=torch.float64, device=hidden.device)
    weight, bias = head.weight, getattr(head, "bias", None)
    result: Tensor = _CrossEntropy.apply(hidden, weight, bias, targets, owners, per_row)  # type: ignore[no-untyped-call]  # torch's apply
    return result


class _CrossEntropy(torch.autograd.Function):
    """The gradient with respect to the states is known as soon as the logits are, (softmax − one-hot)·W, so it is taken in the forward pass,
    block by block, and the logits of a whole batch never exist. Blocks have one shape, for the reason given in `packed.py`.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, owners: Tensor, counts: Tensor) -> Tensor:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        losses = torch.zeros(len(counts), dtype=wide, device=hidden.device)
        share = (1.0 / counts).to(wide)[owners]
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        filled = hidden.new_zeros(BLOCK_TOKENS, hidden.shape[1])
        for start in range(0, len(hidden), BLOCK_TOKENS):
            block = slice(start, min(start + BLOCK_TOKENS, len(hidden)))
            n = block.stop - start
            filled[:n] = hidden[block]
            logits = torch.mm(filled, weight.T) if bias is None else torch.addmm(bias, filled, weight.T)
            log_p = torch.log_softmax(logits, -1, dtype=wide)
            at = targets[block, None]
            losses.index_add_(0, owners[block], -log_p[:n].gather(1, at)[:, 0] * share[block])
            if gradient is not None:
                p = log_p.exp_()
                p[:n].scatter_add_(1, at, p.new_full((n, 1), -1.0))
                gradient[block] = torch.mm(p.to(hidden.dtype), weight)[:n] * share[block, None].to(hidden.dtype)
        ctx.save_for_backward(gradient, owners)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient, owners = ctx.saved_tensors
        return gradient * gradients[0][owners, None].to(gradient.dtype), None, None, None, None, None
