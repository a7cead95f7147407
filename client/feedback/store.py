"""The labelling page's things in the vault: questions, choices, screens and people, whole in memory and sealed on the disk.

Every change is on the disk before a method returns, together with its row in the audit log: the log's row first, so that there is never
a choice that the log does not know. Another process may write at the same time (an import, a withdrawn patient): `refresh` notices.

Protects against: a choice lost after it was confirmed, at any kill; one counted twice (its name is annotator and question); a choice
that outlives its patient.
Does not protect against: whoever reads this process's memory.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from client.feedback.acts import ChoicesWithdrawn, PreferencesSettled, Undone
from client.feedback.items import Choice, Item, Screen, pack_choice, pack_item, pack_screen, unpack_choice, unpack_item, unpack_screen
from client.feedback.people import Person, pack_person, unpack_person
from client.feedback.settings import LabelSettings
from client.feedback.settling import PAIR_PREFIX, item_of, preferences
from client.hospital.site import Site
from client.records import Preference
from common.errors import PolicyRefused
from common.events import Event, Handle


class FeedbackStore:
    """One site's labelling data. Safe for several threads: `locked` holds everything still."""

    def __init__(self, site: Site) -> None:
        self.site, self._vault = site, site.vault
        self._lock = threading.RLock()
        self._version = -1
        self.items: dict[str, Item] = {}
        self.people: dict[str, Person] = {}
        self._choices: dict[tuple[str, str], Choice] = {}
        self._by_item: defaultdict[str, dict[str, Choice]] = defaultdict(dict)
        self._by_person: defaultdict[str, dict[str, Choice]] = defaultdict(dict)
        self._screens: dict[str, Screen] = {}
        self._sequences: dict[str, int] = {}
        self._changes = 0
        self.changed: defaultdict[str, int] = defaultdict(int)  # by question: a number that moves with its choices

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes anything inside; what other processes wrote is there."""
        with self._lock:
            self.refresh()
            try:
                yield
            except BaseException:
                self._version = -1  # what is in memory may be ahead of the disk: read it again
                raise

    def refresh(self) -> None:
        version = self._vault.version()
        if version == self._version:
            return
        self.items = {item.item_id: item for item in map(unpack_item, self._vault.shelf("items").rows())}
        self.people = {person.person_id: person for person in map(unpack_person, self._vault.shelf("people").rows())}
        self._screens = {_screen_name(s): s for s in map(unpack_screen, self._vault.shelf("screens").rows())}
        self._choices, self._by_item, self._by_person = {}, defaultdict(dict), defaultdict(dict)
        self.changed.clear()
        for choice in map(unpack_choice, self._vault.shelf("choices").rows()):
            self._hold(choice)
        self._version = version

    # ---- questions ---------------------------------------------------------------------------------------------------

    def add_items(self, items: Iterable[Item], act: Event) -> None:
        """All of them, or none. Raises IntakeError for a question of a withdrawn patient."""
        items = list(items)
        with self.locked(), self._vault.transaction():
            self.site.record(act)
            for item in items:
                self._vault.shelf("items").put(item.item_id, pack_item(item), owner=self._vault.owner(item.patient_id))
            self.items.update((item.item_id, item) for item in items)

    # ---- choices -----------------------------------------------------------------------------------------------------

    def choices(self) -> list[Choice]:
        return list(self._choices.values())

    def of_item(self, item_id: str) -> list[Choice]:
        return list(self._by_item[item_id].values())

    def of_person(self, person_id: str) -> list[Choice]:
        """In the order in which they were made."""
        return sorted(self._by_person[person_id].values(), key=lambda choice: choice.sequence)

    def has_seen(self, person_id: str) -> dict[str, Choice]:
        return self._by_person[person_id]

    def next_sequence(self, person_id: str) -> int:
        """One more than any before it in this process, undone ones included."""
        last = max((choice.sequence for choice in self._by_person[person_id].values()), default=0)
        return max(last, self._sequences.get(person_id, 0)) + 1

    def save_choice(self, choice: Choice, screen: Screen | None, act: Event) -> None:
        """The choice, and the annotator's next screen with it: one wait for the disk."""
        with self.locked(), self._vault.transaction():
            self.site.record(act)
            item = self.items[choice.item_id]
            self._vault.shelf("choices").put(_choice_name(choice), pack_choice(choice), owner=self._vault.owner(item.patient_id))
            self._put_screen(screen, choice.person_id, adjudication=choice.adjudication)
        self._hold(choice)

    def save_screen(self, screen: Screen) -> None:
        with self.locked(), self._vault.transaction():
            self._put_screen(screen, screen.person_id, adjudication=screen.adjudication)

    def undo(self, choice: Choice, screen: Screen) -> None:
        """Take back one choice and show its question again."""
        with self.locked(), self._vault.transaction():
            self.site.record(Undone(Handle(choice.person_id), Handle(choice.item_id)))
            self._vault.shelf("choices").delete([_choice_name(choice)])
            self._put_screen(screen, choice.person_id, adjudication=choice.adjudication)
        self._release(choice)

    def withdraw(self, person_id: Handle, settings: LabelSettings) -> int:
        """Delete every choice of one annotator, and what training would have seen of them. Returns how many choices went.

        Pairs that training had are settled again without these votes; those that are open again leave it.
        """
        with self.locked():
            own = self.of_person(person_id)
            with self._vault.transaction():
                seen = [p for p in self._vault.preferences() if p.pair_id.startswith(PAIR_PREFIX)]
                again = {item_of(p) for p in seen} & {choice.item_id for choice in own}
                kept = [p for p in seen if item_of(p) not in again]
                for item_id in sorted(again):
                    rest = [choice for choice in self.of_item(item_id) if choice.person_id != person_id]
                    kept += preferences(self.items[item_id], rest, settings)
                self.site.record(ChoicesWithdrawn(person_id, len(own), len(seen) - len(kept)))
                self._vault.drop_preferences(PAIR_PREFIX)
                self._vault.put_preferences(kept)
                self._vault.shelf("choices").delete(map(_choice_name, own))
                self._vault.shelf("screens").delete([person_id, f"{person_id}/adjudication"])
            self._vault.forget_log()
            for choice in own:
                self._release(choice)
            self._screens.pop(person_id, None)
            self._screens.pop(f"{person_id}/adjudication", None)
            return len(own)

    def screen(self, person_id: str, *, adjudication: bool = False) -> Screen | None:
        return self._screens.get(f"{person_id}/adjudication" if adjudication else person_id)

    def screens(self) -> list[Screen]:
        return list(self._screens.values())

    def _put_screen(self, screen: Screen | None, person_id: str, *, adjudication: bool) -> None:
        name = f"{person_id}/adjudication" if adjudication else person_id
        if screen is None:
            self._vault.shelf("screens").delete([name])
            self._screens.pop(name, None)
            return
        owner = self._vault.owner(self.items[screen.item_id].patient_id)
        self._vault.shelf("screens").put(name, pack_screen(screen), owner=owner)
        self._screens[name] = screen

    def _hold(self, choice: Choice) -> None:
        self._move(choice)
        self._choices[choice.person_id, choice.item_id] = choice
        self._by_item[choice.item_id][choice.person_id] = choice
        self._by_person[choice.person_id][choice.item_id] = choice
        self._sequences[choice.person_id] = max(choice.sequence, self._sequences.get(choice.person_id, 0))

    def _release(self, choice: Choice) -> None:
        self._move(choice)
        self._choices.pop((choice.person_id, choice.item_id), None)
        self._by_item[choice.item_id].pop(choice.person_id, None)
        self._by_person[choice.person_id].pop(choice.item_id, None)

    def _move(self, choice: Choice) -> None:
        self._changes += 1  # never the same number twice, so that a reader's memory of an older state cannot fit
        self.changed[choice.item_id] = self._changes

    # ---- people ------------------------------------------------------------------------------------------------------

    def named(self, name: str) -> Person | None:
        wanted = " ".join(name.split()).casefold()
        return next((person for person in self.people.values() if person.name.casefold() == wanted), None)

    def save_person(self, person: Person, act: Event | None) -> None:
        """Raises PolicyRefused when somebody else has the name."""
        with self.locked():
            other = self.named(person.name)
            if other is not None and other.person_id != person.person_id:
                raise PolicyRefused("somebody has this name already; names must differ, also of people who have left")
            with self._vault.transaction():
                if act is not None:
                    self.site.record(act)
                self._vault.shelf("people").put(person.person_id, pack_person(person), owner=self._vault.owner(None))
            self.people[person.person_id] = person

    # ---- training ----------------------------------------------------------------------------------------------------

    def settle_all(self, settings: LabelSettings) -> tuple[int, int]:
        """Put the rows of every settled question where training reads, in place of those of the last time. Returns (pairs, rows)."""
        with self.locked(), self._vault.transaction():
            rows = [row for item in self.items.values() for row in preferences(item, self.of_item(item.item_id), settings)]
            pairs = len({row.pair_id for row in rows})
            self.site.record(PreferencesSettled(pairs, len(rows)))
            self._vault.drop_preferences(PAIR_PREFIX)
            self._vault.put_preferences(rows)
        return pairs, len(rows)

    def trained_on(self, person_id: str) -> Sequence[Preference]:
        """What training can see of one annotator's votes now."""
        return [p for p in self._vault.preferences() if p.annotator_id == person_id and p.pair_id.startswith(PAIR_PREFIX)]


def _choice_name(choice: Choice) -> str:
    return f"{choice.item_id}/{choice.person_id}"


def _screen_name(screen: Screen) -> str:
    return f"{screen.person_id}/adjudication" if screen.adjudication else screen.person_id
