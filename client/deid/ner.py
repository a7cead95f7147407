"""Tier 2: what the names network (`client/deid/tagger.py`) finds, as spans.

Protects against: names, places and organizations in running text that no list knows and no heading announces, in any case.
Does not protect against: a name that stands where everyday words do and looks like one.
"""

import re
from collections.abc import Iterator
from itertools import groupby

import numpy as np

from client.deid.rules.credentials import ALONE, LETTERED
from client.deid.rules.dates import day_and_month, is_score
from client.deid.rules.guard import CLOCK, HOURS, guarded_at
from client.deid.scan import SMALL_WORDS, Scan
from client.deid.spans import Kind, Span
from client.deid.tagger import LABELS, Floats, Tokens
from client.deid.vocabulary.words import PARTICLES, fold, words

MIN_PROBABILITY = 0.06
"""Of a token to be part of an identifier of any class: what is called a place and is a name is masked all the same."""

LEAST_PROBABILITY = 0.07
"""Of the surest token of a span: below it one in ten of the words was somebody's, among the notes that rules are tuned on."""

SMALL_PROBABILITY = 0.3
"""Of a place of several everyday words in small letters, on average: "the white plains bus"."""

SHORT_PROBABILITY, _LONGEST_INITIALS = 0.9, 3
"""Of two or three capitals that are an abbreviation too to be somebody's initials."""

MIXED_PROBABILITY = 0.3
"""Of a place of which some words are abbreviations, eponyms or drugs and the others everyday words, on average: "Orange Co. WIC"."""

INITIALS_PROBABILITY = 0.5
"""Of initials with full stops, of which no list knows anything."""

SURE_PROBABILITY = 0.1
"""Of a span in which every word is also one of the dictionary."""

ODD_PROBABILITY = 0.2
"""Of a span whose only unusual word is in lower case among capitals, or a short word in capitals: a misspelling, or an abbreviation; and of a
word of the dictionary that opens a sentence, where its capital says nothing."""

TIME_PROBABILITY = 0.85
"""Of a number behind a place that may be a time of day to belong to the place."""

NUMBER_PROBABILITY = 0.25
"""Of every part of a number that no pattern knows to be a day and month, or a code."""

DATE_PROBABILITY = 0.12

_UNITS = frozenset(("Hg", "Na", "Ca", "Cl", "Mg", "Fe", "Zn", "Hb", "Ht", "Cr", "actuat"))
"""Of values, as notes write them: "120/80 mm Hg", "0.25 mg/actuat"."""

_CATALOGUE = re.compile(r"(?:a?nda|ndc|rxcui|icd|cpt|hcpcs|loinc|snomed)[ -]?\d", re.IGNORECASE)
"""Numbers of drugs, codes and acts."""

_DIGITS = re.compile(r"\d+")
_LAST_DAY = 31
_DOTTED = re.compile(r"[A-Za-z]\.[ ]?[A-Za-z](?:\.[ ]?[A-Za-z])?")
_MISREAD = "âœÂÃ"
"""What quotation marks become in a text that was read in another encoding: "the childâ€™s"."""

_ZIP_DIGITS = 5
"""Of a number that stands without a word: another one is more often a dose, a week or a weight."""

_SMALL = frozenset().union(*SMALL_WORDS.values())
_KINDS = tuple(Kind(label) if label else None for label in LABELS)
_PLACE, _PLACES = Kind.LOCATION, (Kind.LOCATION, Kind.ORGANIZATION)
_MASKED = (Kind.NAME, *_PLACES)
_NUMBERED = {
    Kind.DATE: re.compile(
        r"(?:[01]?\d[/.-][0-3]?\d|[0-3]?\d[/.-][01]?\d)(?:[/. -](?:\d{4}|\d\d))?(?:\s?[-–]\s?\d{1,2}[/.-]\d{1,2})?|\d{1,2}\s\d{1,2}\s\d{2,4}"
        r"|(?:0?[1-9]|1[0-2])/(?:3[3-57-9]|4[1-9]|5[013-9]|6[1-9]|[7-9]\d)"
    ),
    Kind.ID: re.compile(r"(?=(?:.*\d){3})[\w./()# -]{4,32}|[a-z]+[._]?[a-z]+\d*"),
}
"""What the network's dates and numbers must look like to be masked; the other forms have patterns of their own. 7/76 is a month of a year; 6/52 are
six weeks, 12/40 is an age of a pregnancy, and 6/36 and 6/60 are what an eye sees."""

_LONGEST_SHORT = 4
"""Letters of a word that may be cut short by a full stop, and one more."""

_COLUMN = "   "
"""Between two columns of a table."""

_LETTER_OF_A_NUMBER = re.compile(r"(?<=\d)[^\W\d_](?!\w)")
_SENTENCE_BEFORE = re.compile(r"(?:[.!?:]\s+|\n\s*)\Z")
_ADDRESS_END = re.compile(
    r"(?:[\s,]{1,4}(?:Apt|Suite|Unit)\.?\s?\d{1,5})?(?:\s{0,3},?\s{1,3}(?!(?:in|on|at|by|to|of)\b)[A-Za-z]{1,3}(?=,?\s{1,3}\d{4,5}\b))?,?\s{1,3}\d{4,5}(?:-\d{3,4})?\b(?!\s?(?:mg|ml|mcg|g|kg|units?)\b)"
)


def modelled(scan: Scan) -> Iterator[Span]:
    """The network's names, places and organizations, without what stands guarded as an eponym or a drug."""
    read, probabilities = scan.reading
    if not len(probabilities):
        return
    certain = 1 - probabilities[:, 0]
    kinds = [_KINDS[label] for label in np.where(certain >= MIN_PROBABILITY, 1 + probabilities[:, 1:].argmax(axis=1), 0).tolist()]
    _bridge(scan, read, kinds, certain)
    for _, tokens_of_one in groupby(range(len(kinds)), lambda i: _PLACE if kinds[i] in _PLACES else kinds[i]):
        run = list(tokens_of_one)
        kind = kinds[run[0]]
        if kind in _NUMBERED:
            yield from _numbers(scan, read, run, kind, certain)
        elif kind in _MASKED:
            for piece in _pieces(scan, read, run, kind):
                _trim(scan, read, piece, kind, certain)
                if not _CATALOGUE.match(scan.text, read.starts[piece[0]]) and _stands(scan, read, piece, kind, certain[piece]):
                    start, end = read.starts[piece[0]], read.ends[piece[-1]]
                    more = _ADDRESS_END.match(scan.text, end) if kind is Kind.LOCATION else None
                    if more is not None and not CLOCK.fullmatch(more.group().strip(", ")):
                        end = more.end()
                    yield Span(start, end, kind, 1)


def _bridge(scan: Scan, read: Tokens, kinds: list[Kind | None], certain: Floats) -> None:
    """Gives the sign between two numbers of one kind their kind: the network calls the halves of 7/2 a date more readily than what joins them."""
    for i in range(1, len(kinds) - 1):
        if (
            kinds[i] is None
            and kinds[i - 1] in _NUMBERED
            and kinds[i - 1] is kinds[i + 1]
            and scan.text[read.starts[i] : read.ends[i]] in "/-."
        ):
            kinds[i], certain[i] = kinds[i - 1], min(certain[i - 1], certain[i + 1])


def _begins(text: str, at: int, kind: Kind) -> bool:
    """Whether a piece may begin here; the letter of "402A" begins no name."""
    return text[at].isalnum() and not (kind is Kind.NAME and _LETTER_OF_A_NUMBER.match(text, at))


def _pieces(scan: Scan, read: Tokens, run: list[int], kind: Kind) -> Iterator[list[int]]:
    """The run as pieces that begin and end with a letter or digit; a piece ends where a column does, a name at the end of its line."""
    piece: list[int] = []
    for i in (*run, -1):
        gap = scan.text[read.ends[piece[-1]] : read.starts[i]] if piece and i >= 0 else ""
        if i < 0 or _COLUMN in gap or (kind is Kind.NAME and "\n" in gap) or (gap and kind is not Kind.NAME and _ends(scan, read, i, kind)):
            while piece and not scan.text[read.starts[piece[-1]]].isalnum():
                piece.pop()
            if piece:
                yield piece
            piece = []
        if i >= 0 and (piece or _begins(scan.text, read.starts[i], kind)):
            piece.append(i)


def _ends(scan: Scan, read: Tokens, i: int, kind: Kind) -> bool:
    """Whether a sentence ends in front of token i: "20 Gas Lane. Raised toilet seat", "badge 60117. Dept"; not in "Mt. Rest" and "Old Mill Rd. Porch"."""
    if i < _LONGEST_SHORT or scan.text[read.ends[i - 1] - 1] != ".":
        return False
    before = read.ends[i - 2] - read.starts[i - 2]
    return kind in _NUMBERED or (before >= _LONGEST_SHORT and scan.is_word(fold(scan.text[read.starts[i] : read.ends[i]])))


def _trim(scan: Scan, read: Tokens, piece: list[int], kind: Kind, certain: Floats) -> None:
    """Takes the first letter of a credential off the end of a name, and everyday words in small letters off one that has a capital: the "still"
    of "Gordon still reports"; of a place the smallest ones alone, and a time of day: "at Logan 2230"."""
    last = piece[-1]
    if (
        kind in _PLACES
        and len(piece) > 1
        and certain[last] < TIME_PROBABILITY
        and CLOCK.fullmatch(scan.text, read.starts[last], read.ends[last])
    ):
        piece.pop()
        while len(piece) > 1 and not scan.text[read.starts[piece[-1]]].isalnum():
            piece.pop()
    while kind is Kind.NAME and len(piece) > 1 and LETTERED.match(scan.text, read.starts[piece[-1]]):
        piece.pop()
        while not scan.text[read.starts[piece[-1]]].isalnum():
            piece.pop()
    if not any(scan.text[read.starts[i]].isupper() for i in piece):
        return
    while len(piece) > 1:
        word = scan.text[read.starts[piece[-1]] : read.ends[piece[-1]]]
        everyday = word in _SMALL if kind in _PLACES else scan.is_word(fold(word)) and word not in PARTICLES
        if not (word.islower() and everyday):
            return
        piece.pop()


def _numbers(scan: Scan, read: Tokens, run: list[int], kind: Kind, certain: Floats) -> Iterator[Span]:
    """A day and a month, or a code, of which only the sentence tells that it is no score and no dose."""
    for piece in _pieces(scan, read, run, kind):
        while len(piece) > 1 and scan.text[read.starts[piece[0]]].isalpha() and read.ends[piece[0]] < read.starts[piece[1]]:
            label = scan.text[read.starts[piece[0]] : read.ends[piece[0]]]
            if label.isupper() and fold(label) not in words().acronyms and certain[piece[0]] >= ODD_PROBABILITY:
                break
            piece.pop(0)  # the "MRN" in front of the number
        start, end = read.starts[piece[0]], read.ends[piece[-1]]
        if _CATALOGUE.match(scan.text, start) or HOURS.fullmatch(scan.text, start, end) or CLOCK.fullmatch(scan.text, start, end):
            continue
        if kind is Kind.DATE and is_score(scan.text, start, end):
            continue
        if (
            kind is Kind.DATE
            and len(pair := [*map(int, _DIGITS.findall(scan.text, start, end)[:2])]) == 2
            and not (day_and_month(*pair) or pair[1] > _LAST_DAY)
        ):
            continue
        if _NUMBERED[kind].fullmatch(scan.text, start, end) and float(certain[piece].mean()) >= (
            NUMBER_PROBABILITY if kind is Kind.ID else DATE_PROBABILITY
        ):
            yield Span(start, end, kind, 1)


def _stands(scan: Scan, read: Tokens, piece: list[int], kind: Kind, likely: Floats) -> bool:
    """Whether a piece can be an identifier: a word that is none of the dictionary, or has a capital and the network is sure."""
    certain, sure = float(likely.max()), float(likely.mean())
    if certain < LEAST_PROBABILITY:
        return False
    if kind is Kind.NAME and certain >= INITIALS_PROBABILITY and _DOTTED.fullmatch(scan.text, read.starts[piece[0]], read.ends[piece[-1]]):
        return True
    if ALONE.fullmatch(scan.text, read.starts[piece[0]], read.ends[piece[-1]]):
        return False
    guards, capital, unknown = 0, False, False
    found = [i for i in piece if scan.text[read.starts[i]].isalpha()]
    if not found:
        return certain >= ODD_PROBABILITY or (
            certain >= SURE_PROBABILITY and any(read.ends[i] - read.starts[i] == _ZIP_DIGITS for i in piece)
        )
    lists = words()
    for i in found:
        word = scan.text[read.starts[i] : read.ends[i]]
        folded = fold(word)
        if word in _UNITS or ((bare := word.strip(_MISREAD)) != word and scan.is_word(fold(bare))):
            guards += 1
            continue
        if (
            word.isupper()
            and len(word) > 1
            and folded in lists.acronyms
            and not (lists.is_name(folded) and (not scan.has_small or certain >= ODD_PROBABILITY))
            and not (kind is Kind.NAME and len(word) <= _LONGEST_INITIALS and certain >= SHORT_PROBABILITY)
        ):
            guards += 1  # an abbreviation in capitals is nobody and no place
            continue
        drug = folded in lists.drugs or folded in lists.brands  # and not by its ending alone, as Jessamine
        if guarded_at(scan, read.starts[i]) and (certain < ODD_PROBABILITY or drug or folded in lists.eponyms):
            guards += 1  # a town in front of "line" or "point" is one all the same when the network is sure
            continue
        if len(word) > 1 and folded not in PARTICLES:
            capital = capital or word[0].isupper()
            odd = scan.has_capitals and (
                not word[0].isupper() or (word.isupper() and len(word) <= 5 and len(found) == 1 and scan.has_small)
            )
            unknown = unknown or ((not odd or certain >= ODD_PROBABILITY) and not scan.is_word(folded))
    if guards and not unknown:
        # "South Harbor VNA", "Swan Reach Private": no word is a name, all of them together are
        return kind is not Kind.NAME and capital and len(found) - guards >= 1 and sure >= MIXED_PROBABILITY
    start = read.starts[piece[0]]
    opens = len(piece) == 1 and (start == 0 or _SENTENCE_BEFORE.search(scan.text[max(0, start - 3) : start]) is not None)
    return unknown or (
        certain >= (ODD_PROBABILITY if opens else SURE_PROBABILITY)
        and (
            capital
            or not scan.has_capitals
            or (kind is Kind.LOCATION and len(found) < len(piece))
            or (kind in _PLACES and len(found) > 1 and sure >= SMALL_PROBABILITY)
        )
    )
