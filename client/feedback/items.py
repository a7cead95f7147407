"""What the labelling page shows and what comes back: questions with two to four answers, and one choice an annotator and question.

These values hold text of patients; they print their length, never their text, and lie sealed in the vault.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from client.records import shown

MIN_ANSWERS, MAX_ANSWERS = 2, 4


class Verdict(StrEnum):
    """What an annotator may say of a question. `SET_ASIDE` is the adjudicator's alone."""

    ANSWER = "answer"
    TIE = "tie"
    UNSAFE = "unsafe"
    SKIP = "skip"
    SET_ASIDE = "set-aside"


class Tag(StrEnum):
    """What is wrong with one answer."""

    FACTUALLY_WRONG = "factually-wrong"
    OMITS_CONTRAINDICATION = "omits-contraindication"
    UNSAFE_ADVICE = "unsafe-advice"
    OVER_CONFIDENT = "over-confident"
    UNCLEAR = "unclear"
    NOT_PLAIN = "not-plain"
    OTHER = "other"


class Scale(StrEnum):
    """What is rated from 1 to 5 when the study asks."""

    ACCURACY = "accuracy"
    SAFETY = "safety"
    CLARITY = "clarity"
    EMPATHY = "empathy"


class Origin(StrEnum):
    """Why a question is asked."""

    DISAGREEMENT = "disagreement"
    RANDOM = "random"
    IMPORTED = "imported"
    CALIBRATION = "calibration"


@dataclass(frozen=True, slots=True, repr=False)
class Candidate:
    """One answer. `source` names who wrote it and is never shown to an annotator; `sampled` says that it was a model of the study."""

    text: str
    source: str
    sampled: bool = False

    def __repr__(self) -> str:
        return shown("Candidate", self.text)


@dataclass(frozen=True, slots=True, repr=False)
class Item:
    """A question with its answers, in an order that was drawn when it was made and means nothing.

    item_id     random handle
    task        which kind of question it is, for agreement by task
    known_best  index of the answer that a panel agreed upon, in a calibration item; `reason` says why
    """

    item_id: str
    prompt: str
    answers: tuple[Candidate, ...]
    patient_id: str | None = None
    task: str = "question"
    origin: Origin = Origin.IMPORTED
    known_best: int | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if not MIN_ANSWERS <= len(self.answers) <= MAX_ANSWERS:
            raise ValueError(f"a question has {len(self.answers)} answers; it needs {MIN_ANSWERS} to {MAX_ANSWERS}")
        if (self.origin is Origin.CALIBRATION) != (self.known_best is not None):
            raise ValueError("a calibration item, and no other, names its best answer")
        if self.known_best is not None and not 0 <= self.known_best < len(self.answers):
            raise ValueError(f"the best answer is number {self.known_best} of {len(self.answers)}")

    def __repr__(self) -> str:
        return shown("Item", self.prompt, *(answer.text for answer in self.answers))

    @property
    def calibration(self) -> bool:
        return self.origin is Origin.CALIBRATION

    @property
    def words(self) -> int:
        """Words to read."""
        return sum(len(text.split()) for text in (self.prompt, *(answer.text for answer in self.answers)))


@dataclass(frozen=True, slots=True, repr=False)
class Remarks:
    """What an annotator may add. Answers are meant by their index in the item, not by where they stood on the page."""

    tags: tuple[tuple[int, Tag], ...] = ()
    other: str = ""
    correction: str = ""
    ratings: tuple[tuple[int, Scale, int], ...] = ()

    def __repr__(self) -> str:
        return shown("Remarks", self.other, self.correction)


@dataclass(frozen=True, slots=True, repr=False)
class Choice:
    """One annotator's answer to one question.

    order     the item's answers from left to right as they were shown
    chosen    index in the item of the better answer; None unless the verdict is ANSWER
    seconds   from showing to choosing
    at        when, ISO 8601 in UTC
    sequence  counts the annotator's choices; never given twice
    """

    item_id: str
    person_id: str
    order: tuple[int, ...]
    verdict: Verdict
    chosen: int | None
    seconds: float
    at: str
    sequence: int
    adjudication: bool = False
    remarks: Remarks = Remarks()

    def __repr__(self) -> str:
        return f"Choice({self.verdict}, {self.remarks!r})"

    @property
    def key(self) -> tuple[Verdict, int]:
        """What two votes must share to agree: the verdict and, for an answer, which one."""
        return self.verdict, -1 if self.chosen is None else self.chosen

    @property
    def vote(self) -> bool:
        """Whether it counts among the annotators' votes."""
        return self.verdict is not Verdict.SKIP and not self.adjudication


@dataclass(frozen=True, slots=True)
class Screen:
    """A question as it stands before one annotator: `token` is a fresh random name, so that nothing can be read from it.

    `shown` is ISO 8601 in UTC. Kept until it is answered, so that a page that is loaded again shows the same order.
    """

    token: str
    item_id: str
    person_id: str
    order: tuple[int, ...]
    shown: str
    adjudication: bool = False


# -- bytes for the vault -----------------------------------------------------------------------------------------------


def pack_item(item: Item) -> bytes:
    answers = [[a.text, a.source, a.sampled] for a in item.answers]
    return _dump([item.item_id, item.prompt, answers, item.patient_id, item.task, item.origin, item.known_best, item.reason])


def unpack_item(plain: bytes) -> Item:
    item_id, prompt, answers, patient_id, task, origin, known_best, reason = json.loads(plain)
    return Item(item_id, prompt, tuple(Candidate(*a) for a in answers), patient_id, task, Origin(origin), known_best, reason)


def pack_choice(choice: Choice) -> bytes:
    c, r = choice, choice.remarks
    return _dump(
        [c.item_id, c.person_id, c.order, c.verdict, c.chosen, c.seconds, c.at, c.sequence, c.adjudication,
         [r.tags, r.other, r.correction, r.ratings]]
    )  # fmt: skip


def unpack_choice(plain: bytes) -> Choice:
    item_id, person_id, order, verdict, chosen, seconds, at, sequence, adjudication, remarks = json.loads(plain)
    tags, other, correction, ratings = remarks
    return Choice(
        item_id, person_id, tuple(order), Verdict(verdict), chosen, seconds, at, sequence, adjudication,
        Remarks(tuple((i, Tag(t)) for i, t in tags), other, correction, tuple((i, Scale(s), n) for i, s, n in ratings)),
    )  # fmt: skip


def pack_screen(screen: Screen) -> bytes:
    return _dump([screen.token, screen.item_id, screen.person_id, screen.order, screen.shown, screen.adjudication])


def unpack_screen(plain: bytes) -> Screen:
    token, item_id, person_id, order, shown, adjudication = json.loads(plain)
    return Screen(token, item_id, person_id, tuple(order), shown, adjudication)


def _dump(value: Sequence[object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
