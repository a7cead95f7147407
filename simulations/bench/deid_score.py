"""How well spans cover gold identifiers, by the rules of Safe Harbor rather than by labels.

recall      share of gold identifiers of which every letter and digit that must go is covered: a bare year, a title and a generic word of a
            facility's name ("Hospital") may stay; what is called a place and is a name counts as covered
precision   share of touched words, those that gold leaves open aside, that are part of a gold identifier and covered whole
touched     share of texts without identifiers in which anything is covered
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MAY_STAY = {
    "DATE": re.compile(r"(?<![\w/.-])(?:19|20)\d\d(?![\w/.-]|\s*\d)"),
    "NAME": re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Miss|Prof|Doctor|patient|MD|RN|Herr|Frau|Dra?|D\.)\b", re.IGNORECASE),
    "PLACE": re.compile(
        r"\b(?:hospitals?|clinics?|medical|centers?|centre|health|healthcare|facility|the|our|of|and|in|at|office|unit|system|area|region)\b",
        re.IGNORECASE,
    ),
}
_OPEN_LABELS = frozenset(("TITLE", "PROFESSION", "SEX", "OTHER"))
_OPEN_RAW = frozenset(("ORGANIZATION", "EDAD_SUJETO_ASISTENCIA", "SEXO_SUJETO_ASISTENCIA", "PAIS"))
_DATED = re.compile(r"\d|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|day|Okt|Dez|Mai")
_WORD = re.compile(r"\w+")

Found = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one text, or of many: they add up."""

    covered: int = 0
    identifiers: int = 0
    right: int = 0
    wrong: int = 0
    clean_texts: int = 0
    clean_touched: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def recall(self) -> float:
        return self.covered / self.identifiers if self.identifiers else 1.0

    @property
    def precision(self) -> float:
        touched = self.right + self.wrong
        return self.right / touched if touched else 1.0

    @property
    def touched(self) -> float:
        return self.clean_touched / self.clean_texts if self.clean_texts else 0.0


def tally(text: str, gold: Sequence[Mapping[str, Any]], found: Found) -> Tally:
    covered, wanted, left_open = bytearray(len(text)), bytearray(len(text)), bytearray(len(text))
    for start, end in found:
        covered[start:end] = b"\1" * (end - start)
    identifiers = hits = 0
    for span in gold:
        start, end = span["start"], span["end"]
        piece, mask = text[start:end], left_open if _is_open(span, text[start:end]) else wanted
        mask[start:end] = b"\1" * (end - start)
        if mask is wanted:
            identifiers += 1
            hits += all(covered[start + i] for i in _must_go(span["label"], piece))
    right = wrong = 0
    for word in _WORD.finditer(text):
        a, b = word.span()
        if any(wanted[a:b]):
            right += all(covered[a:b])
        elif any(covered[a:b]) and not any(left_open[a:b]):
            wrong += 1
    clean = identifiers == 0
    return Tally(hits, identifiers, right, wrong, int(clean), int(clean and bool(found)))


def _is_open(span: Mapping[str, Any], piece: str) -> bool:
    """Whether gold marks something that Safe Harbor lets stand: an age below 90, a title, a profession, a country."""
    label, raw = span["label"], span.get("raw_label")
    young = label == "AGE" and raw not in ("AGE_OVER_89", None)
    undated = label == "DATE" and _DATED.search(piece) is None
    return label in _OPEN_LABELS or raw in _OPEN_RAW or young or undated


def _must_go(label: str, piece: str) -> set[int]:
    indices = {i for i, character in enumerate(piece) if character.isalnum()}
    may_stay = _MAY_STAY.get("PLACE" if label in ("LOCATION", "ORGANIZATION") else label)
    for match in may_stay.finditer(piece) if may_stay else ():
        indices -= set(range(*match.span()))
    return indices


def interval(tallies: Sequence[Tally], figure: str, *, seed: int = 7, draws: int = 400) -> tuple[float, float]:
    """95 % interval of `recall` or `precision` by drawing texts anew (percentile bootstrap)."""
    rng, values = random.Random(seed), []
    for _ in range(draws):
        values.append(getattr(sum(rng.choices(tallies, k=len(tallies)), Tally()), figure))
    values.sort()
    return values[int(0.025 * draws)], values[int(0.975 * draws)]
