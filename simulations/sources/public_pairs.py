"""Public pairs for preference-model pretraining: a question's own answer against a worse one, from rows of questions and answers.

What experts are shown is what a search engine found, asked for in patients' words. So the worse answers come mostly from the same topic
and from whatever shares the question's rare words, and half of the questions are put as people put them. Nothing here reads a preference.

Does not promise: that the other answer is wrong. An answer to a neighbouring question is only likely to be the worse one.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from math import log
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from server.align.pretraining import Pair
from simulations.judgement.baselines import words

Row = Mapping[str, Any]
"""A question with `focus` (its topic), `qtype` (what it asks about the topic) and `answer`."""

KINDS = {"topic": 0.40, "near": 0.30, "type": 0.15, "any": 0.05, "part": 0.10}
"""Where the worse answer comes from: another answer on the same topic; one on another topic that shares the question's rare words; one to the
same kind of question; any other; the first third of the right answer, which is correct and incomplete. What a row lacks is made up by `near`."""
REGISTERS = {"written": 0.5, "plain": 0.2, "words": 0.1, "message": 0.2}
"""How the question is put: as the source wrote it, in a plain phrase, as search words, or as a message with a subject line."""
NEAREST = 10
COMMON = frozenset(words("the a an of to in and or is are it that this for with as by on be can may not have has if at from you your"))
_ASKING = frozenset(words("what how who why when where which do does did there about i my me tell know information us we s are"))
_PHRASES = {
    "information": ("What is {}?", "tell me about {}"),
    "treatment": ("How is {} treated?", "What are the treatments of {}?", "what can I do against {}"),
    "symptoms": ("What are the signs of {}?", "how do I know if I have {}"),
    "causes": ("What causes {}?", "why do people get {}"),
    "exams and tests": ("How to diagnose {}?", "which test is there for {}"),
    "outlook": ("What is the prognosis of {}?", "how long can you live with {}"),
    "inheritance": ("Is {} inherited?", "can my children get {} from me"),
    "genetic changes": ("Which genes cause {}?", "is {} genetic"),
    "frequency": ("How common is {}?", "how many people have {}"),
    "susceptibility": ("Who gets {}?", "am I at risk of {}"),
    "prevention": ("How can {} be prevented?", "how do I avoid {}"),
    "complications": ("What are the complications of {}?", "what can {} lead to"),
    "research": ("What research is there on {}?", "are there clinical trials for {}"),
}
_WHO = ("My mother has {}.", "I was told I have {}.", "My son, 12, may have {}.", "I have had {} for years.", "I read about {}.", "")
_CLOSING = ("Thank you.", "please help", "Thanks in advance!", "")


def content(text: str) -> frozenset[str]:
    """The words of a text that carry its meaning: what two wordings of one question share."""
    return frozenset(words(text)) - COMMON - _ASKING


def without(rows: Sequence[Row], questions: Collection[str], answers: Collection[str]) -> list[Row]:
    """`rows` without any whose question has the content words of one of `questions`, or whose answer begins as one of `answers` does."""
    asked = {content(question) for question in questions}
    said = {_beginning(answer) for answer in answers}
    return [row for row in rows if content(row["question"]) not in asked and _beginning(row["answer"]) not in said]


def _beginning(answer: str) -> tuple[str, ...]:
    return tuple(words(answer)[:25])


def public_pairs(rows: Sequence[Row], count: int, draw: random.Random) -> Iterator[Pair]:
    """`count` pairs, each from a row drawn from `rows`, by KINDS and REGISTERS."""
    found = _Rows(rows)
    for _ in range(count):
        number = draw.randrange(len(rows))
        (kind,) = draw.choices(list(KINDS), list(KINDS.values()))
        worse = found.worse(number, kind, draw) or found.worse(number, "near", draw) or found.worse(number, "any", draw)
        if worse is None:
            return  # one and the same answer everywhere: there is no pair to be made
        yield Pair(in_words_of(rows[number], draw), rows[number]["answer"], worse)


def in_words_of(row: Row, draw: random.Random) -> str:
    """The row's question in one of the REGISTERS."""
    (register,) = draw.choices(list(REGISTERS), list(REGISTERS.values()))
    topic = row["focus"] if draw.random() < 0.5 else row["focus"].lower()
    phrases = _PHRASES.get(row["qtype"])
    plain = draw.choice(phrases).format(topic) if phrases else str(row["question"])
    match register:
        case "plain":
            return plain
        case "words":
            return f"{topic} {row['qtype']}".lower()
        case "message":
            parts = (f"{topic}.", draw.choice(_WHO).format(topic), plain, draw.choice(_CLOSING))
            return " ".join(part for part in parts if part)
        case _:
            return str(row["question"])


class _Rows:
    """Rows by topic, by type of question, and by the rare words that an answer shares with a question."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.by_topic: dict[str, list[int]] = defaultdict(list)
        self.by_type: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            self.by_topic[row["focus"].lower()].append(number)
            self.by_type[row["qtype"]].append(number)

    def worse(self, number: int, kind: str, draw: random.Random) -> str | None:
        """A worse answer of that kind for row `number`, or None where there is none."""
        row = self.rows[number]
        if kind == "part":
            return _first_third(row["answer"])
        others: Sequence[int]
        match kind:
            case "near":
                others = self._near(number)
            case "topic":
                others = self.by_topic[row["focus"].lower()]
            case "type":
                others = self.by_type[row["qtype"]]
            case _:
                others = range(len(self.rows))
        fitting = [n for n in others if self.rows[n]["answer"] != row["answer"] and (kind == "topic" or self._elsewhere(n, number))]
        return str(self.rows[draw.choice(fitting)]["answer"]) if fitting else None

    def _elsewhere(self, one: int, other: int) -> bool:
        return str(self.rows[one]["focus"]).lower() != str(self.rows[other]["focus"]).lower()

    def _near(self, number: int) -> list[int]:
        """The NEAREST answers on other topics by the inverse document frequencies of shared words, long answers discounted."""
        index, weights, matrix = self._said
        wanted = [index[word] for word in content(self.rows[number]["question"]) if word in index]
        query = np.zeros(len(index))
        query[wanted] = weights[wanted]
        likeness = matrix @ query
        order = np.argsort(-likeness, kind="stable")[: NEAREST + len(self.by_topic[self.rows[number]["focus"].lower()])]
        return [int(n) for n in order if likeness[n] > 0 and self._elsewhere(int(n), number)][:NEAREST]

    @cached_property
    def _said(self) -> tuple[dict[str, int], np.ndarray, csr_matrix]:
        """Index of words, their inverse document frequency, and (answers, words) with 1/√(words of the answer) where a word stands."""
        said = [content(row["answer"]) for row in self.rows]
        counts = Counter(word for each in said for word in each)
        index = {word: place for place, word in enumerate(sorted(counts))}
        weights = np.array([log(len(said) / counts[word]) for word in index])
        places = [index[word] for each in said for word in sorted(each)]
        values = [1 / len(each) ** 0.5 for each in said for _ in each]
        starts = np.cumsum([0, *(len(each) for each in said)])
        return index, weights, csr_matrix((values, places, starts), shape=(len(said), len(index)))


def _first_third(answer: str) -> str | None:
    """The first third of the sentences, or None where there are fewer than three."""
    sentences = re.split(r"(?<=[.!?])\s+", answer.strip())
    return " ".join(sentences[: len(sentences) // 3]) if len(sentences) >= 3 else None
