"""Answers with chosen faults, built from slots: advice, circumstance, safety net, tone, filler.

Whether a sentence is a fault depends on the question. "Go to hospital now" is right beside a red flag and wrong for a mild
complaint; leaving the usual drug out is right where the patient's circumstance forbids it and wrong elsewhere; a drug is wrong
only for what it does not treat. So an answer seen alone does not tell which of two is better. Four wordings share no phrase:
`train` and `test` for labelled pairs, `leaflet` for public pretraining, `ward` for the notes' dialogues.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from simulations.judgement.clinical import Circumstance, Condition, conditions
from simulations.judgement.questions import Question, Severity

Voice = Literal["train", "test", "leaflet", "ward"]


class Fault(StrEnum):
    """What is wrong with an answer. Each has a mirror image where the question turns it around.

    WRONG_DRUG        another condition's drug
    CONTRAINDICATION  the usual drug for a patient who must not have it; mirror: withheld for a circumstance the patient does not have
    SAFETY_NET        no word on seeing a doctor where one is needed; mirror: an emergency made of a mild complaint
    OVERCONFIDENCE    reassurance in the face of a red flag or a lasting complaint; mirror: alarm about a mild one
    """

    WRONG_DRUG = "wrong drug"
    CONTRAINDICATION = "missed contraindication"
    SAFETY_NET = "no safety net"
    OVERCONFIDENCE = "over-confidence"


@dataclass(frozen=True, slots=True)
class Slots:
    """The wordings of one voice. Fields in braces: drug, purpose, avoid, why, days, complaint."""

    advice: tuple[str, ...]
    swapped: tuple[str, ...]
    reasons: Mapping[Circumstance, str]
    urgent: tuple[str, ...]
    visit: tuple[str, ...]
    return_if: tuple[str, ...]
    dismiss: tuple[str, ...]
    careful: tuple[str, ...]
    calm: tuple[str, ...]
    certain: tuple[str, ...]
    alarm: tuple[str, ...]
    filler: tuple[str, ...]
    echo: tuple[str, ...]


_C = Circumstance

SLOTS: Mapping[Voice, Slots] = {
    "train": Slots(
        advice=("Try {drug} {purpose}.", "{drug} is the usual choice {purpose}.", "I would start with {drug} {purpose}."),
        swapped=("Because of {why}, use {drug}, not {avoid}, {purpose}.", "{avoid} is unsafe with {why}; choose {drug} {purpose}."),
        reasons={
            _C.PREGNANT: "the pregnancy", _C.PENICILLIN_ALLERGY: "the penicillin allergy", _C.KIDNEY_DISEASE: "the kidney disease",
            _C.WARFARIN: "the warfarin", _C.CHILD: "the child's age", _C.ASTHMA: "the asthma", _C.PEPTIC_ULCER: "the stomach ulcer",
            _C.HEART_DISEASE: "the heart disease",
        },
        urgent=("Please go to the emergency department now.", "Call an ambulance or get to hospital at once.", "This needs urgent care today."),
        visit=("Book a visit with your doctor this week.", "Your doctor should examine this soon.", "Make an appointment with your doctor."),
        return_if=("See your doctor if it is no better in {days} days.", "Come back if it gets worse.", "Return after {days} days if it stays."),
        dismiss=("There is no need to see a doctor.", "You can just wait, nobody has to look at it.", "Seeing a doctor is unnecessary."),
        careful=("I cannot be sure without an examination.", "This may be a sign of something more serious."),
        calm=("This usually settles by itself.", "It is harmless in most people.", "There is little to worry about."),
        certain=("It is certainly harmless.", "I promise that it is nothing serious.", "You will definitely be fine."),
        alarm=("This could be life-threatening.", "You may be in great danger.", "It looks like a deadly illness."),
        filler=("Thank you for writing.", "I hope this helps.", "Let us know how you get on.", "Good that you asked.", "Best wishes from the practice."),
        echo=("About {complaint}:", "You wrote about {complaint}."),
    ),
    "test": Slots(
        advice=("My suggestion is {drug} {purpose}.", "Most people do well on {drug} {purpose}.", "A good first step is {drug} {purpose}."),
        swapped=("Given {why}, swap {avoid} for {drug} {purpose}.", "Leave {avoid} alone in view of {why} and turn to {drug} {purpose}."),
        reasons={
            _C.PREGNANT: "a pregnancy", _C.PENICILLIN_ALLERGY: "that past penicillin reaction", _C.KIDNEY_DISEASE: "those weak kidneys",
            _C.WARFARIN: "warfarin on board", _C.CHILD: "a child this young", _C.ASTHMA: "asthma in the picture",
            _C.PEPTIC_ULCER: "an ulcer in the stomach", _C.HEART_DISEASE: "a weak heart",
        },
        urgent=("Have someone drive you to A&E without delay.", "Ring 911 right away.", "A hospital team must assess you immediately."),
        visit=("Arrange a check-up at the clinic within days.", "It is time for a physician to look into it.", "Ask the surgery for a consultation."),
        return_if=("Should it persist past {days} days, arrange a review.", "Get it checked if things change for the worse.", "Any decline? Then contact the clinic."),
        dismiss=("Skip the clinic, a check is pointless.", "Involving a professional is needless.", "Do not bother any physician."),
        careful=("Only a proper check can tell what is behind it.", "Something graver might be behind these signs."),
        calm=("Such trouble tends to pass without treatment.", "As a rule this stays benign and short.", "Bodies handle this well unaided."),
        certain=("There is zero chance of anything bad.", "It is guaranteed to clear up.", "Without a doubt all is well."),
        alarm=("People die of exactly this.", "That sounds like a fatal disorder.", "Your survival is at stake."),
        filler=("Kind regards to you.", "Great question to raise.", "Glad to be of service.", "Take care of yourself.", "Happy to talk again."),
        echo=("Regarding {complaint}:", "So it is {complaint}."),
    ),
    "leaflet": Slots(
        advice=("{drug} is given {purpose}.", "Treatment: {drug} {purpose}.", "Patients with {name} receive {drug}."),
        swapped=("With {why}, {avoid} must be avoided and {drug} is given {purpose}.", "Do not use {avoid} during {why}; {drug} is preferred {purpose}."),
        reasons={
            _C.PREGNANT: "pregnancy", _C.PENICILLIN_ALLERGY: "known hypersensitivity to penicillins", _C.KIDNEY_DISEASE: "reduced renal function",
            _C.WARFARIN: "warfarin treatment", _C.CHILD: "childhood", _C.ASTHMA: "a history of asthma", _C.PEPTIC_ULCER: "peptic ulceration",
            _C.HEART_DISEASE: "cardiac disease",
        },
        urgent=("Seek emergency help straight away.", "This is a medical emergency: dial the emergency number.", "Attend the nearest casualty unit without waiting."),
        visit=("Persistent symptoms should be reviewed by a health professional.", "Medical assessment is advised for symptoms that last.", "Consult a health professional."),
        return_if=("Seek advice if symptoms persist beyond {days} days.", "Speak to a pharmacist if symptoms worsen."),
        dismiss=("No medical attention is required.", "Medical review is a waste of time.", "Symptoms can be ignored."),
        careful=("A serious cause has to be excluded first.", "The cause is uncertain until tests are done."),
        calm=("Most cases are minor and resolve on their own.", "The outlook is good.", "It is a common, minor ailment."),
        certain=("Complete cure is assured in every case.", "Nothing can go wrong.", "There are never any complications."),
        alarm=("This is a grave, often lethal disease.", "Death is a likely outcome.", "Organ failure is to be expected."),
        filler=("Keep this leaflet.", "Read all of this page.", "Store below 25 degrees.", "Further copies are available.", "Last revised this year."),
        echo=("Symptoms: {complaint}.", "For {complaint}:"),
    ),
    "ward": Slots(
        advice=("We treat {name} with {drug} {purpose}.", "Take the {drug} as we agreed {purpose}.", "Please go on with {drug} {purpose}."),
        swapped=("We chose {drug} {purpose}, as {avoid} does not go with {why}.", "No {avoid} for you, {why} forbids it; take {drug} {purpose}."),
        reasons={
            _C.PREGNANT: "being pregnant", _C.PENICILLIN_ALLERGY: "your allergy to penicillin", _C.KIDNEY_DISEASE: "your kidney trouble",
            _C.WARFARIN: "taking warfarin", _C.CHILD: "being under 12", _C.ASTHMA: "having asthma", _C.PEPTIC_ULCER: "your peptic ulcer",
            _C.HEART_DISEASE: "your heart trouble",
        },
        urgent=("Come to the hospital right now.", "Please call the emergency line straight away."),
        visit=("We want to see you in the clinic in {days} days.", "Your family doctor will review you in {days} days."),
        return_if=("Phone the ward should it not settle in {days} days.", "If worse, tell us."),
        dismiss=(), careful=("We are not certain yet.",), calm=("This should settle.", "You are doing well."), certain=(), alarm=(),
        filler=("All the best.", "The nurse can explain more.", "We wrote this in your letter."),
        echo=("For your {name}:",),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer before its wording: what it says, and so what is wrong with it.

    advised    the condition whose usual step is named
    swapped_for  the circumstance whose alternative is named instead, or NONE for the usual step
    care       one of the fields urgent, visit, return_if, dismiss of `Slots`, or "" for no word on it
    tone       one of careful, calm, certain, alarm, or ""
    """

    advised: Condition
    swapped_for: Circumstance
    care: str
    tone: str


def draft(question: Question, faults: Collection[Fault], draw: random.Random) -> Draft:
    """What an answer to `question` with these faults says; none makes a good answer. The faults must be among `applicable`."""
    condition, mild = question.condition, question.severity is Severity.MILD
    advised, swap = condition, question.circumstance if question.ruled_out else Circumstance.NONE
    care = {Severity.MILD: "return_if", Severity.LASTING: "visit", Severity.RED_FLAG: "urgent"}[question.severity]
    # An answer that changes the drug is long already.
    tone = draw.choice(("", "calm" if mild else "careful")) if swap is Circumstance.NONE else ""
    if Fault.CONTRAINDICATION in faults:
        others = [c for c in condition.alternatives if c is not question.circumstance]
        swap = Circumstance.NONE if question.ruled_out else draw.choice(others)
    if Fault.WRONG_DRUG in faults:
        advised, swap = draw.choice(_unrelated(condition, question)), Circumstance.NONE
    if Fault.SAFETY_NET in faults:
        care, tone = "urgent" if mild else draw.choice(("", "dismiss")), ""
    if Fault.OVERCONFIDENCE in faults:
        # A promise that all is well and a call for an ambulance do not stand side by side.
        care, tone = (care, "alarm") if mild else ("", draw.choice(("certain", "calm")))
    return Draft(advised, swap, care, tone)


def applicable(question: Question) -> tuple[Fault, ...]:
    """Faults that can be built for this question: a contraindication needs a topic whose usual drug is ruled out for somebody."""
    others = [c for c in question.condition.alternatives if c is not question.circumstance]
    return tuple(f for f in Fault if f is not Fault.CONTRAINDICATION or question.ruled_out or others)


def _unrelated(condition: Condition, question: Question) -> list[Condition]:
    """Topics of the same split whose usual step neither treats this one nor is ruled out for the patient: wrong, but not twice wrong."""
    fitting = {condition.drug, *condition.helps, *condition.alternatives.values()}
    return [c for c in conditions(condition.split) if c.drug not in fitting and c.suits(question.circumstance) and c.key != condition.key]


def render(said: Draft, question: Question, voice: Voice, draw: random.Random, *, fillers: int = 0, echo: bool = False) -> str:
    """Put a draft into words of one voice, with `fillers` empty sentences and, on request, an echo of the complaint it answers."""
    slots, condition, pick = SLOTS[voice], said.advised, draw.choice
    fields = {
        "purpose": condition.purpose, "days": condition.follow_up_days, "name": condition.name,
        # Who advises for another condition has misread the complaint, and echoes that one.
        "complaint": question.complaint if condition.key == question.topic else pick(condition.complaints),
    }  # fmt: skip
    if said.swapped_for is Circumstance.NONE:
        advice = pick(slots.advice).format(drug=condition.drug, **fields)
    else:
        drug, why = condition.advice(said.swapped_for), slots.reasons[said.swapped_for]
        advice = pick(slots.swapped).format(drug=drug, avoid=condition.drug, why=why, **fields)
    rest = [pick(options).format(**fields) for options in (_options(slots, said.care), _options(slots, said.tone)) if options]
    draw.shuffle(rest)
    sentences = [*([pick(slots.echo).format(**fields)] if echo else []), advice, *rest]
    for sentence in draw.sample(slots.filler, fillers):
        sentences.insert(draw.choice((0, len(sentences))), sentence)
    return " ".join(s[0].upper() + s[1:] for s in sentences)


def _options(slots: Slots, name: str) -> Sequence[str]:
    options: tuple[str, ...] = getattr(slots, name) if name else ()
    return options
