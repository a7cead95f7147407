"""Best-of-n: what the reward is worth without any training. The yardstick for PPO at the same distance from the SFT model.

Of n answers of the SFT model the one with the highest reward is taken. If PPO with the same reward does not do better at the same KL, the
training is at fault; if judges like neither, the reward is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb, log

import numpy as np
from numpy.typing import NDArray

from common.errors import ShapeError

Floats = NDArray[np.float64]
Judge = Callable[[Sequence[str], Sequence[str]], Floats]
"""Prompts and answers → one score each (n,)."""


@dataclass(frozen=True, slots=True)
class BestOf:
    """Means over prompts for the best of `n` answers; `kl` in nats a sequence is an upper bound (Beirami et al. 2024)."""

    n: int
    kl: float
    reward: float
    judge: float


def best_of(prompts: Sequence[str], texts: Sequence[Sequence[str]], reward: Judge, judge: Judge) -> list[BestOf]:
    """The best of 1, 2, 4, … of the answers `texts` (prompts, N) by `reward`, and what `judge` thinks of it.

    For n below N it is the mean over all choices of n among the N (Nakano et al. 2021, §A), so no answer is wasted and none is drawn twice.
    """
    each = len(texts[0])
    if any(len(row) != each for row in texts) or len(texts) != len(prompts):
        raise ShapeError(f"{len(texts)} rows of answers for {len(prompts)} prompts; every prompt needs equally many")
    asked = [prompt for prompt in prompts for _ in range(each)]
    flat = [text for row in texts for text in row]
    rewards, judged = (scores(asked, flat).reshape(len(prompts), each) for scores in (reward, judge))
    order = np.argsort(rewards, axis=1, kind="stable")
    by_rank = [np.take_along_axis(scores, order, axis=1).mean(0) for scores in (rewards, judged)]
    found = []
    for n in (2**k for k in range(each.bit_length()) if 2**k <= each):
        chances = chance_to_win(each, n)
        found.append(BestOf(n, log(n) - (n - 1) / n, float(by_rank[0] @ chances), float(by_rank[1] @ chances)))
    return found


def chance_to_win(total: int, n: int) -> Floats:
    """P(the answer of rank i is the best of n drawn from `total`) = C(i, n−1)/C(total, n) for i = 0 (worst) … total − 1."""
    return np.array([comb(i, n - 1) / comb(total, n) for i in range(total)])
