"""Penalties and clinicians' rules, each worked by hand."""

import numpy as np
import pytest
from pydantic import ValidationError

from common.config import PPOConfig, RuleConfig
from server.align.rollout import Answer
from server.align.terms import Rule, penalties, repetition


def answer(text: str, *, tokens: int = 4, ended: bool = True) -> Answer:
    return Answer(text, tuple(range(tokens)), ended)


SEEK = RuleConfig(name="seek_care", must=("see a * doctor", "seek care", "call #"), weight=2.0)
DOSE = RuleConfig(name="no_dose", must_not=("# mg", "# tablets"))


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("Rest, and see a local doctor if it lasts.", False),
        ("SEEK care!", False),
        ("Call 112 now.", False),
        ("See a doctor.", True),  # the pattern asks for a word between
        ("We seek careful reading.", True),  # whole words only
        ("", True),
    ],
)
def test_an_answer_must_mention_one_of_the_phrases(text: str, broken: bool) -> None:
    assert Rule.of(SEEK)(["p"], [answer(text)]).tolist() == [-1.0 if broken else 0.0]


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("Take 500 mg of it.", True),
        ("Take 500mg of it.", True),
        ("Take 1,000.5 Mg.", True),
        ("Take 2\ntablets.", True),
        ("Take some mg.", False),
        ("Take tablets as your doctor says.", False),
    ],
)
def test_an_answer_must_not_state_a_dose(text: str, broken: bool) -> None:
    assert Rule.of(DOSE)(["p"], [answer(text)]).tolist() == [-1.0 if broken else 0.0]


def test_a_rule_can_be_for_some_prompts_only() -> None:
    rule = Rule.of(RuleConfig(name="chest", must=("call an ambulance",), when=("chest pain",)))
    found = rule(["I have chest pain.", "I have a cough."], [answer("Rest."), answer("Rest.")])
    assert found.tolist() == [-1.0, 0.0]


def test_repetition_is_the_share_of_word_triples_that_came_before() -> None:
    # rest and drink | and drink rest | drink rest and | rest and drink: 3 of 4 are distinct.
    found = repetition([""] * 3, [answer("Rest and drink, rest and drink."), answer("Rest."), answer("One two three four.")])
    np.testing.assert_allclose(found, [-0.25, 0, 0])


def test_the_study_names_its_terms_and_weights() -> None:
    config = PPOConfig(missing_eos_penalty=0.5, length_penalty=0.1, repetition_penalty=0.0, rules=(SEEK, DOSE))
    terms = penalties(config, reference_tokens=10.0)
    assert [(t.name, t.weight) for t in terms] == [("missing_end", 0.5), ("length", 0.1), ("rule_seek_care", 2.0), ("rule_no_dose", 1.0)]


def test_a_rule_that_says_nothing_or_two_things_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs `must` or `must_not`, and not both"):
        RuleConfig(name="empty")
    with pytest.raises(ValidationError, match="needs `must` or `must_not`, and not both"):
        RuleConfig(name="both", must=("a",), must_not=("b",))
    with pytest.raises(ValidationError, match="empty phrase"):
        RuleConfig(name="blank", must=(" ",))
