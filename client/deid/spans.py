"""Where an identifier stands in a text, and how findings of several detectors become one list."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The identifiers of 45 CFR 164.514(b)(2)(i), in its order, as far as text can carry them.

    `ORGANIZATION` covers facilities and employers. Biometric identifiers and photographs, (P) and (Q), are not text.
    """

    NAME = "NAME"  # (A)
    LOCATION = "LOCATION"  # (B)
    ORGANIZATION = "ORGANIZATION"
    DATE = "DATE"  # (C)
    AGE = "AGE"  # (C), above 89
    PHONE = "PHONE"  # (D), (E)
    EMAIL = "EMAIL"  # (F)
    SSN = "SSN"  # (G)
    MRN = "MRN"  # (H)
    HEALTH_PLAN = "HEALTH_PLAN"  # (I)
    ACCOUNT = "ACCOUNT"  # (J)
    LICENSE = "LICENSE"  # (K)
    VEHICLE = "VEHICLE"  # (L)
    DEVICE = "DEVICE"  # (M)
    URL = "URL"  # (N)
    IP = "IP"  # (O)
    ID = "ID"  # (R)

    @property
    def label(self) -> str:
        """The coarse label of the stand-alone output: every kind of number is `ID`."""
        return "ID" if self in NUMBERS else self.value


NUMBERS = frozenset({Kind.SSN, Kind.MRN, Kind.HEALTH_PLAN, Kind.ACCOUNT, Kind.LICENSE, Kind.VEHICLE, Kind.DEVICE, Kind.ID})


_SAYS_MORE = {kind: -rank for rank, kind in enumerate((
    Kind.EMAIL, Kind.URL, Kind.IP, Kind.AGE, Kind.DATE, Kind.SSN, Kind.MRN, Kind.HEALTH_PLAN, Kind.ACCOUNT, Kind.LICENSE, Kind.VEHICLE, Kind.DEVICE,
    Kind.PHONE, Kind.NAME, Kind.ORGANIZATION, Kind.LOCATION, Kind.ID,
))}  # fmt: skip
"""Which of two equal findings is kept, whatever order the detectors were asked in: a date that also has the shape of a number is a date."""


@dataclass(frozen=True, slots=True, repr=False)
class Span:
    """Characters [start, end) hold an identifier.

    strength   of the evidence: 3 known from the patient's record, 2 a pattern or list, 1 the statistical model or a propagated name
    canonical  what a misspelt or split known identifier stands for, so that its surrogate is that of the right spelling
    """

    start: int
    end: int
    kind: Kind
    strength: int = 2
    canonical: str | None = None

    def __repr__(self) -> str:
        return f"Span({self.start}, {self.end}, {self.kind})"


def merge(spans: Iterable[Span]) -> list[Span]:
    """Disjoint spans in order that cover what the given ones cover; touching spans stay apart.

    Of overlapping spans the strongest, then the longest, gives the kind; the result reaches over all of them, because a character
    that any detector calls an identifier is one.
    """
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if not merged or span.start >= merged[-1].end:
            merged.append(span)
            continue
        last = merged[-1]
        winner = max((last, span), key=lambda s: (s.strength, s.end - s.start, _SAYS_MORE[s.kind]))
        same = (last.start, last.end) == (span.start, span.end)
        start, end = min(last.start, span.start), max(last.end, span.end)
        whole = (winner.start, winner.end) == (start, end) or same
        merged[-1] = Span(start, end, winner.kind, winner.strength, winner.canonical if whole else None)
    return merged
