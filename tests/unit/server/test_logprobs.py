"""Log-probabilities of chosen tokens: equal to the plain way, in value and in gradient, whatever the padding."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from common.bases import load_base
from common.config import AdapterConfig
from common.errors import ShapeError
from common.models import Encoded, Padded
from server.align import logprobs
from server.align.advantages import kl_k3
from server.align.logprobs import against_reference, answer_positions, chosen_logprobs, chosen_logprobs_and_entropy


@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_equal_the_plain_way(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    monkeypatch.setattr(logprobs, "CHUNK", 3)
    torch.manual_seed(0)
    head = nn.Linear(5, 11, bias=bias, dtype=torch.float64).requires_grad_(False)
    chosen = torch.randint(0, 11, (8,))
    weights = torch.randn(2, 8, dtype=torch.float64)
    found = []
    for ours in (True, False):
        hidden = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
        if ours:
            logp, entropy = chosen_logprobs_and_entropy(head, hidden, chosen, temperature=0.7)
        else:
            log_p = (head(hidden) / 0.7).log_softmax(-1)
            logp, entropy = log_p[torch.arange(8), chosen], -(log_p.exp() * log_p).sum(-1)
        (weights[0] * logp + weights[1] * entropy).sum().backward()
        found.append((logp.detach(), entropy.detach(), hidden.grad))
    for mine, plain in zip(*found, strict=True):
        assert mine is not None
        assert torch.allclose(mine, plain, atol=1e-12), (mine - plain).abs().max()


def test_without_entropy_the_log_probabilities_and_gradients_are_the_same() -> None:
    head = nn.Linear(4, 6, bias=False).requires_grad_(False)
    hidden, tokens = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 2])
    found = []
    for logp in (chosen_logprobs(head, hidden, tokens), chosen_logprobs_and_entropy(head, hidden, tokens)[0]):
        (grad,) = torch.autograd.grad(logp.sum(), hidden)
        found.append((logp.detach(), grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    with pytest.raises(ShapeError, match="do not fit"):
        chosen_logprobs(head, hidden[None], tokens)


def test_the_kl_to_the_reference_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two words. Where the policy draws what it hardly ever says, k3 of that one draw is 891.2 nats; over both words the KL is 2.29."""
    monkeypatch.setattr(logprobs, "CHUNK", 1)
    p, q = ([0.5, 0.5], [0.999, 0.001]), ([0.25, 0.75], [0.1, 0.9])
    head = nn.Linear(2, 2, bias=False).requires_grad_(False)
    head.weight.copy_(torch.eye(2))
    logq, kl = against_reference(head, *(0.7 * torch.tensor(each).log() for each in (p, q)), torch.tensor([0, 1]), temperature=0.7)
    assert logq.exp().tolist() == pytest.approx([0.25, 0.9], rel=1e-5)
    by_hand = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0.999 * math.log(9.99) + 0.001 * math.log(1 / 900)]
    assert kl.tolist() == pytest.approx(by_hand, rel=1e-5)
    drawn = kl_k3(np.log([[0.5, 0.001]]), logq.double().numpy()[None], np.ones((1, 2)))
    assert drawn[0, 1] == pytest.approx(900 - 1 - math.log(900), rel=1e-5)
    assert against_reference(head, head.weight, head.weight, torch.tensor([0, 1]))[1].tolist() == [0, 0]


def test_left_and_right_padding_give_the_same_log_probabilities() -> None:
    base = load_base("tiny", "float32")
    base.put("sft", base.spec(AdapterConfig(rank=2)).initial())
    rows = [
        base.encode(p, a, max_prompt_tokens=64, max_answer_tokens=20)
        for p, a in (("Fever", "Rest."), ("A rash that does not fade", "Seek urgent care."))
    ]
    head = base.lm.get_output_embeddings()
    with torch.no_grad(), base.using("sft"):
        right = chosen_logprobs(head, *answer_positions(base, rows))
        left: Padded = base.pad([row.ids for row in rows], side="left")
        hidden, end = base.hidden(left), left.ids.shape[1]
        answers = [torch.arange(end - len(row.ids) + row.prompt_length, end) for row in rows]
        flat = torch.cat([hidden[i, places - 1] for i, places in enumerate(answers)])
        tokens = torch.cat([left.ids[i, places] for i, places in enumerate(answers)])
        worst = float((chosen_logprobs(head, flat, tokens) - right).abs().max())
    # One float32 step at the log-probabilities' size, 6 nats, is 4.8e-7.
    assert worst <= 2e-6, worst


def test_the_end_of_turn_counts_although_it_equals_the_pad() -> None:
    """A mask made by comparing ids with the pad would lose the end of each answer and both ends of turn in the prompt."""
    base = load_base("tiny", "float32")
    assert base.pad_id == base.end_id
    row = base.encode("Fever", "Rest.", max_prompt_tokens=64, max_answer_tokens=20)
    _, tokens = answer_positions(base, [row, Encoded(row.ids * 2, row.prompt_length)])
    length = len(row.ids) - row.prompt_length
    assert tokens[length - 1] == base.end_id
    assert tokens[:length].tolist() == list(row.ids[row.prompt_length :])
