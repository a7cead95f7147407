"""Tier 1: telephone numbers, network addresses, and the numbers that name a person, a plan, an account, a licence or a device."""

import re
from collections.abc import Iterator
from itertools import pairwise

from client.deid.rules.guard import CLOCK, HOURS
from client.deid.rules.patterns import searched
from client.deid.scan import Scan
from client.deid.spans import Kind, Span

_EXTENSION = r"(?:\s?,?\s?(?:x|ext\.?|extension)\s?\d{1,6})?"
_MEASURED = r"\s?(?:mg|mcg|µg|ug|g|kg|ml|dl|l|mm|cm|m|mmhg|units?|iu|u|meq|mmol|cells?|copies|cfu|bpm|kcal|calories|k|%|/(?:µl|ul|mm|hpf|l|ml|day|hr|min|kg))\b"

_PHONES = (
    searched(
        rf"(?<![\d.])(?:\+?1[\s.-]?)?(?:\(\d{{3}}\)[\s.-]{{0,2}}|\d{{3}}(?:[\s./-]{{1,3}}|[ ](?:uh|um|er)[ ]))\d{{3}}(?:[\s./-]|-\n|[ ][.-][ ]|[ ](?:uh|um|er)[ ])\d{{4}}(?!\d){_EXTENSION}",
        re.IGNORECASE,
    ),
    searched(rf"(?<![\d./-])\d{{3}}[-.]\d{{4}}(?![\d]|[-./]\d){_EXTENSION}", re.IGNORECASE),
    searched(rf"\+\d{{1,3}}[\s().-]{{0,3}}(?:\(0\)[\s.-]?)?(?:\d[\s().-]{{0,2}}){{5,12}}\d(?!\d){_EXTENSION}", re.IGNORECASE),
    searched(
        rf"(?<![\d.,/-])(?:\(0\d{{1,4}}\)|0\d{{1,4}})(?!/\d\d?[ ])(?:[ -]{{1,2}}|[./])\d{{2,7}}(?:(?:[ -]{{1,2}}|\.)\d{{2,7}}){{0,3}}(?!\d|[.,/:]\d){_EXTENSION}",
        re.IGNORECASE,
    ),
)
_GROUPED = searched(
    rf"(?<![\w.,/-])(?:[A-Z][ -])?\(?\d{{2,5}}\)?(?:[ -]\d{{2,4}}){{1,4}}(?![\w]|[.,/%-]\d|/[a-z]|{_MEASURED})", re.IGNORECASE
)
_LABELLED_PHONE = searched(
    r"""\b(?!(?-i:pH)\b)(?:tel(?:ephone|e)?|phone|ph|cell(?:phone|ular)?|mobile|mob|fax|pager|beeper|landline|whatsapp|spectra(?:link)?|(?<!sick[ ])(?<!on[ ])call(?:ed|back)?|contact|reach(?:ed)?|extension|ext|
        voicemail|hotline|sms|text|bleep|vmail|ofc|pgr|bpr|vocera|ascom|dect|voip)\b\.?
        (?:\s+(?:me|us|her|him|them|back|at|on|the|number|no|nr|is|was|home|work|office|clinic|cell))*[\s.:#=-]{0,4}
        (\+?\(?\d[\d\s().\-/]{2,18}\d(?:\s?(?:x|ext\.?)\s?\d{1,6})?)(?![\d]|\s?(?:mg|ml|hours?|days?|weeks?|months?|years?|times))""",
    re.IGNORECASE | re.VERBOSE,
)


_WHEN = re.compile(
    r"(?:(?:[0-2]?\d|3[01])[/-](?:[0-2]?\d|3[01])(?:[/-](?:\d\d|\d{4}))?|\d{4}-\d\d-\d\d)\s+(?:(?:[01]?\d|2[0-3])(?:[0-5]\d)?|24)"
)
"""A day and a time, "11-19 0600", or as much of it as a number holds: "6/11 14" of "6/11 14:10"."""

_DAY_BEHIND = re.compile(r"\s\d{1,2}/\d{1,2}(?!\d).*")
"""The day behind a labelled number: "PGR 0199 06/22 23:48"."""


class Phones:
    """Telephone, fax and pager numbers of any country."""

    def find(self, scan: Scan) -> Iterator[Span]:
        text = scan.text
        for pattern in _PHONES:
            for match in pattern.finditer(text):
                catalogued = _CATALOGUE.search(text, max(0, match.start() - 12), match.start())
                if 7 <= _digits(match.group()) <= 22 and not (
                    catalogued or HOURS.fullmatch(match.group()) or _WHEN.fullmatch(match.group())
                ):
                    yield Span(match.start(), match.end(), Kind.PHONE)
        for match in _GROUPED.finditer(text):
            groups = re.findall(r"\d+", match.group())
            # a range of doses or a list of readings has short or equal groups; a telephone number has seven digits at least
            catalogued = _CATALOGUE.search(text, max(0, match.start() - 12), match.start())
            if (
                7 <= sum(map(len, groups)) <= 13
                and len(groups[-1]) >= 3
                and not (_is_range(groups) or HOURS.fullmatch(match.group()) or _timed(groups) or _WHEN.fullmatch(match.group()))
                and not catalogued
            ):
                letter = 2 if match.group()[1:2] == " " and sum(map(len, groups)) >= 10 else 0  # the "c" of "c 508-555-0190"
                yield Span(match.start() + letter, match.end(), Kind.PHONE)
        for match in _INTERNAL.finditer(text):
            group = match.lastindex or 0
            yield Span(match.start(group), match.end(group), Kind.PHONE)
        for match in _LABELLED_PHONE.finditer(text):
            if match.group().lower().startswith("called") and CLOCK.fullmatch(match.group(1)):
                continue
            number = _DAY_BEHIND.sub("", match.group(1))
            if _digits(number) >= 4 and not re.fullmatch(r"(?:19|20)\d\d|20/\d\d+", number) and not _WHEN.fullmatch(number):
                yield Span(match.start(1), match.start(1) + len(number), Kind.PHONE)


_INTERNAL = searched(
    r"(?<![\w.])(x\d-\d{4})(?!\w)|(?<=[,(][ ])([2-9]-\d{4})(?=\))|(?<=\()([2-9]-\d{4})(?=\))|\b(?:[Pp]age|p\.)[ ](\d{4,5})(?=[ ]*[,;.)\n]|$)(?![.,]\d)"
    r"|(?<=[ ,(])([PpXx]\d{4,5}|(?<=\b[Pp][ ])(?:(?!19|20)\d{4}|\d-\d{4}))(?=[ ]*[,;.)\n]|$)(?![.,]\d)|\b(?:[Bb]leep|[Bb]eep|[Pp]ager|[Pp]gr|[Ee]xt|[Dd][Ee][Cc][Tt])\.?[ ]?#?(\d{3})(?=[ ]*[,;.)\n]|$)(?![.,]\d)",
    re.MULTILINE,
)
"""A number inside the house: "GI (Sunil, 4-0092)", "Page 1180."."""


def _digits(text: str) -> int:
    return sum(character.isdigit() for character in text)


def _timed(groups: list[str]) -> bool:
    """Whether groups of digits are times, or a time and what was read then: "0302 0320 0351", "1400 412"."""
    return CLOCK.fullmatch(groups[0]) is not None and all(len(group) <= 3 or CLOCK.fullmatch(group) for group in groups[1:])


def _is_range(groups: list[str]) -> bool:
    return len(groups) == 2 and len(groups[0]) == len(groups[1]) and int(groups[0]) < int(groups[1])


_TOP_LEVEL = "com|org|net|edu|gov|mil|int|info|biz|io|ai|app|health|care|clinic|hospital|doctor|eu|uk|us|ca|au|nz|ie|de|at|ch|fr|es|it|pt|nl|be|se|no|dk|fi|pl|cz|in|br|mx|sg|za|ng|ke|hk|jp|cn|kr|il|ae|example|test|online|site|local|me|tv|page|link"
_DOT = r"(?:\.|[ ]\.[ ]?|\.[ ](?=[a-z]))"  # a full stop with a space and a capital behind it ends a sentence
_EMAIL = searched(
    rf"[\w+%'-]+(?:(?:\.|[ ]\.[ ]?)[\w+%'-]+)*(?:@[ ]?|[ ]@(?:[ ]|(?=[\w.-]+\.(?:{_TOP_LEVEL})\b)))[\w-]+(?:{_DOT}[\w-]+)*{_DOT}[A-Za-z]{{2,}}\b"
)
_SPELT_EMAIL = searched(r"[\w.+-]+[ ](?:at|\(at\)|\[at\])[ ][\w-]+(?:[ ](?:dot|\(dot\)|\[dot\])[ ]\w+)+", re.IGNORECASE)
_URL = searched(rf"\b(?:https?://|ftp://|www\.)[^\s<>\"')\]]+[^\s<>\"')\].,;:!?]|(?<![\w@./-])(?:[a-z0-9-]+\.)+(?:{_TOP_LEVEL})\b(?:/[^\s<>\"')\]]*[^\s<>\"')\].,;:!?])?(?![\w@])|(?<![\w@./-])(?:[a-z0-9-]+\.)+[a-z]{{2,}}/[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]", re.IGNORECASE)  # fmt: skip
_ADDRESSED = re.compile(r"(?:https?|ftp)://|www\.", re.IGNORECASE)

HOST_LIKELIHOOD = 0.05
"""Of a host without a scheme to be one, by the names network: "toliet.no bowle/bladder" lacks a space."""

_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IP = searched(
    rf"(?<![\d.])(?:{_OCTET}\.){{3}}{_OCTET}(?![\d]|\.\d)|(?<![\w:])(?:[0-9a-f]{{1,4}}:){{4,7}}[0-9a-f]{{1,4}}(?![\w:])|(?<![\w:])(?:[0-9a-f]{{1,4}}:){{1,6}}:[0-9a-f]{{1,4}}(?![\w:])"
    r"|(?<![\w:-])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![\w:-])",
    re.IGNORECASE,
)
_FILE = searched(
    r"(?<!\w)[\w-]{3,}\.(?:jpe?g|png|gif|tiff?|bmp|heic|dcm|dicom|mp4|mov|avi|mpe?g|wav|mp3|m4a|ogg|aac|pdf|docx?|xlsx?|csv|zip|bin|iso|dat|nef|raw|cr2|arw|hl7|nii|edf|txt)\b",
    re.IGNORECASE,
)
_HANDLE = searched(r"(?<![\w@.])@[A-Za-z_]\w{2,}(?:\.\w+)*")


class NetworkAddresses:
    """E-mail, web, IP and MAC addresses, handles of social networks, and names of files such as photographs."""

    def find(self, scan: Scan) -> Iterator[Span]:
        text = scan.text
        if "@" in text:
            for match in _EMAIL.finditer(text):
                yield Span(match.start(), match.end(), Kind.EMAIL)
            for match in _HANDLE.finditer(text):
                yield Span(match.start(), match.end(), Kind.URL)
        if " dot " in text or "dot)" in text:
            for match in _SPELT_EMAIL.finditer(text):
                yield Span(match.start(), match.end(), Kind.EMAIL)
        for match in _URL.finditer(text):
            if _ADDRESSED.match(match.group()) or scan.likelihood(match.start(), match.end()) >= HOST_LIKELIHOOD:
                yield Span(match.start(), match.end(), Kind.URL)
        for match in _IP.finditer(text):
            yield Span(match.start(), match.end(), Kind.IP)
        for match in _FILE.finditer(text):
            yield Span(match.start(), match.end(), Kind.ID)


_CODE = r"(?:[A-Za-z]{0,5}[-/. ]?)?\d(?:[A-Za-z0-9]|[-/.](?=[A-Za-z0-9])|[ \t](?=\d{2})|(?<=\d{5})\s(?=\d\s*(?:[(,;\n]|$))){2,28}"
_MARK = r"(?:\s*(?:no\b\.?|nr\b\.?|num\b\.?|number|id\b|identifier|identification|code|\#|nos?\.))"
_STRONG: tuple[tuple[Kind, str], ...] = (
    (Kind.SSN, r"ssn|ss\#|social\s+security|soc\.?\s+sec\.?"),
    (Kind.MRN, r"mrn|m\.r\.n\.|mr\#|mr\s+(?:no|number|num)|medical\s+record|med\.?\s+rec\.?|nhs|chi(?:\s+number)?|csn|uhid|umrn|crn|accession|acc\s?\#|patient\s+id|pt\.?\s+id|hosp(?:ital)?\.?\s+(?:no|number|id|\#)|pid|ur|urn|unit\s+no|ipd|opd\s+no|ip\s+no|op\s+no|hcn|phn|ohip|ramq|ihi|"
     r"med\s?rec|chart\s+no|chart(?=[ ]\d{4})|case\s?:"),
    (Kind.HEALTH_PLAN, r"policy|member\s+id|subscriber|beneficiary|medicare|medicaid|hicn|mbi|health\s+plan|msp|gms|dva|pps(?:n|\s+no)?|aadhaa?r|abha|nin|nric|tfn|pan\s+card|(?:pa|prior\s+auth)\s+ref|rx\s?(?:grp|bin)|(?:wc|insurance)\s+claim|insurance(?:\s+(?:id|card|policy|member))?|group\s+(?:no|number|id)|grp"),
    (Kind.ACCOUNT, r"acct|account|a/c|iban|invoice|credit\s+card|debit\s+card|card\s+number|routing"),
    (Kind.LICENSE, r"npi|dea|driver'?s?\s+licen[cs]e|licen[cs]e|passport|certificate|lic|gmc|nmc|hcpc|ahpra|prov(?:ider)?\s+no|prov|medical\s+council|registration\s+no|(?<!\d\s)reg|d/l|dl\s?\#|dl\s+n(?:o|umber)|badge|employee"),
    (Kind.VEHICLE, r"vin|licen[cs]e\s+plate|number\s+plate|plate|tag|vehicle|rego|call\s?sign"),
    (Kind.DEVICE, r"serial|s/n|udi|device\s+id|imei|lot|ref\s+no|remote\s+monitor|loaner"),
)  # fmt: skip
_WEAK = r"record|chart|case|encounter|visit|order|specimen|episode|file|reference|ref|study|patient|pt|claim|authorization|auth|unit|hospital|group|plan|member|model|implant|device|registration|permit|registry|barcode|confirmation|tracking|ticket|room|bed|rx|kit|job|subject|fall|loaner|processor|report|incident|ip|op|reg"
_LABELLED = searched(
    rf"""(?<![A-Za-z])(?:{"|".join(f"(?P<{kind}>{labels})" for kind, labels in _STRONG)})(?![A-Za-z])
        (?:\s+(?:record|plan|card|policy|account|security|member|licen[cs]e|ending|in))*{_MARK}{{0,2}}\s*(?:is|was|of)?[\s:\#=.(-]{{0,4}}(?P<code>{_CODE})""",
    re.IGNORECASE | re.VERBOSE,
)
_MARKED = searched(rf"(?<![A-Za-z])(?:{_WEAK}){_MARK}{{1,2}}\s*(?:is|was|of)?[\s:\#=.(-]{{0,4}}(?P<code>{_CODE})", re.IGNORECASE)


_SPOKEN_DIGIT = "zero|oh|one|two|three|four|five|six|seven|eight|nine"
_SPOKEN = searched(
    rf"(?<!\bm )(?<!\bm r )\b(?!m\sr\sn\s)(?:[a-z]\s(?:dash\s)?){{0,4}}(?:(?:{_SPOKEN_DIGIT})(?:[\s-]+(?:double|triple|treble|dash|hyphen|slash))?[\s-]+(?:(?:double|triple|treble)\s)?){{3,}}(?:{_SPOKEN_DIGIT})\b",
    re.IGNORECASE,
)
"""A number as it is dictated, digit by digit: "h k four four oh one", "oh nine oh double two seven"."""

_SPACED = searched(r"(?<![\w.,/-])(?:\d,?[ ]){5,}\d(?![\w/]|[.,]\d)")
"""A number typed or spoken digit by digit."""

_SPELT = searched(r"\b(?:number|nhi|mrn|nhs|hospital|record|file|plate)[ ]((?:[a-z\d][ ]){4,}[a-z\d])(?!\w)")
"""A code dictated character by character: "hospital number r e 4 4 0 1 8"."""

_PASSWORD = searched(
    r"\b(?:access|activation|portal|proxy|verification|security|enrol?lment)[ ](?:code|key|pin)\b[^\w\n]{1,4}(?:is[ ])?((?=[A-Z-]*\d)[A-Z\d]+(?:-[A-Z\d]+)*)(?!\w)",
    re.IGNORECASE,
)

_LOT = searched(r"\b(?:[Ll]ot|LOT|[Ss]/?[Nn]|[Ss]erial)[ :#.]{1,3}((?=[A-Z]*\d)[A-Z\d]{5,12})(?!\w)")
"""A number of a device, however few of its characters are digits: "lot K7R2PD"."""

_DONATION = searched(r"(?<!\w)[A-Z]\d{4}[ ]?\d\d[ ]?\d{6}(?:[ ]\d\d)?(?:[ ][A-Z\d])?(?!\w)")
"""A donation of blood by ISBT 128: facility, year, number, flags, check character."""

_STARRED = searched(r"(?<=[A-Za-z][ ])(\*\d{4})(?!\w)")
"""An extension as wards write it: "Charge: Dawnelle *4471"."""

_BADGE = searched(r"(?:Officer|Ofc|Ofcr|Deputy|Trooper|Sgt|Det|Detective|PC|Agent|Badge)\.?[ ][A-Z][\w'’-]+,?[ ](\#\d{2,6})(?!\w)")
_CARD = searched(r"\b(?:visa|mastercard|amex|discover|card|account|acct|iban)\s+(?:ending|ends)(?:\s+in)?\s+(\d{4})(?!\d)", re.IGNORECASE)
_NUMBERED = searched(
    r"(?<![\w-])(?:[Nn]os?\.|[Nn]r\.|[Nn]o|[Nn]umber|[Nn]um\.?|[Rr]ef|MR(?![A-Z])|IRN|\#)[ ]?[:#]?[ ]?((?:[A-Z]{1,3}[- ]?)?\d{2,}(?:[ /-]?[A-Z\d]{2,}){1,4}(?:[ ]\d)?|\d{4,}[A-Z#]?|(?=[A-Z]*\d[A-Z\d]*\d)[A-Z\d]{6,})(?![\w]|[.,]\d|\s?%|\s?(?i:mg|ml|mcg|units?)\b)"
)
"""What follows "no." is a number of something, whatever stands before it."""

_THING = searched(
    r"\b(?i:tray|receipt|plot|courier|sample|booking|bkg|tape|stamp|envelope|comprobante|file|slip|exhibit|docket|locator|participant|subj(?:ect)?|ticket|vendor[ ]code|incident(?:[ ]form)?|pending|cert|unos|unet|cad)\b(?:[ ](?i:no|nr|number|num|code|id)\b\.?)?[ ]?[:#]?[ ]?\(?"
    r"((?=(?:[^\n\d]{0,6}\d){2})(?=[A-Z -]{0,6}\d)(?:[A-Z]{1,5}[ -]?)?[A-Z\d]+(?:[/ -](?=[A-Z]{0,2}\d)[A-Z\d]+)*)(?![\w/]|[.,]\d|[ ]?%|[ ]?(?i:mg|ml|mcg|units?|x|of|cm|mm|days?|weeks?|am|pm)\b)"
)
"""The number of something that belongs to somebody: "receipt 0447", "booking PTS 60-41177", "sample TS 4418-09"."""

_INTERPRETER = searched(r"\b[Ii]nterp(?:reter)?\b\.?[ ]?(?:[#:]|[Ii][Dd]|no\.?)?[ ]?(\d{4,7})(?!\w)")
_DOOR_CODE = searched(
    r"\b(?:gate|door|access|entry|alarm|key[ ]?safe|key|lock\s?box|buzzer)\s?(?:code|no\.?|number)?\s*[:#]?\s*(\#?\d{3,6}\#?)(?![\w/])",
    re.IGNORECASE,
)
_TRACKED = searched(
    r"\b1Z(?:[ ]?[A-Z\d]{2,4}){4,7}\b|\b(?:tracking|confirmation|claim|ticket|order)\b[ :#]{1,3}((?=(?:[^\n]{0,3}\d){4})[A-Z\d][A-Z\d#/-]{4,}(?:[ ]\d{2,4}){0,5})",
    re.IGNORECASE,
)
_UK_PLATE = searched(r"\b[A-HJ-PR-Y][A-Y][0-7]\d[ ]?(?!IN|ON|AT|OR)[A-HJ-PR-Z]{3}\b")
_DICTATED_BY = searched(r"(?:M\.?D|D\.?O|N\.?P)\.?[ ]{1,2}([A-Z]{2}\d{2,4})\b")
_USER = searched(
    r"(?i:\b(?:user(?:\s?(?:id|name))?|login|log-?in|uid|operator\s+id)\s*[:=#]\s*)([A-Za-z][\w.-]{2,24})|\b(?:login|user|username)[ ]((?=[a-z._]*[\d._])[a-z][\w.]{3,24}\w)(?!\w)"
)
_SIGNED_USER = searched(r"(?:[A-Z][.A-Z-]{1,5}|[a-z]{3,})[ ]?\(([a-z]{2,10}\d{1,4})\)")
_LAST_FOUR = searched(
    r"\b(?:last|ending(?:\s+in)?|final)\s*(?:four|4)(?:\s+(?:digits?|of|ssn|social|are|is|#|the|her|his))*\W{0,4}(\d{4})(?!\d)",
    re.IGNORECASE,
)
_GS1 = re.compile(r"\(01\)\s?\d{14}(?:\s?\(\d\d\)\s?[A-Za-z0-9-]{2,20})*")
"""A device's identifier as GS1 writes it: (01) the model, (21) the serial number."""

_PLATE = searched(
    r"(?i:\b(?:licen[cs]e\s+plate|number\s+plate|plate|tag|rego)\b(?:\s+(?:no|number|is|was))?[\s.:#]{1,3})((?=[A-Z \d-]*\d)[A-Z\d]{1,4}(?:[ -][A-Z\d]{1,5}){0,2})(?!\w)"
)
_CATALOGUE = re.compile(
    r"(?:ndc|loinc|cpt|icd(?:-?\d+)?(?:-cm)?|snomed|rxcui|rxnorm|atc|hcpcs)(?:\s(?:no|number|codes?))?\W{0,3}$", re.IGNORECASE
)
"""Codes of drugs, tests and diseases say nothing about a person."""


_TOOTH = re.compile(r"\d\d(?:[ /-][A-Z]+)+")
"""The number of a tooth and what is done to it: "#30 PFM crown"."""

_ITS_VERB = re.compile(r"([a-z]{2,5})[ ]")
"""What the sentence says of a number between its label and itself: "passport says 1.1.34"."""

_DECIMALS = re.compile(r"\d{1,2}\.\d{1,3}(?:/\d{1,2}\.\d{1,3})?")
"""A reading, as of an index that is called like a number of the office: "NPI 6.56"."""


class LabelledNumbers:
    """A code after a word that says whose or what it is: "MRN: 4711234", "policy no. AB-12 345"."""

    def find(self, scan: Scan) -> Iterator[Span]:
        for match in _LABELLED.finditer(scan.text):
            start, end = match.span("code")
            if (word := _ITS_VERB.match(scan.text, start, end)) is not None and scan.is_word(word.group(1)):
                start = word.end()
            if _digits(scan.text[start:end]) >= 3 and not _DECIMALS.fullmatch(scan.text, start, end):
                yield Span(start, end, _kind(match))
        for match in _MARKED.finditer(scan.text):
            if _digits(match["code"]) >= 3:
                yield Span(match.start("code"), match.end("code"), Kind.ID)
        for match in _NUMBERED.finditer(scan.text):
            if not _TOOTH.fullmatch(match.group(1)) and not _CATALOGUE.search(scan.text, max(0, match.start() - 12), match.start()):
                yield Span(match.start(1), match.end(1), Kind.ID)
        for pattern, kind in (
            (_USER, Kind.ID),
            (_SIGNED_USER, Kind.ID),
            (_PLATE, Kind.VEHICLE),
            (_LAST_FOUR, Kind.SSN),
            (_GS1, Kind.DEVICE),
            (_SPOKEN, Kind.ID),
            (_CARD, Kind.ACCOUNT),
            (_TRACKED, Kind.ID),
            (_UK_PLATE, Kind.VEHICLE),
            (_DICTATED_BY, Kind.ID),
            (_DOOR_CODE, Kind.ID),
            (_INTERPRETER, Kind.ID),
            (_SPACED, Kind.ID),
            (_SPELT, Kind.ID),
            (_PASSWORD, Kind.ID),
            (_LOT, Kind.DEVICE),
            (_DONATION, Kind.ID),
            (_STARRED, Kind.PHONE),
            (_BADGE, Kind.LICENSE),
            (_THING, Kind.ID),
        ):
            for match in pattern.finditer(scan.text):
                group = match.lastindex or 0
                if not (pattern is _SPOKEN and _counts(match.group())) and not (pattern is _SPACED and match.group().count(",") > 3):
                    yield Span(match.start(group), match.end(group), kind)


def _counts(spoken: str) -> bool:
    """Whether the digits go up one by one, as somebody counts: "one two three four"."""
    digits = [_SPOKEN_DIGIT.split("|").index(word) for word in re.findall(_SPOKEN_DIGIT, spoken.lower())]
    return all(b - a == 1 for a, b in pairwise(digits))


def _kind(match: re.Match[str]) -> Kind:
    return next(kind for kind, _ in _STRONG if match[kind])


_BARE = (
    (Kind.SSN, searched(r"(?<![\d-])\d{3}([- .])\d{2}\1\d{4}(?![\d-])")),
    (Kind.SSN, searched(r"(?<!\w)[xX*#]{3}[- ]?[xX*#]{2}[- ]?\d{4}(?!\d)")),
    (Kind.HEALTH_PLAN, searched(r"(?<![\d.,-])\d{4}[ -]\d{5}[ -]\d(?:[ -]\d|[ ]?/[ ]?\d)?(?!\d|\.\d)")),
    (Kind.ACCOUNT, searched(r"\b[A-Z]{2}\d{2}[ ]?(?:[A-Z0-9]{4}[ ]?){2,7}[A-Z0-9]{1,4}\b")),
    (Kind.ACCOUNT, searched(r"(?<![\d.])(?:\d{4}[ -]?){3}\d{1,7}(?![\d.]\d?)")),
    (Kind.ID, searched(rf"(?<![\w.,/-])\d{{6,}}(?!\w|[.,]\d|{_MEASURED})", re.IGNORECASE)),
    (Kind.ID, searched(r"(?<![\w.,/-])\d{1,6}(?:-\d{2,7}){1,4}(?![\w]|[.,/-]\d)")),
    (Kind.ID, searched(r"(?<![\w.,/:-])[A-Z]{1,3}\d\d:\d{3,7}(?![\w:])")),
    (Kind.ID, searched(r"(?<![\w.,/-])\d{3,5}/\d{1,2}/(?:19|20)\d\d(?![\w/]|[.,]\d)")),
    (Kind.ID, searched(r"(?<![\w.,/-])(?:1[5-9]|2\d)/(?!19|20)\d{4,5}(?![\w/]|[.,]\d)")),
    (
        Kind.ID,
        searched(r"(?<![\w./-])(?!G\d{1,2}P\d)(?=[A-Z0-9/-]*(?:\d[A-Z/-]*){4})(?=[0-9/-]*[A-Z])[A-Z0-9]+(?:[/-][A-Z0-9]+)*(?![\w]|\.\d)"),
    ),
)
_PROCEDURE = re.compile(r"[A-CEGHJ-MP-V]\d{4}")
"""Of HCPCS level II: "E0431", "J1885"."""

_SETTINGS = re.compile(r"\d+/\d+/[A-Z]+|[\d-]+/(?:HR?|MIN|DAY|KG|M?L|DL|HPF)")
"""Of a ventilator, and rates: "PRVC 16/420/PEEP 10", "50-200/HR"."""

_COUNTED = re.compile(r"(?:wbc|rbc|plt|platelets?|count|counts|viral\s+load|cfu|copies|titer)\W{0,4}(?:of|was|is|were)?\s*$", re.IGNORECASE)


class BareNumbers:
    """Long numbers and codes that nothing introduces. Measured values, dates and ranges are left to others."""

    def find(self, scan: Scan) -> Iterator[Span]:
        text = scan.text
        for kind, pattern in _BARE:
            for match in pattern.finditer(text):
                found = match.group()
                groups = re.findall(r"\d+", found)
                pairs = [len(group) for group in groups] == [2, 2, 2] and found.count("-") == 2
                if "-" in found and found.replace("-", "").isdigit() and ((_digits(found) < 7 and not pairs) or _is_range(groups)):
                    continue
                if _CATALOGUE.search(text, max(0, match.start() - 12), match.start()):
                    continue
                if _SETTINGS.fullmatch(found) or HOURS.fullmatch(found) or _PROCEDURE.fullmatch(found):
                    continue
                if found.isdigit() and _COUNTED.search(text, max(0, match.start() - 24), match.start()):
                    continue
                yield Span(match.start(), match.end(), kind)
