import re
from collections import Counter
from dataclasses import fields
from itertools import combinations
from typing import Any

import pytest

from common.errors import ConfigError
from simulations.judgement.answers import SLOTS
from simulations.judgement.clinical import BY_KEY, CONDITIONS, DRUGS, RULED_OUT, Circumstance, Condition, conditions
from simulations.judgement.questions import WORDINGS, Question, Severity, questions

SPLITS = ("train", "ppo", "test")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def phrases(wording: Any) -> list[str]:
    found: list[str] = []
    for field in fields(wording):
        value = getattr(wording, field.name)
        for item in value.values() if hasattr(value, "values") else value:
            found += [item] if isinstance(item, str) else list(item)
    return found


def triples(wording: Any) -> dict[tuple[str, ...], str]:
    """Every three consecutive words of a wording, with the phrase they come from; fields in braces break a phrase."""
    found = {}
    for phrase in phrases(wording):
        for part in re.split(r"\{\w+\}", phrase):
            told = words(part)
            found |= {tuple(told[i : i + 3]): phrase for i in range(len(told) - 2)}
    return found


def test_the_same_seed_asks_the_same_and_more_questions_keep_the_first() -> None:
    assert questions("train", 40, 3) == questions("train", 60, 3)[:40]
    assert questions("train", 40, 3) != questions("train", 40, 4)


def test_splits_share_no_topic_and_no_question() -> None:
    topics = {split: {c.key for c in conditions(split)} for split in SPLITS}
    assert sum(map(len, topics.values())) == len(BY_KEY) == len(CONDITIONS)
    texts = {split: {q.text for q in questions(split, 400, 0)} for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not topics[one] & topics[other]
        assert not texts[one] & texts[other]


@pytest.mark.parametrize("family", [WORDINGS, SLOTS], ids=["questions", "answers"])
def test_no_three_words_in_a_row_stand_in_two_wordings(family: Any) -> None:
    for one, other in combinations(family, 2):
        first, second = triples(family[one]), triples(family[other])
        shared = {(first[t], second[t]) for t in first.keys() & second.keys()}
        assert not shared, f"{one} and {other}: {sorted(shared)}"


@pytest.mark.parametrize("split", SPLITS)
def test_every_question_can_be_answered_from_the_table(split: Any) -> None:
    asked = questions(split, 600, 1)
    assert {q.topic for q in asked} == {c.key for c in conditions(split)}
    for question in asked:
        condition = question.condition
        assert question.complaint in question.text
        assert question.circumstance in condition.circumstances()
        assert question.circumstance not in RULED_OUT.get(condition.advice(question.circumstance), frozenset())
        assert question.ruled_out == (question.circumstance in RULED_OUT.get(condition.drug, frozenset()))
        assert len(question.text.split()) <= 40, question.text
        assert any(flag in question.text for flag in condition.red_flags) == (question.severity is Severity.RED_FLAG)


def test_circumstances_and_severities_are_spread() -> None:
    asked = questions("train", 1600, 2)
    severities = Counter(q.severity for q in asked)
    assert severities[Severity.MILD] > 500
    assert severities[Severity.RED_FLAG] > 500
    assert severities[Severity.LASTING] > 150
    share = sum(q.ruled_out for q in asked) / len(asked)
    assert 0.3 < share < 0.55, share
    assert set(Counter(q.circumstance for q in asked)) == set(Circumstance)


def test_topics_are_asked_equally_often() -> None:
    counts = Counter(q.topic for q in questions("test", 11 * 20, 5))
    assert set(counts.values()) == {20}


def test_a_complaint_and_the_purpose_of_its_drug_speak_of_the_same_thing() -> None:
    """They share the root of a word, so that a small model can see what belongs together."""
    common = {"the", "a", "to", "of", "in", "on", "with", "from", "and", "at", "out"}
    for condition in CONDITIONS:
        purpose = {w[:4] for w in words(condition.purpose)} - common
        for complaint in condition.complaints:
            assert purpose & {w[:4] for w in words(complaint)}, (condition.key, complaint)


def test_the_table_refuses_an_alternative_that_helps_nobody() -> None:
    given: dict[str, Any] = {
        "key": "x",
        "split": "train",
        "name": "x",
        "complaints": ("x",),
        "purpose": "x",
        "red_flags": ("x",),
        "words": ("x",),
    }
    with pytest.raises(ConfigError, match="not ruled out by asthma"):
        Condition(drug="omeprazole", alternatives={Circumstance.ASTHMA: "paracetamol"}, **given)
    with pytest.raises(ConfigError, match="`naproxen` is itself ruled out by warfarin"):
        Condition(drug="ibuprofen", alternatives={Circumstance.WARFARIN: "naproxen"}, **given)


def test_every_drug_that_is_ruled_out_has_its_name_in_the_list() -> None:
    assert set(RULED_OUT) <= DRUGS
    for condition in CONDITIONS:
        for circumstance in condition.circumstances():
            assert condition.advice(circumstance) in DRUGS


def test_a_question_knows_its_topic() -> None:
    question = Question("q", "text", "gout", Circumstance.WARFARIN, Severity.MILD, "test", "a hot purple toe")
    assert question.condition.name == "gout"
    assert question.ruled_out
    assert question.condition.advice(question.circumstance) == "colchicine"
