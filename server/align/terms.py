"""Plain reward terms: functions of prompts and answers beside the learned reward, each with a weight and a line in the log.

Penalties are 0 for an answer that does nothing wrong and negative otherwise, so a weight of 0 switches one off and no term can
be farmed. Rules are written by clinicians in the study's TOML (`[[ppo.rules]]`) in words, without regular expressions.

Protects against: the cheap tricks by which a policy pleases a reward model: length, repetition, answers without an end.
Does not protect against: a rule that is kept to the letter; a phrase can be said in the wrong place.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.config import PPOConfig, RuleConfig
from server.align.rollout import Answer

Floats = NDArray[np.float64]
Term = Callable[[Sequence[str], Sequence[Answer]], Floats]
"""A reward term: prompts and answers → one number an answer (n,). Rules, penalties and test rewards are such functions."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A named term and its weight in the sum."""

    name: str
    term: Term
    weight: float = 1.0


def penalties(config: PPOConfig, reference_tokens: float) -> tuple[Weighted, ...]:
    """The study's own terms, those of weight 0 left out; `reference_tokens` is the SFT model's mean answer."""
    named = (
        Weighted("missing_end", missing_end, config.missing_eos_penalty),
        Weighted("length", Length(reference_tokens), config.length_penalty),
        Weighted("repetition", repetition, config.repetition_penalty),
        *(Weighted(f"rule_{rule.name}", Rule.of(rule), rule.weight) for rule in config.rules),
    )
    return tuple(weighted for weighted in named if weighted.weight > 0)


def missing_end(prompts: Sequence[str], answers: Sequence[Answer]) -> Floats:  # noqa: ARG001  # a Term sees both
    """−1 for an answer that was cut off before its end of turn, else 0."""
    return np.array([0.0 if answer.ended else -1.0 for answer in answers])


LENGTH_BAND = 0.25
"""How far from the reference length an answer may be, as a share of it, before the length term counts."""


@dataclass(frozen=True, slots=True)
class Length:
    """−(tokens outside reference · (1 ± LENGTH_BAND)), 0 inside. Length is the easiest thing to exploit, in both directions:
    some reward models love every further sentence, and one that punishes errors is pleased by an answer that says nothing.
    """

    reference_tokens: float

    def __call__(self, prompts: Sequence[str], answers: Sequence[Answer]) -> Floats:  # noqa: ARG002  # a Term sees both
        lengths = np.array([len(answer.ids) for answer in answers], np.float64)
        low, high = (1 - LENGTH_BAND) * self.reference_tokens, (1 + LENGTH_BAND) * self.reference_tokens
        outside: Floats = np.minimum(0.0, lengths - low) + np.minimum(0.0, high - lengths)
        return outside


def repetition(prompts: Sequence[str], answers: Sequence[Answer]) -> Floats:  # noqa: ARG001  # a Term sees both
    """−(share of an answer's word triples that stood in it before), from 0 to almost −1."""

    def repeated(text: str) -> float:
        words = _words(text)
        triples = list(zip(words, words[1:], words[2:], strict=False))
        return 1 - len(set(triples)) / len(triples) if triples else 0.0

    return np.array([-repeated(answer.text) for answer in answers])


@dataclass(frozen=True, slots=True)
class Rule:
    """−1 where an answer breaks the rule, else 0; rules with `when` say nothing about other prompts."""

    wanted: re.Pattern[str] | None
    banned: re.Pattern[str] | None
    when: re.Pattern[str] | None

    @classmethod
    def of(cls, rule: RuleConfig) -> "Rule":
        return cls(_pattern(rule.must), _pattern(rule.must_not), _pattern(rule.when))

    def __call__(self, prompts: Sequence[str], answers: Sequence[Answer]) -> Floats:
        return np.array([-float(self._applies(p) and self._broken(a.text)) for p, a in zip(prompts, answers, strict=True)])

    def _applies(self, prompt: str) -> bool:
        return self.when is None or self.when.search(_spaced(prompt)) is not None

    def _broken(self, text: str) -> bool:
        spaced = _spaced(text)
        return (self.wanted is not None and self.wanted.search(spaced) is None) or (
            self.banned is not None and self.banned.search(spaced) is not None
        )


def _pattern(phrases: Sequence[str]) -> re.Pattern[str] | None:
    """One pattern for all phrases, over words between single spaces; None for none."""
    word = {"#": r"\d[\d.,]*", "*": r"\S+"}
    each = (" ".join(word.get(w, re.escape(w)) for w in _spaced(phrase).split()) for phrase in phrases)
    return re.compile("|".join(f"(?<!\\S){phrase}(?!\\S)" for phrase in each)) if phrases else None


def _spaced(text: str) -> str:
    """Words and numbers in lower case between single spaces; "500mg" is two of them, and punctuation is none."""
    return " ".join(_words(text))


def _words(text: str) -> list[str]:
    return re.findall(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*|[#*]", text.lower())
