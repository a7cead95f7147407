"""Tier 1: names in notes that are written in small letters, told by a relation, a role, a signature, or "is a 58-year-old"; towns after "moved to".

Protects against: a name after such a word that the lists know as one, or that is no word of a dictionary.
Does not protect against: a name that is also an everyday word, and languages other than English.
"""

import re
from collections.abc import Iterator

from client.deid.rules.patterns import searched
from client.deid.scan import Scan
from client.deid.spans import Kind, Span
from client.deid.vocabulary.words import PARTICLES, TITLES, by_hand, fold, norm, words

_AFTER = searched(
    r"(?<!\w)(?:wife|husband|husb|hubby|spouse|partner|son|daughter|dtr|brother|sister|mother|father|mom|mum|dad|aunt|uncle|niece|nephew|cousin|grandmother|grandfather|"
    r"grandson|granddaughter|neighbou?r|friend|fianc[eé]e?|girlfriend|boyfriend|roommate|caregiver|sponsor|named|signed|aka|(?P<role>nurse|rn|np|pa|cna|lpn|tech|w|with))"
    r"(?:[ ]is|[ ]named)?,?[ ]+(?P<name>[a-zà-öø-ÿ]\.[ ]?[a-zà-öø-ÿ]{3,}|[a-zà-öø-ÿ]{3,}(?:[-'’][a-zà-öø-ÿ]{2,})?)(?!\w)"
)
"""A relation, or a role, after which a drug or a finding stands as often as a name."""

_PRESENTED = searched(
    r"(?m)(?:^|[.:]\s)[ \t]*([^\W\d_][^\W\d_'’-]+(?:[ ][^\W\d_]['’\w-]*){1,2})[ ]is[ ]an?[ ](?:[a-z-]+[ ]){0,3}\d{1,3}[ -]*(?:years?|yrs?|y/?o|months?)\b",
    re.IGNORECASE,
)
_SIGNATURE = searched(r"(?m)(?:--+|—|//|~)[ \t]*([a-z]{3,15}(?:[.][a-z]{2,15})?)[ \t]*$")
_TOWN = searched(
    r"(?<!\w)(?:(?:fly|flying|flew|travel(?:s|ed|led|ing|ling)?|trip|mov(?:e|ed|ing)|driv(?:e|es|ing)|drove|min(?:utes?)?|mi(?:les?)?|hours?|liv(?:es|ed|ing)|born|raised|visiting|visited)"
    r"[ ](?:(?:back|up|down|over|all|here)[ ])?(?:to|from|in|near|out[ ]of)|transferred[ ](?:to|from)|back[ ](?:to|from|in)|husband[ ]in|works[ ]in)[ ]([a-z]{4,}(?:[ ][a-z]{4,})?)(?!\w)"
)
"""A town that somebody goes to or comes from."""

_NO_SURNAMES = by_hand("never_surnames")


class SmallLetters:
    """Names in small letters."""

    def find(self, scan: Scan) -> Iterator[Span]:
        if "en" not in scan.languages:
            return
        for match in _SIGNATURE.finditer(scan.text):
            if _may_be_name(scan, norm(match.group(1))):
                yield Span(match.start(1), match.end(1), Kind.NAME)
        for match in _TOWN.finditer(scan.text):
            for town in (match.group(1), match.group(1).split(" ")[0]):
                named = fold(town) in words().places and not (scan.is_word(fold(town)) or words().is_name(fold(town)))
                if named and (" " not in town or not all(map(words().is_common, town.split()))):
                    yield Span(match.start(1), match.start(1) + len(town), Kind.LOCATION)
                    break
        for match in _PRESENTED.finditer(scan.text):
            parts = [norm(part) for part in match.group(1).split()]
            if not any(part in TITLES or part in _NO_SURNAMES for part in parts) and all(
                words().is_name(part) or not scan.is_word(part) for part in parts
            ):
                yield Span(match.start(1), match.end(1), Kind.NAME)
        for match in _AFTER.finditer(scan.text):
            name = match["name"]
            word = norm(re.split(r"[-'’.]", name)[-1].strip())
            sure = match["role"] is None or "." in name or word in words().first
            if sure and _may_be_name(scan, word):
                yield Span(match.start("name"), match.end("name"), Kind.NAME)


def _may_be_name(scan: Scan, word: str) -> bool:
    lists = words()
    return not (scan.is_word(word) or word in lists.acronyms or lists.is_drug(word) or word in PARTICLES)
