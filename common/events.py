"""What may be written down about a run: numbers, closed vocabularies and random handles. Never text.

An event is a frozen dataclass derived from `Event`. Its fields are checked when it is made, so a free string cannot get into a log even
by mistake: allowed are bool, int, finite float, None, a member of a StrEnum (a closed vocabulary), and a Handle.

Protects against: a name, a note or a digest of a short text (which can be guessed) in a log line or an audit row.
Does not protect against: counts that are themselves telling. Events stay on the machine; nothing here sends anything.
"""

import dataclasses
import logging
import math
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

from common.journal import JSON, Journal

LOG = logging.getLogger("wardround")
_HANDLE = re.compile(r"[0-9a-f]{16,64}")


class Handle(str):
    """A random name of 16 to 64 hex digits, drawn and never derived from what it names."""

    __slots__ = ()

    def __new__(cls, value: str) -> "Handle":
        if not _HANDLE.fullmatch(value):
            raise ValueError("a handle is 16 to 64 lower-case hex digits; draw one with `Handle.draw()`")
        return super().__new__(cls, value)

    @classmethod
    def draw(cls) -> "Handle":
        """Sixteen hex digits from the operating system."""
        return cls(secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all events. A subclass is a frozen dataclass whose name says what happened (`StepReserved`)."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not _allowed(value):
                raise TypeError(
                    f"{type(self).__name__}.{field.name} is a {type(value).__name__}; an event holds numbers, StrEnum members and handles"
                )

    def body(self) -> dict[str, JSON]:
        return {field.name: _as_json(getattr(self, field.name)) for field in dataclasses.fields(self)}


def emit(event: Event, journal: Journal | None = None) -> None:
    """Write the event to the log and, if one is given, to the journal (the site's audit log)."""
    body = event.body()
    LOG.info("%s %s", type(event).__name__, " ".join(f"{key}={value}" for key, value in body.items()))
    if journal is not None:
        journal.append(type(event).__name__, body)


def _allowed(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | StrEnum | Handle)


def _as_json(value: object) -> JSON:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str):
        return str(value)
    assert value is None or isinstance(value, bool | int | float)
    return value
