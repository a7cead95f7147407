"""Tier 3: an independent second reading. It shares no model and no pattern with the first; where the two disagree, and the first's network does not
call it a thing, the note is held back.

Names: a capitalized word inside a sentence that no list of ordinary, clinical, drug or eponym words knows; it holds the note back when it
stands beside another capitalized word, owns something, or speaks. Numbers: Presidio's stock recognizers and any run of six or more
digits. Whatever it finds is masked as well, but for words that the names network rules out (`client/deid/deidentifier.py`).

Protects against: a name or number that the first reading missed, whatever it is called and wherever it stands.
Does not protect against: a missed name in lower case, or one that is also an everyday word; a short number.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from presidio_analyzer import EntityRecognizer
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    IbanRecognizer,
    IpRecognizer,
    PhoneRecognizer,
    UsItinRecognizer,
    UsPassportRecognizer,
    UsSsnRecognizer,
)

from client.deid.rules.guard import CLOCK, HOURS, guarded
from client.deid.scan import Scan, Word
from client.deid.spans import Kind, Span
from client.deid.vocabulary.words import PARTICLES, TITLES, words

MIN_SCORE = 0.4
"""Presidio's own figure: below it a stock pattern has matched without any word that supports it."""

_LONG_NUMBER = re.compile(r"(?<![\w.,/])(?:\d{6,}|\d(?:[ -]?\d){6,})(?![\w/]|[.,]\d)")
_MIN_PHONE_DIGITS = 7
_SEVEN_DIGITS = re.compile(r"(?:\d[^\w\n]{0,4}\n?){6}\d|(?:[0-9A-Fa-f]{1,4}::?){3}|[A-Z]{2}\d\d[ ]?[A-Z\d]{4}")
"""Without such a run no stock recognizer can report anything; asking them costs half of all the time otherwise."""

_HIDDEN = "¤"
"""Stands for a covered character: no number reaches over it."""

_SENTENCE_END = re.compile(r"[.!?:;\n\-–•*(\[/]\s*$")
_DOSE = re.compile(
    r"\s*(?:\d|mg\b|mcg\b|ml\b|units?\b|tablets?\b|capsules?\b|inhaler\b|cream\b|patch\b|drops\b|injection\b|pill|brace\b|boot\b)",
    re.IGNORECASE,
)
_SPANISH_TERM = re.compile(
    r"\w{3}(?:logias?|logic[oa]s?|logos?|tomias?|grafias?|grafic[oa]s?|scopias?|terapias?|plasias?|matic[oa]s?|patic[oa]s?|litic[oa]s?|cutane[oa]s?|dermic[oa]s?|ativ[oa]s?|[cs]iones|izad[oa]s?|itis|osis)$"
)
"""Endings of Spanish terms, without accents: "Neumología", "Percutánea". The dictionary lacks most, and hospitals write their departments in capitals."""

_PERSON_VERBS = frozenset(
    (
        "says",
        "said",
        "reports",
        "reported",
        "states",
        "stated",
        "denies",
        "denied",
        "called",
        "asks",
        "asked",
        "wants",
        "lives",
        "agrees",
        "and",
    )
)
_PRESSURE = re.compile(r"(?<!\d)\d{2,3}/\d{2,3}(?!\d)")
"""Of blood: "0815 118/66, 0850 88/50" is no telephone number."""

_GROUP = re.compile(r"\d+")
_DECIMAL = re.compile(r"\d{1,3}\.\d{1,2}-")
_FRACTION_BEFORE, _FRACTION_BEHIND = re.compile(r"\d[.,]\Z"), re.compile(r"[.,]\d")
"""The rest of a decimal on either side: "Milrinone 0.[25-0.375]"."""

_LONGEST_FRACTION = 3

_CELL_END = re.compile(r"[ ]{2,}|\t|\n")
"""Where a cell of a table ends; one number may be broken once."""

_STOCK_KINDS = {"PHONE_NUMBER": Kind.PHONE, "US_SSN": Kind.SSN, "IP_ADDRESS": Kind.IP, "US_PASSPORT": Kind.LICENSE}


@cache
def _stock() -> tuple[EntityRecognizer, ...]:
    return (
        CreditCardRecognizer(),
        IbanRecognizer(),
        IpRecognizer(),
        PhoneRecognizer(),
        UsItinRecognizer(),
        UsPassportRecognizer(),
        UsSsnRecognizer(),
    )


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What only the second reading sees. A `grave` one holds the note back: a person or a number, not just an unknown word."""

    span: Span
    grave: bool


def disagreements(scan: Scan, covered: Sequence[Span]) -> list[Disagreement]:
    """What the second reading sees and no span of the first touches."""
    mask = bytearray(len(scan.text))
    for span in covered:
        mask[span.start : span.end] = b"\1" * (span.end - span.start)
    hidden = "".join(_HIDDEN if covered else character for character, covered in zip(scan.text, mask, strict=True))
    return [found for found in (*_names(scan), *_numbers(hidden)) if not any(mask[found.span.start : found.span.end])]


def _names(scan: Scan) -> Iterator[Disagreement]:
    found = scan.words
    unknown = [_unknown(scan, i) for i in range(len(found))]
    for i, word in enumerate(found):
        if not unknown[i]:
            continue
        before = scan.text[max(0, word.start - 3) : word.start]
        opens_sentence = _SENTENCE_END.search(before) is not None or word.start == 0
        beside = any(
            0 <= j < len(found)
            and found[j].raw[0].isupper()
            and not found[j].raw.isupper()
            and scan.gap(*_between(found, i, j)) in (" ", ". ", "-")
            for j in ((i + 1,) if opens_sentence else (i - 1, i + 1))
        )
        acts = i + 1 < len(found) and found[i + 1].norm in _PERSON_VERBS
        grave = beside or (acts and not opens_sentence) or word.raw.endswith(("'s", "’s"))
        if grave or not opens_sentence:
            yield Disagreement(Span(word.start, word.end, Kind.NAME, 1), grave)


def _unknown(scan: Scan, i: int) -> bool:
    word, lists = scan.words[i], words()
    if len(word.norm) < 3 or not word.raw[0].isupper() or not word.raw[1:].islower() or word.norm in TITLES or word.norm in PARTICLES:
        return False
    known = scan.is_word(word.norm) or word.norm in lists.acronyms or word.norm in lists.eponyms or guarded(scan, i)
    if "en" not in scan.languages and "de" in scan.languages and not lists.is_name(word.norm):
        return False  # every German noun has a capital, and no dictionary holds all compounds
    if "es" in scan.languages and _SPANISH_TERM.search(word.norm) and not (lists.is_name(word.norm) or word.norm in lists.places):
        return False
    return not known and _DOSE.match(scan.text, word.end) is None


def _between(found: Sequence[Word], i: int, j: int) -> tuple[int, int]:
    return (found[i].end, found[j].start) if j > i else (found[j].end, found[i].start)


def _numbers(text: str) -> Iterator[Disagreement]:
    """Numbers of a text in which what the first reading covered is hidden."""
    for match in _LONG_NUMBER.finditer(text):
        if HOURS.fullmatch(match.group()):
            continue
        yield Disagreement(Span(match.start(), match.end(), Kind.ID, 1), grave=True)
    if _SEVEN_DIGITS.search(text) is None:
        return
    for recognizer in _stock():
        for result in recognizer.analyze(text, recognizer.supported_entities, None) or ():  # type: ignore[arg-type] # stock patterns do not read it
            digits = sum(character.isdigit() for character in text[result.start : result.end])
            if result.score >= MIN_SCORE and digits >= _MIN_PHONE_DIGITS and not _read(text, result.start, result.end):
                yield Disagreement(Span(result.start, result.end, _STOCK_KINDS.get(result.entity_type, Kind.ID), 1), grave=True)


def _read(text: str, start: int, end: int) -> bool:
    """Whether what has the form of a number consists of readings: pressures, times, decimals, or the cells of a table."""
    groups = _GROUP.findall(text, start, end)
    return (
        HOURS.fullmatch(text, start, end) is not None
        or _PRESSURE.search(text, start, end) is not None
        or _DECIMAL.match(text, start, end) is not None
        or (_FRACTION_BEFORE.search(text, max(0, start - 2), start) is not None and len(groups[0]) <= _LONGEST_FRACTION)
        or _FRACTION_BEHIND.match(text, end) is not None
        or len(_CELL_END.findall(text, start, end)) > 1
        or (len(groups) > 1 and all(CLOCK.fullmatch(group) for group in groups))
    )
