"""Public pairs: where the worse answer comes from, how the question is put, and what must not be among them."""

import random
from collections import Counter
from typing import Any

import pytest

from simulations.sources.public_pairs import KINDS, REGISTERS, content, in_words_of, public_pairs, without

TYPES = ("information", "treatment", "symptoms", "causes")


def row(topic: str, qtype: str) -> dict[str, Any]:
    answer = f"The {qtype} of {topic} is told here. {topic} has a second sentence on {qtype}. And a third one. A fourth on {topic}."
    return {"focus": topic, "qtype": qtype, "question": f"What is the {qtype} of {topic}?", "answer": answer}


ROWS = [row(topic, qtype) for topic in (f"illness number{n}" for n in range(12)) for qtype in TYPES]
BY_ANSWER = {r["answer"]: r for r in ROWS}


def kind_of(chosen: str, rejected: str) -> str:
    own, other = BY_ANSWER[chosen], BY_ANSWER.get(rejected)
    if other is None:
        return "part"
    return "topic" if other["focus"] == own["focus"] else "type" if other["qtype"] == own["qtype"] else "elsewhere"


def test_the_worse_answers_come_from_where_the_recipe_says() -> None:
    made = list(public_pairs(ROWS, 2000, random.Random(3)))
    assert made == list(public_pairs(ROWS, 2000, random.Random(3)))
    kinds = Counter(kind_of(pair.chosen, pair.rejected) for pair in made)
    assert kinds["topic"] / 2000 == pytest.approx(KINDS["topic"], abs=0.04), kinds
    assert kinds["part"] / 2000 == pytest.approx(KINDS["part"], abs=0.03), kinds
    assert kinds["type"] / 2000 >= KINDS["type"], kinds  # an answer that is near, or any other, may be of the same type
    parts = [pair for pair in made if kind_of(pair.chosen, pair.rejected) == "part"]
    assert all(pair.chosen.startswith(pair.rejected) and 2 * len(pair.rejected) < len(pair.chosen) for pair in parts)


def test_near_answers_share_the_rare_words_of_the_question() -> None:
    rows = [row("red fever", "treatment"), row("blue fever", "treatment"), *(row(f"pain number{n}", "causes") for n in range(40))]
    pairs = [pair for pair in public_pairs(rows, 3000, random.Random(1)) if "red fever" in pair.chosen and "pain" in pair.rejected]
    near = [pair for pair in public_pairs(rows, 3000, random.Random(1)) if "red fever" in pair.chosen and "blue fever" in pair.rejected]
    assert len(near) > 3 * len(pairs) > 0


def test_questions_are_put_in_all_registers_and_keep_their_topic() -> None:
    draw = random.Random(5)
    asked = [in_words_of(ROWS[1], draw) for _ in range(1000)]
    assert all("illness number0" in question for question in asked)
    assert asked.count(ROWS[1]["question"]) / 1000 == pytest.approx(REGISTERS["written"], abs=0.05)
    assert asked.count("illness number0 treatment") / 1000 == pytest.approx(REGISTERS["words"], abs=0.03)
    assert sum(question.startswith("illness number0. ") for question in asked) / 1000 == pytest.approx(REGISTERS["message"], abs=0.05)
    strange = {**ROWS[1], "qtype": "never heard of"}
    assert {in_words_of(strange, draw) for _ in range(50)} >= {ROWS[1]["question"]}


def test_what_an_expert_was_asked_is_left_out_in_any_wording() -> None:
    graded = ["Tell me about the TREATMENT of illness number3!"]
    left = without(ROWS, graded, [ROWS[0]["answer"] + " More was said."])
    assert content(graded[0]) == content(row("illness number3", "treatment")["question"])
    assert [r for r in ROWS if r not in left] == [ROWS[0], row("illness number3", "treatment")]


def test_rows_without_a_worse_answer_make_no_pair() -> None:
    assert list(public_pairs([{**ROWS[0], "answer": "One sentence."}], 5, random.Random(0))) == []
