"""Rao and Kupper 1967: winning, losing and tying are all that can happen, whatever the scores and the margin."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.train.objectives import EncodedPair, PairLoss
from common.bases import load_base
from common.errors import TrainingRefused
from common.models import Encoded

BASE = load_base("tiny", "float64")
ROW = Encoded((1, 2), 1)


def probability(margin: float, eta: float, *, tie: bool) -> float:
    scores = torch.tensor([margin / 2, -margin / 2], dtype=torch.float64)
    loss = PairLoss(0.0, eta).losses(BASE, scores, [EncodedPair(ROW, ROW, tie=tie)], lambda hidden, _: hidden)
    return math.exp(-float(loss))


@given(st.floats(-8, 8), st.floats(0.01, 3))
def test_win_loss_and_tie_add_up_to_one(margin: float, eta: float) -> None:
    total = probability(margin, eta, tie=False) + probability(-margin, eta, tie=False) + probability(margin, eta, tie=True)
    assert total == pytest.approx(1, abs=1e-12)


@given(st.floats(-8, 8), st.floats(0.01, 3))
def test_a_tie_has_no_direction_and_is_likeliest_between_equals(margin: float, eta: float) -> None:
    assert probability(margin, eta, tie=True) == pytest.approx(probability(-margin, eta, tie=True), rel=1e-9)
    assert probability(margin, eta, tie=True) <= probability(0.0, eta, tie=True) + 1e-12


def test_by_hand_theta_two() -> None:
    """θ = 2, equal worth: each wins with 1/(1 + 2) = 1/3, and they tie with (4 − 1)/9 = 1/3."""
    eta = math.log(2)
    assert [probability(0.0, eta, tie=tie) for tie in (False, True)] == pytest.approx([1 / 3, 1 / 3])


def test_without_a_margin_it_is_bradley_and_terry_and_a_tie_is_refused() -> None:
    assert probability(0.7, 0.0, tie=False) == pytest.approx(1 / (1 + math.exp(-0.7)))
    with pytest.raises(TrainingRefused, match="tie_margin"):
        probability(0.7, 0.0, tie=True)
