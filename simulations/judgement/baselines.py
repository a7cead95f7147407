"""Shallow readings of a pair, to stand beside a reward model: a model that does not beat them has learned nothing beyond them."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit

Triple = tuple[str, str, str]
"""prompt, better answer, worse answer."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """Accuracy of each shallow reading on the train and the test pairs; a tie counts one half."""

    length: tuple[float, float]
    overlap: tuple[float, float]
    bag_of_words: tuple[float, float]

    def best_on_test(self) -> float:
        return max(self.length[1], self.overlap[1], self.bag_of_words[1])


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def overlap(prompt: str, answer: str) -> int:
    """How many distinct words of the prompt the answer repeats."""
    return len(set(words(prompt)) & set(words(answer)))


def baselines(train: Sequence[Triple], test: Sequence[Triple]) -> Baselines:
    """Longer answer, more words shared with the prompt, and a logistic regression on word and word-pair counts fitted on `train`.

    Raises nothing for empty sequences: their accuracy is .5.
    """

    def both(score: Callable[[str, str], float]) -> tuple[float, float]:
        return accuracy(train, score), accuracy(test, score)

    return Baselines(length=both(lambda _, answer: len(answer)), overlap=both(overlap), bag_of_words=both(bag_of_words(train)))


def bag_of_words(train: Sequence[Triple]) -> Callable[[str, str], float]:
    """The score of an answer by a logistic regression on its word and word-pair counts, fitted on `train`."""
    weights = _fit(train)
    return lambda _, answer: sum(weights.get(term, 0.0) * count for term, count in _terms(answer).items())


def accuracy(pairs: Sequence[Triple], score: Callable[[str, str], float]) -> float:
    """Share of pairs whose better answer scores higher; a tie counts one half."""
    if not pairs:
        return 0.5
    margins = np.array([score(p, better) - score(p, worse) for p, better, worse in pairs])
    return float(((margins > 0) + 0.5 * (margins == 0)).mean())


def _terms(text: str) -> Counter[str]:
    found = words(text)
    return Counter(found) + Counter(f"{a} {b}" for a, b in pairwise(found))


def _fit(pairs: Sequence[Triple], ridge: float = 1.0) -> dict[str, float]:
    """Weights w that minimise Σ log(1 + exp(−w·(better − worse))) + ridge/2 · ‖w‖²."""
    if not pairs:
        return {}
    rows, columns, values = [], [], []
    index: dict[str, int] = {}
    for row, (_, better, worse) in enumerate(pairs):
        difference = _terms(better)
        difference.subtract(_terms(worse))
        for term, count in difference.items():
            if count:
                rows.append(row)
                columns.append(index.setdefault(term, len(index)))
                values.append(float(count))
    matrix = csr_matrix((values, (rows, columns)), shape=(len(pairs), len(index)))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = matrix @ weights
        return float(np.logaddexp(0, -margin).sum() + ridge / 2 * weights @ weights), -(matrix.T @ expit(-margin)) + ridge * weights

    found = minimize(loss, np.zeros(len(index)), jac=True, method="L-BFGS-B")
    return dict(zip(index, found.x.tolist(), strict=True))
