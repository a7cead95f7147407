"""Tier 1: who wrote, signed or is called something, by the marks that people leave: initials, handles of a chat, nicknames, spelt names, rows.

Protects against: the initials of who typed, checked or signed, or fills in the rows of a table; who speaks in a chat; what somebody is called,
between quotation marks; a name letter by letter, or cut to "Oyster, J." at the beginning of a row.
Does not protect against: initials alone that nothing announces.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from client.deid.rules.patterns import searched
from client.deid.scan import Scan
from client.deid.spans import Kind, Span
from client.deid.vocabulary.words import NOBODY, words

NO_TYPIST = r"(?i:bid|tid|qid|prn|mg|mcg|kg|ml|am|pm|ns|lr|pt|ot|hr|wt|ht|bp|na|cl|hb|ct|po|iv|mm|cc|dl|hs|pm)[ ]?[/:]"
"""What stands in front of a slash or a colon and is no doctor who dictated: "bid/tid", "NS:wt"."""

_INITIALS = (
    searched(r"(?m)(?:^|[ \t])([A-Z]{2,4}[/:][a-z]{2,4})[ \t]*$"),  # who dictated and who typed: "HIR/kmw"
    searched(
        rf"(?m)(?<![\w/:.-])(?!{NO_TYPIST})([A-Z]{{2,4}}[ ]?[/:][ ]?[a-z]{{2,4}})(?=[/ \t|;]{{1,4}}(?:\d{{1,2}}/\d{{1,2}}/\d{{2}}|\d{{3,}}|[DdTt]{{1,2}}[: ]{{1,2}}\d|[Jj]ob\b|dict\b|OPR\b|\|))"
    ),
    searched(
        rf"(?m)(?:^|[ \t.;|])(?!{NO_TYPIST})([a-z]{{2,4}}[ ]?[/:][ ]?[a-z]{{2,3}})(?=[/ \t|;]{{1,4}}(?:\d{{1,2}}/\d{{1,2}}/\d{{2}}|\d{{5,}}|[DdTt]{{1,2}}[: ]{{1,2}}\d{{1,2}}/|DD[ ]|[Jj]ob[ ]\d|dict[. ]))"
    ),  # "SW/bbn 07/14/76", "vo:lth  dict 10/9/71"
    searched(r"(?m)(?:--+|—|//|/s/|[Ss]igned:?|[Dd]ictated(?:[ ]by)?:?)[ \t]*((?:[A-Z]\.[ ]?){2,4}|[a-z]{2,3}/[a-z]{2,3})[ \t]*$"),
    searched(r"\b[DT][DT]?:[ ]?\d\d?/\d\d?/\d{2,4}[ ]+(?:\d\d?:\d\d[ ]+)?([A-Z]{2,3}/[A-Za-z]{2,3})\b"),
    searched(r"\b[Bb]y:?[ ]([a-z]{2,3}|[A-Z]{2,3})(?=[ ](?:at|@|on)[ ]\d)"),
    searched(
        r"(?m)\b(?:[Cc]h(?:ec)?k(?:e)?['’]?d|[Tt]yped|[Mm]inutes|[Ii]nit(?:ial)?s?|[Ii]nitialed|sgd|[Ee]ntered|[Rr]elieved|[Ww]itness(?:ed)?|[Cc]ount)(?:[ ]by)?:?[ ]([A-Z]{2,3}|[a-z]{3})(?=[ \t]*(?:$|[|;,)]))"
    ),
    searched(r"(?m)(?:^|[ \t])[-–—~][ ]?([a-z]{2,3})(?:[ ]\d{1,2}/\d{1,2})?[ \t]*$"),
    searched(r"(?m)\b(?:CLOSED|[Cc]losed|[Ss]igned|[Ff]iled)[ ]([a-z]{2,3})\.?[ \t]*$"),
    searched(r"\b[Ii]nitials:?[ ]([A-Z][-.]?[A-Z](?:[-.]?[A-Z])?)(?!\w)"),
    searched(r"(?<!\w)D[Rr]\.?[ ]([A-Z])(?=\.?[ ]*(?:[,;)\n]|$)|\.[ ][A-Z])"),
    searched(
        r"(?m)^(?:done|given|sent|faxed|called|closed|reviewed|noted|filed|signed)[ ]\d{1,2}/\d{1,2}[ ]([a-z]{2,3}|[A-Z]{2,3})[ \t]*$"
    ),
    searched(
        r"(?<=[A-Za-z]),[ ]{1,2}(?!M\.[ ]?D|D\.[ ]?O|R\.[ ]?N|N\.[ ]?P|P\.[ ]?A)([A-Z]\.(?:[ ]?[A-Z]\.)?)(?=[ \t]*(?:[|\t\n;)]|$)|[ ]{2})"
    ),  # a table's "Petrosyan, A."
)
"""Who dictated, typed, checked, counted or signed."""

_LABEL = re.compile(r"[A-Z]{2,4}:[ ]([a-z]{2,4})\Z")
"""A word that says what stands behind it, "TR: vw": initials have no space in front of a colon alone; "FEN: min" is nobody's."""

_TWO = searched(r"(?<![\w/.:])([a-z]{2,4}|[A-Z]{2,4})[ ]?/[ ]?([a-z]{2,3})(?![\w/-])")
_ONE_PROBABILITY = 0.2
"""Two initials with a slash between, and how likely one of them must be to be somebody's: the other's too, then, unless both are words or
abbreviations."""

_LAST = searched(r"(?m)[ ]/[ ]([A-Z]{2,3}|[a-z]{3})[ \t]*$")
_INITIALS_PROBABILITY = 0.5
"""Initials behind a slash at the end of a line, and how sure the network must be of those that are an abbreviation or a word."""

_SMALL_INITIALS = searched(r"(?m)(?<![\w.'’@-])([a-z]{2,3})(?=[ \t.]*(?:$|[|;,/)\]]|[ ]{2}))")
_READ = frozenset(
    (
        "nl",
        "ok",
        "na",
        "ns",
        "nc",
        "hs",
        "po",
        "iv",
        "im",
        "sq",
        "sl",
        "pr",
        "od",
        "os",
        "ou",
        "ad",
        "as",
        "au",
        "lt",
        "rt",
        "up",
        "in",
        "on",
        "no",
    )
)
"""What else is written in such a place: a finding, a route, a side."""

_LAST_PROBABILITY, _AGAIN_PROBABILITY = 0.1, 0.02
"""Two or three small letters at the end of a line or a cell, and how likely they must be to be somebody's where they are the last of a note, and where
they come more than once in it, as of who fills in a table."""

_LETTERED = searched(r"(?<![\w.])([A-Z]{2,3})(?=,?[ ](?:RN|LPN|LVN|MD|DO|NP|PA-C|CNA|RRT|PharmD|RPh|MA)\b)")
"""Initials in front of a credential: "YB, RN"; "ICU RN" is nobody's."""

_ALIAS = searched(
    r"(?i:\b(?:call(?:s|ed)?(?:[ ](?:me|him|her|them))?|goes[ ]by|known[ ]as|a\.?k\.?a\.?|nick(?:name)?(?:[ ]is)?|alias|prefers(?:[ ]to[ ]be[ ]called)?|answers[ ]to|sponsor|named|street[ ]name|found|who))"
    r"[:,]?[ ][\"“]([A-Z][\w'’-]{1,14}(?:[ ][A-Z][\w'’-]{1,14})?)[\"”]"
)
"""What somebody is called, between quotation marks: any word may stand there."""

_ROW = searched(r"(?m)^[ \t]*[*•-]?[ ]?([A-Z][\w'’-]+,[ ][A-Z]\b\.?)(?=[ ]{1,3}\d{3})")
"""Who opens a row of a list: "* Oyster, J. 8120-1"."""

_SPEAKER = searched(
    r"(?m)^[ \t]*(?:\[?\d{1,2}:\d\d(?::\d\d)?(?:[ ]?[AaPp][Mm])?\]?[ ]{1,3}([a-z][a-z0-9]*(?:[._][a-z0-9]+)?)(?=:[ ])|([a-z][a-z0-9]*(?:[._][a-z0-9]+)?)[ ]{1,3}(?=\[?\d{1,2}:\d\d(?:[ ]?[AaPp][Mm])?\]?[ :]))"
)
"""Who writes in a chat: "[07:41] jrivas: picc is red", "dr_whalen  8:11 AM  LP at noon"."""

_HANDLE = searched(r"\b(?:ack(?:['’]?d)?(?:[ ]by)?|abstractor|export_by|opened[ ]by|user|qa)[ :=]{1,2}([a-z]\.?[a-z]{4,14})(?![\w.@])")
"""Who did something to a record, by the handle: "DESAT 84 ack m.fadipe"."""

_SPELT = searched(r"(?<![\w.])(?:(?:[a-z](?:[ -]|\.[ ])){4,}[a-z]|(?:[A-Z](?:[ -]|\.[ ])){4,}[A-Z])(?!\w)")
_SPELT_SHORT = searched(r"\b(?:that['’]?s|spelled|spelt|spell(?:ing)?)[ ]((?:[a-z][ -]){2,3}[a-z])(?!\w)", re.IGNORECASE)
"""A name as it is spelt: "s c r u g g s", "Z-A-W-A-D-Z-K-I", "that's o o i"."""


class Signatures:
    """Names by the marks that people leave."""

    def find(self, scan: Scan) -> Iterator[Span]:
        text, lists = scan.text, words()
        for pattern in (*_INITIALS, _ALIAS, _SPELT_SHORT, _ROW):
            for match in pattern.finditer(text):
                if (label := _LABEL.match(text, match.start(1), match.end(1))) is None:
                    yield Span(match.start(1), match.end(1), Kind.NAME)
                elif not (scan.is_word(label.group(1)) or label.group(1) in lists.acronyms):
                    yield Span(label.start(1), label.end(1), Kind.NAME)
        for match in _LETTERED.finditer(text):
            if match.group(1).lower() not in lists.acronyms:
                yield Span(match.start(1), match.end(1), Kind.NAME)
        for match in _TWO.finditer(text):
            known = all(scan.is_word(half.lower()) or half.lower() in lists.acronyms for half in match.groups())
            if not known and max(scan.likelihood(*match.span(1)), scan.likelihood(*match.span(2))) >= _ONE_PROBABILITY:
                yield Span(match.start(), match.end(), Kind.NAME)
        for match in _LAST.finditer(text):
            known = match.group(1).lower() in lists.acronyms or scan.is_word(match.group(1).lower())
            if not known or scan.likelihood(match.start(1), match.end(1)) >= _INITIALS_PROBABILITY:
                yield Span(match.start(1), match.end(1), Kind.NAME)
        counts, end = Counter(word.raw for word in scan.words), len(text.rstrip(" .\n\t"))
        for match in _SMALL_INITIALS.finditer(text):
            initials = match.group(1)
            if initials in _READ or (len(initials) > 2 and (scan.is_word(initials) or initials in lists.acronyms)):
                continue
            count, likely = counts[initials], scan.likelihood(match.start(), match.end())
            ends = text[match.end() : match.end() + 3].lstrip(" .\t")[:1] in ("", "\n")
            if (match.end() == end and likely >= _LAST_PROBABILITY) or (
                likely >= _AGAIN_PROBABILITY and (count > 2 or (count == 2 and ends))
            ):
                yield Span(match.start(), match.end(), Kind.NAME)
        for match in _SPELT.finditer(text):
            letters = re.findall(r"[A-Za-z]", match.group())
            in_a_row = all(ord(b) - ord(a) == 1 for a, b in pairwise(letters))
            joined = "".join(letters).lower()
            heading = scan.is_word(joined) or joined in lists.acronyms  # "P R O G R E S S", "p i r a d s"
            if len({*letters}) > 2 and not (in_a_row or heading):
                yield Span(match.start(), match.end(), Kind.NAME)
        for match in _HANDLE.finditer(text):
            if not scan.is_word(match.group(1)):
                yield Span(match.start(1), match.end(1), Kind.NAME)
        for match in _SPEAKER.finditer(text):
            group = match.lastindex or 0
            handle = match.group(group)
            word = scan.is_word(handle) or handle in NOBODY or handle in lists.acronyms
            if not word or re.search(r"[._\d]", handle):
                yield Span(match.start(group), match.end(group), Kind.NAME)
