"""What was found in one of a patient's texts, wherever else it stands in them.

Protects against: a name found once, after a title or a heading, that stands bare elsewhere in the same patient's notes.
Does not protect against: a name that is also an everyday word; that is never carried on.
"""

from collections.abc import Iterable, Iterator, Sequence

from client.deid.rules.guard import guarded
from client.deid.scan import Scan, Word
from client.deid.spans import Kind, Span
from client.deid.vocabulary.words import PARTICLES, TITLES, words

MIN_NAME_LETTERS = 3
MIN_CODE_CHARACTERS = 4


def propagate(scans: Sequence[Scan], found: Sequence[Sequence[Span]]) -> list[list[Span]]:
    """What was found in one of a patient's texts, wherever else it stands in them. `found` and the result run along `scans`."""
    names: set[str] = set()
    phrases: dict[str, Kind] = {}
    for scan, spans in zip(scans, found, strict=True):
        names.update(word.norm for word in name_words(scan, spans) if _propagates(word.norm))
        for span in spans:
            if span.kind not in (Kind.NAME, Kind.DATE, Kind.AGE) and span.end - span.start >= MIN_CODE_CHARACTERS:
                phrases.setdefault(scan.text[span.start : span.end], span.kind)
    return [list(_again(scan, names, phrases)) for scan in scans]


def name_words(scan: Scan, spans: Iterable[Span]) -> Iterator[Word]:
    """The words inside the names among the spans."""
    for span in spans:
        if span.kind is Kind.NAME:
            yield from scan.words_in(span.start, span.end)


def _propagates(word: str) -> bool:
    return len(word) >= MIN_NAME_LETTERS and word not in TITLES and word not in PARTICLES and not words().is_common(word)


def _again(scan: Scan, names: set[str], phrases: dict[str, Kind]) -> Iterator[Span]:
    for i, word in enumerate(scan.words):
        if word.norm in names and not guarded(scan, i):
            yield Span(word.start, word.end, Kind.NAME, 1)
    for phrase, kind in phrases.items():
        at = scan.text.find(phrase)
        while at >= 0:
            end = at + len(phrase)
            if not (scan.text[at - 1 : at].isalnum() or scan.text[end : end + 1].isalnum()):
                yield Span(at, end, kind, 1)
            at = scan.text.find(phrase, end)
