"""The over-optimisation watch: judges on which the policy is not trained are scored on the side, and end a run that fools its reward.

A policy that goes on climbing while independent judges fall has found an error of the reward (Gao et al. 2022). Judges are reward
adapters from public pairs of their own, so they cost no ε, and their scale is fixed on answers of the SFT model as the reward's is.

Protects against: over-optimisation that the judges do not share; what is kept is the policy that they liked best.
Does not protect against: an error that judges and reward share, such as a taste for length in all public pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from server.align.rewards import Ensemble

OVER_OPTIMISED = "over_optimised"


@dataclass(frozen=True, slots=True)
class Watch:
    """Judges on their fixed scale; `window` steps are averaged, and a fall of `fall` deviations ends the run."""

    judges: Ensemble
    window: int
    fall: float

    def judge(self, prompts: Sequence[str], texts: Sequence[str]) -> float:
        """The judges' mean score, in deviations over the SFT model's answers."""
        return float(self.judges.combined(self.judges.score(prompts, texts)).mean())


def trailing_means(values: Sequence[float], window: int) -> list[float]:
    """Means over the last `window` values, for each place where so many are there."""
    return [sum(values[end - window : end]) / window for end in range(window, len(values) + 1)]


def best_step(judged: Sequence[float], window: int) -> int | None:
    """The step at the end of the window in which the judges were most pleased, the earliest of equals; None before one is full."""
    means = trailing_means(judged, window)
    return means.index(max(means)) + window - 1 if means else None


def over_optimised(rewards: Sequence[float], judged: Sequence[float], *, window: int, fall: float) -> bool:
    """Whether the judges' mean fell by more than `fall` below its best window while the reward rose since then."""
    best = best_step(judged, window)
    if best is None:
        return False
    liked, earned = trailing_means(judged, window), trailing_means(rewards, window)
    place = best - window + 1
    return liked[-1] < liked[place] - fall and earned[-1] > earned[place]
