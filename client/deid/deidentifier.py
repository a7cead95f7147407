"""One patient's raw notes → clean notes: all tiers, surrogates, the second reading, and the scan for what survived.

    find (known, patterns, model) → propagate → second reading → replace → look again for every original

The texts of a note (the note itself and its dialogues) and all notes of a patient are read together, so that a name found in one is
replaced in all. Pure: the same notes, record and secret always give the same result.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from client.deid.detectors import detect
from client.deid.joined import joined
from client.deid.known import Known
from client.deid.propagation import name_words, propagate
from client.deid.rules.credentials import AT_END
from client.deid.scan import Scan
from client.deid.second import Disagreement, disagreements
from client.deid.spans import Kind, Span, merge
from client.deid.surrogates import Dates, Surrogates
from client.deid.vocabulary.words import TITLES, by_hand, fold, norm, words
from client.records import CleanNote, Dialogue, PatientRecord, RawNote

MAX_TEXT_CHARACTERS = 200_000
"""A longer text is held back unread: no note is that long, and the model needs about a gigabyte for 100,000 characters."""

MIN_LIKELIHOOD = 0.05
"""Of an unlisted word that stands alone to be masked without a hold, by the names network. In the notes that rules are tuned on it saves 189 words, for
eight of 27,107 identifiers."""

MIN_GRAVE_LIKELIHOOD = 0.02
"""Of an unlisted word that stands beside another, owns something or speaks to be masked, and to hold the note back: it saves 145 words, for two
identifiers, and every second note from being held back."""

_BARE_YEAR = re.compile(r"(?<![\d/.,-])(1[89]\d\d)(?![\d/-]|[.,]\d|\s?(?:m[lg]|kcal|calories|hours|hrs|units|cc))")
_LATEST = 2030
"""The year of a note that says none: the later, the more years of birth go."""

_CLOCK = re.compile(r"1[89][0-5]\d")
_YEAR_BEFORE = re.compile(
    r"(?:\b(?:in|of|since|year|born|b|n|yob|dob|geb|geboren|nacid[oa]|circa|ca|c|en|desde|año|jahrgang|jg|seit)\b[.:]?|[(†]|(?<!\*)\*|\byear(?:[ ]of)?[ ]birth:?)\s{0,3}\Z",
    re.IGNORECASE,
)
"""What makes a year of a number that may be a time of day: "born 1921", "in 1911"; at 1915 somebody took blood."""

_CELL = re.compile(r"[ ]*(?:[|;\t)]|$)", re.MULTILINE)
_ADDRESSED = re.compile(r"([^\W\d_]{2,}\.?)[ ](?=[A-ZÀ-ÖØ-Þ])")
_ROLES = frozenset(
    word
    for word in TITLES | by_hand("roles") | by_hand("addresses")
    if word in ("mr", "ms", "dr", "lt") or (len(word) > 2 and not words().is_name(word))
)
"""What somebody is or is called by, in front of the name: "Uncle [Vern]". No word that is a name too: "Do Thi Mai", "Md Rahman", "Deacon Wells"."""

_ARTICLE = re.compile(r"(?:(?:the|our|of|at|in|on|to|from|by)\s)+(?=\w)")
_KNOWN = 3
"""The strength of what the patient's record knows: a name from it goes whole, whatever else its words mean."""

_OF_THE_NAME = frozenset(("ii", "iii", "iv", "ems", "fd", "pd", "ivf", "va", "vamc", "ymca"))
"""What stands behind a name in capitals and is no credential: "Marion Hatchell III", "Trinity EMS"."""

_POSSESSIVE = re.compile(r"['’]s(?= [a-z])")
_KINDS = ("admission", "discharge", "progress", "referral", "phone", "letter", "consult", "procedure", "operative", "emergency", "nursing",
          "radiology", "pathology", "laboratory", "therapy", "summary", "visit", "history")  # fmt: skip


class Reason(StrEnum):
    """Why a note is held back."""

    DISAGREEMENT = "disagreement"
    SURVIVOR = "survivor"
    TOO_LONG = "too-long"


@dataclass(frozen=True, slots=True, repr=False)
class Work:
    """One patient's notes with all that is needed to clean them. Travels to worker processes, never further."""

    notes: tuple[RawNote, ...]
    record: PatientRecord
    secret: bytes

    def __repr__(self) -> str:
        return f"Work(<{len(self.notes)} notes>)"


@dataclass(frozen=True, slots=True, repr=False)
class Cleaned:
    """A clean note, or one held back for a reason (its text is then not to be stored). `spans` are offsets in each text of
    the raw note: the note itself, then prompt and answer of its dialogues."""

    note: CleanNote
    spans: tuple[tuple[Span, ...], ...]
    reason: Reason | None

    def __repr__(self) -> str:
        return f"Cleaned({self.note!r}, {self.reason})"


@dataclass(frozen=True, slots=True)
class Deidentifier:
    """The whole of tiers 0 to 3 with one choice: what becomes of dates."""

    dates: Dates = Dates.YEAR_ONLY

    def warm_up(self) -> None:
        """Load lists, model and recognizers, which takes seconds, before the first note."""
        self.clean([Work((RawNote("", "", "Warm up."),), PatientRecord(""), bytes(32))])

    def clean(self, patients: Sequence[Work]) -> list[list[Cleaned]]:
        """Every note of each patient, cleaned or held back."""
        readable = [[_readable_parts(note) for note in patient.notes] for patient in patients]
        readings = detect([part for patient in readable for parts in patient for part in parts])
        return [self._clean_patient(patient, parts, readings) for patient, parts in zip(patients, readable, strict=True)]

    def _clean_patient(self, patient: Work, parts: list[list[str]], readings: Iterator[tuple[Scan, list[Span]]]) -> list[Cleaned]:
        known = Known(patient.record)
        read = list(islice(readings, sum(map(len, parts))))
        scans = [scan for scan, _ in read]
        found = [merge([*spans, *known.find(scan)]) for scan, spans in read]
        found = [merge([*spans, *more]) for spans, more in zip(found, propagate(scans, found), strict=True)]
        found = [joined(scan, [_bare(scan, span) for span in spans]) for scan, spans in zip(scans, found, strict=True)]
        names = {word.norm for scan, spans in zip(scans, found, strict=True) for word in name_words(scan, spans)}
        surrogates = Surrogates(patient.secret, known, gender=patient.record.gender, dates=self.dates, avoid=names)
        results, at = [], 0
        for note, texts in zip(patient.notes, parts, strict=True):
            here = slice(at, at + len(texts))
            at += len(texts)
            results.append(self._clean_note(note, scans[here], found[here], known, surrogates))
        return results

    def _clean_note(self, note: RawNote, scans: list[Scan], found: list[list[Span]], known: Known, surrogates: Surrogates) -> Cleaned:
        if not scans:
            return Cleaned(CleanNote(note.note_id, note.patient_id, ""), (), Reason.TOO_LONG)
        newest_year = _newest_year(note)
        texts, counts, all_spans, reason = [], Counter[str](), [], None
        for scan, spans in zip(scans, found, strict=True):
            doubts = [doubt for doubt in disagreements(scan, spans) if _possible(scan, doubt)]
            if any(doubt.grave for doubt in doubts):
                reason = Reason.DISAGREEMENT
            spans = merge([*spans, *(doubt.span for doubt in doubts)])
            spans = merge([*spans, *_old_years(scan, newest_year, spans)])
            clean, inserted = _replaced(scan.text, spans, surrogates, newest_year)
            if survives(clean, inserted, known, [scan.text[s.start : s.end] for s in spans if s.kind not in (Kind.DATE, Kind.AGE)]):
                reason = Reason.SURVIVOR
            texts.append(clean)
            all_spans.append(spans)
            counts.update(span.kind.value for span in spans)
        dialogues = tuple(Dialogue(prompt, answer) for prompt, answer in zip(texts[1::2], texts[2::2], strict=True))
        clean_note = CleanNote(note.note_id, note.patient_id, texts[0], _kind(note.kind), dialogues, dict(sorted(counts.items())))
        return Cleaned(clean_note, tuple(map(tuple, all_spans)), reason)


def _possible(scan: Scan, doubt: Disagreement) -> bool:
    """Whether a doubt stands: a number always, a word unless the names network rules it out, as in "Joel-Cohen entry" and "Philips PageWriter"."""
    least = MIN_GRAVE_LIKELIHOOD if doubt.grave else MIN_LIKELIHOOD
    return doubt.span.kind is not Kind.NAME or scan.likelihood(doubt.span.start, doubt.span.end) >= least


def _bare(scan: Scan, span: Span) -> Span:
    """A name without the role in front of it and the credentials behind it, and without the possessive s in front of what somebody has; a place
    without the article in front of it: these may stand."""
    if span.kind in (Kind.LOCATION, Kind.ORGANIZATION) and (article := _ARTICLE.match(scan.text, span.start, span.end)) is not None:
        return replace(span, start=article.end())
    if span.kind is not Kind.NAME:
        return span
    start, end = span.start, span.end
    while span.strength < _KNOWN and (role := _ADDRESSED.match(scan.text, start, end)) and norm(role.group(1).rstrip(".")) in _ROLES:
        start = role.end()
    while (tail := AT_END.search(scan.text, start, end)) is not None:
        bare = tail.group(1).replace(".", "").lower()
        if not (
            "." in tail.group(1) or (bare in words().acronyms and bare not in _OF_THE_NAME and scan.has_small and not words().is_name(bare))
        ):
            break
        end = tail.start()
    if end - start > 3 and _POSSESSIVE.match(scan.text, end - 2):
        end -= 2
    return span if (start, end) == (span.start, span.end) or end <= start else replace(span, start=start, end=end)


def _parts(note: RawNote) -> list[str]:
    """The note's text, then prompt and answer of each dialogue."""
    return [note.text, *(text for dialogue in note.dialogues for text in (dialogue.prompt, dialogue.answer))]


def _readable_parts(note: RawNote) -> list[str]:
    """The same, or nothing when one of them is too long to be read."""
    parts = _parts(note)
    return parts if max(map(len, parts)) <= MAX_TEXT_CHARACTERS else []


def _newest_year(note: RawNote) -> int:
    """The note's own year, else the latest that stands in its text: what tells an old birth year."""
    if note.date is not None:
        return int(note.date[:4])
    return max((int(year) for year in re.findall(r"(?<!\d)(20[0-4]\d)(?!\d)", note.text)), default=_LATEST)


def _old_years(scan: Scan, newest_year: int, spans: Sequence[Span]) -> Iterator[Span]:
    """Bare years in which somebody of 90 or more was born: Safe Harbor lets no year stand that tells such an age. A number that may be a time of day
    is a year behind a word that says so, behind a name, or alone in a cell of a table."""
    text, names = scan.text, {span.end for span in spans if span.kind is Kind.NAME}
    for match in _BARE_YEAR.finditer(text):
        if int(match.group()) > newest_year - 90:
            continue
        before = text[max(0, match.start() - 24) : match.start()]
        if (
            not _CLOCK.fullmatch(match.group())
            or _YEAR_BEFORE.search(before)
            or (before.endswith(", ") and match.start() - 2 in names)
            or (before.rstrip(" ")[-1:] in ("|", ";", "\t") and _CELL.match(text, match.end()))
        ):
            yield Span(match.start(), match.end(), Kind.DATE)


def _replaced(text: str, spans: Sequence[Span], surrogates: Surrogates, newest_year: int) -> tuple[str, list[tuple[int, int]]]:
    """The text with every span replaced, and where in it the surrogates stand."""
    pieces, inserted, end, length = [], [], 0, 0
    for span in spans:
        new = surrogates.replace(text[span.start : span.end], span, newest_year=newest_year)
        pieces += [text[end : span.start], new]
        length += span.start - end
        inserted.append((length, length + len(new)))
        length += len(new)
        end = span.end
    return "".join([*pieces, text[end:]]), inserted


def survives(clean: str, inserted: Sequence[tuple[int, int]], known: Known, originals: Sequence[str]) -> bool:
    """Whether an identifier still stands in a clean text, outside the surrogates.

    Looked for are the record's identifiers in every form of tier 0, and each original that was replaced: as written in any case, and its
    digits with any separators or line breaks between them.
    """
    scan, surrogate = Scan(clean), bytearray(len(clean))
    for start, end in inserted:
        surrogate[start:end] = b"\1" * (end - start)
    if any(not any(surrogate[span.start : span.end]) for span in known.find(scan)):
        return True
    folded = fold(clean)
    for original in set(originals):
        wanted = fold(original).strip()
        digits = "".join(character for character in wanted if character.isdigit())
        if len(digits) >= 6 and any(not any(surrogate[a:b]) for a, b in scan.find_digits(digits)):
            return True
        if len(wanted) < 4 or (wanted.isalpha() and len(wanted) < 6):
            continue  # a short word stands inside many others
        at = folded.find(wanted)
        while at >= 0:
            end = at + len(wanted)
            whole = not (folded[at - 1 : at].isalnum() or folded[end : end + 1].isalnum())
            if whole and not any(surrogate[at:end]):
                return True
            at = folded.find(wanted, end)
    return False


def _kind(kind: str) -> str:
    """One of a closed list of words: what the hospital calls a note is free text and could hold a name."""
    folded = fold(kind)
    return next((word for word in _KINDS if word in folded), "note")
