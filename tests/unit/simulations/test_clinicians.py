import random

from simulations.judgement.clinicians import LEANINGS, STRENGTH, clinicians, label
from simulations.judgement.pairs import build_pairs
from simulations.judgement.questions import questions
from simulations.judgement.rubric import rubric


def test_slips_are_as_frequent_as_configured() -> None:
    pairs = build_pairs(questions("train", 400, 11), "train", 11)
    for site, noise in enumerate((0.0, 0.1, 0.3)):
        judge = clinicians("s", site, noise)[0]
        rng = random.Random(1)
        shown = [(p.better, p.worse) if n % 2 else (p.worse, p.better) for n, p in enumerate(pairs)]
        chosen = [label(p.question, a, b, judge, rng) for p, (a, b) in zip(pairs, shown, strict=True)]
        wrong = sum((c == "a") != bool(n % 2) for n, c in enumerate(chosen)) / len(pairs)
        # two standard errors of 400 draws, and the few pairs that a leaning decides
        assert noise - 2 * (noise / 400) ** 0.5 - 0.01 <= wrong <= noise + 2 * (noise / 400) ** 0.5 + 0.04, (noise, wrong)


def test_a_leaning_decides_between_equals_and_not_against_a_grave_fault() -> None:
    question = questions("train", 1, 0)[0]
    short = "Please rest."
    long = "Please rest, lie down, be calm, take it slowly, sleep enough, and let the days pass as they come along for you."
    by_leaning = {c.leaning: c for n in range(4) for c in clinicians("s", n, 0.0)}
    assert set(by_leaning) == {name for name, _ in LEANINGS}
    rng = random.Random(0)
    assert rubric(question, short).score < rubric(question, long).score + STRENGTH
    pair = build_pairs([question], "train", 0)[0]
    for judge in by_leaning.values():
        assert label(question, pair.better, pair.worse, judge, rng) == "a"
    taste = {name: judge.taste for name, judge in by_leaning.items()}
    assert taste["prefers longer answers"](long) > taste["prefers longer answers"](short)
    assert taste["prefers shorter answers"](long) < taste["prefers shorter answers"](short)
    hedged = "It may be harmless, but see a doctor if it stays."
    assert taste["prefers cautious answers"](hedged) > 0 > taste["dislikes hedging"](hedged)


def test_two_clinicians_of_a_site_lean_differently_and_a_label_draws_one_number() -> None:
    for number in range(24):
        first, second = clinicians("s", number, 0.1)
        assert first.leaning != second.leaning
        assert first.id != second.id
    question = questions("train", 1, 0)[0]
    rng, twin = random.Random(5), random.Random(5)
    label(question, "Rest.", "Take ibuprofen.", clinicians("s", 0, 0.1)[0], rng)
    twin.random()
    assert rng.random() == twin.random()
