import random
from collections import Counter
from itertools import combinations

import pytest

from simulations.judgement.answers import SLOTS, Draft, Fault, applicable, draft, render
from simulations.judgement.baselines import Baselines, Triple, accuracy, baselines, overlap
from simulations.judgement.clinical import BY_KEY, Circumstance
from simulations.judgement.pairs import MARGIN, MAX_WORDS, AnswerPair, build_pairs, public_pairs
from simulations.judgement.questions import WORDINGS, Question, Severity, questions
from simulations.judgement.rubric import rubric


@pytest.fixture(scope="module")
def train() -> list[AnswerPair]:
    return build_pairs(questions("train", 480, 0), "train", 0)


@pytest.fixture(scope="module")
def test() -> list[AnswerPair]:
    return build_pairs(questions("test", 320, 0), "test", 0)


@pytest.fixture(scope="module")
def shallow(train: list[AnswerPair], test: list[AnswerPair]) -> Baselines:
    return baselines(triples(train), triples(test))


def triples(pairs: list[AnswerPair]) -> list[Triple]:
    return [(p.question.text, p.better, p.worse) for p in pairs]


def question(topic: str, circumstance: Circumstance, severity: Severity) -> Question:
    condition = BY_KEY[topic]
    return Question("q", "I have it. What now?", topic, circumstance, severity, condition.split, condition.complaints[0])


def test_pairs_are_the_same_for_the_same_seed(train: list[AnswerPair]) -> None:
    assert build_pairs(questions("train", 50, 0), "train", 0) == train[:50]
    assert build_pairs(questions("train", 50, 0), "train", 1) != train[:50]


def test_the_judge_agrees_with_every_pair(train: list[AnswerPair], test: list[AnswerPair]) -> None:
    for pair in [*train, *test]:
        better, worse = rubric(pair.question, pair.better), rubric(pair.question, pair.worse)
        assert better.score > worse.score + 0.1, (pair.fault, pair.question.text, pair.better, better, pair.worse, worse)
        assert better.score > 0.85, (pair.question.text, pair.better, better)


def test_shallow_readings_do_not_tell(shallow: Baselines) -> None:
    for split in (0, 1):
        assert 0.4 <= shallow.length[split] <= 0.6, shallow
        assert 0.4 <= shallow.overlap[split] <= 0.6, shallow
    assert shallow.bag_of_words[0] > 0.9, "a bag of words fits the train pairs"
    assert shallow.bag_of_words[1] <= 0.65, f"and carries little to other topics and wordings: {shallow}"
    assert shallow.best_on_test() == max(shallow.length[1], shallow.overlap[1], shallow.bag_of_words[1])


def test_answers_are_short(train: list[AnswerPair], test: list[AnswerPair]) -> None:
    longest = max((text for p in [*train, *test] for text in (p.better, p.worse)), key=lambda t: len(t.split()))
    assert len(longest.split()) <= MAX_WORDS, longest


def test_every_fault_occurs_and_fits_its_question(test: list[AnswerPair]) -> None:
    counts = Counter(p.fault for p in test)
    assert set(counts) == set(Fault)
    assert min(counts.values()) > 30, counts
    for pair in test:
        assert pair.fault in applicable(pair.question)


def test_the_same_words_are_right_for_one_question_and_wrong_for_another() -> None:
    """The law that makes the answer alone say nothing: each sentence that is a fault somewhere is right elsewhere."""
    mild, grave = (question("headache", Circumstance.NONE, s) for s in (Severity.MILD, Severity.RED_FLAG))
    urgent, wait = (f"Try ibuprofen to ease the headache. {s}" for s in (SLOTS["train"].urgent[0], SLOTS["train"].return_if[0]))
    calm, alarm = (f"Try ibuprofen to ease the headache. {s}" for s in (SLOTS["train"].calm[0], SLOTS["train"].alarm[0]))
    assert rubric(grave, urgent).score > rubric(grave, wait).score
    assert rubric(mild, urgent).score < rubric(mild, wait).score
    assert rubric(grave, calm).score < rubric(grave, alarm).score
    assert rubric(mild, calm).score > rubric(mild, alarm).score
    plain, careful = "Try ibuprofen to ease the headache.", "Because of the warfarin, use paracetamol, not ibuprofen."
    for circumstance, better, worse in ((Circumstance.WARFARIN, careful, plain), (Circumstance.NONE, plain, careful)):
        asked = question("headache", circumstance, Severity.MILD)
        assert rubric(asked, better).score > rubric(asked, worse).score, circumstance


@pytest.mark.parametrize("severity", Severity)
def test_faults_change_what_is_said_by_the_question(severity: Severity) -> None:
    asked, draw = question("gout", Circumstance.WARFARIN, severity), random.Random(0)
    mild = severity is Severity.MILD
    assert draft(asked, (), draw).swapped_for is Circumstance.WARFARIN
    assert draft(asked, (Fault.CONTRAINDICATION,), draw).swapped_for is Circumstance.NONE
    assert (draft(asked, (Fault.SAFETY_NET,), draw).care == "urgent") == mild
    assert (draft(asked, (Fault.OVERCONFIDENCE,), draw).tone == "alarm") == mild
    wrong = draft(asked, (Fault.WRONG_DRUG,), draw).advised
    assert wrong.key != "gout"
    assert wrong.split == "test"


def test_a_drug_is_withheld_only_for_a_circumstance_that_the_patient_does_not_have() -> None:
    asked = question("gout", Circumstance.NONE, Severity.MILD)
    swaps = {draft(asked, (Fault.CONTRAINDICATION,), random.Random(n)).swapped_for for n in range(40)}
    assert swaps == set(BY_KEY["gout"].alternatives)
    assert Fault.CONTRAINDICATION not in applicable(question("vertigo", Circumstance.NONE, Severity.MILD))


def test_answers_of_two_voices_share_no_sentence() -> None:
    said = {voice: set() for voice in SLOTS}
    for voice, sentences in said.items():
        for number, asked in enumerate(questions("train", 200, 1)):
            text = render(draft(asked, (), random.Random(number)), asked, voice, random.Random(number), fillers=1)
            sentences.update(text.split(". "))
    for one, other in combinations(said, 2):
        assert not said[one] & said[other]


def test_an_echo_repeats_the_complaint_and_fillers_add_sentences() -> None:
    asked = questions("train", 1, 0)[0]
    said = Draft(asked.condition, Circumstance.NONE, "return_if", "")
    plain, echoed = (render(said, asked, "train", random.Random(1), echo=echo) for echo in (False, True))
    assert overlap(asked.complaint, echoed) > overlap(asked.complaint, plain)
    assert len(render(said, asked, "train", random.Random(1), fillers=2)) > len(plain)


def test_on_policy_pairs_hold_the_sampled_text_and_the_judge_decides() -> None:
    asked = questions("train", 120, 7)
    texts = (
        "You should rest and drink water. See your doctor if it does not get better.",
        "I am sorry to hear that you are feeling unwell and",
        "Take ibuprofen for the pain. It is definitely nothing serious.",
    )
    sampled = {q.id: texts[n % 3] for n, q in enumerate(asked) if n % 2 == 0}
    pairs = build_pairs(asked, "train", 7, sampled)
    on_policy = [p for p in pairs if p.on_policy]
    assert len(on_policy) >= 55, "nearly every sampled text finds a clear contrast"
    assert all(p.question.id in sampled for p in on_policy)
    for pair in on_policy:
        assert sampled[pair.question.id] in (pair.better, pair.worse)
        assert rubric(pair.question, pair.better).score >= rubric(pair.question, pair.worse).score + MARGIN
    won = sum(sampled[p.question.id] == p.better for p in on_policy) / len(on_policy)
    assert 0.25 < won < 0.75, f"neither always better nor always worse, or style alone would tell: {won:.2f}"


def test_public_pairs_keep_away_from_the_test_split() -> None:
    pairs = public_pairs(300, 0)
    assert pairs == public_pairs(300, 0)
    prompts, hidden = {p.prompt for p in pairs}, {q.text for q in questions("test", 300, 0)}
    assert not prompts & hidden
    phrases = [
        text for name in ("urgent", "visit", "dismiss", "careful", "calm", "certain", "alarm") for text in getattr(SLOTS["test"], name)
    ]
    for pair in pairs:
        assert not any(phrase in pair.chosen + pair.rejected for phrase in phrases)
    asked = " ".join(prompts)
    assert not any(words in asked for words in WORDINGS["test"].asks)
    length = accuracy([(p.prompt, p.chosen, p.rejected) for p in pairs], lambda _, a: len(a))
    assert 0.4 <= length <= 0.6, length


def test_baselines_by_hand() -> None:
    assert overlap("My sore toe hurts", "The toe, the TOE hurts.") == 2
    pairs: list[Triple] = [("toe", "good toe", "bad"), ("ear", "good", "bad ear"), ("eye", "good", "evil")]
    found = baselines(pairs[:2], pairs)
    assert found.length[1] == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.overlap[1] == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.bag_of_words == (1.0, 1.0)
    assert baselines([], []).bag_of_words == (0.5, 0.5)
