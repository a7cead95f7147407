"""What the hospital does with its own data, as rows of its audit log: counts, never text."""

from dataclasses import dataclass

from common.events import Event


@dataclass(frozen=True, slots=True)
class SiteCreated(Event):
    simulated: bool


@dataclass(frozen=True, slots=True)
class NotesIngested(Event):
    notes: int
    revised: int
    unchanged: int
    withdrawn: int
    records: int


@dataclass(frozen=True, slots=True)
class NotesDeidentified(Event):
    notes: int
    released: int
    quarantined: int
    identifiers: int


@dataclass(frozen=True, slots=True)
class GateHeld(Event):
    notes: int
    quarantined: int
    leaking: int
    leak_upper_bound: float


@dataclass(frozen=True, slots=True)
class NotesReviewed(Event):
    sample: int
    read: int
    leaking: int


@dataclass(frozen=True, slots=True)
class PatientWithdrawn(Event):
    """`rows` of everything that was stored of one patient are gone."""

    rows: int


@dataclass(frozen=True, slots=True)
class RawNotesPurged(Event):
    notes: int
