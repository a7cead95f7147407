"""PPO's arithmetic against numbers worked on paper."""

import math

import numpy as np
import pytest

from common.errors import ShapeError
from server.align.advantages import (
    explained_variance,
    gae,
    kl_k1,
    kl_k3,
    masked_mean,
    policy_objective,
    token_rewards,
    value_objective,
    whiten,
)

MASK = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


def close(found: object, expected: object) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_gae_on_two_ragged_rows() -> None:
    # Row 0, γ = .5, λ = .5: δ2 = 4 − 3 = 1, δ1 = 0 + .5·3 − 2 = −.5, δ0 = 1 + .5·2 − 1 = 1.
    #   A2 = 1, A1 = −.5 + .25·1 = −.25, A0 = 1 + .25·(−.25) = .9375.
    # Row 1 has one token: δ0 = 2 − .5 = 1.5, whatever stands behind it.
    rewards = np.array([[1.0, 0.0, 4.0], [2.0, 99.0, 99.0]])
    values = np.array([[1.0, 2.0, 3.0], [0.5, 99.0, 99.0]])
    advantages, returns = gae(rewards, values, MASK, gamma=0.5, lam=0.5)
    close(advantages, [[0.9375, -0.25, 1.0], [1.5, 0.0, 0.0]])
    close(returns, [[1.9375, 1.75, 4.0], [2.0, 0.0, 0.0]])


def test_gae_at_its_ends() -> None:
    rewards, values = np.array([[1.0, 2.0, 4.0]]), np.array([[0.5, 0.25, 1.0]])
    mask = np.ones((1, 3))
    close(gae(rewards, values, mask, gamma=1.0, lam=1.0)[1], [[7.0, 6.0, 4.0]])  # λ = 1: returns are the sums to come
    close(gae(rewards, values, mask, gamma=1.0, lam=0.0)[0], [[0.75, 2.75, 3.0]])  # λ = 0: one-step errors


def test_whitening_leaves_padding_out() -> None:
    # Real tokens 1, 2, 3, 6: mean 3, variance (4 + 1 + 0 + 9)/4 = 3.5.
    found = whiten(np.array([[1.0, 2.0, 3.0], [6.0, 50.0, -50.0]]), MASK)
    scale = math.sqrt(3.5 + 1e-8)
    close(found, [[-2 / scale, -1 / scale, 0.0], [3 / scale, 0.0, 0.0]])
    assert abs(masked_mean(found**2, MASK) - 1) < 1e-8


def test_kl_estimators() -> None:
    # The policy gives the token .5, the reference .25 and 1: r = .5 and 2.
    logp, reference = np.log([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]), np.log([[0.25, 1.0, 0.5], [0.25, 0.25, 0.25]])
    close(kl_k1(logp, reference, MASK), [[math.log(2), -math.log(2), 0.0], [math.log(2), 0.0, 0.0]])
    close(
        kl_k3(logp, reference, MASK),
        [[0.5 - 1 + math.log(2), 2 - 1 - math.log(2), 0.0], [0.5 - 1 + math.log(2), 0.0, 0.0]],
    )


def test_score_falls_on_the_last_real_token() -> None:
    kl = np.array([[0.1, 0.2, -0.1], [0.4, 9.0, 9.0]])
    close(token_rewards(np.array([3.0, -1.0]), kl, MASK, 0.5), [[-0.05, -0.1, 3.05], [-1.2, 0.0, 0.0]])


def test_clipped_ratio() -> None:
    # ρ = 1.5, .5, 1.1 | 1.5;  A = 2, 2, −1 | −2;  ε = .2.
    #   min(3, 2.4) = 2.4;  min(1, 1.6) = 1;  min(−1.1, −1.1) = −1.1;  min(−3, −2.4) = −3.
    #   loss = −(2.4 + 1 − 1.1 − 3)/4 = .175; the clip acts on the first token only: for the last it would hide a loss.
    logp = np.log([[1.5, 0.5, 1.1], [1.5, 7.0, 7.0]])
    found = policy_objective(logp, np.zeros((2, 3)), np.array([[2.0, 2.0, -1.0], [-2.0, 5.0, 5.0]]), MASK, 0.2)
    close([found.loss, found.clipped], [0.175, 0.25])


def test_clipped_value() -> None:
    # V_old = 0, V = 1, .1, −.5 | 2;  R = 1, 1, 0 | 2;  ε = .2. Clipped V = .2, .1, −.2 | .2.
    #   free: 0, .81, .25 | 0; held: .64, .81, .04 | 3.24; the larger: .64 + .81 + .25 + 3.24 = 4.94; halved and over 4: .6175.
    found = value_objective(
        np.array([[1.0, 0.1, -0.5], [2.0, 8.0, 8.0]]), np.zeros((2, 3)), np.array([[1.0, 1.0, 0.0], [2.0, 0.0, 0.0]]), MASK, 0.2
    )
    close([found.loss, found.clipped], [0.6175, 0.5])


def test_explained_variance() -> None:
    returns = np.array([[1.0, 2.0, 3.0], [6.0, 50.0, 50.0]])
    assert abs(explained_variance(returns, returns, MASK) - 1) < 1e-12
    assert abs(explained_variance(np.full((2, 3), 7.0), returns, MASK)) < 1e-8
    # Errors 1, −1, 1, −1: their variance 1 against 3.5.
    noisy = returns - np.array([[1.0, -1.0, 1.0], [-1.0, 0.0, 0.0]])
    assert abs(explained_variance(noisy, returns, MASK) - (1 - 1 / 3.5)) < 1e-8


@pytest.mark.parametrize(
    "mask",
    [np.zeros((1, 3)), np.array([[1.0, 0.0, 1.0]]), np.array([[0.0, 1.0, 1.0]]), np.array([[1.0, 0.5, 0.0]]), np.ones(3)],
    ids=["empty", "hole", "left", "half", "flat"],
)
def test_masks_that_are_not_ragged_at_the_right_are_refused(mask: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="a mask is"):
        gae(np.zeros(mask.shape), np.zeros(mask.shape), mask, gamma=1.0, lam=1.0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="does not fit"):
        gae(np.zeros((2, 3)), np.zeros((2, 4)), MASK, gamma=1.0, lam=1.0)
    with pytest.raises(ShapeError, match="for 2 answers"):
        token_rewards(np.zeros(3), np.zeros((2, 3)), MASK, 0.1)
