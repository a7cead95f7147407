"""The arithmetic of PPO on plain arrays: no torch, no files, so that every line can be worked by hand.

Arrays are (rows, time): one row an answer, one column a token. `mask` is 1 on the tokens that the policy wrote, the end of
turn included, and 0 behind them; rows are ragged at their right end only. What stands under a 0 never enters a figure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import ShapeError

Floats = NDArray[np.float64]
EPSILON = 1e-8


def require_ragged(mask: Floats, *others: Floats) -> None:
    """Raises ShapeError unless all shapes agree and each row of `mask` is ones, at least one, followed by zeros."""
    for other in others:
        if other.shape != mask.shape:
            raise ShapeError(f"an array of shape {other.shape} does not fit the mask of shape {mask.shape}")
    if mask.ndim != 2 or not np.isin(mask, (0, 1)).all() or (np.diff(mask, axis=1) > 0).any() or (mask[:, :1] != 1).any():
        raise ShapeError("a mask is (rows, time), 1 on at least the first token of a row and 0 only behind its last")


def masked_mean(x: Floats, mask: Floats) -> float:
    """Σ m·x / Σ m over the whole batch: every token counts the same, whatever the length of its row."""
    return float((x * mask).sum() / mask.sum())


def whiten(x: Floats, mask: Floats) -> Floats:
    """(x − μ) / √(σ² + 1e-8) with mean and (biased) variance over the real tokens; 0 on the others."""
    mean = masked_mean(x, mask)
    variance = masked_mean((x - mean) ** 2, mask)
    whitened: Floats = (x - mean) / np.sqrt(variance + EPSILON) * mask
    return whitened


def kl_k1(logp: Floats, reference: Floats, mask: Floats) -> Floats:
    """log π − log π_ref of the sampled token: unbiased for the KL, may be negative.   Schulman 2020, k1."""
    return (logp - reference) * mask


def kl_k3(logp: Floats, reference: Floats, mask: Floats) -> Floats:
    """r − 1 − log r with r = π_ref/π: unbiased, never negative, of less variance than k1 near 0.   Schulman 2020, k3."""
    log_ratio = (reference - logp) * mask
    return np.expm1(log_ratio) - log_ratio


def token_rewards(scores: Floats, kl: Floats, mask: Floats, beta: float) -> Floats:
    """r_t = −β·KL_t, and the answer's score on its last token.   Ziegler et al. 2019, eq. 2.

    scores (rows,); kl, mask (rows, time). Returns (rows, time).
    """
    require_ragged(mask, kl)
    if scores.shape != mask.shape[:1]:
        raise ShapeError(f"{scores.shape} scores for {mask.shape[0]} answers")
    rewards = -beta * kl * mask
    last = mask.sum(1).astype(np.intp) - 1
    rewards[np.arange(len(rewards)), last] += scores
    return rewards


def gae(rewards: Floats, values: Floats, mask: Floats, *, gamma: float, lam: float) -> tuple[Floats, Floats]:
    """A_t = Σ_k (γλ)^k δ_{t+k},  δ_t = r_t + γ·V_{t+1} − V_t,  and the returns A_t + V_t.   Schulman et al. 2016, eq. 16.

    values (rows, time): V_t is the value before token t; behind a row's last token it is 0, for the answer is over.
    Returns two arrays (rows, time), 0 outside the mask. Raises ShapeError when the shapes do not fit.
    """
    require_ragged(mask, rewards, values)
    values = values * mask
    following = np.concatenate([values[:, 1:], np.zeros((len(values), 1))], axis=1)
    deltas = (rewards + gamma * following - values) * mask
    advantages = np.zeros_like(deltas)
    carried = np.zeros(len(deltas))
    for t in range(deltas.shape[1] - 1, -1, -1):
        # Behind the last token δ is 0, so the sum starts afresh there in every row.
        carried = deltas[:, t] + gamma * lam * carried
        advantages[:, t] = carried
    return advantages, (advantages + values) * mask


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss and how much of it was clipped: `clipped` is the share of real tokens whose gradient the clip took away or bent."""

    loss: float
    clipped: float


def policy_objective(logp: Floats, old: Floats, advantages: Floats, mask: Floats, clip: float) -> Objective:
    """−E[min(ρA, clip(ρ, 1−ε, 1+ε)·A)] with ρ = exp(log π − log π_old).   Schulman et al. 2017, eq. 7.

    The clip acts on one side: it takes away the gain of going further, never the loss of having gone too far.
    """
    ratio = np.exp((logp - old) * mask)
    bounded = np.clip(ratio, 1 - clip, 1 + clip)
    acting = (bounded * advantages < ratio * advantages).astype(np.float64)
    return Objective(masked_mean(-np.minimum(ratio * advantages, bounded * advantages), mask), masked_mean(acting, mask))


def value_objective(values: Floats, old: Floats, returns: Floats, mask: Floats, clip: float) -> Objective:
    """½·E[max((V − R)², (V_old + clip(V − V_old, ±ε) − R)²)]: a value may not move further than ε in one batch and gain by it."""
    bounded = old + np.clip(values - old, -clip, clip)
    free, held = (values - returns) ** 2, (bounded - returns) ** 2
    return Objective(0.5 * masked_mean(np.maximum(free, held), mask), masked_mean((held > free).astype(np.float64), mask))


def explained_variance(values: Floats, returns: Floats, mask: Floats) -> float:
    """1 − Var(R − V) / Var(R) over the real tokens: 1 predicts the returns, 0 is no better than their mean, below 0 is worse."""

    def variance(x: Floats) -> float:
        return masked_mean((x - masked_mean(x, mask)) ** 2, mask)

    return 1 - variance(returns - values) / (variance(returns) + EPSILON)
