"""Tier 0: the identifiers that the hospital's own index already knows of the patient.

Protects against: the patient's and relatives' names in any order and case, with initials, usual short forms, one typing error, or broken over a line; the
birth date in every usual form; record numbers, phone numbers, e-mail and postal addresses with any separators.
Does not protect against: names the index does not hold (an unusual nickname, a maiden name); a name that is an everyday word, in lower case inside
a mixed-case note ("hope" of Hope Long), unless it stands beside another part of the name; two errors in one word.
"""

import calendar
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import permutations

from nicknames import NickNamer

from client.deid.scan import Scan, Word
from client.deid.spans import Kind, Span
from client.deid.vocabulary.words import PARTICLES, TITLES, WORD, by_hand, fold, norm, words
from client.records import PatientRecord

MIN_TYPO_LETTERS = 4
MIN_NUMBER = 4
"""Characters of the shortest number or code that is looked for by itself."""

_BETWEEN_NAMES = re.compile(r"[\s.,\-–'’]{0,4}")
_LINE_BREAK = re.compile(r"-?[ \t]*\r?\n[ \t>]*")
_SAME = {
    "street": "st", "avenue": "ave", "road": "rd", "drive": "dr", "lane": "ln", "boulevard": "blvd", "court": "ct", "place": "pl", "square": "sq",
    "apartment": "apt", "suite": "ste", "unit": "apt", "north": "n", "south": "s", "east": "e", "west": "w", "highway": "hwy", "parkway": "pkwy",
    "terrace": "ter", "circle": "cir", "trail": "trl", "mount": "mt", "saint": "st", "fort": "ft",
}  # fmt: skip

_COURTESY = frozenset(("dr", "mr", "mrs", "ms", "mx", "miss", "prof", "sir", "herr", "frau"))
"""Titles that are nothing else, however a record writes a name."""


class Known:
    """One patient's identifiers, compiled once and looked for in many texts."""

    def __init__(self, record: PatientRecord) -> None:
        vocabulary = words()
        self._is_common = vocabulary.is_common
        self.names: dict[str, str] = {}
        """Part of a name, or a short form of it → "given" or "family"."""
        self.written: set[str] = set()
        """The parts as the index holds them, without short forms."""
        self._initials: set[str] = set()
        self._full_initials: set[str] = set()
        self._last_particles: set[str] = set()
        self._titles: set[str] = set()
        for name in (*record.names, *record.relatives):
            self._add_name(name)
        self._glued = {a + b: a for a, b in permutations(self.names, 2) if self.names[a] != self.names[b]}
        self._deletions: dict[str, set[str]] = {}
        for part in self.names:
            if len(part) >= MIN_TYPO_LETTERS:
                for shorter in (part, *_deletions(part)):
                    self._deletions.setdefault(shorter, set()).add(part)
        self._digits: dict[str, Kind] = {}
        self._codes: dict[str, Kind] = {}
        for number in record.record_numbers:
            self._add_code(number, Kind.MRN)
        for phone in record.phones:
            self._add_phone(phone)
        self._add_code(record.patient_id, Kind.MRN)
        for email in record.emails:
            self._add_code(email, Kind.EMAIL)
        self._addresses = [tokens for address in record.addresses if (tokens := _address_tokens(address))]
        self._address_words = {token for tokens in self._addresses for token in tokens}
        self._birth = _birth_pattern(record.birth_date)

    def __repr__(self) -> str:
        return "Known(<hidden>)"

    def find(self, scan: Scan) -> Iterator[Span]:
        """Every known identifier in the text. Spans may overlap."""
        yield from self._find_names(scan)
        for number, kind in self._digits.items():
            for start, end in scan.find_digits(number):
                yield Span(start, end, kind, 3)
        for code, kind in self._codes.items():
            for start, end in scan.find_squeezed(code):
                yield Span(start, end, kind, 3)
        if self._birth is not None:
            for match in self._birth.finditer(scan.text):
                yield Span(match.start(), match.end(), Kind.DATE, 3)
        yield from self._find_addresses(scan)

    # ---- names -------------------------------------------------------------------------------------------------------

    def _add_name(self, name: str) -> None:
        family_first = "," in name
        parts = [norm(m.group()) for m in WORD.finditer(name)]
        parts += [norm(piece) for m in WORD.finditer(name) for piece in re.split(r"['’]", m.group())[1:] if len(piece) > 3]
        core = [part for part in parts if len(part) > 1 and part not in TITLES and part not in PARTICLES] or [
            p for p in parts if len(p) > 1
        ]
        self._titles.update({part for part in parts if part in TITLES} - _COURTESY)
        self._last_particles.update(parts[-1:] if parts[-1:] and parts[-1] in PARTICLES else ())
        family = set(core[:1] if family_first else core[-1:])
        self.written.update(core)
        for part in core:
            self.names.setdefault(part, "family" if part in family and len(core) > 1 else "given")
        for part in core:
            for short in () if part in family and len(core) > 1 else short_forms(part):
                self.names.setdefault(short, "given")
        letters = [part[0] for part in parts if part not in TITLES]
        self._initials.update(letters)
        if len(letters) > 1:
            self._full_initials.update({"".join(letters), "".join(letters[-1:] + letters[:-1]), letters[0] + letters[-1]})

    def canonical(self, word: str) -> str | None:
        """The part of a known name that a folded word is, or is with one typing error."""
        if word in self.names:
            return word
        if len(word) < MIN_TYPO_LETTERS or self._is_common(word):
            return None
        near = {part for shorter in (word, *_deletions(word)) for part in self._deletions.get(shorter, ())}
        return min((part for part in near if _one_error(word, part)), default=None)

    def _find_names(self, scan: Scan) -> Iterator[Span]:
        if not self.names:
            return
        found = scan.words
        sure: dict[int, str] = {}
        unsure: dict[int, str] = {}
        for i, word in enumerate(found):
            part = self.canonical(word.norm)
            if part is None and word.norm in self._glued:
                part = word.norm
            if part is not None:
                # an everyday word in lower case is a name only beside another part of the name, or where nothing has capitals
                everyday = word.raw.islower() and scan.has_capitals and self._is_common(part)
                (unsure if everyday else sure)[i] = part
            if i and _LINE_BREAK.fullmatch(scan.gap(found[i - 1].end, word.start)):
                # even where the second half alone reads as a misspelt name: the first half belongs to it
                whole = self.canonical(found[i - 1].norm + word.norm)
                if whole is not None:
                    yield Span(found[i - 1].start, word.end, Kind.NAME, 3, whole)
        for i in sorted(unsure):
            for j in (i - 1, i + 1):
                if (j in sure or j in unsure) and self._beside(scan, found, i, j):
                    sure[i] = unsure[i]
        for i, part in sorted(sure.items()):
            yield Span(found[i].start, found[i].end, Kind.NAME, 3, part)
            yield from self._initials_beside(scan, found, i)
        yield from self._lone_initials(scan)

    def _beside(self, scan: Scan, found: list[Word], i: int, j: int) -> bool:
        left, right = found[min(i, j)], found[max(i, j)]
        return _BETWEEN_NAMES.fullmatch(scan.gap(left.end, right.start)) is not None

    def _initials_beside(self, scan: Scan, found: list[Word], i: int) -> Iterator[Span]:
        """`G.` of "G. Gaylord", `J` of "Maria J Lopez", `de` of "de Souza", `Do` of "Do Thi Mai": letters, particles, and what is a title in other
        names, that touch a name on either side."""
        for step in (-1, 1):
            j = i + step
            while (
                0 <= j < len(found)
                and self._beside(scan, found, j - step, j)
                and "\n" not in scan.gap(*sorted((found[j].end, found[j - step].start))[:2])
            ):
                word = found[j]
                letters = word.norm
                initials = (len(letters) == 1 or (len(letters) <= 3 and word.raw.isupper())) and set(letters) <= self._initials
                titled = letters in self._titles and word.raw[0].isupper()
                if not (initials or titled or (letters in PARTICLES and (step < 0 or letters in self._last_particles))):
                    break
                yield Span(word.start, word.end, Kind.NAME, 3, letters if len(letters) == 1 else None)
                j += step

    def _lone_initials(self, scan: Scan) -> Iterator[Span]:
        for match in re.finditer(r"(?<![\w.])(?:[A-Z]\.[ ]?){2,4}(?!\w)|(?<![\w.])[A-Z]{3,4}(?![\w.])", scan.text):
            letters = "".join(character for character in match.group().lower() if character.isalpha())
            if letters in self._full_initials and ("." in match.group() or letters not in words().acronyms):
                yield Span(match.start(), match.start() + len(match.group().rstrip()), Kind.NAME, 3)
        for match in re.finditer(r"(?i:\b(?:pt|patient|initials|signed|mr|mrs|ms)\b)[\s.:]{1,3}([A-Z]{2,3})(?!\w)", scan.text):
            if match.group(1).lower() in self._full_initials:
                yield Span(match.start(1), match.end(1), Kind.NAME, 3)

    # ---- numbers -----------------------------------------------------------------------------------------------------

    def _add_code(self, code: str, kind: Kind) -> None:
        squeezed = "".join(character for character in fold(code) if character.isalnum())
        if squeezed.isdigit():
            significant = squeezed.lstrip("0")
            for number in {squeezed, significant}:
                if len(number) >= MIN_NUMBER:
                    self._digits.setdefault(number, kind)
        elif len(squeezed) >= MIN_NUMBER and (any(c.isdigit() for c in squeezed) or "@" in code):
            self._codes.setdefault(squeezed, kind)
            digits = "".join(c for c in squeezed if c.isdigit()).lstrip("0")
            if len(digits) >= 6 and kind is not Kind.EMAIL:
                self._digits.setdefault(digits, kind)

    def _add_phone(self, phone: str) -> None:
        digits = "".join(c for c in phone if c.isdigit())
        variants = {digits}
        if phone.strip().startswith("+"):
            variants |= {digits[n:] for n in (1, 2, 3)} | {"0" + digits[n:] for n in (1, 2, 3)}
        elif digits.startswith(("1", "0")):
            variants.add(digits[1:])
        if len(digits) >= 10:
            variants.add(digits[-7:])  # without its area code
        for number in variants:
            if len(number) >= MIN_NUMBER + 1:
                self._digits.setdefault(number, Kind.PHONE)

    # ---- addresses ---------------------------------------------------------------------------------------------------

    def _find_addresses(self, scan: Scan) -> Iterator[Span]:
        if not self._addresses:
            return
        tokens = scan.tokens
        folded = [_SAME.get(token.norm, token.norm) for token in tokens]
        hits = [i for i, token in enumerate(folded) if token in self._address_words]
        done = -1
        for i in hits:
            if i <= done:
                continue
            length = max(_common_run(folded, i, address) for address in self._addresses)
            run = tokens[i : i + length]
            if self._tells(run, folded[i : i + length], scan):
                done = i + length - 1
                yield Span(run[0].start, run[-1].end, Kind.LOCATION, 3)

    def _tells(self, run: list[Word], folded: list[str], scan: Scan) -> bool:
        """Whether a run of an address' words points to the address: a place's name, a ZIP code, or two words of which one is telling."""
        telling = [w for w, f in zip(run, folded, strict=True) if (len(f) >= 5 if f.isdigit() else len(f) > 2 and f not in _SAME.values())]
        if not telling:
            return False
        if len(run) > 1 and any(len(w.norm) > 2 for w in telling):
            return not all(w.raw.islower() and self._is_common(w.norm) for w in run) or any(w.raw.isdigit() for w in run)
        word = telling[0]
        return word.raw.isdigit() or not self._is_common(word.norm) or not (word.raw.islower() and scan.has_capitals)


@cache
def short_forms(given: str) -> tuple[str, ...]:
    """What somebody with this folded given name may be called ("Bob", "Pepe"), and what they may be called in full, when called so in the index."""
    namer = _namer()
    found = {norm(name) for name in (*namer.nicknames_of(given), *namer.canonicals_of(given))}
    pairs = [pair.split(":") for pair in by_hand("short_names")]
    found |= {short for short, full in pairs if full == given} | {full for short, full in pairs if short == given}
    return tuple(sorted(name for name in found if len(name) > 2 and name not in words().acronyms and name != given))


@cache
def _namer() -> NickNamer:
    return NickNamer()


def _address_tokens(address: str) -> list[str]:
    return [_SAME.get(token, token) for token in re.findall(r"[^\W_]+", fold(address))]


def _common_run(tokens: list[str], at: int, address: list[str]) -> int:
    """The most consecutive tokens from `at` that stand in this order in the address."""
    best = 0
    for j, token in enumerate(address):
        if token == tokens[at]:
            length = 1
            while at + length < len(tokens) and j + length < len(address) and tokens[at + length] == address[j + length]:
                length += 1
            best = max(best, length)
    return best


def _birth_pattern(birth_date: str | None) -> re.Pattern[str] | None:
    """One expression for every written form of a day; for a month alone its month and year; a bare year may stay."""
    if birth_date is None or len(birth_date) < 7:
        return None
    year, month = birth_date[:4], int(birth_date[5:7])
    long_name, short_name = calendar.month_name[month], calendar.month_abbr[month]
    name = rf"(?:{long_name}|{short_name}t?\.?)"
    years = rf"(?:{year}|['’]?{year[2:]})"
    gap = r"[\s,.\-/]{1,3}"
    forms = [rf"{name}{gap}(?:of\s+)?{years}"]
    if len(birth_date) == 10:
        day = int(birth_date[8:])
        d, m = rf"0?{day}", rf"0?{month}"
        ordinal = rf"{d}(?:st|nd|rd|th)?"
        separator = r"\s*[-/.,\s]\s*"
        forms += [
            rf"{name}{gap}(?:the\s+)?{ordinal}(?:{gap}{years})?",
            rf"(?:the\s+)?{ordinal}{gap}(?:day\s+of\s+|of\s+)?{name}(?:{gap}{years})?",
            rf"{years}{separator}{m}{separator}{d}",
            rf"{m}{separator}{d}{separator}{years}",
            rf"{d}{separator}{m}{separator}{years}",
            rf"{year}{month:02}{day:02}",
            rf"{month:02}{day:02}{year}",
            rf"{day:02}{month:02}{year}",
        ]
    return re.compile(rf"(?<![\w])(?:{'|'.join(forms)})(?!\w)", re.IGNORECASE)


def _deletions(word: str) -> Iterable[str]:
    return {word[:i] + word[i + 1 :] for i in range(len(word))}


def _one_error(a: str, b: str) -> bool:
    """Whether one letter was left out, added, replaced, or exchanged with its neighbour (optimal string alignment distance 1)."""
    if abs(len(a) - len(b)) > 1:
        return False
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    rest_a, rest_b = a[start:], b[start:]
    swapped = rest_a[:2] == rest_b[1::-1] and len(rest_a) > 1 and rest_a[2:] == rest_b[2:]
    return swapped or rest_a[1:] == rest_b[1:] or rest_a[1:] == rest_b or rest_a == rest_b[1:]
