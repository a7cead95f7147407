"""Laws of PPO's arithmetic for every input: what stands behind a row's end changes nothing, and sums telescope."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.align.advantages import gae, kl_k3, policy_objective, token_rewards, whiten

SEEDS = st.integers(0, 2**32 - 1)


def draw(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows, time = rng.integers(1, 5), rng.integers(1, 7)
    lengths = rng.integers(1, time + 1, rows)
    return rng, (np.arange(time) < lengths[:, None]).astype(float)


@given(SEEDS, st.floats(0, 1), st.floats(0.1, 1))
def test_gae_is_the_double_sum_and_ignores_padding(seed: int, lam: float, gamma: float) -> None:
    rng, mask = draw(seed)
    rewards, values = rng.normal(size=mask.shape), rng.normal(size=mask.shape)
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    for i, row in enumerate(mask):
        n = int(row.sum())
        v = np.append(values[i, :n], 0.0)
        deltas = rewards[i, :n] + gamma * v[1:] - v[:-1]
        expected = [sum((gamma * lam) ** k * deltas[t + k] for k in range(n - t)) for t in range(n)]
        np.testing.assert_allclose(advantages[i, :n], expected, atol=1e-9)
        assert not advantages[i, n:].any()
        assert not returns[i, n:].any()
    junk = 1e6 * (1 - mask)
    np.testing.assert_array_equal(gae(rewards + junk, values - junk, mask, gamma=gamma, lam=lam)[0], advantages)


@given(SEEDS, st.floats(0, 5))
def test_token_rewards_add_up(seed: int, beta: float) -> None:
    rng, mask = draw(seed)
    kl, scores = rng.normal(size=mask.shape), rng.normal(size=len(mask))
    np.testing.assert_allclose(token_rewards(scores, kl, mask, beta).sum(1), scores - beta * (kl * mask).sum(1), atol=1e-9)


@given(SEEDS)
def test_k3_is_never_negative_and_zero_only_at_agreement(seed: int) -> None:
    rng, mask = draw(seed)
    logp = rng.normal(size=mask.shape)
    assert (kl_k3(logp, rng.normal(size=mask.shape), mask) >= 0).all()
    assert not kl_k3(logp, logp, mask).any()


@given(SEEDS, st.floats(0.01, 1))
def test_at_the_old_policy_nothing_is_clipped(seed: int, clip: float) -> None:
    rng, mask = draw(seed)
    logp, advantages = rng.normal(size=mask.shape), rng.normal(size=mask.shape)
    found = policy_objective(logp, logp, advantages, mask, clip)
    assert found.clipped == 0
    np.testing.assert_allclose(found.loss, -(advantages * mask).sum() / mask.sum(), atol=1e-12)


@given(SEEDS, st.floats(-5, 5), st.floats(0.5, 5))
def test_whitening_forgets_scale_and_shift(seed: int, shift: float, scale: float) -> None:
    rng, mask = draw(seed)
    x = rng.normal(size=mask.shape)
    if np.var(x[mask == 1]) > 1e-2:
        np.testing.assert_allclose(whiten(scale * x + shift, mask), whiten(x, mask), atol=1e-5)
