"""What happens on the labelling page, as rows of the site's audit log: random handles and closed vocabularies, never text."""

from dataclasses import dataclass
from enum import StrEnum

from client.feedback.items import Verdict
from common.events import Event, Handle


class Role(StrEnum):
    """What somebody may do. An adjudicator also labels; an administrator adds people and looks, and never labels."""

    ANNOTATOR = "annotator"
    ADJUDICATOR = "adjudicator"
    ADMINISTRATOR = "administrator"


class Format(StrEnum):
    """Of an import or export."""

    LABEL_STUDIO = "label-studio"
    ARGILLA = "argilla"
    JSONL = "jsonl"
    COUNTS = "counts"


@dataclass(frozen=True, slots=True)
class PersonAdded(Event):
    person: Handle
    role: Role


@dataclass(frozen=True, slots=True)
class PersonClosed(Event):
    person: Handle


@dataclass(frozen=True, slots=True)
class PasswordSet(Event):
    person: Handle


@dataclass(frozen=True, slots=True)
class SignedIn(Event):
    person: Handle


@dataclass(frozen=True, slots=True)
class SignInRefused(Event):
    """`person` is None when nobody has the name that was tried; `throttled` when it was not even looked at."""

    person: Handle | None
    throttled: bool


@dataclass(frozen=True, slots=True)
class SignedOut(Event):
    person: Handle


@dataclass(frozen=True, slots=True)
class Chosen(Event):
    person: Handle
    item: Handle
    verdict: Verdict
    adjudication: bool


@dataclass(frozen=True, slots=True)
class Undone(Event):
    person: Handle
    item: Handle


@dataclass(frozen=True, slots=True)
class ChoicesWithdrawn(Event):
    person: Handle
    choices: int
    preferences: int


@dataclass(frozen=True, slots=True)
class PairsAdded(Event):
    pairs: int
    left_aside: int
    format: Format


@dataclass(frozen=True, slots=True)
class PairsAsked(Event):
    """Prompts looked at, and how many became questions by disagreement and at random."""

    prompts: int
    by_disagreement: int
    at_random: int


@dataclass(frozen=True, slots=True)
class PreferencesSettled(Event):
    pairs: int
    rows: int


@dataclass(frozen=True, slots=True)
class LabelsExported(Event):
    """Text left the vault for a file on this machine, unless the format is counts."""

    pairs: int
    format: Format
