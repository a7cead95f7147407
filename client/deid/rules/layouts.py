"""Tier 1: identifiers told by where they stand: HL7 messages, `key=value` exports, tables with a heading, address lines of a form.

Protects against: the fields of HL7 v2 segments that hold a person, a place, a date or a number; values after a key such as `dob=`; columns
under a heading such as "MRN"; what follows "Address:" on its line.
Does not protect against: layouts whose fields nothing names, and free text inside a field; that is for the other tiers.
"""

import re
from collections.abc import Iterator

from client.deid.rules.patterns import searched
from client.deid.scan import Scan
from client.deid.spans import Kind, Span

_NAME, _PLACE, _DATE, _PHONE, _ID, _ORG = Kind.NAME, Kind.LOCATION, Kind.DATE, Kind.PHONE, Kind.ID, Kind.ORGANIZATION

# Fields of HL7 v2.5.1 by segment, counted as the standard counts them: MSH-1 is the separator itself.
_SEGMENTS: dict[str, dict[int, Kind]] = {
    "MSH": {4: _ORG, 6: _ORG, 7: _DATE, 10: _ID},
    "EVN": {2: _DATE, 5: _NAME, 6: _DATE},
    "PID": {2: _ID, 3: Kind.MRN, 4: _ID, 5: _NAME, 6: _NAME, 7: _DATE, 9: _NAME, 11: _PLACE, 12: _PLACE, 13: _PHONE, 14: _PHONE, 18: Kind.ACCOUNT,
            19: Kind.SSN, 20: Kind.LICENSE, 21: _ID, 23: _PLACE, 29: _DATE},
    "PD1": {3: _ORG, 4: _NAME},
    "NK1": {2: _NAME, 4: _PLACE, 5: _PHONE, 6: _PHONE, 12: _ID, 16: _DATE, 30: _NAME, 31: _PHONE, 32: _PLACE, 33: _ID, 37: Kind.SSN},
    "PV1": {7: _NAME, 8: _NAME, 9: _NAME, 17: _NAME, 19: _ID, 44: _DATE, 45: _DATE, 52: _NAME},
    "ORC": {2: _ID, 3: _ID, 9: _DATE, 10: _NAME, 11: _NAME, 12: _NAME, 14: _PHONE},
    "OBR": {2: _ID, 3: _ID, 6: _DATE, 7: _DATE, 8: _DATE, 10: _NAME, 14: _DATE, 16: _NAME, 17: _PHONE, 22: _DATE, 28: _NAME, 32: _NAME, 33: _NAME, 34: _NAME, 35: _NAME},
    "OBX": {14: _DATE, 16: _NAME, 19: _DATE, 23: _ORG, 24: _PLACE, 25: _NAME},
    "DG1": {5: _DATE, 16: _NAME},
    "GT1": {2: _ID, 3: _NAME, 4: _NAME, 5: _PLACE, 6: _PHONE, 7: _PHONE, 8: _DATE, 12: Kind.SSN, 16: _NAME, 17: _PLACE, 18: _PHONE, 19: _ID, 21: _ORG},
    "IN1": {4: _ORG, 5: _PLACE, 6: _NAME, 7: _PHONE, 8: _ID, 10: _ID, 11: _ORG, 12: _DATE, 13: _DATE, 16: _NAME, 18: _DATE, 19: _PLACE, 36: Kind.HEALTH_PLAN, 49: _ID},
    "SCH": {1: _ID, 2: _ID, 12: _NAME, 13: _PHONE, 14: _PLACE, 16: _NAME, 20: _NAME},
    "TXA": {4: _DATE, 5: _NAME, 6: _DATE, 9: _NAME, 10: _NAME, 11: _NAME, 12: _ID, 22: _NAME},
    "ACC": {1: _DATE},
}  # fmt: skip
_SEGMENT = searched(rf"(?m)^[ \t]*({'|'.join(_SEGMENTS)})\|.*$")
_KEPT_COMPONENTS = {
    _PLACE: (5, 6),
    _ID: (1, 2, 3, 4, 5, 6),
    Kind.MRN: (1, 2, 3, 4, 5, 6),
    Kind.ACCOUNT: (1, 2, 3, 4, 5, 6),
    _ORG: (1, 2),
}
"""Components, counted from zero, that name a country, or an authority and a type."""
_MOST_NAME_COMPONENTS = 4


def _segments(text: str) -> Iterator[Span]:
    for line in _SEGMENT.finditer(text):
        name = line.group(1)
        at, number = line.end(1) + 1, 2 if name == "MSH" else 1
        for field in text[at : line.end()].split("|"):
            kind = _SEGMENTS[name].get(number)
            if kind is not None:
                yield from _field(field, at, kind)
            at, number = at + len(field) + 1, number + 1


def _field(field: str, at: int, kind: Kind) -> Iterator[Span]:
    for repetition in re.finditer(r"[^~]+", field):
        start = at + repetition.start()
        for index, component in enumerate(repetition.group().split("^")):
            kept = index in _KEPT_COMPONENTS.get(kind, ()) or (kind is _NAME and index >= _MOST_NAME_COMPONENTS)
            if component.strip() and not kept:
                yield Span(start, start + len(component.rstrip()), kind)
            start += len(component) + 1


_KEYS = (
    (_NAME, r"name|first|last|surname|given|family|middle|forename|fname|lname|maiden|provider|physician|doctor|attending|pcp|surgeon|nurse|contact|guardian|kin|spouse|author|signed_?by|inits?|initials|sig|signed|signature|given_?by"),
    (_DATE, r"dob|birth_?date|date_?of_?birth|date|visit|admitted|discharged|admit|admission|discharge|appt|appointment|collected|received|dos|seen"),
    (Kind.MRN, r"mrn|ur_?no|urn|nhs_?no|nhs|chart|uhid|patient_?id|pat_?id|pid"),
    (Kind.SSN, r"ssn|social"),
    (_ID, r"id|no|number|account|acct|member|ins_?id|policy|subscriber|user|username|login|uid|csn|encounter|accession|license|passport|plate|vin|serial|imei"),
    (_PHONE, r"phone|tel|mobile|cell|fax|home_?phone|work_?phone|contact_?no"),
    (Kind.EMAIL, r"e?mail"),
    (_PLACE, r"address|addr|street|city|town|zip|zip_?code|postcode|postal_?code|suburb|county|district"),
    (_ORG, r"hospital|facility|clinic|practice|employer|school"),
)  # fmt: skip
_PREFIX = r"(?:(?:pt|pat|patient|ptnt|next|home|work|primary|referring|attending|ins|insurance|admission|discharge|birth|visit|med|member|emergency)[_ ]?)?"
_KEY = {kind: re.compile(rf"{_PREFIX}(?:{words})(?:_?(?:name|id|no|num|nr|date))?", re.IGNORECASE) for kind, words in _KEYS}
_PAIR = searched(
    r"""(?<![\w.-])["']?([A-Za-z][A-Za-z_]{1,24}?)["']?(?:=|["']\s?:|(?<=[a-z]_[a-z]{2}):|(?<=_[a-z]{4}):)[ ]?["']?([^;|"'\n=<>{}]{2,60}?)["']?(?=\s*[;|"'\n<}]|,|$|\s\w+=)"""
)


def _key_kind(key: str) -> Kind | None:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key.strip())
    return next((kind for kind, pattern in _KEY.items() if pattern.fullmatch(snake)), None)


def _fits(kind: Kind, value: str) -> bool:
    """Whether a value can be of this kind: a name has letters and is no sentence; the others hold a digit, but for places and mail."""
    digits = any(character.isdigit() for character in value)
    letters = any(character.isalpha() for character in value)
    if kind is _NAME:
        return letters and not digits and len(value.split()) <= 5
    if kind in (_PLACE, _ORG):
        return letters or len(value) >= 4
    return digits or kind is Kind.EMAIL


def _pairs(text: str) -> Iterator[Span]:
    if "=" not in text and "_" not in text and '"' not in text:
        return
    for match in _PAIR.finditer(text):
        kind = _key_kind(match.group(1))
        if kind is not None and _fits(kind, match.group(2)):
            yield Span(match.start(2), match.end(2), kind)


_INITIALED = frozenset(("init", "inits", "initials", "sig", "signed", "signature", "given by"))
"""A heading that needs no other beside it: whoever did what the row says stands under it."""

_DELIMITERS = ("|", "\t", ",", ";")
_FEWEST_COLUMNS = 3


def _tables(text: str) -> Iterator[Span]:
    """Columns under a heading: a line of at least three cells, two of which are keys, and the lines below with as many cells."""
    lines = [(match.start(), match.group()) for match in re.finditer(r"[^\n]+", text)]
    columns: dict[int, Kind] = {}
    mark, width = "", 0
    for start, line in lines:
        if columns and line.count(mark) + 1 == width:
            at = start
            for number, cell in enumerate(line.split(mark)):
                value, kind = cell.strip(), columns.get(number)
                if kind is not None and value and _fits(kind, value):
                    first = at + cell.index(value)
                    yield Span(first, first + len(value), kind)
                at += len(cell) + 1
            continue
        columns = {}
        for mark in _DELIMITERS:  # kept for the lines below
            cells = line.split(mark)
            if len(cells) >= _FEWEST_COLUMNS and all(len(cell.strip()) <= 24 for cell in cells):
                found = {i: kind for i, cell in enumerate(cells) if cell.strip() and (kind := _key_kind(cell.strip())) is not None}
                if len(found) >= 2 or any(cell.strip().lower() in _INITIALED for cell in cells):
                    columns, width = found, len(cells)
                    break


_ADDRESS = searched(
    r"(?im)(?<!\w)(?:(?:home|postal|mailing|permanent|present|current)?[ ]?(?:address|addr)\.?[ \t]*[:=]|add\.[ \t]*:|(?-i:R/[Oo])[ \t]*:?(?=[ \t]*(?:h\.?[ ]?no|vpo|flat|house|plot|door|vill|\d{1,4}[,/ -])|[^\n]{0,60}(?:nagar|dist|village|colony|marg|road|\b\d{6}\b))|residence[ \t]*:|resides?[ ]at|lives[ ]at)[ \t]*(?<=[:=\s])"
    r"(?=[^\n]{0,60}\d)((?:\w|\#)[^\n]{4,140}?)(?=[ \t]*(?:\n|$|[;|]|[ ]{3}|(?<!(?-i:[A-Z][a-z]))(?<!(?-i:[A-Z][a-z]{2}))(?<!(?-i:[A-Z][a-z]{3}))\.[ ]|(?<=\d)\.(?!\d)|[,. ]+(?:tel|ph|phone|mob|mobile|cell|dob|gp|contact|e-?mail|fax|with|and|since|who|where|alone)\b))"
)
_NOT_AN_ADDRESS = re.compile(r"(?:this|the|each|every|any|all|these)\b|[^\n]*\b(?:mg|days|weeks|year|times)\b", re.IGNORECASE)


class Layouts:
    """What the layout gives away."""

    def find(self, scan: Scan) -> Iterator[Span]:
        text = scan.text
        if "|" in text:
            yield from _segments(text)
        yield from _pairs(text)
        yield from _tables(text)
        for match in _ADDRESS.finditer(text):
            if not _NOT_AN_ADDRESS.match(match.group(1)):
                yield Span(match.start(1), match.end(1), _PLACE)
