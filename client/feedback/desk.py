"""One annotator's desk: the question before them, their choice, taking it back, how far they are, what became of their choices.

Knows nothing of the web. Time and randomness come from outside; what is shown is decided here, so that the page has nothing to leak.

Protects against: one choice counted twice when a page is sent again (a screen's token is used once); an order of the answers that tells
who wrote them (a uniform permutation from the operating system, drawn before the answers are looked at); an annotator who dominates.
Does not protect against: an annotator who recognizes a model by its style.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from client.feedback.acts import Chosen
from client.feedback.items import Choice, Item, Origin, Remarks, Screen, Verdict
from client.feedback.pairs import Wanted, calibration_due, next_calibration, next_item, planned_votes, shown_order
from client.feedback.settings import LabelSettings
from client.feedback.settling import Outcome, State, settle
from client.feedback.store import FeedbackStore
from common.errors import PolicyRefused
from common.events import Handle

UNDO_DEPTH = 10
CLAIM_MINUTES = 30
"""A question that somebody has before them counts as being answered for so long."""
PAUSE_MINUTES = 5
"""So long without a choice is a break."""
PACE_CHOICES = 30
"""The pace is the median of so many last choices."""
LONGEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, repr=False)
class Feedback:
    """After a calibration item: what the panel had agreed upon. `best` is the position at which it was shown, from 1."""

    right: bool
    best: int
    reason: str

    def __repr__(self) -> str:
        return f"Feedback({self.right})"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far somebody is. `seconds` is the pace, `minutes_left` what it means for the rest; None before the first choice."""

    done: int
    left: int
    seconds: float | None
    minutes_left: float | None
    undoable: int
    working_minutes: float
    rest: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """What one annotator's choices changed: the settled questions as they are, against the same without this annotator.

    rows    of this annotator that training can see now
    """

    choices: int
    settled: int
    agreed: int
    decisive: int
    turned: int
    strengthened: int
    adjudicated: int
    corrections: int
    rows: int


class Desk:
    """All annotators' desks at one site. Safe for several threads."""

    def __init__(self, store: FeedbackStore, settings: LabelSettings, draw: Callable[[int], int] = secrets.randbelow) -> None:
        self.store, self.settings, self._draw = store, settings, draw
        self._known: dict[str, tuple[int, Outcome, int]] = {}

    def _outcome(self, item_id: str) -> Outcome:
        """`settle`, remembered until a choice on this question comes or goes. Inside the store's lock only."""
        moved = self.store.changed[item_id]
        known = self._known.get(item_id)
        if known is None or known[0] != moved:
            choices = self.store.of_item(item_id)
            known = self._known[item_id] = (moved, settle(choices, self.settings), sum(choice.vote for choice in choices))
        return known[1]

    # ---- labelling ---------------------------------------------------------------------------------------------------

    def screen(self, person_id: str, now: datetime) -> Screen | None:
        """The question before this annotator: the same until it is answered. None when there is nothing (more) to ask."""
        with self.store.locked():
            screen = self.store.screen(person_id)
            if screen is not None and screen.item_id in self.store.items and screen.item_id not in self.store.has_seen(person_id):
                return screen
            screen = self._next(person_id, now)
            if screen is not None:
                self.store.save_screen(screen)
            return screen

    def choose(
        self, person_id: str, token: str, verdict: Verdict, position: int | None, remarks: Remarks, now: datetime
    ) -> tuple[bool, Feedback | None]:
        """Store a choice; returns whether it was new, and the panel's word after a calibration item.

        position: where the better answer stood, from 1. `remarks` are by index in the item. A token that was used before changes nothing.
        Raises PolicyRefused for a choice that does not fit the question.
        """
        with self.store.locked():
            screen = self.store.screen(person_id)
            if screen is None or screen.token != token:
                return False, None
            item = self.store.items[screen.item_id]
            choice = self._choice(screen, item, verdict, position, remarks, now)
            following = self._next(person_id, now, answered=item)
            self.store.save_choice(choice, following, Chosen(Handle(person_id), Handle(item.item_id), verdict, adjudication=False))
            return True, self._feedback(item, choice)

    def undo(self, person_id: str, now: datetime) -> bool:
        """Show the last choice's question again, in the same order, and forget the choice. False when there is none to take back."""
        with self.store.locked():
            choice = self._undoable(person_id)
            if choice is None:
                return False
            screen = Screen(Handle.draw(), choice.item_id, person_id, choice.order, _iso(now))
            self.store.undo(choice, screen)
            return True

    def _undoable(self, person_id: str) -> Choice | None:
        own = [choice for choice in self.store.of_person(person_id) if not choice.adjudication]
        newest = self.store.next_sequence(person_id) - 1
        return own[-1] if own and newest - own[-1].sequence < UNDO_DEPTH else None

    def _choice(self, screen: Screen, item: Item, verdict: Verdict, position: int | None, remarks: Remarks, now: datetime) -> Choice:
        chosen = None
        if verdict is Verdict.ANSWER:
            if position is None or not 1 <= position <= len(screen.order):
                raise PolicyRefused(f"there is no answer number {position}; this question has {len(screen.order)}")
            chosen = screen.order[position - 1]
        if verdict is Verdict.SET_ASIDE and not screen.adjudication:
            raise PolicyRefused("only an adjudicator sets a question aside; skip it instead")
        if any(not 0 <= i < len(item.answers) for i in (*(i for i, _ in remarks.tags), *(i for i, *_ in remarks.ratings))):
            raise PolicyRefused("a remark names an answer that this question does not have")
        seconds = min((now - datetime.fromisoformat(screen.shown)).total_seconds(), LONGEST_SECONDS)
        return Choice(
            item.item_id, screen.person_id, screen.order, verdict, chosen, max(seconds, 0.0), _iso(now),
            self.store.next_sequence(screen.person_id), screen.adjudication, remarks,
        )  # fmt: skip

    def _feedback(self, item: Item, choice: Choice) -> Feedback | None:
        if item.known_best is None or choice.verdict is Verdict.SKIP:
            return None
        return Feedback(choice.chosen == item.known_best, choice.order.index(item.known_best) + 1, item.reason)

    def _next(self, person_id: str, now: datetime, *, answered: Item | None = None) -> Screen | None:
        """A new screen; `answered` is the question whose choice is about to be stored."""
        seen, without = self.store.has_seen(person_id), "" if answered is None else answered.item_id
        given = sum(not choice.adjudication for choice in seen.values()) + (answered is not None)
        item = None
        if calibration_due(given, self.settings):
            item = next_calibration((i for i in self.store.items.values() if i.calibration and i.item_id != without), seen, person_id)
        votes = self._votes_of(person_id) + (answered is not None and not answered.calibration)
        if item is None and votes < self._cap():
            item = next_item(self._wanted(person_id, now, without), person_id)
        if item is None:
            return None
        return Screen(Handle.draw(), item.item_id, person_id, shown_order(len(item.answers), self._draw), _iso(now))

    def _cap(self) -> int:
        return planned_votes(sum(not item.calibration for item in self.store.items.values()), self.settings)

    def _votes_of(self, person_id: str) -> int:
        return sum(choice.vote and not self._calibrates(choice) for choice in self.store.has_seen(person_id).values())

    def _calibrates(self, choice: Choice) -> bool:
        item = self.store.items.get(choice.item_id)
        return item is None or item.calibration

    def _wanted(self, person_id: str, now: datetime, without: str = "") -> list[Wanted]:
        """Open questions that this annotator has not seen."""
        oldest = _iso(now - timedelta(minutes=CLAIM_MINUTES))
        claims = Counter(s.item_id for s in self.store.screens() if s.person_id != person_id and not s.adjudication and s.shown > oldest)
        seen = self.store.has_seen(person_id)
        found = []
        for item_id, item in self.store.items.items():
            if item_id in seen or item_id == without or item.origin is Origin.CALIBRATION:
                continue
            outcome = self._outcome(item_id)
            if outcome.state is State.OPEN:
                found.append(Wanted(item, self._known[item_id][2], claims[item_id], outcome.wanted))
        return found

    # ---- how far ------------------------------------------------------------------------------------------------------

    def progress(self, person_id: str, now: datetime) -> Progress:
        with self.store.locked():
            own = [choice for choice in self.store.of_person(person_id) if not choice.adjudication]
            room = max(0, self._cap() - self._votes_of(person_id))
            left = min(room, sum(w.claims < w.missing for w in self._wanted(person_id, now)))
            seconds = median(choice.seconds for choice in own[-PACE_CHOICES:]) if own else None
            working = _working_minutes([datetime.fromisoformat(choice.at) for choice in own], now)
            newest = self.store.next_sequence(person_id) - 1
            return Progress(
                done=len(own),
                left=left,
                seconds=seconds,
                minutes_left=None if seconds is None else left * seconds / 60,
                undoable=sum(newest - choice.sequence < UNDO_DEPTH for choice in own),
                working_minutes=working,
                rest=working >= self.settings.break_after_minutes,
            )

    def changed(self, person_id: str) -> Changed:
        """Every question that this annotator voted on, settled with and without the vote."""
        with self.store.locked():
            own = [c for c in self.store.of_person(person_id) if c.vote and not self._calibrates(c)]
            tally = dict.fromkeys(("settled", "agreed", "decisive", "turned", "strengthened", "adjudicated"), 0)
            for choice in own:
                together = self.store.of_item(choice.item_id)
                with_me = settle(together, self.settings)
                without = settle([c for c in together if c.person_id != person_id], self.settings)
                tally["adjudicated"] += any(c.adjudication for c in together)
                if with_me.state is State.SETTLED:
                    tally["settled"] += 1
                    tally["agreed"] += with_me.key == choice.key
                    tally["decisive"] += without.state is not State.SETTLED
                    tally["turned"] += without.state is State.SETTLED and without.key != with_me.key
                    tally["strengthened"] += without.key == with_me.key and without.weight < with_me.weight
            corrections = sum(bool(c.remarks.correction) for c in self.store.of_person(person_id))
            return Changed(len(own), corrections=corrections, rows=len(self.store.trained_on(person_id)), **tally)

    # ---- adjudication ------------------------------------------------------------------------------------------------

    def to_adjudicate(self, person_id: str | None = None) -> list[Item]:
        """Questions whose annotators differ for good, or skipped; without those that this adjudicator has voted on."""
        with self.store.locked():
            return [
                item
                for item in self.store.items.values()
                if not item.calibration
                and self._outcome(item.item_id).state is State.ADJUDICATE
                and all(choice.person_id != person_id for choice in self.store.of_item(item.item_id))
            ]

    def adjudication_screen(self, person_id: str, now: datetime) -> Screen | None:
        with self.store.locked():
            waiting = {item.item_id: item for item in self.to_adjudicate(person_id)}
            screen = self.store.screen(person_id, adjudication=True)
            if screen is not None and screen.item_id in waiting:
                return screen
            if not waiting:
                return None
            item = next(iter(waiting.values()))
            screen = Screen(
                Handle.draw(), item.item_id, person_id, shown_order(len(item.answers), self._draw), _iso(now), adjudication=True
            )
            self.store.save_screen(screen)
            return screen

    def adjudicate(self, person_id: str, token: str, verdict: Verdict, position: int | None, remarks: Remarks, now: datetime) -> bool:
        """The adjudicator's word on a question. False for a token that was used before. Raises PolicyRefused as `choose` does."""
        with self.store.locked():
            screen = self.store.screen(person_id, adjudication=True)
            if screen is None or screen.token != token:
                return False
            if verdict is Verdict.SKIP:
                raise PolicyRefused("an adjudicator decides, or sets the question aside")
            choice = self._choice(screen, self.store.items[screen.item_id], verdict, position, remarks, now)
            self.store.save_choice(choice, None, Chosen(Handle(person_id), Handle(choice.item_id), verdict, adjudication=True))
            return True

    # ---- figures -----------------------------------------------------------------------------------------------------

    def outcomes(self) -> dict[str, Outcome]:
        """By question, calibration items left out."""
        with self.store.locked():
            return {item.item_id: self._outcome(item.item_id) for item in self.store.items.values() if not item.calibration}


def _working_minutes(moments: Sequence[datetime], now: datetime) -> float:
    """Minutes since the last pause, 0 when this is one."""
    later = now
    for moment in reversed(moments):
        if later - moment > timedelta(minutes=PAUSE_MINUTES):
            break
        later = moment
    return (now - later).total_seconds() / 60


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
