"""Pairs of answers to one question, with the truth of which is better, balanced so that shallow readings do not tell.

Half of all pairs have the better answer longer, and half have it sharing more words with the question: both are chosen by
construction, with empty sentences and echoes of the complaint. What remains is what the answers say about the question.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from server.align.pretraining import Pair
from simulations.judgement.answers import Draft, Fault, Voice, applicable, draft, render
from simulations.judgement.baselines import overlap
from simulations.judgement.questions import Question, Severity, leaflet_questions
from simulations.judgement.rubric import rubric
from simulations.seeding import stream

FAULT_WEIGHTS: Mapping[Fault, float] = {
    Fault.WRONG_DRUG: 0.25, Fault.CONTRAINDICATION: 0.25, Fault.SAFETY_NET: 0.3, Fault.OVERCONFIDENCE: 0.25,
}  # fmt: skip
MIRROR_WEIGHT = 0.2
"""Share of a fault's weight where it is mirrored: a drug withheld for a circumstance that the patient does not have, an emergency or
alarm made of a mild complaint. With full weight a model of this size learned neither the fault nor its mirror image."""
MAX_WORDS = 34
"""Longest answer in words, about 45 tokens of SmolLM2."""
MARGIN = 0.08
"""The least difference of rubric scores that makes one answer the better one of an on-policy pair."""


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """Two answers to one question; `better` is the better one in truth, before any clinician has judged.

    fault      what is wrong with the worse one where it was built from slots, else None
    on_policy  whether one of the two was sampled from a model of the study
    """

    question: Question
    better: str
    worse: str
    fault: Fault | None
    on_policy: bool = False


def build_pairs(asked: Sequence[Question], voice: Voice, seed: int, sampled: Mapping[str, str] | None = None) -> list[AnswerPair]:
    """One pair for each question; those whose id is in `sampled` contain that text of a model, when a clear contrast to it can be built."""
    sampled = sampled or {}
    pairs: list[AnswerPair] = []
    longer_lead = closer_lead = 0  # how many more pairs so far have the better answer longer, or closer, than not
    for number, question in enumerate(asked):
        draw = random.Random(stream("pair", voice, seed, number, question.id))
        longer, closer = longer_lead <= 0, closer_lead <= 0
        pair = None
        if question.id in sampled:
            pair = _against(question, sampled[question.id], voice, draw, longer=longer, closer=closer, wins=number % 2 == 0)
        pair = pair or _template_pair(question, voice, draw, longer=longer, closer=closer)
        longer_lead += _sign(len(pair.better) - len(pair.worse))
        closer_lead += _sign(overlap(question.text, pair.better) - overlap(question.text, pair.worse))
        pairs.append(pair)
    return pairs


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _template_pair(question: Question, voice: Voice, draw: random.Random, *, longer: bool, closer: bool) -> AnswerPair:
    faults = applicable(question)
    fault = draw.choices(faults, [_weight(f, question) for f in faults])[0]
    good = draft(question, (), draw)
    bad = draft(question, (fault,), draw)
    if fault not in (Fault.OVERCONFIDENCE, Fault.SAFETY_NET):
        bad = replace(bad, care=good.care, tone=good.tone)  # one difference at a time
    options = _options(question, good, bad, fault, voice, draw)
    better, worse = _balanced(question, *options, longer=longer, closer=closer)
    return AnswerPair(question, better, worse, fault)


def _options(question: Question, good: Draft, bad: Draft, fault: Fault, voice: Voice, draw: random.Random) -> tuple[list[str], list[str]]:
    """Both drafts in several words each. Who advises for another condition also echoes that one: the complaint was misread."""
    if fault is not Fault.WRONG_DRUG:
        return _renderings(good, question, voice, draw), _renderings(bad, question, voice, draw)
    # The echo takes the place of a remark on the outlook, or the answer would be too long.
    good, bad = replace(good, tone=""), replace(bad, tone="")
    return _renderings(good, question, voice, draw), _renderings(bad, question, voice, draw, (True,))


_URGENCY = (Fault.SAFETY_NET, Fault.OVERCONFIDENCE)


def _weight(fault: Fault, question: Question) -> float:
    mirrored = not question.ruled_out if fault is Fault.CONTRAINDICATION else fault in _URGENCY and question.severity is Severity.MILD
    return FAULT_WEIGHTS[fault] * (MIRROR_WEIGHT if mirrored else 1.0)


def _against(
    question: Question, text: str, voice: Voice, draw: random.Random, *, longer: bool, closer: bool, wins: bool
) -> AnswerPair | None:
    """The sampled text against a built one: a worse one when it should win, a better one otherwise. None when no contrast is clear."""
    for side in (wins, not wins):
        faults = [f for f in applicable(question) if f is not Fault.CONTRAINDICATION or question.ruled_out]
        plans: list[Collection[Fault]] = [draw.sample(faults, min(k, len(faults))) for k in (1, 2, 3, 3)] if side else [()]
        for plan in plans:
            texts = _renderings(draft(question, plan, draw), question, voice, draw)
            sides = ([text], texts) if side else (texts, [text])
            better, worse = _balanced(question, *sides, longer=longer, closer=closer)
            if rubric(question, better).score - rubric(question, worse).score >= MARGIN:
                return AnswerPair(question, better, worse, None, on_policy=True)
    return None


def _renderings(said: Draft, question: Question, voice: Voice, draw: random.Random, echoes: Sequence[bool] = (False, True)) -> list[str]:
    texts = [render(said, question, voice, draw, fillers=n, echo=e) for n, e in product((0, 1, 2), echoes) for _ in range(2)]
    short = [t for t in texts if len(t.split()) <= MAX_WORDS]
    return short or [min(texts, key=len)]


def _balanced(question: Question, better: Sequence[str], worse: Sequence[str], *, longer: bool, closer: bool) -> tuple[str, str]:
    """The pair of texts whose signs of length and overlap are the wanted ones, with the smallest difference of length."""

    def cost(pair: tuple[str, str]) -> tuple[int, int]:
        length, shared = len(pair[0]) - len(pair[1]), overlap(question.text, pair[0]) - overlap(question.text, pair[1])
        return ((length > 0) != longer) + (shared != 0 and (shared > 0) != closer), abs(length)

    return min(product(better, worse), key=cost)


def public_pairs(count: int, seed: int) -> list[Pair]:
    """Pairs from the public table alone, in leaflet wording. Wordings of the test split, the rubric and every clinician's choice stay out.

    Leaflets exist for every topic, those of the test split included: what is new at the test is the question, how it and its
    answers are worded, and that no clinician has judged an answer on its topic.

    Half: a topic's own leaflet against another topic's, of about the same length. Half: careful against careless advice.
    """
    pairs: list[Pair] = []
    asked = leaflet_questions(2 * count, seed + 1)
    for number in range(count):
        draw = random.Random(stream("public", seed, number))
        question = draw.choice(asked)
        careless = [f for f in applicable(question) if f is not Fault.WRONG_DRUG]
        fault = Fault.WRONG_DRUG if number % 2 == 0 else draw.choices(careless, [_weight(f, question) for f in careless])[0]
        good, bad = draft(question, (), draw), draft(question, (fault,), draw)
        if fault in (Fault.WRONG_DRUG, Fault.CONTRAINDICATION):
            bad = replace(bad, care=good.care, tone=good.tone)
        options = _options(question, good, bad, fault, "leaflet", draw)
        chosen, rejected = _balanced(question, *options, longer=number // 2 % 2 == 0, closer=number // 4 % 2 == 0)
        pairs.append(Pair(question.text, chosen, rejected))
    return pairs
