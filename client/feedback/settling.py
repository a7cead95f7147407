"""From the votes on one question to its outcome, its weight, and the rows that training sees.

    votes         outcome
    too few       open: so many more annotators are wanted
    enough agree  settled, with the share of agreeing votes as the measure of its weight
    they differ   one more annotator at a time, as far as the settings allow; then adjudication, whose word settles or sets aside

    weight(a, n) = min(1, 4(a + 1)/(n + 2) − 2), never below 0

for a of n votes that agree: twice the lean beyond one half of Laplace's estimate. 1 of 1: .67, 2 of 2: 1, 2 of 3: .4, 1 of 2: 0.
An adjudicator counts as two votes.

Protects against: one patient's or pair's data moving the weight of another's: outcome and weight are public functions of this pair's
votes and of settings fixed beforehand.
Does not protect against: what the choice of annotators tells, such as a change of the settings after looking at the agreement: who
was asked how often is participation, which the guarantee does not cover.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from client.feedback.items import Choice, Item, Scale, Tag, Verdict
from client.feedback.settings import LabelSettings
from client.records import OVERALL, Preference

PAIR_PREFIX = "item-"
"""Every preference that comes from the labelling page has a pair id that begins so."""

ADJUDICATOR_VOTES = 2

ASPECT_OF: Mapping[Tag, Scale] = {
    Tag.FACTUALLY_WRONG: Scale.ACCURACY,
    Tag.OMITS_CONTRAINDICATION: Scale.SAFETY,
    Tag.UNSAFE_ADVICE: Scale.SAFETY,
    Tag.UNCLEAR: Scale.CLARITY,
    Tag.NOT_PLAIN: Scale.CLARITY,
}
"""What a tag says of an answer that was not rated: worse in this respect than one without the tag."""


class State(StrEnum):
    OPEN = "open"
    SETTLED = "settled"
    ADJUDICATE = "adjudicate"
    SET_ASIDE = "set-aside"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a question has come to. `wanted` votes are missing while it is open; `key` is what was settled (see `Choice.key`)."""

    state: State
    wanted: int = 0
    key: tuple[Verdict, int] | None = None
    weight: float = 0.0

    @property
    def winner(self) -> int | None:
        return self.key[1] if self.key is not None and self.key[0] is Verdict.ANSWER else None


def weight(agreeing: int, votes: int) -> float:
    """See the head of the module. Raises ValueError for counts that cannot be."""
    if not 0 <= agreeing <= votes or votes == 0:
        raise ValueError(f"{agreeing} of {votes} votes cannot agree")
    return max(0.0, min(1.0, 4 * (agreeing + 1) / (votes + 2) - 2))


def settle(choices: Sequence[Choice], settings: LabelSettings) -> Outcome:
    """The outcome of one question from all choices on it, in any order."""
    votes = Counter(choice.key for choice in choices if choice.vote)
    total = sum(votes.values())
    decisions = [choice for choice in choices if choice.adjudication]
    if decisions:
        last = max(decisions, key=lambda choice: choice.at)
        if last.verdict is Verdict.SET_ASIDE:
            return Outcome(State.SET_ASIDE)
        agreeing = votes[last.key] + ADJUDICATOR_VOTES
        return Outcome(State.SETTLED, key=last.key, weight=weight(agreeing, total + ADJUDICATOR_VOTES))
    skipped = sum(choice.verdict is Verdict.SKIP for choice in choices)
    if skipped >= settings.skips_to_adjudicate:
        return Outcome(State.ADJUDICATE)
    if total < settings.votes_per_pair:
        return Outcome(State.OPEN, wanted=settings.votes_per_pair - total)
    key, agreeing = votes.most_common(1)[0]
    if agreeing / total >= settings.agreement_threshold:
        return Outcome(State.SETTLED, key=key, weight=weight(agreeing, total))
    if total < settings.votes_per_pair + settings.extra_votes:
        return Outcome(State.OPEN, wanted=1)
    return Outcome(State.ADJUDICATE)


def preferences(item: Item, choices: Sequence[Choice], settings: LabelSettings) -> list[Preference]:
    """The rows of one question for training: one a vote and pair of answers, and one an aspect where tags or ratings tell two apart.

    The pair's weight stands on the first vote that agrees with the outcome, so that a pair counts once however many agree; the other
    votes are kept with weight 0 for the annotator as privacy unit. A question with k answers gives k − 1 pairs, each a unit of its own
    when pairs are protected. Calibration items, and questions that are not settled, give nothing.
    """
    outcome = settle(choices, settings)
    if item.calibration or outcome.state is not State.SETTLED:
        return []
    return [*_overall(item, choices, outcome), *_aspects(item, choices)]


def _overall(item: Item, choices: Sequence[Choice], outcome: Outcome) -> Iterator[Preference]:
    given = False
    for choice in sorted((c for c in choices if c.vote or c.adjudication), key=lambda c: (c.at, c.person_id)):
        if choice.verdict is Verdict.ANSWER and choice.chosen is not None:
            pairs = [(choice.chosen, other, False) for other in range(len(item.answers)) if other != choice.chosen]
        elif choice.verdict is Verdict.TIE and len(item.answers) == 2:
            pairs = [(0, 1, True)]
        else:
            continue
        carries = choice.key == outcome.key and not given
        given |= carries
        for better, worse, tie in pairs:
            yield _row(item, choice.person_id, better, worse, weight=outcome.weight if carries else 0.0, tie=tie)


def _aspects(item: Item, choices: Sequence[Choice]) -> Iterator[Preference]:
    """Which of two answers more annotators found better in one respect; none when they are equal in number."""
    for scale in Scale:
        for first, second in combinations(range(len(item.answers)), 2):
            said = [(c, _compared(c, scale, first, second)) for c in choices if c.vote or c.adjudication]
            told = [(choice, sign) for choice, sign in said if sign]
            lean = sum(sign for _, sign in told)
            given = False
            for choice, sign in told:
                better, worse = (first, second) if sign > 0 else (second, first)
                carries = sign * lean > 0 and not given
                given |= carries
                agreeing = sum(s == sign for _, s in told)
                yield _row(
                    item, choice.person_id, better, worse, weight=weight(agreeing, len(told)) if carries else 0.0, aspect=scale.value
                )


def _compared(choice: Choice, scale: Scale, first: int, second: int) -> int:
    """1 when this annotator found the first answer better in this respect, −1 the second, 0 when nothing tells them apart."""
    rated = {index: number for index, of, number in choice.remarks.ratings if of is scale}
    if first in rated and second in rated:
        return (rated[first] > rated[second]) - (rated[first] < rated[second])
    wrong = {index for index, tag in choice.remarks.tags if ASPECT_OF.get(tag) is scale}
    return (second in wrong) - (first in wrong)


def item_of(row: Preference) -> str:
    """The question that a row of this page comes from."""
    return row.pair_id.removeprefix(PAIR_PREFIX).partition("/")[0]


def _row(item: Item, person_id: str, better: int, worse: int, *, weight: float, tie: bool = False, aspect: str = OVERALL) -> Preference:
    low, high = sorted((better, worse))
    return Preference(
        pair_id=f"{PAIR_PREFIX}{item.item_id}/{low}-{high}",
        prompt=item.prompt,
        chosen=item.answers[better].text,
        rejected=item.answers[worse].text,
        annotator_id=person_id,
        patient_id=item.patient_id,
        weight=weight,
        on_policy=item.answers[better].sampled or item.answers[worse].sampled,
        tie=tie,
        aspect=aspect,
    )
