"""Addresses and institutions as wholes: pieces that stand together are one place, and a name of capitals is covered to its end.

    [61 Sawmill Rd], Lot 9, [Berea]  →  [61 Sawmill Rd, Lot 9, Berea]        [Two Harbors] Cardiac Wellness  →  [Two Harbors Cardiac Wellness]

Protects against: the house, lot or box between two found pieces of an address, and the words of an institution's name that a detector left out.
Does not protect against: a place of which no detector found any piece.
"""

import re
from collections.abc import Sequence

from client.deid.scan import Scan
from client.deid.spans import Kind, Span
from client.deid.words import TITLES, by_hand, norm, words

_PLACES = (Kind.LOCATION, Kind.ORGANIZATION)
_BETWEEN = re.compile(r"(?:[ ,\n]|#|(?<=,)[ ]|(?<![\w.])(?:[A-Z][\w'’.-]*|\d{1,5}[A-Za-z]?|of|the|on|at|and|&|in|nr|near)(?![\w]))*")
_MOST_BETWEEN = 30
_MORE = re.compile(r"[ ](?:(?:of|at|and|&|for|the|on)[ ])?([A-Z][\w'’&-]*)")
_OWNED = re.compile(r"[ ][A-Z][a-z]")
_MOST_WORDS = 4
_NOT_OF_NAMES = by_hand("before_facilities")
_OF_NAMES = by_hand("facility_words") | by_hand("care_words") | by_hand("street_words")
_SHORT = by_hand("short_facilities")


def joined(scan: Scan, spans: Sequence[Span]) -> list[Span]:
    """Spans (disjoint, in order) that cover what the given ones cover, and what belongs to the places among them."""
    text, found = scan.text, [_whole(scan, span) for span in spans]
    result: list[Span] = []
    for span in found:
        last = result[-1] if result else None
        if last is not None and span.start < last.end:
            if span.end > last.end:
                result[-1] = Span(last.start, span.end, last.kind, last.strength, None)
            continue
        if last is not None and last.kind in _PLACES and span.kind in _PLACES and _one_place(text[last.end : span.start]):
            result[-1] = Span(
                last.start,
                span.end,
                Kind.LOCATION if Kind.LOCATION in (last.kind, span.kind) else last.kind,
                min(last.strength, span.strength),
                None,
            )
            continue
        result.append(span)
    return result


def _one_place(between: str) -> bool:
    return (
        len(between) <= _MOST_BETWEEN
        and between.count("\n") <= 1
        and bool(re.search(r"[,\n]|^ ", between))
        and _BETWEEN.fullmatch(between) is not None
    )


def _whole(scan: Scan, span: Span) -> Span:
    """An institution with the capitalized words behind it; in a text without small letters nothing is added."""
    text, kind = scan.text, span.kind
    if kind is Kind.NAME and text.endswith(("'s", "’s"), span.start, span.end) and _OWNED.match(text, span.end):
        kind = Kind.ORGANIZATION  # "Big Earl's Catfish Kitchen"
    if kind not in _PLACES or not scan.has_small or text[span.start : span.end].isupper():
        return span
    end = span.end
    for _ in range(_MOST_WORDS):
        match = _MORE.match(text, end)
        if match is None or not _belongs(match.group(1)):
            break
        end = match.end()
    return span if end == span.end else Span(span.start, end, kind, span.strength)


def _belongs(word: str) -> bool:
    """Whether a capitalized word can go on an institution's name."""
    folded, lists = norm(word), words()
    if word.isupper() or folded in _OF_NAMES:
        return folded in _SHORT or (folded in _OF_NAMES and len(word) > 1)
    return len(word) > 1 and not (folded in TITLES or folded in _NOT_OF_NAMES or lists.is_drug(folded) or folded in lists.acronyms)
