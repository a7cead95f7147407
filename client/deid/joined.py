"""Names, addresses and institutions as wholes: what stands with a found piece and belongs to it.

    [61 Sawmill Rd], Lot 9, [Berea]  →  [61 Sawmill Rd, Lot 9, Berea]        [Two Harbors] Cardiac Wellness  →  [Two Harbors Cardiac Wellness]

Protects against: the house, lot or box between two pieces of an address; the initial, the nickname, the other half or the last word of somebody's
name, and the words of an institution's, that a detector left out because they are everyday words; the letters and the check digit of a number; the age
of 90 or more behind a name.
Does not protect against: a name or place of which no detector found any piece; notes in capitals, where capitals say nothing.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from client.deid.rules.credentials import ALONE
from client.deid.scan import Scan
from client.deid.spans import NUMBERS, Kind, Span
from client.deid.vocabulary.words import NOBODY, PARTICLES, TITLES, by_hand, norm, words

_PLACES = (Kind.LOCATION, Kind.ORGANIZATION)
_BETWEEN = re.compile(r"(?:[ ,\n#]|(?<![\w.])(?:[A-Z][\w'’.-]*|\d{1,5}[A-Za-z]?|of|the|on|at|and|&|in|nr|near)(?![\w]))*")
_CONNECTORS = frozenset(("in", "on", "at", "near", "nr", "and"))
"""What stands between two places of a sentence, and is no part of either: "211 Linden Ct in Holyoke"."""

_INSIDE = re.compile(r"(?<=\w)[ ]in[ ](?:the[ ])?(?=[A-Z\d])")
"""Between a place and the town, inside what was found as one."""

_NAMED = (*_PLACES, Kind.NAME)
_MOST_BETWEEN = 30
_KNOWN = 3
_MORE = re.compile(
    r"['’]?[ ](?!on[ ](?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|Jan|Feb|March|April|May|June|July|Aug|Sept|Oct|Nov|Dec))"
    r"(?:(?:of|at|and|&|for|the|on)[ ])?([A-Z][\w'’&-]*)"
)
_BEFORE = re.compile(r"(?<![\w.'’-])([A-Z][a-z][\w'’-]*)[ ]\Z")
_HALF_BEFORE = re.compile(r"(?<!\w)(?:[A-ZÀ-ÖØ-Þ][^\W\d_]+-|[A-Z]['’])\Z")
_HALF_AFTER = re.compile(r"-(?:[a-z]{1,5}-)?[A-ZÀ-ÖØ-Þ][^\W\d_]+|-\n[ \t]*[^\W\d_]{2,}")
"""The other half of a double name, or of a word that the end of a line has cut."""

_SYLLABLE = re.compile(r"-([a-z]{2,5})(?=[ ][A-Z]|[ ]*[,.;)\n]|$)")
_SURE_SYLLABLE = 0.9
"""The second syllable of "Eun-ji", and how sure the network must be where it is a word: "Ji-woo"."""

_GIVEN_AFTER = re.compile(
    r",[ ]{1,2}((?:[A-Z][a-z]{0,2}|[A-Z]{3,10})\.?)(?=[ ]+\d(?!\d{0,2}(?:\.\d|\b(?!-)))|[ \t]*(?:[|\t\n]|$)|[ ]{2}|[ ]-[ ])|,[ ]{1,2}([a-z]|[a-z]{3,9})(?=[ ]{2}|[ \t]*[|\t])"
)
"""The given name or initial behind "Musgrave," in a row: "Musgrave, P 60114275", "ONEILL, PAT | 72F"; not in "Maki, K 9.1"."""

_ATTACHED = re.compile(r"(?:[-/][A-Z\d]{1,6}|/[a-z]{2,3})+(?![\w/-])")
"""What goes on a number without a space: the check digit of "12-050881123-4"."""

_LETTERS = re.compile(
    r"\b(?:ID|[Mm]ember|[Ff]older|[Aa]cc(?:ession)?|[Cc]ase|[Rr]eq|[Pp]ermit|[Pp]olicy|[Cc]laim|[Aa]uth|[Ss]pecimen|[Bb]adge|[Ll]ic(?:en[cs]e)?)(?:[ ]?(?:[Nn]o\.?|[#:.]))?[ ]{1,2}([A-Z]{2,4})[ -]\Z"
)
"""The letters in front of a number, behind a word that says what it is: "Member LPH 88201937"."""

_NUMBER_LABELS = frozenset(("MRN", "SSN", "DOB", "NHS", "NHI", "CHI", "PIN", "REF", "ACC", "URN", "HRN", "CSN", "FIN", "NPI", "DEA", "PHN", "HCN", "TEL", "FAX", "EXT", "VIN", "DOE", "NO", "ID", "IS", "MR"))  # fmt: skip

_CHECK = re.compile(r"[ ][A-Z](?=[,.;)\n]|$)")
_SPACED_CODE = re.compile(r"[A-Z]{1,4}[ ]\d+(?:[ ]\d+)*")
"""The letter at the end of a number that is written in groups: "s/n RPJ 604 188 S"."""

_COMMA_SPOKEN = re.compile(r"[ ]comma[ ]([a-z]{3,}(?:[ ][a-z](?![a-z]))?)")
"""The given name of a dictated "bohannon comma trace"."""

_NICK_BEFORE = re.compile(r"[\"“]([A-Z][a-z]{1,12})[\"”][ ]\Z")
_NICK_AFTER = re.compile(r",?[ ](?:[\"“]([A-Z][a-z]{1,12})[\"”])")
"""What somebody is called, between quotation marks and beside the name: "Pinky" [RAMIREZ-TODD]."""

_DOOR = re.compile(
    r",?[ ](?:(?:sp|spc|space|lot|trlr|trailer|no|site)\.?[ ]?#?\d{1,4}[a-z]?|#[ ]?\d{1,4}[a-z]?|\d{1,3}[a-f]|\d{1,2}(?:st|nd|rd|th)[ ]fl(?:oor|r)?)(?![\w/-]|\.\w)|[ ]on[ ]\d{1,3}(?:st|nd|rd|th)\b"
)
"""Which house, floor or lot of a park, and on which street a shop is: "Desert Willow Estates, sp 44"."""

_SHOP = re.compile(r"['’]s(?=[,.;)\n]|[ ]on[ ][A-Z\d])")
"""What makes a shop of a name: "in a truck at Love's, Exit 23"."""

_SIGNS = (
    "PD|FD|P\\.D\\.|Police|Sheriff|HH|HHA|VNA|DSS|DHS|ISD|HMO|PPO|Health Plan|Svcs?|Services|Pediatrics|Peds|Physio(?:therapy)?|Physical Therapy|Dental|Dentistry|Orthopa?edics|"
    "Cardiology|Oncology|Dermatology|Urology|Radiology|Imaging|Nephrology|Dialysis|Renal|Neurology|Optometry|Opticians|Eye Care|Podiatry|Chiropractic|Rehab|Hospice|Manor|"
    "Labs?|Laboratory|Laboratories|Urgent Care|Emergency|Family Practice|Internists|Agency|Council|Foundation|Ministries|Shelter|Apartments|Apts|Pavilion|Surgical|Pharma|Drugs?|"
    "Elementary|Middle School|High School|Parish|Township|Twp|Correctional|Hauling|Trucking|Logging|Roofing|Plumbing|Electric|Motors|Foods|Farms?|Dairy|Bakery|Diner|Grill|Tavern"
)
"""Words that make an institution of a name in front of them."""

_TITLED = re.compile(r"\b(?:Drs?|Mr|Mrs|Ms|Prof|Sister|Nurse|Rev|Fr|Sgt|Det|Officer|Judge)\b\.?[ ]\Z")
_NOT_SIGNS = "In|At|On|To|From|With|For|And|The|Was|Is|Has|Per|Via|Of|By|Seen|Dr|Mr|Mrs|Ms|RN|MD"
_ROAD = re.compile(
    r"\b(?:Hwy|Highway|US|I|Route|Rte|[Rr]ue|Road|Rd|Street|St|Avenue|Ave|Blvd|Boulevard|Lane|Ln|Drive|Dr|Pkwy|Pike)\b|\b[NSEW]\.?[ ][A-Z]"
)
_GIVEN_BEFORE = re.compile(r"(?<![\w.'’-])([A-Z][a-z]{2,})[ ]\Z")
_CORNER = re.compile(r"[ ](?:and|&|at|/)[ ]\d{1,3}(?:st|nd|rd|th)\b(?![ ](?:rib|toe|finger|digit|metatarsal|floor|day|week))")
"""Which street crosses the other: "Avondale & 14th"."""

_OUTWARD = re.compile(r",[ ][A-Z]{1,2}\d{1,2}[A-Z]?(?=[ ]*[.,;)\n]|$)")
"""The first half of a British postcode behind a town: "Newquay, TR7"."""

_AUSTRALIAN = re.compile(r",?[ ](?:NSW|VIC|QLD|TAS|ACT|NT|SA|WA),?[ ]\d{4}\b")
"""State and postcode behind a town: "Fisherland, TAS, 2955"."""

_STATE_END, _CODE_BEHIND = re.compile(r"[ ](?:NSW|VIC|QLD|TAS|ACT|NT|SA|WA)\Z"), re.compile(r",?[ ]\d{4}\b")

_INWARD = re.compile(r"(?<=[A-Z\d])[ ]\d[A-Z]{2}\b")
_OUTWARD_END = re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]?[A-Z]?\Z")
"""The halves of a British postcode."""

_CODED = re.compile(r"(?:\d{4,5}(?:-\d{4})?|\d[A-Z]{2})\Z")
"""What ends with a postcode of any country is an address."""

_NUMBER_BEFORE = re.compile(
    r"(?<![\w./-])(?:(?i:flat|unit|studio|apt\.?|apartment|suite|level|shop|house|plot|lot)[ ])?\d{1,5}[A-Za-z]?(?:[/-]\d{1,4})?(?:,|\n)?[ ]?\Z"
    r"|(?<![\w.])(?i:flat|unit|studio|apt\.?|apartment|suite|level|shop|house|plot|lot)[ ]\Z"
)
"""The number of a house in front of its street, and what stands in front of that."""

_PROVINCE = re.compile(r",?[ ](?:AB|BC|MB|NB|NL|NS|NT|NU|ON|PE|PEI|QC|SK|YT|NSW|VIC|QLD|TAS|ACT)\b")

_MIDDLE = re.compile(r"[ ]([A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ]+)[ ]")
_INITIALS = re.compile(r"(?<![\w.])(?:[A-Z]\.[ ]?){1,3}\Z")
_SAINT = re.compile(r"(?<![\w.])(?:St\.?|ST\.?|Ste\.?|Saint)[ ]\Z")
"""In front of a church, a hospital or a town: "St. [Marguerite]"."""

_LIKE_A_CREDENTIAL = re.compile(r"(?<![\w.'’-])(?:Do|Md|Mohd|Muhd|Abd)\.?[ ]\Z")
"""Names in front that look like a degree or a verb: "Do [Thi Mai]", "Md. [Rahman]"."""

_SURNAME = re.compile(r"[ ]([A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ][\w'’-]+)(?=[ ]?([,(.;)\n]|$))?")
_SIGN = re.compile(rf"(?:[ ](?!{_NOT_SIGNS})[A-Z][a-z'’&-]+){{0,2}}[ ](?:{_SIGNS})(?!\w|['’-]\w)")
"""What makes an institution of a name in front of it: "[Gotham] Liver Svc", "[Norman] PD"."""

_AGE = re.compile(
    r"(?:,?[ ]|[ ]?[(\[])((?:9\d|10\d))(?=[ ]?[,;)\]|]|[ ]*$|[ ](?!(?:mg|mcg|ml|units?|bpm|on|days?|hours?|hrs?|mins?|minutes|weeks?|cc|g|kg|lbs?|am|pm|st|street|ave|avenue|road|rd|percent|of|to|and|over|x)\b)[A-Za-z])",
    re.MULTILINE,
)
"""The age behind a name: "Featherstone 91 DNR", "wife Michiko 90, son"."""

_ACTS = re.compile(
    r"[ ](?:was|is|has|had|reports?|reported|denie[sd]|state[sd]|says|said|lives|came|called|presented|agree[sd]|walked|slept|feels|wants)\b(?![ ](?:given|held|started|stopped))"
)
"""What somebody does whose surname is also a brand: "Mary Crestor was admitted"."""

_OWNED = re.compile(r"[ ][A-Z][a-z]")
_MOST_WORDS = 4
MIN_LIKELIHOOD = 0.05
"""Of a capitalized word in front of an institution to belong to it, by the names network, which gives other words .01 to .03."""

MIN_BEHIND = 0.02
"""Of a capitalized word behind one."""

_TAIL = re.compile(
    rf"(?:[ ](?:[A-Z]{{2,3}}|holiday|medical|nursing|crisis|help|support|men['’]s|women['’]s|youth|community|county|public|senior|day|truck|fire|police|football|rugby))?[ ](?:{'|'.join(sorted(by_hand('after_places')))})\b"
)
_BEFORE_PLACES = by_hand("before_places")
"""First words of places: "Two Harbors", "North Tees", "Old Mill"."""

_NOT_OF_NAMES = by_hand("before_facilities")
_OF_NAMES = by_hand("facility_words") | by_hand("care_words") | by_hand("street_words")
_SHORT = by_hand("short_facilities")


def joined(scan: Scan, spans: Sequence[Span]) -> list[Span]:
    """Spans (disjoint, in order) that cover what the given ones cover, and what belongs to the names and places among them."""
    result: list[Span] = []
    ages = (age for span in spans if span.kind is Kind.NAME for age in _age_behind(scan, span))
    for span in sorted((*(_whole(scan, span) for span in spans), *ages), key=lambda span: span.start):
        last = result[-1] if result else None
        if last is not None and span.start < last.end:
            result[-1] = replace(last, end=max(last.end, span.end), canonical=None) if span.end > last.end else last
        elif last is not None and last.kind in _PLACES and span.kind in _PLACES and _one_place(scan.text[last.end : span.start]):
            kind = Kind.LOCATION if Kind.LOCATION in (last.kind, span.kind) else last.kind
            result[-1] = Span(last.start, span.end, kind, min(last.strength, span.strength))
        elif last is not None and _on_a_street(scan, last, span):
            result[-1] = Span(last.start, span.end, Kind.LOCATION, min(last.strength, span.strength))
        elif last is not None and last.kind is span.kind is Kind.NAME and _one_person(scan.text[last.end : span.start]):
            result[-1] = Span(last.start, span.end, Kind.NAME, min(last.strength, span.strength))
        else:
            result.append(span)
    return [piece for span in _streets(scan, result) for piece in _apart(scan, _addressed(scan, span))]


def _streets(scan: Scan, spans: Iterable[Span]) -> Iterator[Span]:
    """The spans, with a street that passed for somebody's name and the town behind it as one."""
    last: Span | None = None
    for span in spans:
        if last is not None and _one_address(scan, last, span):
            last = Span(last.start, span.end, Kind.LOCATION, min(last.strength, span.strength))
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def _addressed(scan: Scan, span: Span) -> Span:
    """An address that ends with a postcode, with all of that and with the number of the house."""
    if span.kind not in _PLACES:
        return span
    text, start, end = scan.text, span.start, span.end
    if _OUTWARD_END.search(text, start, end) and (match := _INWARD.match(text, end)) is not None:
        end = match.end()
    if _STATE_END.search(text, start, end) and (match := _CODE_BEHIND.match(text, end)) is not None:
        end = match.end()
    if _CODED.search(text, start, end) and (match := _NUMBER_BEFORE.search(text, max(0, start - 24), start)) is not None:
        start = match.start()
    return span if (start, end) == (span.start, span.end) else replace(span, start=start, end=end, canonical=None)


def _apart(scan: Scan, span: Span) -> Iterator[Span]:
    """A place and the place in which it is, apart: "211 Linden Ct" and "Holyoke"."""
    start = span.start
    if span.kind in _PLACES and span.strength < _KNOWN:
        for match in _INSIDE.finditer(scan.text, span.start, span.end):
            yield Span(start, match.start(), span.kind, span.strength)
            start = match.end()
    yield span if start == span.start else Span(start, span.end, span.kind, span.strength)


def _age_behind(scan: Scan, span: Span) -> Iterator[Span]:
    """The age of 90 or above that stands behind a name."""
    if (match := _AGE.match(scan.text, span.end)) is not None:
        yield Span(match.start(1), match.end(1), Kind.AGE)


def _street(scan: Scan, span: Span) -> bool:
    """Whether a piece behind "on" is a road: "Kum & Go on [S. Dubuque]", "Fred's on [Hwy 231]"."""
    return span.kind in _PLACES and _ROAD.search(scan.text, span.start, span.end) is not None


def _on_a_street(scan: Scan, shop: Span, street: Span) -> bool:
    """Whether the first is on a street that the second names: "Kum & Go on S. Dubuque"."""
    return {shop.kind, street.kind} <= set(_NAMED) and scan.text[shop.end : street.start] == " on " and _street(scan, street)


def _one_address(scan: Scan, street: Span, town: Span) -> bool:
    """Whether what passes for somebody's name is a street: a number stands in front of it, and a town with a postcode behind: "94 [Thomas Promenade],
    [Clarkview, QLD, 2945]"."""
    if street.kind is not Kind.NAME or town.kind not in _PLACES:
        return False
    text = scan.text
    numbered = text[street.start].isdigit() or _NUMBER_BEFORE.search(text, max(0, street.start - 24), street.start) is not None
    coded = _CODED.search(text, town.start, town.end) is not None
    return numbered and coded and text[street.end : town.start] in (" ", ", ", "\n", ",\n")


def _one_place(between: str) -> bool:
    """Whether nothing but a comma, a line's end, numbers and capitalized words stands between two pieces."""
    short = len(between) <= _MOST_BETWEEN and between.count("\n") <= 1 and between.strip() not in _CONNECTORS
    return short and re.search(r"[,\n]|^ ", between) is not None and _BETWEEN.fullmatch(between) is not None


def _one_person(between: str) -> bool:
    """Whether one capitalized everyday word stands between two pieces: "[Lakota] Standing [Elk-Moreau]"."""
    match = _MIDDLE.fullmatch(between)
    if match is None:
        return False
    word = norm(match.group(1))
    return not (word in TITLES or word in _NOT_OF_NAMES or word in by_hand("roles") or word in words().acronyms)


def _whole(scan: Scan, span: Span) -> Span:
    """A name with its initial and all of its words, an institution with the capitalized words around it."""
    text, kind = scan.text, span.kind
    if kind in NUMBERS or kind is Kind.PHONE:
        match, before = _ATTACHED.match(text, span.end), _LETTERS.search(text, max(0, span.start - 24), span.start)
        if match is None and _SPACED_CODE.fullmatch(text, span.start, span.end):
            match = _CHECK.match(text, span.end)
        end = span.end if match is None else match.end()
        start = span.start if before is None or before.group(1) in _NUMBER_LABELS else before.start(1)
        return span if (start, end) == (span.start, span.end) else replace(span, start=start, end=end, canonical=None)
    start, end = _hyphened(scan, span.start, span.end) if kind in _NAMED else (span.start, span.end)
    if kind in _NAMED and (match := _SAINT.search(text, max(0, start - 7), start)) is not None:
        start = match.start()
    if kind is Kind.NAME and text.endswith(("'s", "’s"), start, end) and _OWNED.match(text, end):
        kind = Kind.ORGANIZATION  # "Big Earl's Catfish Kitchen"
    if kind in _NAMED and (match := _AUSTRALIAN.match(text, end)) is not None:
        kind, end = Kind.LOCATION, match.end()
    if kind is Kind.NAME:
        start, end = _person(scan, start, end)
        if span.strength < _KNOWN and (match := _SHOP.match(text, end) or _sign(scan, start, end)) is not None:
            kind, end = Kind.ORGANIZATION, match.end()
    elif kind in _PLACES:
        if scan.has_small and not text[start:end].isupper():
            start, end = _institution(scan, start, end)
        for pattern in (_DOOR, _PROVINCE, _CORNER, _OUTWARD):
            if (match := pattern.match(text, end)) is not None:
                end = match.end()
    return span if (start, end, kind) == (span.start, span.end, span.kind) else Span(start, end, kind, span.strength)


def _sign(scan: Scan, start: int, end: int) -> re.Match[str] | None:
    """The rest of an institution's name behind one that no title makes a person's."""
    if not scan.has_small or _TITLED.search(scan.text, max(0, start - 12), start):
        return None
    return _SIGN.match(scan.text, end)


def _hyphened(scan: Scan, start: int, end: int) -> tuple[int, int]:
    """Over the other half of a hyphened name: "Al-[Ihsan]", "[Kocher]-Lund", "[Eun]-ji"."""
    text = scan.text
    if (match := _HALF_BEFORE.search(text, max(0, start - 20), start)) is not None:
        start = match.start()
    if (match := _HALF_AFTER.match(text, end)) is not None or (
        (match := _SYLLABLE.match(text, end)) is not None
        and (not scan.is_word(match.group(1)) or scan.likelihood(match.start(1), match.end(1)) >= _SURE_SYLLABLE)
    ):
        end = match.end()
    return start, end


def _person(scan: Scan, start: int, end: int) -> tuple[int, int]:
    """With the initials in front, the word after a particle, and the surname that is also a word: "S. [Papadimitriou]", "[Eun-ji] Song (rad onc)"."""
    text = scan.text
    if (match := _INITIALS.search(text, max(0, start - 8), start)) is not None and not ALONE.fullmatch(match.group().strip()):
        start = match.start()
    if (match := _LIKE_A_CREDENTIAL.search(text, max(0, start - 8), start)) is not None:
        start = match.start()
    if (match := _NICK_BEFORE.search(text, max(0, start - 20), start)) is not None:
        start = match.start(1)
    if (match := _NICK_AFTER.match(text, end)) is not None:
        end = match.end(1)
    found = scan.words_in(start, end)
    if ((match := _COMMA_SPOKEN.match(text, end)) is not None and _may_be_given(match.group(1).split()[0])) or (
        (match := _GIVEN_AFTER.match(text, end)) is not None and _may_be_given(match.group(match.lastindex or 0))
    ):
        end = match.end()
    if (
        len(found) == 1
        and scan.has_small
        and (match := _GIVEN_BEFORE.search(text, max(0, start - 16), start)) is not None
        and _is_given(match.group(1))
    ):
        start = match.start(1)
    if not found or not scan.has_small:
        return start, end
    match = _SURNAME.match(text, end)
    if match is None or found[-1].raw.isupper():
        return start, end
    word, lists = norm(match.group(1)), words()
    after_particle = found[-1].norm in PARTICLES and len(found) > 1
    alone = len(found) == 1 or (len(found) == 2 and text[found[0].end : found[1].start] == "-")
    barred = word in TITLES or word in lists.acronyms or word in lists.eponym_nouns
    acts = alone and found[0].norm in lists.first and word not in lists.drugs and _ACTS.match(text, match.end(1)) is not None
    ends = alone and match.group(2) is not None and not lists.is_drug(word)
    return (start, match.end(1)) if after_particle or (not barred and (acts or ends)) else (start, end)


def _may_be_given(word: str) -> bool:
    folded, lists = norm(word.rstrip(".")), words()
    return len(folded) < 3 or folded in lists.first or not (lists.is_common(folded) or folded in lists.acronyms or folded in TITLES)


def _is_given(word: str) -> bool:
    """Whether a capitalized word in front of a surname is a given name, though it is also an everyday word: "Hyacinth [McLeod]"."""
    folded, lists = norm(word), words()
    return folded in lists.first and folded not in NOBODY and not lists.is_drug(folded)


def _institution(scan: Scan, start: int, end: int) -> tuple[int, int]:
    """With the capitalized words behind it, and those in front that the network gives a chance: "Two [Harbors] Cardiac Wellness"."""
    text = scan.text
    for _ in range(_MOST_WORDS):
        match = _MORE.match(text, end)
        if match is None or not _belongs(match.group(1)) or not _may_follow(scan, match):
            break
        end = match.end()
    if (match := _TAIL.match(text, end)) is not None:
        end = match.end()
    for _ in range(2):
        match = _BEFORE.search(text, max(0, start - 24), start)
        if match is None or norm(match.group(1)) in _NOT_OF_NAMES:
            break
        inside = text[max(0, match.start(1) - 3) : match.start(1)].rstrip(" \t")[-1:] not in ("", ".", "!", "?", "\n")
        first = norm(match.group(1)) in _BEFORE_PLACES and inside
        if not first and scan.likelihood(match.start(1), match.end(1)) < MIN_LIKELIHOOD:
            break
        start = match.start(1)
    return start, end


def _may_follow(scan: Scan, match: re.Match[str]) -> bool:
    """Whether the network lets a capitalized word stand behind a place: not in "Gas Lane. Raised" and "Shaker Heights on Sunday"."""
    return norm(match.group(1)) in _OF_NAMES or scan.likelihood(match.start(1), match.end(1)) >= MIN_BEHIND


def _belongs(word: str) -> bool:
    """Whether a capitalized word can go on an institution's name."""
    folded, lists = norm(word), words()
    if word.isupper() or folded in _OF_NAMES:
        return folded in _SHORT or (folded in _OF_NAMES and len(word) > 1)
    return len(word) > 1 and not (folded in TITLES or folded in _NOT_OF_NAMES or lists.is_drug(folded) or folded in lists.acronyms)
