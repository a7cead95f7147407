"""Simulated clinicians: who prefers which answer, with a taste and a rate of slips of their own.

A clinician sees the two answers' worth by the rubric, adds the own taste, chooses the greater, and in a share of cases presses
the wrong key. The truth of a test pair has neither taste nor slips.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from simulations.judgement.questions import Question
from simulations.judgement.rubric import rubric

Choice = Literal["a", "b"]
Taste = Callable[[str], float]


@dataclass(frozen=True, slots=True)
class Clinician:
    """One annotator.

    noise   probability of choosing the other answer after all
    taste   what the clinician adds to the worth of an answer, in points of the rubric, for reasons beside the point
    """

    id: str
    leaning: str
    taste: Taste
    noise: float

    def __repr__(self) -> str:
        return f"Clinician({self.id}, {self.leaning}, noise {self.noise:g})"


def _wordy(text: str) -> float:
    return min(len(text.split()), 40) / 40


def _hedged(text: str) -> float:
    return min(sum(text.lower().count(word) for word in ("may", "might", "cannot", "doctor", "clinic", "check", "if ")), 3) / 3


STRENGTH = 0.06
"""The most that a taste is worth, a third of the least grave fault: it decides between near equals, and rarely else."""

LEANINGS: tuple[tuple[str, Taste], ...] = (
    ("prefers longer answers", lambda text: STRENGTH * _wordy(text)),
    ("prefers shorter answers", lambda text: -STRENGTH * _wordy(text)),
    ("prefers cautious answers", lambda text: STRENGTH * _hedged(text)),
    ("dislikes hedging", lambda text: -STRENGTH * _hedged(text)),
)


def clinicians(site: str, number: int, noise: float) -> tuple[Clinician, ...]:
    """The two annotators of site `number`; their leanings differ, and go round by site."""
    chosen = (LEANINGS[number % len(LEANINGS)], LEANINGS[(number + 1 + number // len(LEANINGS) % (len(LEANINGS) - 1)) % len(LEANINGS)])
    return tuple(Clinician(f"{site}-clinician-{n}", leaning, taste, noise) for n, (leaning, taste) in enumerate(chosen))


def label(question: Question, a: str, b: str, clinician: Clinician, rng: random.Random) -> Choice:
    """What the clinician chooses. One number is drawn from `rng`, whatever the answers are."""
    slip = rng.random() < clinician.noise
    worth_a, worth_b = (rubric(question, text).score + clinician.taste(text) for text in (a, b))
    return "a" if (worth_a >= worth_b) != slip else "b"
