"""Tier 1: dates more exact than a year, and ages of 90 and above."""

import re
from collections.abc import Iterator

from client.deid.rules.patterns import any_of, searched
from client.deid.scan import Scan
from client.deid.spans import Kind, Span
from client.deid.vocabulary.words import by_hand

MONTH_NAMES = (
    "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?"
)
_SHORT_MONTH = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_MONTH = rf"(?:{MONTH_NAMES})\.?"
_YEAR = r"(?:(?:19|20)\d\d|['’]\d\d)"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_ORDINAL = rf"{_DAY}(?:st|nd|rd|th)?"
_TIME = r"(?:T\d{1,2}:?\d\d(?::?\d\d)?(?:\.\d+)?(?:Z|\s?[+-]\d\d:?\d\d)?|@\d\d:?\d\d(?::\d\d)?)?"
"""What ISO 8601 joins to a date, and what VistA does. The time of day itself is no element of a date; only a machine's time stamp is taken as a whole."""

_GAP = r"[\s,.\-/]{1,3}"

_TEXTUAL = searched(
    rf"""(?<!\w)(?:
        {_ORDINAL}(?:\s*(?:-|–|to|and|&)\s*{_ORDINAL})?(?:{_GAP}(?<!,\s)|,\s(?!{_MONTH}{_GAP}{_ORDINAL}(?!\d)))(?:of\s+)?{_MONTH}(?:{_GAP}(?:{_YEAR}|\d\d(?!\d)))?
      | (?:19|20)\d\d{_GAP}{_MONTH}{_GAP}{_ORDINAL}(?!\d)
      | {_MONTH}{_GAP}(?:the\s+)?{_ORDINAL}(?:\s*(?:-|–|to|and|&)\s*{_ORDINAL})?(?!\d)(?:{_GAP}{_YEAR})?
      | {_MONTH}{_GAP}(?:of\s+)?{_YEAR}
      | {_DAY}(?:{_SHORT_MONTH})(?:(?:{_GAP})?(?:{_YEAR}|\d\d))?
      | (?:spring|summer|autumn|fall|winter)\s+(?:of\s+)?(?:19|20)\d\d
    ){_TIME}(?!\w)""",
    re.IGNORECASE | re.VERBOSE,
)
_ELSEWHERE = any_of(by_hand("months_elsewhere"))
_FOREIGN = searched(
    rf"(?<!\w)(?:{_DAY}(?:\.|er|º|°|ste|de|e)?(?:[ ]|[ ]?[./-][ ]?)(?:de[ ]|d['’])?(?:{_ELSEWHERE})\b\.?(?:{_GAP}(?:de[ ]|del[ ])?{_YEAR})?|(?:{_ELSEWHERE})\.?[ ](?:de[ ]|del[ ])?(?:19|20)\d\d)(?!\w)",
    re.IGNORECASE,
)
_FEAST = searched(
    rf"(?<![\w-])(?:(?:late|early)\s)?(?:(?:st\.?|saint)[\s-])?(?:{any_of(by_hand('feasts'))})(?:\s+(?:eve|day|night|morning|weekend|wkend|wknd|wkd|week|season|monday|sunday))*(?:,?\s(?:of[ ])?(?:19|20)\d\d)?(?![\w-]|['’]\w)"
    r"(?!\s+(?:disease|factor|tree|cake|lil(?:y|ies)|card|seals?|unit|surgery|cent(?:er|re)|clinic|hospital|care|case|school|nursery|island))",
    re.IGNORECASE,
)
"""A day that has a name, and the year behind it."""

_LETTERS = searched(r"[^\W\d_]+")
_FEAST_WORDS = frozenset(max(_LETTERS.findall(name.lower()), key=len) for name in by_hand("feasts"))
_ELSEWHERE_WORDS = frozenset(max(_LETTERS.findall(name.lower()), key=len) for name in by_hand("months_elsewhere"))
"""The longest word of each: a text in which none of them stands is not searched, which takes a tenth of the time."""

_LONG_MONTHS = "January|February|April|June|July|August|September|October|November|December"
_UNITS = "one|two|three|four|five|six|seven|eight|nine"
_NUMBER_WORD = rf"(?:twenty|thirty)[\s-](?:{_UNITS})|thirty|twenty|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|{_UNITS}"
_UNIT_ORDINALS = "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth"
_ORDINAL_WORD = rf"(?:twenty|thirty)[\s-](?:{_UNIT_ORDINALS})|tenth|eleventh|twelfth|(?:thir|four|fif|six|seven|eigh|nine)teenth|twentieth|thirtieth|{_UNIT_ORDINALS}"
_YEAR_WORDS = rf"(?:,?\s+(?:nineteen|twenty|two\s+thousand)(?:\s+and)?(?:[\s-](?:oh|hundred|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|{_NUMBER_WORD})){{0,3}}|,?\s+(?:19|20)\d\d)?"
_SPOKEN = searched(
    rf"\b(?:the\s+)?(?:{_ORDINAL_WORD})(?:\s+of)?\s+(?:{_LONG_MONTHS}|may|march)\b{_YEAR_WORDS}"
    rf"|\b(?:{_NUMBER_WORD})\s+(?:{_LONG_MONTHS}\b{_YEAR_WORDS}|(?:may|march)\b{_YEAR_WORDS}(?<!may)(?<!march))"
    rf"|\b(?:{_LONG_MONTHS})\s+(?:the\s+)?(?:(?:{_ORDINAL_WORD})\b|(?:{_NUMBER_WORD})(?=,?\s+(?:nineteen|twenty|two\sthousand|(?:19|20)\d\d))){_YEAR_WORDS}"
    rf"|\b(?:may|march)\s+(?:the\s+(?:{_ORDINAL_WORD})|(?:{_ORDINAL_WORD})(?=,?\s+(?:nineteen|twenty|two\sthousand|(?:19|20)\d\d))|(?:twenty|thirty)[\s-](?:{_UNIT_ORDINALS}))\b{_YEAR_WORDS}",
    re.IGNORECASE,
)
"""Dates as they are dictated: "the third of June", "eleven March twenty twenty-two". In "may first try" May is a verb."""

_BORN_SPOKEN = searched(
    rf"\b(?:date\s+of\s+birth|d\s?o\s?b|birth\s?(?:date|day)|born)[\s,:]+(?:(?:is|on|was)\s+)?((?:(?:{_NUMBER_WORD}|oh|hundred|(?:for|fif|six|seven|eigh|nine)ty)(?:[\s-]+(?!years|months|weeks|days|minutes)|\b)){{3,6}})(?<!\s)",
    re.IGNORECASE,
)
"""A date of birth dictated as numbers alone: "date of birth nine fourteen seventy four"."""

_NUMERIC = searched(
    rf"""(?<![\w.\-/])(?:
        (?P<ymd>(?:19|20)\d\d\s?(?P<s1>[-/.])\s?\d{{1,2}}\s?(?P=s1)\s?\d{{1,2}}(?:\s\d\d:\d\d:\d\d)?)
      | (?P<dmy>\d{{1,2}}\s?(?P<s2>[-/.])\s?\d{{1,2}}\s?(?P=s2)\s?(?:(?:19|20)\d\d|\d\d))
      | (?P<roman>\d{{1,2}}(?P<s3>[-/.])\s?(?:(?:I{{1,3}}|IV|VI{{0,3}}|IX|XI{{0,2}})|(?:i{{1,3}}|iv|vi{{0,3}}|ix|xi{{0,2}}))(?P=s3)\s?(?:(?:19|20)\d\d|\d\d)|\d{{1,2}}\.(?:I{{1,3}}|IV|VI{{0,3}}|IX|XI{{0,2}})\.?(?![\w.]))
      | (?P<my>(?:(?:0?[1-9]|1[0-2])[-/]|(?:0[1-9]|1[0-2])\.)(?:19|20)\d\d)
      | (?P<ym>(?:19|20)\d\d[-/](?:0[1-9]|1[0-2]))
      | (?P<compact>(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))
    ){_TIME}(?![\w/]|[-.]\d)""",
    re.VERBOSE,
)
_DAY_MONTH = searched(
    r"""(?:\b(?:on|since|from|until|till|dated?|seen|return(?:ed|s)?|visit|follow[\s-]?up|f/u|appt|appointment|last|next|admitted|discharged|started|
        stopped|through|thru|before|after|due|dos|doa|dod|date\sof\s\w+|given|done|drawn|collected|performed|removed|placed|received|signed|typed|reviewed|adm|disch|repair(?:ed)?|teaching|recert|booked|sched(?:uled)?|cx['’]?d|rtc|wk\sof|week\sof|starting|begin(?:ning)?|exp(?:ires)?|
        (?:next|last)\s(?:session|visit|appt|appointment|clinic|class|injection|infusion|treatment|chemo|dialysis)|
        (?:mon|tues?|wed|weds|thurs?|fri|sat|sun)(?:[a-z]{0,5}day)?)\b[\s:(,.]{1,3}|^[\s\[(*-]*)
        (\d{1,2}/\d{1,2}(?:\s?(?:-|–|to)\s?\d{1,2}/\d{1,2})?)(?![/\d%]|\.\d|\s?(?:mg|ml|mm|cm|strength|pain|tab|on\b|in\sseverity|systolic))""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_AND_DAY = re.compile(
    r"(?:,?[ ](?:and|&|or)[ ]|,[ ])(?=(\d{1,2}/\d{1,2})(?![/\d%]|[.,-]\d|[ ]?(?:mg|ml|mm|cm|strength|pain|tab|on\b|in\b|beats|nodes?|points?)))",
    re.IGNORECASE,
)
"""Another day behind one: "SVT on 2/5 and 2/12"."""

_TESTED = searched(
    r"\b(?:labs?|bloods|cbc|bmp|cmp|cxr|mri|ct|x-?rays?|uss?|echo|ekg|ecg|eeg|dexa|egd|colonoscopy|pet(?:-ct)?|biops(?:y|ies)|inj(?:ury|ured)?|surgery|op)[ ]?(?:\((\d{1,2}/\d{1,2})\)|(\d{1,2}/\d{1,2})(?=:[ ]))",
    re.IGNORECASE,
)
"""A day and month right behind a test: "Labs 9/4: Hgb 10.2", "MRI (4/12)"."""

_HYPHENED = searched(
    r"\b(?:visit|seen|dated?|appt|due|adm(?:itted)?|dos|d/c|f/u)[ :]{1,2}((?:0?[1-9]|1[0-2])-(?:0?[1-9]|[12]\d|3[01]))(?=[ ]*[,.;)\n]|$)(?!\.\d)",
    re.IGNORECASE,
)
"""3-18 right behind a word that speaks of a day; elsewhere that is a range."""

_DOTTED = searched(
    r"\b(?:on|since|from|until|till|dated?|seen|d\.?o\.?b\.?|born|next|last|adm(?:itted)?|disch(?:arged)?|birth|visit|review(?:ed)?|appt|due|fill|op|surgery|given|done|by)\b[\s:(,.]{1,3}"
    r"(\d{1,2}\.\d{1,2}(?:\.\d\d)?)(?!\d|\.\d|%|\s?(?:mg|ml|mm|cm|kg|g|u|units|mmol|x|times|hours|days|weeks|months|years|cc|l|m|in|lb)\b)|(?<![\w./-])(?<!version )(?<!v )(\d\d\.\d{1,2}\.\d\d|\d\.\d\d\.\d\d)(?![\w/-]|\.\d)",
    re.IGNORECASE,
)
"""4.5.23, and 8.19 where the sentence speaks of a day; elsewhere that is a value."""

_MONTH_DAY = searched(
    r"(?<![\w./-])(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])[-–](?:0?[1-9]|[12]\d|3[01])/(?:20)?\d\d(?![\w/-])"
    r"|(?<![\w./:,%+-])(?:(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])(?:/\d\d)?\s?[-–]\s?(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])(?:/\d\d)?)(?![\w/%]|[.,-]\d)"
    r"|\b(?:mon|tue|tues|wed|weds|thu|thur|thurs|fri|sat|sun)(?:[a-z]{3,5})?\.?,?[ ](?:0?[1-9]|[12]\d|3[01])[/.-](?:0?[1-9]|[12]\d|3[01])(?:[/.-](?:\d{4}|\d\d))?(?![\w/%]|[.,]\d)"
    r"|(?<![\w./:,%+-])(?<!\d )(?:(?:0?[1-9]|1[0-2])/(?:11|13|14|1[6-9]|2[1-9]|31)|(?:1[3-9]|2[1-9]|3[01])/(?:0[1-9]|[1-689]|1[01]))(?:\s?[-–]\s?\d{1,2}/\d{1,2})?"
    r"(?![\w/%+]|[.,-]\d|[ ]?(?:nodes?|lns?|lymph|cores?|positive|pos\b|neg\b|sessions?|visits?|points?|pts\b|correct|doses?|cycles?|beats|ratio|mg|mcg|ml|mmhg|strength|days|hours|weeks|out\s+of|of\b|x\b))",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\b(?:nodes?|lns?|apgars?|scored?|scores?|total|moca|mmse|slums|phq-?9|phq|gad-?7|gad|gcs|bp|va|acuity|audit|plates|bipap|cpap|[ie]pap|peep|ap|day|er|pr|allred|tof|train\s+of\s+(?:4|four)|aims|mo?ca|points|ratio|correct|attended|kept|completed|mas|berg|tinetti|dgi|fga|pain|monofilament|strength|power|count|katz|morisky|adherence|murmur)\W{0,3}(?:of|was|is|:|=)?\s*$",
    re.IGNORECASE,
)
"""What a fraction counts: 2/14 nodes, MMSE 11/30."""

_OUT_OF_TEN = re.compile(r"(?:\d|10)/10(?:\s?(?:to|-|–)\s?(?:\d|10)/10)?")
_RATED = re.compile(
    r"\b(?:pain|relief|rat(?:es?|ed|ing)|severity|intensity|discomfort|nausea|anxiety|mood|cravings?|itch(?:ing)?|fatigue|dyspn(?:o?ea|eic))\b"
    r"(?:[^.;\n]{0,30}\b(?:to|of|at|as|a|is|was|now|still|currently|about|around))?[ :,(]{1,2}\Z",
    re.IGNORECASE,
)
"""What makes a day of October a score: "relief to 3/10"; "pain since 3/10" is a day."""

_CHANGED = re.compile(
    r"\b(?:down|up|rose|risen|rising|fell|fallen|dropped|declined|increased|decreased|improved|reduced)[ ]\Z", re.IGNORECASE
)
"""What makes a decimal behind "from" a value that was: "down from 9.4"."""

_AMERICAN = re.compile(r"(?:0?[1-9]|1[0-2])/(?:1[3-9]|2\d|3[01])(?:/\d{2,4})?")
_AMONG_AMERICAN = searched(
    r"(?<![\w./:,%+~-])(?<!\bx )(?<!\bin )(?<!\bfor )(?:(?:[1-9]|1[0-2])/(?:[13789]|20|30)|0[1-9]/(?:0?[1-9]|[12]\d|3[01])|(?:[1-9]|1[0-2])/0[1-9])(?![\w/%+]|[.,-]\d|[ ]?(?:days?|weeks?|hours?|doses?|pts\b|nodes?|cores?))"
)
"""What is a month and a day in a note that has written another so: its lower number is seldom that of a score. In a note from elsewhere, and below
2, 4, 5, 6, 10, 12 and 15, it stays a fraction."""

_DURATION = re.compile(
    r"\d{1,2}/(?:7|52|12)\b(?!\s?(?:-|–|to)\s?\d)\s*(?:hx|history|ago|of\b|h/o|duration|cough|pain|fever|rash|sob|dry|sore|days?|weeks?|months?)",
    re.IGNORECASE,
)
"""British shorthand: 3/7, 2/52 and 4/12 are three days, two weeks and four months."""

_MONTH_ALONE = searched(
    r"\b(?:[Ii]n|[Aa]round|[Ss]ince|[Uu]ntil|[Ll]ast|[Tt]his|[Nn]ext|[Bb]y|[Dd]uring|[Ff]rom|[Ee]arly|[Ll]ate|[Mm]id|[Oo]f|[Tt]o)[\s-]"
    r"(?:early |late |mid[- ]?)?((?:January|February|March|April|May|June|July|August|September|October|November|December|Jan|Feb|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)(?!\s+(?:have|be|not|also|need))"
    r"|\b((?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[-–/](?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec))\b"
)
COUNTED_OFF = (
    "percentile|centile|floor|rib|toe|finger|digit|metatarsal|metacarpal|ray|nerve|intercostal|ics|space|attempt|try|day|night|time|week|month|year|trimester|line|"
    "cycle|dose|visit|session|ward|unit|level|grade|hole|street|avenue|st|ave|road|rd|stage|admission|pregnancy|child|baby|degree"
)
"""What is counted and is no day of a month: "on the 5th toe"."""

_DAY_NAME = searched(
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b(?:,?\s+(?:the\s+)?\d{1,2}(?:st|nd|rd|th)\b)?"
    r"|(?<!\w)(?:mon|tues?|weds?|thur?s?|fri|sat|sun)\.?,?\s(?:the\s+)?\d{1,2}(?:st|nd|rd|th)\b"
    r"|(?<!\w)(?:mon|tues?|weds?|thur?s?|fri|sat|sun)\.?,?\s(?=\d{1,2}(?:st|nd|rd|th)?\s(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|(?:jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]{0,6}\.?\s\d)"
    rf"|(?<!\w)(?:mon|tues?|weds?|thur?s?|fri|sun|(?:mon|tues|wednes|thurs|fri|satur|sun)day),?[ ](?:the[ ])?(?:[5-9]|[12]\d|3[01])(?=[ ]?[,;)\n–—-]|\.(?!\d)|[ ](?!(?:am|pm|a\.?m|p\.?m|hrs?|hours?|o['’]clock|to|times|x|mg|min|of)\b)[A-Za-z(]|$)(?!-\d)"
    rf"|(?:(?<=\bon\s)|(?<=\bby\s)|(?<=\bsince\s)|(?<=\buntil\s)|(?<=\btill\s))the\s{_DAY}(?:st|nd|rd|th)\b(?!\s+(?:{COUNTED_OFF}))"
    r"|\bthe\s(?:[4-9]|[12]\d|3[01])(?:st|nd|rd|th)(?=[ ]?(?:[,;:)?!\n]|\.(?!\w)|$)|[ ](?:and|at|for|with|but|when|after|because|she|he|we|they|[Ii])[ ])",
    re.IGNORECASE,
)


class Dates:
    """Every element of a date except the year."""

    def find(self, scan: Scan) -> Iterator[Span]:
        text = scan.text
        for match in _TEXTUAL.finditer(text):
            found = match.group()
            # "may 2 tablets", "march 3 miles": in lower case these months are verbs unless a year or an ordinal says otherwise
            if re.search(r"\b(?:may|march|mar)\b", found) and not re.search(r"\d{4}|['’]\d\d|st\b|nd\b|rd\b|th\b", found):
                continue
            yield Span(match.start(), match.end(), Kind.DATE)
        for match in _SPOKEN.finditer(text):
            yield Span(match.start(), match.end(), Kind.DATE)
        for match in _NUMERIC.finditer(text):
            if _plausible(match):
                yield Span(match.start(), match.end(), Kind.DATE)
        for match in _DAY_MONTH.finditer(text):
            if _DURATION.match(text, match.start(1)) or is_score(text, *match.span(1)):
                continue
            if all(day_and_month(*map(int, part)) for part in re.findall(r"(\d{1,2})/(\d{1,2})", match.group(1))):
                yield Span(match.start(1), match.end(1), Kind.DATE)
                another = _AND_DAY.match(text, match.end(1))
                while another is not None and day_and_month(*map(int, another.group(1).split("/"))):
                    yield Span(another.start(1), another.end(1), Kind.DATE)
                    another = _AND_DAY.match(text, another.end(1))
        for match in _HYPHENED.finditer(text):
            yield Span(match.start(1), match.end(1), Kind.DATE)
        for match in _TESTED.finditer(text):
            found = match.group(match.lastindex or 0)
            if day_and_month(*map(int, found.split("/"))):
                yield Span(match.start(match.lastindex or 0), match.end(match.lastindex or 0), Kind.DATE)
        for match in _MONTH_DAY.finditer(text):
            # a fraction's lower number is nearly always 2 to 10, 12, 15, 20 or 30; these pairs are days of a month
            if _COUNTED.search(text, max(0, match.start() - 16), match.start()) is None:
                yield Span(match.start(), match.end(), Kind.DATE)
        if _AMERICAN.search(text) is not None:
            for match in _AMONG_AMERICAN.finditer(text):
                if _COUNTED.search(text, max(0, match.start() - 16), match.start()) is None and not _DURATION.match(text, match.start()):
                    yield Span(match.start(), match.end(), Kind.DATE)
        for match in _DOTTED.finditer(text):
            found = match.group(1) or match.group(2)
            day, month = map(int, found.split(".")[:2])
            # "on 5.5" may be a dose: without a year the shorter number must be able to be a month, and the other no decimal
            if (
                day_and_month(day, month)
                and not _CHANGED.search(text, max(0, match.start() - 12), match.start())
                and (found.count(".") == 2 or (re.fullmatch(r"\d{1,2}\.(?:\d\d|[1-9])", found) and max(day, month) > 5))
            ):
                yield Span(match.start(match.lastindex or 0), match.end(match.lastindex or 0), Kind.DATE)
        for match in _MONTH_ALONE.finditer(text):
            yield Span(match.start(match.lastindex or 0), match.end(match.lastindex or 0), Kind.DATE)
        letters = frozenset(_LETTERS.findall(text.lower()))
        feasts, elsewhere = not letters.isdisjoint(_FEAST_WORDS), not letters.isdisjoint(_ELSEWHERE_WORDS)
        for pattern in (_DAY_NAME, *([_FEAST] if feasts else []), *([_FOREIGN] if elsewhere else [])):
            for match in pattern.finditer(text):
                yield Span(match.start(), match.end(), Kind.DATE)
        for match in _BORN_SPOKEN.finditer(text):
            yield Span(match.start(1), match.end(1), Kind.DATE)


def _plausible(match: re.Match[str]) -> bool:
    if match["ymd"] or match["dmy"]:
        numbers = [int(n) for n in re.findall(r"\d+", match["ymd"] or match["dmy"])]
        pair = numbers[1:3] if match["ymd"] else numbers[:2]
        if match["s2"] == "." and len(match["dmy"].replace(" ", "")) < 8:
            return False  # 1.2.34 is a section or a version
        return day_and_month(*pair)
    return True


def is_score(text: str, start: int, end: int) -> bool:
    """Whether what looks like a day of October says how much something hurts: "relief to 3/10"."""
    return _OUT_OF_TEN.fullmatch(text, start, end) is not None and _RATED.search(text, max(0, start - 60), start) is not None


def day_and_month(a: int, b: int) -> bool:
    """Whether one of two numbers can be a month and the other a day of it."""
    return 1 <= min(a, b) <= 12 and 1 <= max(a, b) <= 31


_TENS = r"(?:ninety(?:[\s-]?(?:one|two|three|four|five|six|seven|eight|nine))?|(?:one\s+)?hundred(?:\s+and)?(?:\s+(?:one|two|three|four|five|six|seven|eight|nine|ten))?)"
_OLD = r"(?:9\d|1[0-2]\d)"
_UNIT = r"(?:years?|yrs?|y)(?:[\s-]*(?:old|of\s+age|o)\b|\b)|y\s?[./]?\s?o\b|year[\s-]old"
_AGES = (
    searched(rf"(?<![\d.,/])({_OLD})[\s-]*(?:{_UNIT})(?!\s+(?:history|hx|survival|ago|later))", re.IGNORECASE),
    searched(rf"\b({_TENS})[\s-]*(?:years?|yrs?)?[\s-]*(?:old|of\s+age)", re.IGNORECASE),
    searched(rf"\b(?:aged?|turned|turns|turning|turn|reached|age\s+(?:is|of|at\s+\w+))[\s:=]{{1,3}}({_OLD}|{_TENS})(?!\d|[./]\d|\s?%)", re.IGNORECASE),
    searched(rf"(?<![\d./])({_OLD})\s?(?:[MF]\b(?=\s+(?:with|who|w/|c/o|presents?|presenting|admitted|h/o|s/p|here|seen|from(?!\s+(?:\d|a\s+(?:fever|high|peak|max)))|found|lives|living|brought|transferred|resident|in\s+(?:for|by|after|with)))|(?:[- ]?(?:fe)?male|\s(?:wo)?man)\b)"),
    searched(rf"(?<=[a-z]),\s({_OLD})(?=,|\s?[MF]\b|\.\s|$)", re.MULTILINE),
    searched(rf"\b(?:died|dying|passed(?:\s+away)?|deceased|lived|living|alive|well|made\s+it)\s+(?:(?:in|of)\s+[\w'’-]+\s+)?(?:at|to(?:\s+be)?)\s+(?:the\s+age\s+of\s+|age\s+)?({_OLD}|{_TENS})(?!\d|[./%:]\d|%|\s?(?:am|pm|mg|days|weeks|months))", re.IGNORECASE),
    searched(rf"(?<=[a-z]),\s({_TENS})(?=,|\.\s|$)", re.MULTILINE),
    searched(
        r"(?i:\b(?:mother|father|mom|mum|dad|brother|sister|aunt|uncle|cousin|wife|husband|spouse|partner|grand(?:mother|father|ma|pa)|gran|nana|patient|pt|resident|twin|neighbou?r))"
        rf"\s*(?:\(\s*|,\s*|\bis\s+|\bnow\s+|[\s\[(\"“]*[A-Z][\w'’-]+[\"”]?(?:\s[A-Z][\w'’-]+)?\s*[,(]\s*|\[\s*)?({_OLD})(?=\s*(?:[,);\]]|\.(?!\d))|\s+(?:now|and|who|with|lives|today|alive)\b|\s*$)",
        re.MULTILINE,
    ),
    searched(rf"\b(?:[Ss]?[Hh]e)(?:['’]s|[ ]is|[ ]was)[ ]({_OLD})(?=[,;]|\.(?!\d)|[ ](?:and|now|when|years)\b|$)", re.MULTILINE),
    searched(rf"(?<![\w.])[WBHA][ ]({_OLD})[MF]\b"),
    searched(rf"(?:^|(?<!C)[|,;/\t]|(?<!C )\()[ ]*({_OLD})(?:[ ]?[Mm]|(?<=9[0-6])[ ]?[Ff])(?=[ ]*(?:[|,;/)\t]|$))|[|\t][ ]*({_OLD})(?=[ ]*[|\t])", re.MULTILINE),
    searched(r"(?<![\d.,/])(?<!T )(?<!Tm )(?<!to )(?<!of )(?<!emp )(?<!max )(?:(9[0-6])F|(9\d|10\d)M)\b(?![ ]?(?:rectal|oral|ax))"),
    searched(rf"\bb(?:orn|\.)\s[^\n(]{{4,14}}\(({_OLD})\)"),
    searched(r"\bin\s+(?:his|her|their|the)\s+(?:late\s+|early\s+|mid[\s-]?)?(nineties|90['’]?s|hundreds)\b", re.IGNORECASE),
    searched(r"\b(nonagenarian|centenarian)s?\b", re.IGNORECASE),
)  # fmt: skip


class Ages:
    """Ages of 90 and above; younger ones may stay."""

    def find(self, scan: Scan) -> Iterator[Span]:
        for pattern in _AGES:
            for match in pattern.finditer(scan.text):
                group = match.lastindex or 0
                yield Span(match.start(group), match.end(group), Kind.AGE)
