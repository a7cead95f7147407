"""What was found in one of a patient's texts, wherever else it stands in them, what stands in a row with it, and what is written like it.

    [Noble] (CHF), Church (SBO), [Winterbourne] (COPD)  →  [Noble], [Church], [Winterbourne]
    [20th] 138/84, 21st 141/90                   →  [20th] 138/84, [21st] 141/90

Protects against: a name found once, after a title or a heading, that stands bare elsewhere in the same patient's notes; the surname that is an
everyday word among the surnames of a list; the days of a note that writes others in the same way.
Does not protect against: a name that is also an everyday word, elsewhere, where the network sees nobody at all.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from client.deid.rules.dates import COUNTED_OFF
from client.deid.rules.guard import guarded
from client.deid.rules.signatures import NO_TYPIST
from client.deid.scan import SMALL_WORDS, Scan, Word
from client.deid.spans import Kind, Span
from client.deid.vocabulary.words import NOBODY, PARTICLES, TITLES, by_hand, words

MIN_NAME_LETTERS = 3
MIN_CODE_CHARACTERS = 4
AGAIN_PROBABILITY = 0.02
"""Of an everyday word with a capital to be somebody, where the same word is in the patient's notes: "Mr. Lake" makes a person of "no Lake on the floor"."""

_MOST_INITIALS = 4

MIN_ROW = 2
"""Names that a row must hold before what stands beside them is one."""

ROW_PROBABILITY = 0.02
"""Of a word beside them that no list knows."""

_DAY, _MONTH = r"(?:3[01]|[12]\d|0?[1-9])", r"(?:1[0-2]|0?[1-9])"
_NO_WHOLE = r"(?:[2-5]|10|12)\b"
"""Below a stroke, of how many parts a score or a dose is one."""

_DAYS = (
    (re.compile(rf"(?<![\w/.-])(?:{_MONTH}/(?!{_NO_WHOLE}){_DAY}|{_DAY}/(?!{_NO_WHOLE}){_MONTH})(?![\w/-]|\.\d)"), (None, 0.05, 0.05)),
    (re.compile(rf"(?<![\w/.-])(?:{_MONTH}/{_DAY}|{_DAY}/{_MONTH})(?![\w/-]|\.\d)"), (0.05, 0.05, 0.05)),
    (
        re.compile(rf"(?:(?<![^\n])|(?<![\w/.-])(?!{_DAY}\.[ ]?{_MONTH}\.\s+[A-ZÄÖÜ])){_DAY}\.[ ]?{_MONTH}\.(?![\w/]|\.\d)"),
        (0.1, 0.02, 0.01),
    ),
    (re.compile(rf"(?<![\w/.-]){_DAY}\.[ ]?{_MONTH}\.(?=\s+[A-ZÄÖÜ])"), (0.1, 0.06, 0.03)),
    (re.compile(rf"(?<![\w/.-]){_DAY}[-/.][IVX]{{1,4}}(?!\w)"), (0.05, 0.05, 0.05)),
    (re.compile(rf"(?<![\w/.-]){_DAY}(?:st|nd|rd|th)(?!\w|\s+(?:{COUNTED_OFF})\b)"), (0.5, 0.05, 0.01)),
)
"""Days as notes write them, and how likely one must be where no other of its form was found in the note, where one was, and where more were. The second
is for what is no fraction, 11/3; the fourth for what may be a value at the end of a sentence."""

_PAIR = re.compile(rf"(?<![\w.'’@/:-])(?<!\d[ ])(?!{NO_TYPIST})([a-z]{{2,4}}|[A-Z]{{2,4}})[ ]?[/:][ ]?([a-z]{{2,4}})(?![\w'’/-])")
_SIGNED = re.compile(r"(?m)(?:^[ \t]*|[ \t])([a-z]{3,4}|[A-Z]{3,4})[ \t]*(?=$|[ \t]\d{1,2}/\d)")
"""Who dictated and who typed, "hcr/ntp"; who signed at the end of a line or in front of a day."""

_NO_NAMES = NOBODY | TITLES | PARTICLES | by_hand("months_and_days")
_SMALL = frozenset().union(*SMALL_WORDS.values())


def propagate(scans: Sequence[Scan], found: Sequence[Sequence[Span]]) -> list[list[Span]]:
    """What was found in one of a patient's texts, wherever else it stands in them. `found` and the result run along `scans`."""
    names: set[str] = set()
    everyday: set[str] = set()
    initials: set[str] = set()
    phrases: dict[str, Kind] = {}
    for scan, spans in zip(scans, found, strict=True):
        for word in name_words(scan, spans):
            if _propagates(word.norm):
                names.add(word.norm)
            elif _again_if_likely(word):
                everyday.add(word.raw)
        initials.update(letters for span in spans if span.kind is Kind.NAME for letters in _initials(scan, span))
        for span in spans:
            if span.kind not in (Kind.NAME, Kind.DATE, Kind.AGE) and span.end - span.start >= MIN_CODE_CHARACTERS:
                phrases.setdefault(scan.text[span.start : span.end], span.kind)
    return [
        [*_again(scan, names, everyday, phrases), *_signed(scan, initials), *_in_rows(scan, spans), *_days(scan, spans)]
        for scan, spans in zip(scans, found, strict=True)
    ]


def name_words(scan: Scan, spans: Iterable[Span]) -> Iterator[Word]:
    """The words inside the names among the spans."""
    for span in spans:
        if span.kind is Kind.NAME:
            yield from scan.words_in(span.start, span.end)


def _initials(scan: Scan, span: Span) -> Iterator[str]:
    """The initials of a name of two to four words, "Hermione Castellanos-Rigby" and "RIGBY, HERMIONE C", in small letters."""
    found = [word for word in scan.words_in(span.start, span.end) if word.norm not in TITLES]
    letters = [part[0] for word in found for part in re.split(r"[^a-z]+", word.norm) if part]
    if 2 <= len(letters) <= _MOST_INITIALS:
        yield "".join(letters)
        if "," in scan.text[span.start : span.end]:
            yield "".join((*letters[1:], letters[0]))


def _signed(scan: Scan, initials: set[str]) -> Iterator[Span]:
    """Initials of somebody whose name stands in the patient's notes, where people sign; and who typed for them."""
    for match in _PAIR.finditer(scan.text):
        if match.group(1).lower() in initials:
            yield Span(match.start(1), match.end(1), Kind.NAME, 1)
            yield Span(match.start(2), match.end(2), Kind.NAME, 1)
    for match in _SIGNED.finditer(scan.text):
        letters = match.group(1).lower()
        if letters in initials and letters not in _SMALL:
            yield Span(match.start(1), match.end(1), Kind.NAME, 1)


def _propagates(word: str) -> bool:
    """Whether a word of a name is one elsewhere as well: an everyday word is not; a brand may be, where nothing guards it."""
    everyday = words().is_common(word) and word not in words().brands
    return len(word) >= MIN_NAME_LETTERS and word not in TITLES and word not in PARTICLES and not everyday


def _again_if_likely(word: Word) -> bool:
    """Whether a word that is an everyday one too, in this very form, is a name again where the network thinks it possible."""
    return word.raw.istitle() and len(word.norm) >= MIN_NAME_LETTERS and word.norm not in _NO_NAMES and word.norm not in _SMALL


def _again(scan: Scan, names: set[str], everyday: set[str], phrases: dict[str, Kind]) -> Iterator[Span]:
    for i, word in enumerate(scan.words):
        likely = word.raw in everyday and scan.likelihood(word.start, word.end) >= AGAIN_PROBABILITY
        if (word.norm in names or likely) and not guarded(scan, i):
            yield Span(word.start, word.end, Kind.NAME, 1)
    for phrase, kind in phrases.items():
        at = scan.text.find(phrase)
        while at >= 0:
            end = at + len(phrase)
            if not (scan.text[at - 1 : at].isalnum() or scan.text[end : end + 1].isalnum()):
                yield Span(at, end, kind, 1)
            at = scan.text.find(phrase, end)


def _in_rows(scan: Scan, spans: Sequence[Span]) -> Iterator[Span]:
    """Words that stand in front of the same sign as others of a list, of which enough were found to be somebody's name."""
    named = {span.start for span in spans if span.kind is Kind.NAME}
    if len(named) < MIN_ROW:
        return
    lists = words()
    rows: dict[str, list[Word]] = defaultdict(list)
    for word in scan.words:
        if word.raw[0].isupper() and len(word.norm) >= MIN_NAME_LETTERS and (sign := _sign_behind(scan.text, word)):
            rows[sign].append(word)
    for row in rows.values():
        open_ = [word for word in row if word.start not in named]
        found = len(row) - len(open_)
        for word in open_:
            if word.norm in _NO_NAMES or word.norm in lists.acronyms:
                continue
            listed = word.raw.istitle() and lists.is_name(word.norm) and found >= max(MIN_ROW, len(open_))
            thing = word.norm in lists.eponyms or word.norm in lists.brands or _before(scan.text, word) != "\n"
            if listed or (found >= MIN_ROW and not thing and scan.likelihood(word.start, word.end) >= ROW_PROBABILITY):
                yield Span(word.start, word.end, Kind.NAME, 1)


def _before(text: str, word: Word) -> str:
    """The last sign in front of a word, but for spaces and the mark of an item."""
    return text[max(0, word.start - 3) : word.start].rstrip(" \t-•")[-1:] or "\n"


def _sign_behind(text: str, word: Word) -> str:
    """What stands behind a word that opens a line or an item of a list: a sign, or the end of its column; of any other word nothing."""
    before = _before(text, word)
    behind = text[word.end : word.end + 3]
    after = behind.lstrip(" \t")[:1]
    if before in "\n,;|/:" and after and after in "(:|/-–>":
        return after
    if before == "\n" and (behind[:2] == "  " or behind[:1] == "\t"):
        return "\t"
    return behind[:1] if before == "\n" and behind[:2] in (". ", "..", ", ") else ""


def _days(scan: Scan, spans: Sequence[Span]) -> Iterator[Span]:
    """Days of a month, of which the network is not sure, by the company of others that are written alike."""
    found = bytearray(len(scan.text))
    for span in spans:
        found[span.start : span.end] = b"\1" * (span.end - span.start)
    for pattern, least in _DAYS:
        matches = [match for match in pattern.finditer(scan.text) if least[0] is None or not _is_part(match.group())]
        open_ = [match for match in matches if not all(found[match.start() : match.end() - 1])]
        chosen = _likely(scan, open_, least[min(len(matches) - len(open_), 2)])
        if chosen:  # which are company for others
            chosen = _likely(scan, open_, least[min(len(matches) - len(open_) + len(chosen), 2)])
        yield from (Span(match.start(), match.end(), Kind.DATE, 1) for match in chosen)


def _likely(scan: Scan, matches: Iterable[re.Match[str]], needed: float | None) -> list[re.Match[str]]:
    return [match for match in matches if needed is not None and scan.likelihood(*match.span()) >= needed]


def _is_part(written: str) -> bool:
    """Whether this may be a fraction: its upper number is none above the lower one."""
    upper, _, lower = written.partition("/")
    return lower.isdigit() and int(upper) <= int(lower)
