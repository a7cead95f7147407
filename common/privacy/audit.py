"""What a mechanism must have cost at least, from what an attacker could tell: lower bounds on ε that hold with a stated confidence.

An accountant's ε is an upper bound if the code does what the description says. An audit runs the code, guesses who took part, and turns the
guesses into a lower bound; one above the claim is proof of a fault.

Protects against: a claim that the code does not keep (no noise, too little of it, batches that are not Poisson samples).
Does not protect against: a fault that the attack does not look for. A low bound is no proof of privacy.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import beta, binom

from common.errors import ConfigError

LARGEST = 50.0
"""ε at which the search ends; no number of guesses that fits into a machine proves more."""


def one_run_epsilon(canaries: int, guesses: int, correct: int, delta: float, *, confidence: float = 0.95) -> float:
    """Steinke, Nasr and Jagielski 2023, theorem 5.2: the largest ε that one run refutes.

    canaries  units that each took part or not by a fair coin of their own; guesses of them were made, `correct` of them right
    Under (ε, δ) the chance of so many right guesses is at most
        P[B ≥ v] + 2·m·δ·max_i P[v > B ≥ v − i]/i,     B ~ Binomial(guesses, e^ε/(1 + e^ε)).
    """
    if not 0 <= correct <= guesses <= canaries or guesses < 1:
        raise ConfigError(f"{correct} right of {guesses} guesses on {canaries} canaries: these are no counts of an audit")

    def chance(epsilon: float) -> float:
        probability = 1 / (1 + np.exp(-epsilon))
        tail = float(binom.sf(correct - 1, guesses, probability))
        if correct == 0:
            return 1.0
        below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, probability))
        return tail + 2 * canaries * delta * float(np.max(below / np.arange(1, correct + 1)))

    return _refuted(chance, 1 - confidence)


def many_runs_epsilon(hits: int, runs_with: int, false_alarms: int, runs_without: int, delta: float, *, confidence: float = 0.95) -> float:
    """The largest ε that a test refutes over many runs with and without one unit: log((TPR − δ)/FPR), each by Clopper and Pearson 1934.

    Both intervals are one-sided and share the error. The threshold of the test must have been chosen on other runs.
    """
    if not (0 <= hits <= runs_with and 0 <= false_alarms <= runs_without and runs_with and runs_without):
        raise ConfigError(f"{hits} of {runs_with} and {false_alarms} of {runs_without}: these are no counts of an audit")
    error = (1 - confidence) / 2
    least_hits = float(beta.ppf(error, hits, runs_with - hits + 1)) if hits else 0.0
    most_alarms = float(beta.isf(error, false_alarms + 1, runs_without - false_alarms)) if false_alarms < runs_without else 1.0
    return max(0.0, float(np.log((least_hits - delta) / most_alarms))) if least_hits > delta else 0.0


def _refuted(chance: Callable[[float], float], error: float) -> float:
    """The ε at which `chance`, which grows with ε, reaches `error`; 0 when it is above from the start."""
    low, high = 0.0, LARGEST
    if chance(low) > error:
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) <= error else (low, middle)
    return low
