"""Tier 1: addresses, places smaller than a state, and places of care."""

import re
from collections.abc import Iterator
from functools import cache

from ahocorasick_rs import AhoCorasick

from client.deid.rules.guard import guarded
from client.deid.rules.patterns import any_of, searched
from client.deid.rules.weighed import weighed
from client.deid.scan import Scan
from client.deid.spans import Kind, Span
from client.deid.vocabulary.words import by_hand, fold, norm, words

_CAPITALIZED = r"(?:(?:St|Ste|Ft|Mt)\.|[A-ZÀ-ÖØ-Þ][\w'’&-]*)"
_STATES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|"
    "Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|"
    "New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|"
    "Virginia|Washington|West Virginia|Wisconsin|Wyoming"
)
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
    "Pt",
    "Loop",
    "Run",
    "Trce",
    "Xing",
    "Bnd",
    "Cv",
    "Holw",
    "Pike",
    "Terr",
    "Cres",
    "Esp",
    "Pde",
    "Tce",
    "Cct",
)


@cache
def _street() -> re.Pattern[str]:
    suffixes = "|".join(sorted({*(suffix.title() for suffix in words().street_suffixes), *_SHORT_SUFFIXES}, key=lambda s: (-len(s), s)))
    return re.compile(
        rf"(?<![\w.,/-])\d{{1,6}}[A-Za-z]?(?:-\d{{1,4}}|/\d{{1,4}}(?!,))?,?[ \t]+(?:[NSEW]{{1,2}}\.?\s+)?(?:(?:{_CAPITALIZED}|\d{{1,3}}(?:st|nd|rd|th))\s+){{1,4}}?(?:{suffixes}|{suffixes.upper()})\b\.?{_UNIT}"
    )


# A number and capitalized words where a sentence speaks of an address: "of 211 Hansen Camp,", "lives at 8 Ernser Promenade."
_CUED = searched(
    rf"(?:\b(?:of|at|on|address(?:ed)?(?:\s+(?:is|of))?|lives?|living|residing|resides|home|to|near)\b[\s:]{{1,3}}|[:,;]\s|^[ \t]*)"
    rf"(\d{{1,5}}[A-Za-z]?\s+(?:{_CAPITALIZED}\s+){{0,3}}{_CAPITALIZED}){_UNIT}(?=\s*(?:[,.;)\n]|$))",
    re.MULTILINE,
)
_FOREIGN = searched(
    rf"(?<![\w/])(?:Rue|Rua|Via|Viale|Piazza|Piazzetta|Corso|Calle|Avenida|Avda|Paseo|Plaza|Plaça|Carrer|Camino|Chemin|Impasse|Quai|Ulica|ul\.|ulice|Nám\.|Allée|Boulevard|"
    rf"rue|rua|calle|avenida)\s+(?:(?:de|del|della|di|da|do|dos|du|des|la|le|el|los|las)\s+)*{_CAPITALIZED}(?:\s+{_CAPITALIZED}){{0,3}}(?:,?\s+\d{{1,5}}\w?\b)?"
    r"|\b[A-ZÀ-ÖØ-Þ]\w+(?:straße|strasse|straat|gasse|weg|platz|plein|laan|vej|gade|veien|vegen|gata|gatan|vägen|katu|kuja|tie|ulica|utca|vænget|stræde|allee)"
    r"\s+\d{1,5}\w?\b"
)
_MILITARY = searched(
    r"\b(?:PSC|USS|USNS|USCGC|USNV|Unit|CMR)\s+[\w'’-]+(?:,?\s+Box\s+\d+)?[\s,]+(?:APO|FPO|DPO)\s+[A-Z]{2}\s+\d{5}\b|\b(?:APO|FPO|DPO)\s+(?:A[AEP])\s+\d{5}\b",
    re.IGNORECASE,
)
_FLAT = searched(
    rf"(?<![\w.,/-])\d{{1,6}}\s(?:\d{{1,4}}\s)?(?:{_CAPITALIZED}\s){{1,4}}(?:\d{{1,4}}\s){{0,2}}(?:Apt|Apartment|Suite|Ste|Unit|Flat)\.?\s?#?\d{{1,5}}\b"
)
"""A flat of a house whose street says nothing of being one: "9721 Dalmatinova 43 Apt. 678"."""

_TOWN_AFTER = re.compile(
    rf"[\s]*,?[ \t]*\n?[ \t]*,?\s?({_CAPITALIZED}(?:[ -]{_CAPITALIZED}){{0,2}})?(?:\s?,?\s+(?:{_STATES}|[A-Z]{{2}}\b|(?:[A-Z]\.){{2,3}}|[A-Za-z]{{2,3}}(?=,?\s+\d{{4,5}}\b)))?"
    r"(?:,?\s*\n?\s*(?:\d{4,5}(?:-\d{4})?\b|[A-Z]\d[A-Z] ?\d[A-Z]\d\b))?"
)
_HIGHWAY = searched(
    r"\b(?:SR-\d{1,3}|I-(?!12[345]\b|131\b)\d{1,3}|US[- ]\d{1,3}|(?:Hwy|Highway|Route|Rte|Interstate|State\sRoute|County\sRoad|Indian\sRoute|Motorway)\.?\s\d{1,4}|[AM]\d{1,2}(?=\s(?:nr|near|at|northbound|southbound|junction|J\d)))\b"
    r"(?:\s(?:[NSEW]{1,2}|north|south|east|west)\b)?(?:,?\s(?:exit|mile\s?marker|MM|junction|J)\s?\d{1,3}\b)?|\b(?:[Ee]xit|[Mm]ile\s?marker)\s\d{1,3}[A-D]?\b"
)
_BLOCK = searched(
    r"\b(?:Blk|Block|Plot|Stand|Erf|Flat|Door|House|H\.?\s?No\.?|Lot|Site|Apt|Apartment|Unit|Shop)\s(?:[Nn]o\.?\s?)?\d{1,5}[A-Z]?\b(?:\s?/\s?\d{1,4})?(?=,?\s[A-Z\d#])"
)
_UNIT_ALONE = searched(r"\b(?:[Aa]pt|APT|Apartment|[Ss]uite|SUITE|Ste)\.?\s*#?\s*(?:\d[\w-]{0,5}|(?<=[Tt][ ])[A-Z]|(?<=T\.[ ])[A-Z])\b")
_BOX = searched(r"\b(?:P\.?\s?O\.?|post(?:al)?|G\.?P\.?O\.?|private)\s?(?:Box|Bag)\s+[A-Z]{0,2}\d+", re.IGNORECASE)
_CODES = "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC|PR"
_AMBIGUOUS_CODES = by_hand("ambiguous_states")
_CITY_STATE = searched(
    rf"({_CAPITALIZED}(?:[ -]{_CAPITALIZED}){{0,2}}),?\s+(?:({_CODES})|(?:{_STATES}))\b\.?(?:,?\s+(\d{{5}}(?:-\d{{4}})?)\b)?"
)
_ZIP = searched(r"\b(?:zip|(?:postal|post)\s?code|zip\s?code)[\s:#]{1,3}(?=[A-Z]{0,2}\d)([A-Z0-9]{2,5}[- ]?[A-Z0-9]{2,4}|\d{4,5}(?:-\d{4})?)\b|(?<![\w.,/-])\d{5}-\d{4}(?![\w-])", re.IGNORECASE)  # fmt: skip
_POSTCODE = searched(
    r"\b[A-Z]{1,2}\d[A-Z\d]?\s\d(?!MG|ML|MM|CM|KG|HR|DL)[ABD-HJLNP-UW-Z]{2}\b"
    r"|\b[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z][ ]{1,2}\d[ABCEGHJ-NPRSTV-Z]\d\b"  # Canada
    r"|\b[AC-FHKNPRTV-Y]\d[\dW][ ](?=[A-Z]*\d)(?=\d*[A-Z])[AC-FHKNPRTV-Y\d]{4}\b"  # Ireland
)
_AUSTRALIAN = searched(
    rf"({_CAPITALIZED}(?: {_CAPITALIZED}){{0,2}},?[ ](?:NSW|VIC|QLD|TAS|ACT|Qld|Vic|Tas)[ ]\d{{4}})(?!\d)|({_CAPITALIZED}(?: {_CAPITALIZED}){{0,2}},?[ ](?:NT|SA|WA)[ ]0?\d{{3,4}})(?!\d)"
)
_ROAD = searched(
    rf"\b(?:[Oo]n|[Aa]t|[Oo]f|[Nn]ear|[Oo]ff|[Aa]long|[Aa]cross|[Tt]o)[ ]((?:{_CAPITALIZED}[ ]){{1,3}}(?:Street|Avenue|Ave|Road|Rd|Blvd|Boulevard|Hwy|Highway|Pkwy|Parkway|Lane|Ln|Drive|Crescent|St|Pike|Turnpike|Freeway)\b\.?)"
    r"|\b(?:on|at|of|near|off)[ ]((?!the |this |her |his |my )[a-z]{3,}(?:[ ][a-z]{3,})?[ ](?:street|avenue|ave|road|rd|blvd|boulevard|hwy|highway|pkwy|lane|ln)\b)(?![ ]of)"
)
_LIVES = searched(
    r"\b(?:[Ll]iv(?:es?|ing|ed)|[Rr]esid(?:es?|ing|ed)|[Rr]esident|[Mm]oved|[Bb]orn|[Nn]ative|[Tt]ravel(?:l?ed|l?ing)?|[Tt]rip|[Rr]eturn(?:ed|ing)?|[Vv]isit(?:ed|ing)?|"
    rf"[Oo]riginally|[Hh]ome|[Ww]ork(?:s|ed|ing)?|[Gg]rew\s+up|[Rr]etired|[Ee]mployed|[Gg]raduated?|[Ss]tud(?:ies|ied|ent)|[Ww]ent|[Vv]olunteers?|[Ss]erved|[Ff]lew|[Dd]rove|man|woman|boy|girl|male|female|year-old|patient|lady|gentleman|infant|child)\s+(?:\w+\s+)?(?:in|at|of|from|to|near|outside|by)\s+((?:{_CAPITALIZED})(?:[ -]{_CAPITALIZED}){{0,3}})"
)
_DISTRICT = searched(rf"\b({_CAPITALIZED}(?: {_CAPITALIZED}){{0,2}} (?:County|Township|Parish|Borough|Village|Heights|Township|Reservation))\b|\b(?:City|Town|Village|County) of ({_CAPITALIZED}(?: {_CAPITALIZED})?)")  # fmt: skip


_COUNTRIES = frozenset(
    ("united states", "united kingdom", "united arab emirates", "south africa", "new york", "north dakota", "south dakota")
)


HOUSE_LIKELIHOOD = 0.03
"""Of a number in front of what may be a street."""


class Addresses:
    """Streets, boxes, ZIP and postal codes, and places that the sentence says somebody lives in or comes from."""

    def find(self, scan: Scan) -> Iterator[Span]:
        return weighed(scan, self._all(scan))

    def _all(self, scan: Scan) -> Iterator[Span]:
        text, lists = scan.text, words()
        for match in _street().finditer(text):
            if "\n\n" not in match.group() and _numbered(scan, match.start()):
                yield Span(match.start(), _town_after(text, match.end()), Kind.LOCATION)
        for match in _FLAT.finditer(text):
            yield Span(match.start(), _town_after(text, match.end()), Kind.LOCATION)
        for match in _CUED.finditer(text):
            shouted = scan.has_small and not any(word[1:].islower() for word in match.group(1).split())
            if (
                not shouted
                and _numbered(scan, match.start(1))
                and _telling(match.group(1))
                and not any(lists.is_drug(norm(word)) for word in match.group(1).split())
            ):
                yield Span(match.start(1), _town_after(text, match.end()), Kind.LOCATION)
        for pattern in (_FOREIGN, _MILITARY):
            for match in pattern.finditer(text):
                yield Span(match.start(), match.end(), Kind.LOCATION)
        for match in _BOX.finditer(text):
            yield Span(match.start(), _town_after(text, match.end()), Kind.LOCATION)
        for pattern in (_UNIT_ALONE, _BLOCK, _HIGHWAY, _ZIP, _POSTCODE, _AUSTRALIAN, _ROAD):
            for match in pattern.finditer(text):
                group = match.lastindex or 0
                yield Span(match.start(group), match.end(group), Kind.LOCATION)
        for match in _CITY_STATE.finditer(text):
            code, zip_code = match.group(2), match.group(3)
            sure = zip_code is not None or ("," in match.group() and (code or "").lower() not in _AMBIGUOUS_CODES)
            if sure and not lists.is_common(norm(match.group(1))):
                yield Span(match.start(), match.end(), Kind.LOCATION)
        for match in _LIVES.finditer(text):
            if _telling(match.group(1)):
                yield Span(match.start(1), match.end(1), Kind.LOCATION)
        for match in _DISTRICT.finditer(text):
            group = match.lastindex or 0
            if _telling(match.group(group)):
                yield Span(match.start(group), match.end(group), Kind.LOCATION)


def _town_after(text: str, end: int) -> int:
    """Where the address that begins before `end` ends: after the town, state and ZIP code that follow a street, if they do."""
    match = _TOWN_AFTER.match(text, end)
    if match is None or match.end() == end:
        return end
    town = match.group(1)
    if town is not None and not _telling(town):
        return end
    return match.end() if town is not None or any(character.isdigit() for character in match.group()) else end


def _numbered(scan: Scan, start: int) -> bool:
    """Whether the network may take the number at `start` for that of a house: not "1430" of "1430 BISHOP AMOS LAPP VISITED"."""
    return scan.likelihood(start, start + 1) >= HOUSE_LIKELIHOOD


def _telling(name: str) -> bool:
    """Whether a capitalized phrase holds a word that is not an everyday or clinical one."""
    lists = words()
    return any(not lists.is_common(norm(word)) and norm(word) not in lists.acronyms for word in re.findall(r"[^\W\d_]{2,}", name))


_CARE = (
    r"(?:(?:Medical|Health|Healthcare|Surgery|Surgical|Cancer|Heart|Rehabilitation|Rehab|Nursing|Care|Wellness|Imaging|Treatment|Living|Dialysis|Veterans)\s+(?:&\s+Care\s+|and\s+Care\s+)?"
    r"(?:Centers?|Centres?|Group|System|Systems|Home|Services|Associates|Partners|Facility|Clinic|Institute|Network|Foundation|Trust|Affairs)"
    r"|(?:Pathology|Radiology|Orthop(?:a?e)dics?|Cardiology|Pediatrics|Oncology|Dermatology|Dental|Eye|Women's|Wellness|Gastroenterology|Urology|Neurology|Physician)\s+(?:Associates|Group|Partners|Consultants|Specialists|Center|Institute)"
    r"|Imaging|Radiology|Orthopa?edics|Dentistry|Memory\s+Care|Senior\s+Living|Rehab|Hearing|Laborator(?:y|ies)|Surgicenter|Manor|Shelter"
    r"|Hospitals?|Clinics?|Urgent\s+Care|Family\s+(?:Medicine|Practice|Health)|Society|Hospice|Infirmary|Healthcare|Polyclinic|Sanatorium|Pharmacy|University|College|(?:High|Elementary|Middle|Primary)\s+School|Academy|"
    r"Nursing\s+Home|Care\s+Home|Retirement\s+(?:Home|Village)|Assisted\s+Living|Practice|Surgery|Health)"
)
_FACILITY = searched(
    rf"(?:{_CAPITALIZED}[ \t](?:(?:of|the|and|for|de|&|-|–)[ \t])?){{1,6}}?{_CARE}\b"
    rf"(?:(?:[ \t](?:of|at|for|&|and|-|–)(?:[ \t]the)?)?[ \t](?:{_CARE}|{_CAPITALIZED})\b(?:[ \t]*\([A-Z][\w ]+\))?){{0,8}}\.?(?<!\.)"
)
_SAINT = searched(
    rf"\b(?:(?:St|ST|Ste)\.?|Saint|Mount|Mt\.?)[ ]{_CAPITALIZED}(?:['’]s)\b(?![ ]wort)|\bOur[ ]Lady[ ]of(?:[ ]the)?[ ]{_CAPITALIZED}(?:[ ]{_CAPITALIZED})?|\bSacred[ ]Heart\b"
    rf"|\b(?:Pathology|Radiology|Orthopa?edics?|Cardiology|Pediatrics?|Oncology|Dermatology|Urology|Neurology|Anesthesia|Physicians?|Surgical|Cancer|Eye|Heart|Dental|Women['’]s)"
    rf"[ ](?:Associates|Specialists|Consultants|Partners|Group|Center|Institute|Clinic)[ ]of[ ](?:the[ ])?{_CAPITALIZED}(?:[ ]{_CAPITALIZED})?"
)
_SHOUTED = searched(
    r"((?:(?<![A-Z.])[A-Z][A-Z'’.&-]*[ ]){1,5})((?:REGIONAL[ ]|MEMORIAL[ ]|GENERAL[ ]|COMMUNITY[ ]|MEDICAL[ ]|HEALTH[ ]|SURGERY[ ]|CANCER[ ]|HEART[ ]|DISTRICT[ ]){0,2}"
    r"(?:HOSPITALS?|CLINICS?|INFIRMARY|HOSPICE|CENTERS?|CENTRES?|INSTITUTE|PHARMACY|UNIVERSITY|COLLEGE|ASSOCIATES|NURSING[ ]HOME|MANOR)\b(?:[ ]OF[ ][A-Z]{3,}(?:[ ][A-Z]{3,})?)?)"
)
"""An institution in capitals: "SRI ANNAPOORNA MULTISPECIALITY HOSPITAL"."""

_LETTERHEAD = searched(
    r"(?m)^[ \t>*=#]*((?!.*\b(?:FROM|FOR|TO|IN|AT|THE|BY|WITH|OR)\b)(?:[A-Z][A-Z'’.-]*[ ](?:&[ ]|AND[ ]|OF[ ])?){2,6}(?:HOSPITALS?|CLINICS?|INFIRMARY|HOSPICE|CENTERS?|CENTRES?|INSTITUTE|PHARMACY|ASSOCIATES|PARTNERS|LABORATORIES|"
    r"SPECIALISTS|PHYSICIANS|HEALTHCARE|DIAGNOSTICS|UROLOGY|IMAGING|DERMATOLOGY|CARDIOLOGY|INST)(?:,?[ ](?:P\.?C\.?|P\.?A\.?|LLC|PLLC|INC\.?|LTD\.?))?)(?=[ \t*<=#]*$|[ ]{3})"
)
"""A line that is nothing but an institution in capitals."""

_TOLD = searched(
    rf"\b(?:[Ee]mployer|[Ss]upplier|[Cc]arrier|[Ff]acility|[Aa]gency|[Ss]chool|[Pp]harmacy|[Pp]ractice|[Cc]hurch|[Mm]asjid|[Tt]emple|[Ss]helter|(?:[Ww]orks?|[Ww]orked|[Ww]orking)[ ](?:\w+[ ])?(?:at|for)|"
    rf"[Dd]rives[ ]for|[Ee]mployed[ ](?:at|by)|[Aa]ttends|[Ee]nrolled[ ](?:at|in)|[Rr]esides(?:[ ](?:at|in))?)[ ]?[:=]?[ ]((?:[Tt]he[ ])?{_CAPITALIZED}(?:[ ](?:&[ ]|and[ ]|of[ ]|at[ ])?{_CAPITALIZED}){{1,4}})"
)
_BEFORE_NAMES = by_hand("before_facilities")
UNTOLD_LIKELIHOOD = 0.05
_COMPANY = re.compile(r"\b(?:LLC|Inc|Corp|Ltd|PC|Pc|PLLC|GmbH|Trust|Dept|Department of [A-Z])\b")
_KIND_OF_HOUSE = by_hand("facility_words")


_SAINTLY = searched(rf"\b(?:at|from|to|via|near|of|attends|in)[ ](S(?:t|te)\.[ ]{_CAPITALIZED})(?!['’\w]|[ ](?:dance|wort|[Jj]ude|valve))")
"""A saint of whom the sentence speaks as of a place: "accepting at St. Vitus"."""

_WATER = searched(rf"\b(?:Lac|Lago|Lough|Loch|Llyn|Rivière|Arroyo)[ ](?:(?:de|du|des|la|a['’])[ ]){{0,2}}{_CAPITALIZED}")
_CHAIN = searched(
    rf"(?<![\w-])(?:{any_of(by_hand('chains'))}|cvs(?=[ ](?:on|at|pharmacy|store|\#))|(?<=the[ ])cvs)(?![\w-])", re.IGNORECASE
)
"""Chains of shops and the like, in any case."""

_POST = searched(
    r"\b(?:VFW|AMVETS|DAV|(?:American[ ])?Legion)(?:[ ](?:Post|Hall))?[ ]#?\d{1,5}\b|\b(?:VFW|AMVETS)[ ](?:Post|Hall)\b|\b(?:Local|LOCAL)[ ]\d{2,4}\b"
)
_CORNER = searched(
    rf"\b(?:the\s+)?[Cc]orner\s+of\s+(?:the\s+)?[\w.'’ -]{{2,40}}?\s+(?:and|&)\s+(?:{_CAPITALIZED}|[\w'’.-]+)(?:[ \t]+(?:{_CAPITALIZED}|\d{{1,5}}\b)){{0,3}}"
)


class Places:
    """Countries, counties and towns of the lists: those of several words at once by Aho and Corasick, single ones word by word."""

    def find(self, scan: Scan) -> Iterator[Span]:
        return weighed(scan, self._all(scan))

    def _all(self, scan: Scan) -> Iterator[Span]:
        folded = fold(scan.text)
        if len(folded) == len(scan.text):
            for _, start, end in _long_names().find_matches_as_indexes(folded, overlapping=False):
                whole = not (folded[start - 1 : start].isalnum() or folded[end : end + 1].isalnum())
                if whole and (scan.text[start].isupper() or not scan.has_capitals):
                    yield Span(start, end, Kind.LOCATION)
        lists = words()
        for i, word in enumerate(scan.words):
            if word.norm not in lists.places or not word.raw[0].isupper() or len(word.norm) < 4:
                continue
            if not (scan.is_word(word.norm) or lists.is_name(word.norm) or word.norm in lists.acronyms or guarded(scan, i)):
                yield Span(word.start, word.end, Kind.LOCATION)
        for match in _CORNER.finditer(scan.text):
            yield Span(match.start(), match.end(), Kind.LOCATION)


@cache
def _long_names() -> AhoCorasick:
    lists = words()
    names = (name for name in lists.places if re.search(r"[\s-]", name) and len(name) > 6)
    return AhoCorasick(
        sorted(name for name in names if not all(lists.is_common(part) for part in re.split(r"[\s-]+", name)) or name in _COUNTRIES)
    )


class Facilities:
    """Hospitals, clinics, schools and the like, by name; "the pain clinic" is nobody's name."""

    def find(self, scan: Scan) -> Iterator[Span]:
        return weighed(scan, self._all(scan))

    def _all(self, scan: Scan) -> Iterator[Span]:
        for match in _FACILITY.finditer(scan.text):
            start, end = _trimmed(scan.text, match.start(), match.end())
            name = scan.text[start:end]
            kinds = {norm(word) for word in re.findall(r"[^\W\d_]+(?:['’]s)?", name)} & _KIND_OF_HOUSE
            if _telling(name) or kinds or _COMPANY.search(name):
                yield Span(start, end, Kind.ORGANIZATION)
        for match in _SHOUTED.finditer(scan.text):
            first = _first_telling(scan, match.start(1), match.group(1))
            if first is not None or " OF " in match.group(2):
                yield Span(match.start(2) if first is None else first, match.end(), Kind.ORGANIZATION)
        for match in _LETTERHEAD.finditer(scan.text):
            if scan.has_small:
                yield Span(match.start(1), match.end(1), Kind.ORGANIZATION)
        for match in _TOLD.finditer(scan.text):
            if _telling(match.group(1)) or scan.likelihood(match.start(1), match.end(1)) >= UNTOLD_LIKELIHOOD:
                yield Span(match.start(1), match.end(1), Kind.ORGANIZATION)
        for pattern in (_SAINT, _SAINTLY, _POST, _CHAIN, _WATER):
            for match in pattern.finditer(scan.text):
                group = match.lastindex or 0
                yield Span(match.start(group), match.end(group), Kind.ORGANIZATION)


def _first_telling(scan: Scan, start: int, before: str) -> int | None:
    """Where, in the words in front of "HOSPITAL", its name begins: at the first that is no word of the language, or a facility's."""
    for match in re.finditer(r"\S+", before):
        folded = norm(match.group().strip("."))
        if len(folded) > 1 and folded not in words().acronyms and (folded in _KIND_OF_HOUSE or not scan.is_word(folded)):
            return start + match.start()
    return None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without the words of the sentence that begin with a capital in front of the name: "Seen at", "The"."""
    while (match := re.match(r"([^\W\d_]+)[ \t,.:]+", text[start:end])) and norm(match.group(1)) in _BEFORE_NAMES:
        start += match.end()
    return start, end
