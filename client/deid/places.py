"""Tier 1: addresses, places smaller than a state, and places of care."""

import re
from collections.abc import Iterator
from functools import cache

from client.deid.scan import Scan
from client.deid.spans import Kind, Span
from client.deid.words import norm, words

_CAPITALIZED = r"[A-ZÀ-ÖØ-Þ][\w'’.&-]*"
_UNIT = r"(?:[\s,]{0,3}(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Rm|APT|SUITE|STE|UNIT|#)\.?\s*#?\s*[\w-]{1,6})?"
_SHORT_SUFFIXES = (
    "St",
    "Ave",
    "Av",
    "Rd",
    "Dr",
    "Ln",
    "Blvd",
    "Ct",
    "Pl",
    "Sq",
    "Hwy",
    "Pkwy",
    "Ter",
    "Cir",
    "Trl",
    "Way",
    "Row",
    "Trailer",
)


@cache
def _street() -> re.Pattern[str]:
    suffixes = "|".join(sorted({*(suffix.title() for suffix in words().street_suffixes), *_SHORT_SUFFIXES}, key=lambda s: (-len(s), s)))
    return re.compile(
        rf"(?<![\w.,/-])\d{{1,6}}[A-Za-z]?(?:[-/]\d{{1,4}})?,?\s+(?:[NSEW]{{1,2}}\.?\s+)?(?:{_CAPITALIZED}\s+){{1,4}}?(?:{suffixes}|{suffixes.upper()})\b\.?{_UNIT}"
    )


_UNIT_ALONE = re.compile(r"\b(?:Apt|Apartment|Suite|Ste)\.?\s*#?\s*\d[\w-]{0,5}\b")
_BOX = re.compile(r"\bP\.?\s?O\.?\s?Box\s+\d+", re.IGNORECASE)
_STATES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|"
    "Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|"
    "New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|"
    "Virginia|Washington|West Virginia|Wisconsin|Wyoming"
)
_CODES = "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC|PR"
_AMBIGUOUS_CODES = frozenset("AL CO CT DE HI ID IN LA MA MD ME MS MT OK OR PA PR VA".split())  # noqa: SIM905 (a list to be read)
_CITY_STATE = re.compile(
    rf"({_CAPITALIZED}(?:[ -]{_CAPITALIZED}){{0,2}}),?\s+(?:({_CODES})|(?:{_STATES}))\b\.?(?:,?\s+(\d{{5}}(?:-\d{{4}})?)\b)?"
)
_ZIP = re.compile(r"\b(?:zip|postal|post)\s?(?:code)?[\s:#]{1,3}([A-Z0-9]{2,5}[- ]?[A-Z0-9]{2,4}|\d{4,5}(?:-\d{4})?)\b|(?<![\w.,/-])\d{5}-\d{4}(?![\w-])", re.IGNORECASE)  # fmt: skip
_POSTCODE = re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]?\s\d(?!MG|ML|MM|CM|KG|HR|DL)[ABD-HJLNP-UW-Z]{2}\b")
_LIVES = re.compile(
    r"\b(?:[Ll]iv(?:es?|ing|ed)|[Rr]esid(?:es?|ing|ed)|[Rr]esident|[Mm]oved|[Bb]orn|[Nn]ative|[Tt]ravel(?:l?ed|l?ing)?|[Tt]rip|[Rr]eturn(?:ed|ing)?|[Vv]isit(?:ed|ing)?|"
    rf"[Oo]riginally|[Hh]ome|[Ww]ork(?:s|ed|ing)?|[Gg]rew\s+up)\s+(?:\w+\s+)?(?:in|at|of|from|to|near|outside)\s+((?:{_CAPITALIZED})(?:[ -]{_CAPITALIZED}){{0,3}})"
)
_DISTRICT = re.compile(rf"\b({_CAPITALIZED}(?: {_CAPITALIZED}){{0,2}} (?:County|Township|Parish|Borough|Village|Heights|Township|Reservation))\b|\b(?:City|Town|Village|County) of ({_CAPITALIZED}(?: {_CAPITALIZED})?)")  # fmt: skip


class Addresses:
    """Streets, boxes, ZIP and postal codes, and places that the sentence says somebody lives in or comes from."""

    def find(self, scan: Scan) -> Iterator[Span]:
        text, lists = scan.text, words()
        for match in _street().finditer(text):
            if "\n\n" not in match.group():
                yield Span(match.start(), match.end(), Kind.LOCATION)
        for pattern in (_UNIT_ALONE, _BOX, _ZIP, _POSTCODE):
            for match in pattern.finditer(text):
                group = 1 if match.lastindex else 0
                yield Span(match.start(group), match.end(group), Kind.LOCATION)
        for match in _CITY_STATE.finditer(text):
            code, zip_code = match.group(2), match.group(3)
            sure = zip_code is not None or ("," in match.group() and code not in _AMBIGUOUS_CODES)
            if sure and not lists.is_common(norm(match.group(1))):
                yield Span(match.start(), match.end(), Kind.LOCATION)
        for match in _LIVES.finditer(text):
            if _telling(match.group(1)):
                yield Span(match.start(1), match.end(1), Kind.LOCATION)
        for match in _DISTRICT.finditer(text):
            group = match.lastindex or 0
            if _telling(match.group(group)):
                yield Span(match.start(group), match.end(group), Kind.LOCATION)


def _telling(name: str) -> bool:
    """Whether a capitalized phrase holds a word that is not an everyday or clinical one."""
    lists = words()
    return any(not lists.is_common(norm(word)) and norm(word) not in lists.acronyms for word in re.findall(r"[^\W\d_]{2,}", name))


_CARE = (
    r"(?:(?:Medical|Health|Healthcare|Surgery|Surgical|Cancer|Heart|Rehabilitation|Rehab|Nursing|Care|Wellness|Imaging|Treatment|Living|Dialysis|Veterans)\s+(?:&\s+Care\s+|and\s+Care\s+)?"
    r"(?:Centers?|Centres?|Group|System|Systems|Home|Services|Associates|Partners|Facility|Clinic|Institute|Network|Foundation|Trust|Affairs)"
    r"|Hospitals?|Clinics?|Urgent\s+Care|Family\s+(?:Medicine|Practice|Health)|Society|Hospice|Infirmary|Healthcare|Polyclinic|Sanatorium|Pharmacy|University|College|(?:High|Elementary|Middle|Primary)\s+School|Academy|"
    r"Nursing\s+Home|Care\s+Home|Retirement\s+(?:Home|Village)|Assisted\s+Living|Practice|Surgery|Health)"
)
_FACILITY = re.compile(
    rf"(?:{_CAPITALIZED}\s+(?:(?:of|the|and|for|at|de|&|-|–)\s+)?){{1,6}}?{_CARE}\b"
    rf"(?:(?:\s+(?:of|at|for|&|and|-|–)(?:\s+the)?)?\s+(?:{_CARE}|System|Systems|Corp|Corporation|Inc|LLC|Ltd|PC|Trust|{_CAPITALIZED})\b\.?){{0,4}}"
)
_KIND_OF_HOUSE = frozenset(
    "memorial community general regional county university saint st mercy children's childrens veterans va methodist baptist presbyterian lutheran "  # noqa: SIM905 (a list to be read)
    "catholic adventist jewish sacred providence samaritan holy trinity national select royal queen king prince princess central northern southern "
    "eastern western city district state provincial valley river lake hill hills park".split()
)


class Facilities:
    """Hospitals, clinics, schools and the like, by name; "the pain clinic" is nobody's name."""

    def find(self, scan: Scan) -> Iterator[Span]:
        for match in _FACILITY.finditer(scan.text):
            start, end = _trimmed(scan.text, match.start(), match.end())
            name = scan.text[start:end]
            if "\n" in name:
                end = start + name.index("\n") if re.search(_CARE, name.split("\n")[0]) else end
                name = scan.text[start:end]
            before = [norm(word) for word in re.findall(r"[^\W\d_]+(?:['’]s)?", name)]
            if _telling(name) or sum(word in _KIND_OF_HOUSE for word in before) >= 1:
                yield Span(start, end, Kind.ORGANIZATION)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without everyday words in front ("Seen at", "The") unless they are part of such names ("General")."""
    lists = words()
    while match := re.match(r"([^\W\d_]+)(?:['’]s)?[\s,.:]+", text[start:end]):
        word = norm(match.group(1))
        if (
            not lists.is_common(word)
            or word in _KIND_OF_HOUSE
            or (lists.is_name(word) and match.group(1)[0].isupper() and start and text[start - 1] != "\n" and word not in ("seen", "the"))
        ):
            break
        start += match.end()
    return start, end
