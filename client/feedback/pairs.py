"""What to ask next: which prompts are worth a clinician's minute, and which question an annotator gets.

A prompt is asked when the reward ensemble disagrees on its answers by more than a public threshold, and otherwise with a public
probability. Each prompt is decided by itself, with a draw of its own: it is never ranked against others, so one patient's questions
cannot push another's out.

Protects against: a selection in which the presence of one patient decides whether another is asked.
Does not protect against: who labels what and when, which depends on who is there: participation is not covered.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np

from client.feedback.items import Item, Origin
from client.feedback.settings import LabelSettings


def disagreement(margins: Sequence[float]) -> float:
    """How much the members of an ensemble differ on which of two answers is better, in [0, ½].

    margins: each member's r_a − r_b. The standard deviation over members of P(a better) = σ(margin), Bradley and Terry 1952; scores
    themselves have no common scale, probabilities have. Raises ValueError with fewer than two members, who cannot differ.
    """
    if len(margins) < 2:
        raise ValueError("an ensemble of fewer than two members never disagrees; train at least two, or ask at random")
    return float(np.std(1 / (1 + np.exp(-np.asarray(margins, dtype=np.float64)))))


def worth_asking(disagrees: float | None, draw: float, settings: LabelSettings) -> Origin | None:
    """Why one prompt is asked, or None. `draw` is uniform in [0, 1) and this prompt's own; `disagrees` is None without an ensemble."""
    if disagrees is not None and disagrees > settings.disagreement_threshold:
        return Origin.DISAGREEMENT
    return Origin.RANDOM if draw < settings.random_floor or disagrees is None else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An open question. `votes` have been given and `claims` are being given by others; `missing` are needed still."""

    item: Item
    votes: int
    claims: int
    missing: int


def planned_votes(items: int, settings: LabelSettings) -> int:
    """How many votes one annotator may give in all, so that nobody dominates."""
    return ceil(settings.max_share * settings.votes_per_pair * items)


def next_item(wanted: Iterable[Wanted], person_id: str) -> Item | None:
    """A question that others have begun before one that nobody has seen; within both, in an order that is the annotator's own.

    The order is a hash of annotator and question: it is fair, needs no memory, and does not move when other questions come or go.
    """
    free = [w for w in wanted if w.claims < w.missing]
    begun = [w for w in free if w.votes]
    first = min(begun or free, key=lambda w: _rank(person_id, w.item.item_id), default=None)
    return None if first is None else first.item


def calibration_due(given: int, settings: LabelSettings) -> bool:
    """Whether the next question should be one with a known answer: the first of all, and every so many."""
    return given % settings.calibration_every == 0


def next_calibration(items: Iterable[Item], seen: Mapping[str, object], person_id: str) -> Item | None:
    unseen = (item for item in items if item.item_id not in seen)
    return min(unseen, key=lambda item: _rank(person_id, item.item_id), default=None)


def shown_order(answers: int, draw: Callable[[int], int]) -> tuple[int, ...]:
    """A uniform permutation of the answers: Fisher and Yates, with `draw(n)` uniform in 0 … n − 1."""
    order = list(range(answers))
    for last in range(answers - 1, 0, -1):
        other = draw(last + 1)
        order[last], order[other] = order[other], order[last]
    return tuple(order)


@lru_cache(maxsize=1 << 18)
def _rank(person_id: str, item_id: str) -> bytes:
    return hashlib.sha256(f"{person_id}\0{item_id}".encode()).digest()
