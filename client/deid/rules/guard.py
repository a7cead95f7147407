"""The guard that keeps eponyms and drugs: "Murphy's sign", "Glasgow Coma Scale", "Braden 17", "Osgood-Schlatter".

Protects against: a finding, a device, a score or a drug that is masked as a person or a place.
Does not protect against: an eponym that no list knows; and a person whose surname is one, alone in front of a number, may be left to the network.
"""

import re

from client.deid.scan import SMALL_WORDS, Scan, Word
from client.deid.vocabulary.words import TITLES, by_hand, words

CLOCK = re.compile(r"(?:[01]\d|2[0-3])[0-5]\d")
HOURS = re.compile(rf"{CLOCK.pattern}[-–/]{CLOCK.pattern}")
"""A time on a clock of 24 hours, and from when to when: "1900-0700"."""

_BEFORE_EPONYMS = by_hand("before_eponyms")
_DISEASES = frozenset(("parkinson", "alzheimer", "crohn", "hodgkin", "hashimoto", "paget", "bell", "graves"))
_BEFORE_FINDINGS = frozenset(
    (
        "positive",
        "negative",
        "pos",
        "neg",
        "no",
        "syndrome",
        "disease",
        "sign",
        "type",
        "score",
        "apgars",
        "stage",
        "grade",
        "class",
        "modified",
    )
)
SOMEBODY_PROBABILITY = 0.15
"""Of an eponym that no list of names knows, by the names network: at or above it, it is somebody's name."""

MAKER_PROBABILITY = 0.4
"""The same of a brand: few of them are also surnames."""

_CLAUSE = frozenset().union(*SMALL_WORDS.values(), by_hand("clause_words")) - {"and", "or", "of", "y", "o", "de", "und", "oder"}
"""Small words that end what an eponym names: behind them a noun belongs to somebody or something else."""

_FINDING = re.compile(
    r"(?:['’]s)?(?:[ ]{0,2}[:=]?[ ]?[<>]?\d{1,3}(?:/\d{1,3})?(?![\w/-]|[ ][A-Z])|[ ](?:I{1,3}|IV|VI{0,3})[ab]?\b(?![ ][A-Z][a-z])|[ ](?:(?:was|is|were)[ ])?[(]?(?:\+|[+-]ve\b|(?:removed|inserted|exchanged|discontinued|draining)\b|in[ ]place\b|day[ ]\d|to[ ]gravity\b|d/c))"
)
"""What follows an eponym that is a finding, a score or a device: "Braden 17", "Foley in place"."""


def guarded_at(scan: Scan, start: int) -> bool:
    """`guarded` for the word that begins at this offset; False when none does."""
    i = scan.word_at(start)
    return i is not None and guarded(scan, i)


def _named_after(found: list[Word], i: int) -> bool:
    """Whether "síndrome de", "Zeichen nach" or "Morbus" stands in front."""
    if i and found[i - 1].norm == "morbus":
        return True
    return i > 1 and found[i - 1].norm in ("de", "of", "nach", "tipo", "typ") and found[i - 2].norm in _BEFORE_EPONYMS


def guarded(scan: Scan, i: int) -> bool:
    """Whether word `i` is a drug, or an eponym or a brand where one stands: "Murphy's sign", "Glasgow Coma Scale", "Parkinson's".

    An eponym or a brand that is in no list of names stands guarded wherever the names network does not take it for one: whoever gave a
    thing its name had a family. One that is in such a list needs a reason. A title or a given name in front of it undoes the guard: Dr.
    Murphy is somebody.
    """
    if guarded_by_words(scan, i):
        return True
    lists, word = words(), scan.words[i]
    if not names_a_thing(word.norm) or lists.is_name(word.norm) or word.norm in lists.places or (i and _introduces(scan, i - 1)):
        return False
    return scan.likelihood(word.start, word.end) < (SOMEBODY_PROBABILITY if word.norm in lists.eponyms else MAKER_PROBABILITY)


def names_a_thing(word: str) -> bool:
    """Whether a folded word is an eponym or a brand."""
    return word in words().eponyms or word in words().brands


def guarded_by_words(scan: Scan, i: int) -> bool:
    """`guarded` as far as lists and the words around word `i` tell, without the network."""
    lists, found = words(), scan.words
    word = found[i]
    if lists.is_substance(word.norm) or _named_after(found, i):
        return True
    if not (names_a_thing(word.norm) or word.norm in lists.places) or (i and _introduces(scan, i - 1)):
        return False
    if names_a_thing(word.norm) and (_hyphened(scan, i) or _FINDING.match(scan.text, word.end)):
        return True
    if word.raw.endswith(("'s", "’s")) and word.norm in _DISEASES:
        return True
    for j in range(i + 1, min(i + 4, len(found))):
        gap = scan.gap(found[j - 1].end, found[j].start)
        if "\n" in gap or "." in gap or ";" in gap:
            break
        between = found[j].norm
        if between in lists.eponym_nouns:
            return True
        if between in _CLAUSE or not (between in lists.eponyms or scan.is_word(between)):
            break  # "Murphy has a test tomorrow"
    return i > 0 and found[i - 1].norm in _BEFORE_FINDINGS


def _introduces(scan: Scan, i: int) -> bool:
    """Whether word `i` is a title, an initial or a given name right in front of the next word."""
    word, gap = scan.words[i], scan.gap(scan.words[i].end, scan.words[i + 1].start)
    if gap.strip(". ") or "\n" in gap:
        return False
    initial = len(word.norm) == 1 and gap.startswith(".") and word.raw.isupper()
    given = (
        gap == " "
        and word.norm in words().first
        and word.raw.istitle()
        and not scan.is_word(word.norm)
        and word.norm not in words().eponyms
    )
    return word.norm in TITLES or initial or given


def _hyphened(scan: Scan, i: int) -> bool:
    """Whether a hyphen joins word `i` to another eponym: "Osgood-Schlatter"."""
    found, eponyms = scan.words, words().eponyms
    return any(
        a >= 0 and b < len(found) and scan.gap(found[a].end, found[b].start) in ("-", "–") and found[other].norm in eponyms
        for a, b, other in ((i - 1, i, i - 1), (i, i + 1, i + 1))
    )
