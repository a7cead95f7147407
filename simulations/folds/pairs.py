"""Experts' pairs, dealt to folds by question: a question in two sets is one question, and a fold's questions train nothing that is tested on it.

The rated sets are trained and tested on. The sets beside them are tested on only, each apart from the pooled figures: small edits of one
answer, and medical errors, which a small model cannot tell.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import ConfigError
from simulations.judgement.baselines import words
from simulations.seeding import stream
from simulations.sources.datasets import PAIR_SETS
from simulations.sources.public_sets import PublicSets

RATED = PAIR_SETS
BESIDE = ("pref_expertqa_health", "pref_medec")
FILES = ("pairs_train", "pairs_valid")


@dataclass(frozen=True, slots=True, repr=False)
class ExpertPair:
    """Two answers and which one an expert preferred; `question` names the prompt whatever its punctuation."""

    source: str
    question: str
    prompt: str
    better: str
    worse: str

    def __repr__(self) -> str:
        return f"ExpertPair({self.source}, <{len(self.prompt) + len(self.better) + len(self.worse)} chars>)"

    @property
    def rated(self) -> bool:
        return self.source in RATED


def expert_pairs(sets: PublicSets) -> list[ExpertPair]:
    """All pairs of the rated sets, and of the sets beside them that are there."""
    there = [name for name in BESIDE if (sets.folder / name).is_dir()]
    return [
        ExpertPair(name, " ".join(words(row["prompt"])), row["prompt"], row["chosen"], row["rejected"])
        for name in (*RATED, *there)
        for file in FILES
        for row in sets.rows(name, file, ("prompt", "chosen", "rejected"))
    ]


def dealt(pairs: Sequence[ExpertPair], folds: int, seed: int) -> list[list[ExpertPair]]:
    """`pairs` in `folds` folds of whole questions and of about as many rated pairs. Raises ConfigError for fewer rated questions than folds."""
    by_question: dict[str, list[ExpertPair]] = defaultdict(list)
    for pair in pairs:
        by_question[pair.question].append(pair)
    rated = {question: sum(pair.rated for pair in of_question) for question, of_question in by_question.items()}
    order = sorted(by_question, key=lambda question: (not rated[question], question))
    # Rated questions are shuffled among themselves, so that sets beside them move none to another fold.
    known = sum(map(bool, rated.values()))
    order = [*random.Random(stream("folds", seed)).sample(order[:known], known), *order[known:]]
    if folds < 2 or known < folds:
        raise ConfigError(f"{known} rated questions cannot be dealt to {folds} folds; at least two folds of one question each are needed")
    # The questions of most pairs first, each to the fold that has fewest: folds end up alike in size.
    found: list[list[ExpertPair]] = [[] for _ in range(folds)]
    sizes = [(0, 0)] * folds
    for question in sorted(order, key=lambda question: -rated[question]):
        place = min(range(folds), key=lambda fold: sizes[fold][0] if rated[question] else sizes[fold][1])
        found[place] += by_question[question]
        sizes[place] = (sizes[place][0] + rated[question], sizes[place][1] + len(by_question[question]))
    return found
