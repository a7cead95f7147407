"""What simulated clinicians teach us about labelling: do weights by agreement help, and does asking where the ensemble disagrees save labels?

    python -m simulations.trials.labels [--seeds 5] [--json]

The questions, answers, tastes and slips are those of the synthetic hospitals; votes go through the product's own rules (`settle`, `preferences`,
`worth_asking`). The reward is a linear one on hashed pairs of words, one of the question and one of the answer, so that five seeds take minutes
and the figures speak of labels and not of optimisers. Truth has neither taste nor slips.

Does not promise: that a language model gains the same. A figure near zero is reported as it is.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, vstack
from scipy.special import expit

from client.feedback.items import Candidate, Choice, Item, Verdict
from client.feedback.pairs import disagreement, worth_asking
from client.feedback.settings import LabelSettings
from client.feedback.settling import State, preferences, settle
from common.events import Handle
from simulations.judgement.baselines import words
from simulations.judgement.clinicians import LEANINGS, Clinician, label
from simulations.judgement.pairs import AnswerPair, build_pairs
from simulations.judgement.questions import questions
from simulations.seeding import stream

BUCKETS = 1 << 14
RIDGE = 3.0
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weighting:
    """Held-out accuracy of one seed: all votes as rows of their own, settled pairs with weight 1, settled pairs weighted by agreement."""

    seed: int
    votes: int
    raw: float
    settled: float
    weighted: float


@dataclass(frozen=True, slots=True)
class Selection:
    """Held-out accuracy after so many labels, at random and by disagreement, and how many labels by disagreement reach random's last figure."""

    seed: int
    labels: list[int]
    random: list[float]
    active: list[float]
    needed: int | None


def panel(slips: Sequence[float], strength: float = 1.0) -> list[Clinician]:
    """Clinicians with these rates of slips, and the leanings of `simulations/judgement/clinicians.py` times `strength`."""
    found = []
    for number, slip in enumerate(slips):
        leaning, taste = LEANINGS[number % len(LEANINGS)]
        found.append(Clinician(f"panel-{number}", leaning, lambda text, of=taste: strength * of(text), slip))  # type: ignore[misc]  # bound now
    return found


# -- a linear reward ---------------------------------------------------------------------------------------------------


def features(pair: AnswerPair) -> csr_matrix:
    """(1, BUCKETS): words of the better answer, alone and with each word of the question, less those of the worse one; by CRC-32."""
    asked = sorted(set(words(pair.question.text)))
    counts: dict[int, float] = {}
    for sign, text in ((1.0, pair.better), (-1.0, pair.worse)):
        said = set(words(text))
        for key in (*said, *(f"{q} {a}" for q, a in product(asked, said))):
            bucket = crc32(key.encode()) % BUCKETS
            counts[bucket] = counts.get(bucket, 0.0) + sign
    kept = {bucket: value for bucket, value in counts.items() if value}
    return csr_matrix((list(kept.values()), ([0] * len(kept), list(kept))), shape=(1, BUCKETS))


def fit(rows: csr_matrix, signs: Floats, weights: Floats) -> Floats:
    """w that minimises Σ weight·log(1 + exp(−sign·row·w)) + RIDGE/2·‖w‖²; weights are scaled to a mean of 1, so that no method gains by size."""
    scale = weights / weights.mean()

    def loss(w: Floats) -> tuple[float, Floats]:
        margin = signs * (rows @ w)
        return float(scale @ np.logaddexp(0, -margin) + RIDGE / 2 * w @ w), -(rows.T @ (scale * signs * expit(-margin))) + RIDGE * w

    result: Floats = minimize(loss, np.zeros(BUCKETS), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    return result


def accuracy(w: Floats, test: csr_matrix) -> float:
    margin = test @ w
    return float(((margin > 0) + 0.5 * (margin == 0)).mean())


def _pairs(part: str, count: int, seed: int) -> list[AnswerPair]:
    """New questions in the wordings of training: words that a linear reading has never met tell it nothing."""
    return build_pairs(questions("train", count, stream("labels", part, seed)), "train", stream("labels pairs", part, seed))


# -- weights by agreement ----------------------------------------------------------------------------------------------


def weighting(seed: int, *, pairs: int = 400, tested: int = 400) -> Weighting:
    """Every pair to two of five clinicians with slips of 5 to 40 %, a third where they differ; the same votes for all three methods."""
    settings = LabelSettings()
    judges = panel((0.05, 0.1, 0.2, 0.3, 0.4))
    draw = random.Random(stream("weighting", seed))
    train = _pairs("train", pairs, seed)
    raw: list[tuple[int, float, float]] = []
    agreed: list[tuple[int, float, float]] = []
    for number, pair in enumerate(train):
        item = Item(Handle.draw(), pair.question.text, (Candidate(pair.better, "a"), Candidate(pair.worse, "b")))
        choices: list[Choice] = []
        for judge in draw.sample(judges, settings.votes_per_pair + settings.extra_votes):
            if settle(choices, settings).state is not State.OPEN:
                break
            chosen = 0 if label(pair.question, pair.better, pair.worse, judge, draw) == "a" else 1
            choices.append(Choice(item.item_id, judge.id, (0, 1), Verdict.ANSWER, chosen, 10.0, f"{len(choices)}", len(choices) + 1))
        raw += [(number, 1.0 if choice.chosen == 0 else -1.0, 1.0) for choice in choices]
        for row in preferences(item, choices, settings):
            if row.weight:
                agreed.append((number, 1.0 if row.chosen == pair.better else -1.0, row.weight))
    rows, test = vstack([features(p) for p in train]).tocsr(), vstack([features(p) for p in _pairs("test", tested, seed)]).tocsr()

    def score(found: list[tuple[int, float, float]], *, weigh: bool) -> float:
        index, signs, weights = zip(*found, strict=True)
        w = fit(rows[list(index)], np.array(signs), np.array(weights) if weigh else np.ones(len(signs)))
        return accuracy(w, test)

    return Weighting(seed, len(raw), score(raw, weigh=False), score(agreed, weigh=False), score(agreed, weigh=True))


# -- asking where the ensemble disagrees -------------------------------------------------------------------------------


def selection(
    seed: int, *, pool: int = 900, first: int = 60, step: int = 60, most: int = 300, members: int = 4, tested: int = 400
) -> Selection:
    """Labels of one clinician with 10 % slips, asked in rounds: at random, or by the product's own rule with an ensemble of bootstrap fits."""
    settings = LabelSettings()
    (judge,) = panel((0.1,))
    train = _pairs("train", pool, seed)
    rows = vstack([features(p) for p in train]).tocsr()
    test = vstack([features(p) for p in _pairs("test", tested, seed)]).tocsr()
    said = random.Random(stream("selection votes", seed))
    signs = np.array([1.0 if label(p.question, p.better, p.worse, judge, said) == "a" else -1.0 for p in train])
    labels = list(range(first, most + 1, step))
    curves: dict[str, list[float]] = {"random": [], "active": []}
    for kind, curve in curves.items():
        draw = random.Random(stream("selection", seed))
        queue = draw.sample(range(pool), pool)
        taken = [queue.pop() for _ in range(first)]
        for total in labels:
            if total > first:
                judges = _ensemble(rows, signs, taken, members, draw) if kind == "active" else []
                _take(rows, judges, queue, taken, total, draw, settings)
            curve.append(accuracy(fit(rows[taken], signs[taken], np.ones(len(taken))), test))
    goal = curves["random"][-1]
    needed = next((number for number, value in zip(labels, curves["active"], strict=True) if value >= goal), None)
    return Selection(seed, labels, curves["random"], curves["active"], needed)


def _ensemble(rows: csr_matrix, signs: Floats, taken: Sequence[int], members: int, draw: random.Random) -> list[Floats]:
    drawn = [[draw.choice(taken) for _ in taken] for _ in range(members)]
    return [fit(rows[index], signs[index], np.ones(len(index))) for index in drawn]


def _take(
    rows: csr_matrix, judges: Sequence[Floats], queue: list[int], taken: list[int], total: int, draw: random.Random, settings: LabelSettings
) -> None:
    """Prompts in their own random order until there are `total`; each is asked for its own reasons, and goes to the end of the queue otherwise."""
    looked = 0
    while len(taken) < total:
        number = queue.pop(0)
        if judges and looked < 2 * len(queue):
            looked += 1
            differ = disagreement([float((rows[number] @ w)[0]) for w in judges])
            if worth_asking(differ, draw.random(), settings) is None:
                queue.append(number)
                continue
        taken.append(number)


# -- report ------------------------------------------------------------------------------------------------------------


def report(seeds: int) -> dict[str, object]:
    by_weight = [weighting(seed) for seed in range(seeds)]
    by_choice = [selection(seed) for seed in range(seeds)]
    gains = [w.weighted - w.raw for w in by_weight]
    shares = [None if s.needed is None else s.needed / s.labels[-1] for s in by_choice]
    return {
        "weighting": [asdict(w) for w in by_weight],
        "weighted_minus_raw": {
            "mean": float(np.mean(gains)),
            "least": min(gains),
            "greatest": max(gains),
            "better": sum(g > 0 for g in gains),
        },
        "selection": [asdict(s) for s in by_choice],
        "labels_share_to_reach_random": shares,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = report(asked.seeds)
    sys.stdout.write((json.dumps(found) if asked.json else json.dumps(found, indent=2)) + "\n")


if __name__ == "__main__":
    main()
