"""What the choices tell of the annotators themselves: a side they prefer, haste, and preferences that run in a circle.

A finding is a reason to talk to somebody, not a verdict: with many annotators some will stand out by chance, so a finding needs p < .01.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from scipy.stats import binomtest

from client.feedback.items import Choice, Item, Verdict

SIGNIFICANT = 0.01
FASTEST_WORDS_PER_SECOND = 12.0
"""Faster than anybody reads: silent reading of English runs at about 4 words a second (Brysbaert 2019), skimming at two or three times that."""
OUTLYING = 3.5
"""Modified z-score of an outlier: Iglewicz and Hoaglin 1993."""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How often the answer that stood first was chosen among pairs; one half without bias."""

    choices: int
    first: int
    share: float | None
    low: float | None
    high: float | None
    p: float | None

    @property
    def stands_out(self) -> bool:
        return self.p is not None and self.p < SIGNIFICANT


@dataclass(frozen=True, slots=True)
class Speed:
    """Median seconds a choice, and how many choices came faster than their text can be read. `score` compares the median with the others'."""

    choices: int
    median_seconds: float | None
    too_fast: int
    score: float | None

    @property
    def stands_out(self) -> bool:
        return self.too_fast > max(2, 0.1 * self.choices) or (self.score is not None and self.score < -OUTLYING)


@dataclass(frozen=True, slots=True)
class Triples:
    """Three answers to one prompt that one annotator has compared two by two, and how many of these run in a circle."""

    triples: int
    circular: int


def position_bias(choices: Sequence[Choice]) -> PositionBias:
    """Over questions with two answers of which one was chosen; Wilson's interval and the exact binomial test against one half."""
    pairs = [c for c in choices if c.verdict is Verdict.ANSWER and len(c.order) == 2]
    first = sum(c.order[0] == c.chosen for c in pairs)
    if not pairs:
        return PositionBias(0, 0, None, None, None, None)
    test = binomtest(first, len(pairs))
    ends = test.proportion_ci(method="wilson")
    return PositionBias(len(pairs), first, first / len(pairs), float(ends.low), float(ends.high), float(test.pvalue))


def speeds(by_person: Mapping[str, Sequence[Choice]], items: Mapping[str, Item]) -> dict[str, Speed]:
    """Speed of every annotator. `score` needs at least three annotators: 0.6745·(median − centre)/MAD of the annotators' medians."""
    medians = {person: median(c.seconds for c in choices) for person, choices in by_person.items() if choices}
    centre = median(medians.values()) if medians else 0.0
    spread = median(abs(m - centre) for m in medians.values()) if medians else 0.0
    found = {}
    for person, choices in by_person.items():
        known = [c for c in choices if c.item_id in items]
        fast = sum(c.seconds * FASTEST_WORDS_PER_SECOND < items[c.item_id].words for c in known if c.verdict is not Verdict.SKIP)
        own = medians.get(person)
        score = None if own is None or len(medians) < 3 or spread == 0 else 0.6745 * (own - centre) / spread
        found[person] = Speed(len(choices), own, fast, score)
    return found


def circles(choices: Sequence[Choice], items: Mapping[str, Item]) -> Triples:
    """Of one annotator's choices: a over b, b over c, c over a. A choice among more than two answers beats each of the others."""
    beats: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for choice in choices:
        item = items.get(choice.item_id)
        if item is None or choice.chosen is None:
            continue
        for other, answer in enumerate(item.answers):
            if other != choice.chosen:
                beats[item.prompt].add((item.answers[choice.chosen].text, answer.text))
    triples = circular = 0
    for won in beats.values():
        texts = sorted({text for pair in won for text in pair})
        for trio in combinations(texts, 3):
            directions = [((a, b) in won) - ((b, a) in won) for a, b in (trio[:2], trio[1:], (trio[2], trio[0]))]
            triples += all(directions)
            circular += abs(sum(directions)) == 3
    return Triples(triples, circular)
