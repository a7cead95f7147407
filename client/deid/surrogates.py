"""What stands in a clean text instead of an identifier: plausible, keyed by the patient's random secret, never the original.

    HMAC-SHA256(secret, "kind\\0normalized original\\0attempt")  picks from a list or fills the shape of a number

Protects against: linking surrogates of two sites or two patients (the secrets are random and independent); telling from a surrogate what
it stands for without the secret; a leak that a reader could tell from a surrogate (both look alike).
Does not protect against: whoever holds the vault's key; the years that dates keep; the intervals that `shift` keeps. `shift` is not Safe
Harbor: dates are moved, not removed (it usually leans on Expert Determination).

Consistent within a patient: "John Smith", "SMITH, JOHN" and "Smith" get the same new name, number and place in every note.
"""

import calendar
import hashlib
import hmac
import importlib
import re
from collections.abc import Callable, Collection
from datetime import date, timedelta
from enum import StrEnum
from functools import cache

from client.deid.known import Known
from client.deid.rules.dates import MONTH_NAMES
from client.deid.scan import Scan
from client.deid.spans import NUMBERS, Kind, Span
from client.deid.vocabulary.words import PARTICLES, TITLES, WORD, fold, norm, words

UNKNOWN_DATE = "[DATE]"
_BEHIND_NAMES = frozenset(("md", "do", "np", "pa", "rn", "phd", "dds"))
"""Letters that stand behind a name: in front of one they are a name themselves, as in "Do Thi Mai" and "Md Rahman"."""

_MAX_ATTEMPTS = 100
_LETTERS = "abcdefghjkmnpqrstuvwxyz"
MAX_SHIFT_DAYS = 365

# 45 CFR 164.514(b)(2)(i)(B): three-digit prefixes whose areas held 20,000 people or fewer, as listed in the guidance of the US Department of
# Health and Human Services on de-identification (26 November 2012), from the Census of 2000.
SMALL_ZIP_PREFIXES = frozenset(
    ("036", "059", "063", "102", "203", "556", "692", "790", "821", "823", "830", "831", "878", "879", "884", "890", "893")
)


_CARE_NOUN = re.compile(
    r"Hospital|Clinic|Medical Center|Health Center|Hospice|Nursing Home|Pharmacy|School|University|College|Practice|Center|Centre"
)


class Dates(StrEnum):
    """`YEAR_ONLY` keeps the year, as Safe Harbor allows; `SHIFT` moves all dates of a patient by the same number of days."""

    YEAR_ONLY = "year_only"
    SHIFT = "shift"


class Surrogates:
    """One patient's replacements. A pure function of the secret, the record, the original, and the words that no surrogate may be.

    `avoid` holds the folded words of the names in the patient's notes: a surrogate that is somebody else's real name there would read as a
    leak. Notes that come later and bring such a name may so change a surrogate; everything else stays the same for ever.
    """

    def __init__(
        self, secret: bytes, known: Known, *, gender: str | None = None, dates: Dates = Dates.YEAR_ONLY, avoid: Collection[str] = ()
    ) -> None:
        self._secret, self._known, self._dates, self._avoid = secret, known, dates, frozenset(avoid)
        self._gender = {"f": "F", "m": "M"}.get((gender or "")[:1].lower(), "")
        self._shift = timedelta(days=1 + self._number("shift", "", 2 * MAX_SHIFT_DAYS) % MAX_SHIFT_DAYS) * (
            1 if self._number("sign", "", 2) else -1
        )

    def __repr__(self) -> str:
        return "Surrogates(<hidden>)"

    def replace(self, original: str, span: Span, *, newest_year: int) -> str:
        """The surrogate of one identifier. `newest_year` is the year of the note: an older person's birth year is not kept."""
        if span.kind is Kind.NAME:
            return self._name(original, span.canonical)
        if span.kind is Kind.DATE:
            return self._date(original, newest_year)
        if span.kind is Kind.AGE:
            return "90+"
        if span.kind is Kind.LOCATION:
            return self._place(original)
        if span.kind is Kind.ORGANIZATION:
            return self._organization(original)
        if span.kind is Kind.EMAIL:
            return f"user{self._number('email', fold(original), 9000) + 1000}@example.org"
        if span.kind is Kind.URL:
            return f"www.example.org/{self._number('url', fold(original), 9000) + 1000}"
        if span.kind is Kind.IP:
            return f"192.0.2.{self._number('ip', fold(original), 254) + 1}"  # TEST-NET-1 of RFC 5737: nobody's
        if span.kind is Kind.PHONE:
            return self._phone(original)
        assert span.kind in NUMBERS
        return self._code(original)

    # ---- names -------------------------------------------------------------------------------------------------------

    def _name(self, original: str, canonical: str | None) -> str:
        if canonical is not None and len(list(WORD.finditer(original))) != 1:
            return self._cased(self._name_word(canonical), original)  # a name broken over a line comes back whole
        pieces, end = [], 0
        for match in WORD.finditer(original):
            pieces.append(self._without_digits(original[end : match.start()]))
            word, end = match.group(), match.end()
            folded = canonical or norm(word)
            if folded in TITLES and len(original) > len(word) and not (match.start() == 0 and folded in _BEHIND_NAMES):
                pieces.append(word)
            elif len(folded) == 1:
                pieces.append(self._cased(self._initial(folded), word))
            elif folded in PARTICLES and not self._known.names.get(folded):
                pieces.append("")
            else:
                pieces.append(self._cased(self._name_word(folded), word) + ("'s" if word[-2:] in ("'s", "’s") else ""))
        pieces.append(self._without_digits(original[end:]))
        return re.sub(r"^\s+|(?<=[ ]) +", "", "".join(pieces)) or "[NAME]"

    def _without_digits(self, between: str) -> str:
        """What stands between the words of a name; a span that grew over a number must not carry it out."""
        return self._code(between) if any(character.isnumeric() for character in between) else between

    def _name_word(self, folded: str) -> str:
        lists = words()
        role = self._known.names.get(folded)
        if (role or _usual_role(folded)) == "given":
            gender = (self._gender if role else "") or lists.first.get(folded, "")
            pool = _given_names(folded, gender)
        else:
            pool = _family_names(folded)
        return self._pick("name", folded, pool)

    def _initial(self, letter: str) -> str:
        """The initial of the surrogate of the known name that begins with this letter, else a keyed letter."""
        for part in sorted(self._known.written):
            if part.startswith(letter):
                return self._name_word(part)[0]
        return _LETTERS[self._number("initial", letter, len(_LETTERS))].upper()

    @staticmethod
    def _cased(new: str, like: str) -> str:
        letters = [character for character in like if character.isalpha()]
        if letters and all(character.isupper() for character in letters) and len(letters) > 1:
            return new.upper()
        return new.lower() if letters and letters[0].islower() else new

    # ---- dates -------------------------------------------------------------------------------------------------------

    def _date(self, original: str, newest_year: int) -> str:
        new = _shifted(original, self._shift) if self._dates is Dates.SHIFT else _year(original)
        year = _year(new or "")
        # a year in which a person of 90 or more was born tells the age: 164.514(b)(2)(i)(C)
        if new is None or (year is not None and not newest_year - 90 < int(year) <= newest_year + 50):
            return UNKNOWN_DATE
        return new

    # ---- places ------------------------------------------------------------------------------------------------------

    def _place(self, original: str) -> str:
        key = " ".join(re.findall(r"[^\W_]+", fold(original)))
        zip_code = re.fullmatch(r"(\d{3})\d{2}(?:-\d{4})?", original.strip())
        if zip_code:
            prefix = zip_code.group(1)
            return ("000" if prefix in SMALL_ZIP_PREFIXES else prefix) + "**"
        if not re.search(r"[^\W\d_]", original):
            return self._code(original)
        town = self._pick("place", key, _towns())
        if re.match(r"\s*\d", original):
            return f"{self._number('house', key, 900) + 100} {self._pick('street', key, _streets())}"
        return self._cased(town, original)

    def _organization(self, original: str) -> str:
        key = " ".join(re.findall(r"[^\W_]+", fold(original)))
        nouns = _CARE_NOUN.findall(original)
        town = self._pick("organization", key, _towns())
        return f"{town} {nouns[-1]}" if nouns else town

    # ---- numbers -----------------------------------------------------------------------------------------------------

    def _phone(self, original: str) -> str:
        """Other digits in the same shape; a long number gets a line between 555-0100 and 555-0199, which is kept free for fiction."""
        digits = "".join(c for c in original if c.isdecimal())
        for attempt in range(_MAX_ATTEMPTS):
            new = "".join(str(byte % 10) for byte in self._stream("phone", f"{digits.lstrip('0')}\0{attempt}", len(digits)))
            if len(digits) >= 10:
                new = new[:-7] + "55501" + new[-2:]
            if self._free(new, digits):
                return _shaped(original, new, str.isdecimal)
        return "[PHONE]"

    def _code(self, original: str) -> str:
        """The same shape with other digits and letters; equal for equal letters and digits, whatever separates them."""
        old = "".join(f for f, c in zip(fold(original), original, strict=True) if c.isalnum())
        for attempt in range(_MAX_ATTEMPTS):
            stream = self._stream("code", f"{old}\0{attempt}", len(old))
            new = "".join(str(byte % 10) if c.isdigit() else _LETTERS[byte % len(_LETTERS)] for c, byte in zip(old, stream, strict=True))
            if self._free(new, old):
                return _shaped(original, new, str.isalnum)
        return "[ID]"

    # ---- keyed draws -------------------------------------------------------------------------------------------------

    def _pick(self, purpose: str, key: str, pool: tuple[str, ...]) -> str:
        """A keyed member of the pool that shares no word with the original and is no identifier of this patient."""
        for attempt in range(_MAX_ATTEMPTS):
            chosen = pool[self._number(purpose, f"{key}\0{attempt}", len(pool))]
            parts = set(fold(chosen).split())
            if self._free(chosen, key) and not parts & set(key.split()) and not parts & self._avoid:
                return chosen
        return "[NAME]" if purpose == "name" else "[PLACE]"

    def _free(self, new: str, old: str) -> bool:
        """Whether a surrogate is not the original and does not read as something the record knows."""
        return new != old and not any(True for _ in self._known.find(Scan(new)))

    def _number(self, purpose: str, key: str, below: int) -> int:
        return int.from_bytes(self._stream(purpose, key, 8), "big") % below

    def _stream(self, purpose: str, key: str, length: int) -> bytes:
        out, block = b"", 0
        while len(out) < length:
            message = f"{purpose}\0{key}\0{block}".encode("utf-8", "surrogatepass")
            out += hmac.digest(self._secret, message, hashlib.sha256)
            block += 1
        return out[:length]


def _shaped(original: str, new: str, changes: Callable[[str], bool]) -> str:
    """The original with those characters that change replaced by the ones of `new` in turn, in the same case."""
    fresh = iter(new)
    return "".join((next(fresh).upper() if c.isupper() else next(fresh)) if changes(c) else c for c in original)


def _year(text: str) -> str | None:
    full = re.search(r"(?<!\d)((?:19|20)\d\d)(?!\d)", text) or re.match(r"\s*((?:19|20)\d\d)\d{4}\s*$", text)
    return full.group(1) if full else None


_MONTH_NUMBER = {name[:3].lower(): number for number, name in enumerate(calendar.month_name) if name}
_ISO = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_NUMERIC = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})")
_DAY_FIRST = re.compile(rf"(\d{{1,2}})(?:st|nd|rd|th)?([\s\-.,]+(?:of\s+)?)({MONTH_NAMES})([\s\-.,]+)(\d{{4}})", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"({MONTH_NAMES})([\s\-.,]+)(\d{{1,2}})(?:st|nd|rd|th)?([\s\-.,]+)(\d{{4}})", re.IGNORECASE)


def _shifted(text: str, by: timedelta) -> str | None:
    """The date in the same form, moved; a time of day after it stays. None when it is not a complete date in a form we can write."""
    try:
        if match := _ISO.match(text):
            moved = date(int(match[1]), int(match[3]), int(match[4])) + by
            new = f"{moved.year:04}{match[2]}{moved.month:02}{match[2]}{moved.day:02}"
        elif match := _NUMERIC.match(text):
            a, b, year = int(match[1]), int(match[3]), match[4]
            day_first = a > 12
            full = int(year) if len(year) == 4 else int(year) + (2000 if int(year) < 50 else 1900)
            moved = date(full, *((b, a) if day_first else (a, b))) + by
            first, second = (moved.day, moved.month) if day_first else (moved.month, moved.day)
            new = f"{first:02}{match[2]}{second:02}{match[2]}{str(moved.year)[-len(year) :]}"
        elif match := _DAY_FIRST.match(text):
            moved = date(int(match[5]), _MONTH_NUMBER[match[3][:3].lower()], int(match[1])) + by
            new = f"{moved.day}{match[2]}{_month_like(moved.month, match[3])}{match[4]}{moved.year}"
        elif match := _MONTH_FIRST.match(text):
            moved = date(int(match[5]), _MONTH_NUMBER[match[1][:3].lower()], int(match[3])) + by
            new = f"{_month_like(moved.month, match[1])}{match[2]}{moved.day}{match[4]}{moved.year}"
        else:
            return None
    except (ValueError, OverflowError):
        return None
    rest = text[match.end() :]
    # what follows may only be a time of day: anything else could hold a date of its own
    return (
        new + rest
        if re.fullmatch(r"(?:(?:T|,?\s+(?:at\s+)?)\d{1,2}:\d\d(?::\d\d)?(?:\.\d+)?(?:\s?[ap]\.?m\.?)?(?:Z|[+-]\d\d:?\d\d)?)?", rest)
        else None
    )


def _month_like(month: int, like: str) -> str:
    name = calendar.month_name[month] if len(like) > 4 or like.lower() in ("may", "june", "july") else calendar.month_abbr[month]
    return name.upper() if like.isupper() else name


_ORIGINS = {
    "en": ("en_GB",), "es": ("es_ES", "es_MX"), "de": ("de_DE", "de_AT"), "fr": ("fr_FR",), "it": ("it_IT",), "pt": ("pt_PT", "pt_BR"), "nl": ("nl_NL",),
    "pl": ("pl_PL",), "sv": ("sv_SE", "da_DK", "no_NO"), "fi": ("fi_FI",), "cs": ("cs_CZ",), "hu": ("hu_HU",), "tr": ("tr_TR",), "in": ("en_IN",),
    "ke": ("en_KE",), "us": ("en_US",),
}  # fmt: skip
"""Where a name comes from, by the first locale that lists it: names of many countries stand among the American ones, which come last."""


@cache
def _pools() -> dict[str, tuple[dict[str, tuple[str, ...]], tuple[str, ...]]]:
    """Origin → (given names by gender, family names)."""
    return {origin: _pool(locales) for origin, locales in _ORIGINS.items()}


def _pool(locales: tuple[str, ...]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    providers = [importlib.import_module(f"faker.providers.person.{locale}").Provider for locale in locales]

    def listed(attribute: str) -> tuple[str, ...]:
        return _sorted_plain([name for provider in providers for name in getattr(provider, attribute, ())])

    given = {"F": listed("first_names_female"), "M": listed("first_names_male"), "": listed("first_names")}
    return given, listed("last_names")


@cache
def _origin_of() -> dict[str, str]:
    """Folded name → origin."""
    origins: dict[str, str] = {}
    for origin, (given, family) in _pools().items():
        for name in (*given["F"], *given["M"], *given[""], *family):
            origins.setdefault(fold(name), origin)
    return origins


def _given_names(folded: str, gender: str) -> tuple[str, ...]:
    """Given names of the same origin and gender as this one; American ones for a name of no list."""
    given, _ = _pools()[_origin_of().get(folded, "us")]
    return given[gender] or given[""]


def _family_names(folded: str) -> tuple[str, ...]:
    _, family = _pools()[_origin_of().get(folded, "us")]
    return family or _pools()["us"][1]


def _usual_role(folded: str) -> str:
    """Whether a name of nobody known is rather a given or a family name: by American usage, then by that of all countries."""
    provider = importlib.import_module("faker.providers.person.en_US").Provider
    given, family = folded.capitalize() in provider.first_names, folded.capitalize() in provider.last_names
    if given is family:
        given, family = folded in words().first, folded in words().last
    return "given" if given and not family else "family"


def _sorted_plain(names: object) -> tuple[str, ...]:
    """Sorted, so that a surrogate does not hang on the order of a library's list; everyday words are left out: they read as words."""
    assert hasattr(names, "__iter__")
    return tuple(sorted(name for name in set(names) if name.isalpha() and not words().is_common(fold(name))))


@cache
def _towns() -> tuple[str, ...]:
    heads = ("Ash", "Brook", "Clear", "Elm", "Fair", "Glen", "Hazel", "Kings", "Lake", "Maple", "North", "Oak", "Pine", "Red", "Stone", "West", "Wood", "Spring")  # fmt: skip
    tails = ("bury", "field", "ford", "haven", "mont", "port", "ridge", "side", "ton", "vale", "ville", "wick")
    return tuple(head + tail for head in heads for tail in tails)


@cache
def _streets() -> tuple[str, ...]:
    return tuple(f"{town} {kind}" for town in _towns() for kind in ("Street", "Avenue", "Road", "Lane"))
