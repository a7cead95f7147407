"""People read a random sample of the released notes and mark what they see; the figures go into the gate's token.

The sample is drawn once, from the operating system's randomness, and kept sealed in the vault with the marks, so that a review can be
broken off and taken up again but not be drawn anew until it looks better. A note in which somebody saw an identifier is held back at once and
counts as leaking for as long as the data set stands. The text is shown on this machine's terminal and written nowhere.

    bound    Clopper–Pearson, one-sided 95 %: leaking among read, once the whole sample is read (59 clean notes: 4.95 %; 299: 1 %)

Protects against: a figure about leaks that only says what the detectors themselves can find; a sample picked by hand.
Does not protect against: what a reader overlooks (readers found 27 % of leaks hidden among surrogates, PMC7647331): a surrogate looks like one.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from client.deid.assurance.bounds import upper_bound
from client.records import CleanNote
from client.sealed.vault import Vault
from common.errors import GateRefused

REVIEWED = "review"
"""The reason code of a note that a reader held back."""

_STATE = "deid review"


class Mark(StrEnum):
    CLEAN = "clean"
    LEAK = "leak"


@dataclass(frozen=True, slots=True)
class Review:
    """Where a review stands. `upper_bound` is 1 until the whole sample is read."""

    sample: int
    read: int
    leaking: int

    @property
    def complete(self) -> bool:
        return 0 < self.sample <= self.read

    @property
    def upper_bound(self) -> float:
        return upper_bound(self.leaking, self.read) if self.complete else 1.0


class Reviewer:
    """One review of one vault. `rng` draws the sample."""

    def __init__(self, vault: Vault, *, rng: random.Random) -> None:
        self._vault, self._rng = vault, rng
        self._marks = _load(vault)

    def status(self) -> Review:
        held_back = sum(mark == Mark.LEAK for mark in self._marks.values())
        return Review(len(self._marks), sum(mark is not None for mark in self._marks.values()), held_back)

    def draw(self, size: int) -> None:
        """Draw the sample, or enlarge it to `size` with notes not yet in it. A smaller size changes nothing."""
        if size <= len(self._marks):
            return
        others = [handle for handle in map(_handle, self._vault.notes()) if handle not in self._marks]
        if not others and not self._marks:
            raise GateRefused("there is no released note to read; run `wardround-site deidentify` first")
        for handle in self._rng.sample(others, min(size - len(self._marks), len(others))):
            self._marks[handle] = None
        self._store()

    def waiting(self) -> list[CleanNote]:
        """The notes of the sample that nobody has marked, in the vault's order."""
        return [note for note in self._vault.notes() if self._marks.get(_handle(note), Mark.CLEAN) is None]

    def mark(self, note: CleanNote, mark: Mark) -> None:
        """Keep a mark; a leaking note is held back with it, in this order, so that a kill in between loses no leak."""
        self._marks[_handle(note)] = mark
        self._store()
        if mark is Mark.LEAK:
            self._vault.put_notes([], [(note, REVIEWED)])

    def read_all(self, show: Callable[[CleanNote, int, int], Mark | None]) -> Review:
        """Show every waiting note with its number and their count; None from `show` breaks off."""
        waiting = self.waiting()
        for number, note in enumerate(waiting, 1):
            mark = show(note, number, len(waiting))
            if mark is None:
                break
            self.mark(note, mark)
        return self.status()

    def _store(self) -> None:
        self._vault.put(_STATE, json.dumps(self._marks).encode())


def review_of(vault: Vault) -> Review:
    """Where the review of this vault's present data set stands. Marks of notes that were cleaned anew since do not count."""
    return Reviewer(vault, rng=random.Random(0)).status()


def _load(vault: Vault) -> dict[str, Mark | None]:
    stored = vault.get(_STATE)
    if stored is None:
        return {}
    released = {_handle(note) for note in vault.notes()}
    held_back = {note_id for note_id, reason in vault.quarantined() if reason == REVIEWED}
    marks: dict[str, str | None] = json.loads(stored)
    return {
        handle: None if mark is None else Mark(mark)
        for handle, mark in marks.items()
        if handle in released or (mark == Mark.LEAK and handle.split(" ", 1)[1] in held_back)
    }


def _handle(note: CleanNote) -> str:
    """The note as it was read: another text under the same id has to be read again. Kept sealed."""
    texts = [note.text, *(text for dialogue in note.dialogues for text in (dialogue.prompt, dialogue.answer))]
    return f"{sha256(json.dumps(texts).encode()).hexdigest()} {note.note_id}"
