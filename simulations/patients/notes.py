"""Synthetic hospitals' notes, written as a hospital would export them.

    FOLDER/notes.jsonl     notes with their dialogues      FOLDER/patients.jsonl   the index of patients
    FOLDER/gold.jsonl      where the identifiers stand     FOLDER/canaries.json    planted secrets

A simulation alone reads the last two. Every patient is invented (`simulations/patients/people.py`), every condition comes from the
public table (`simulations/judgement/clinical.py`). A dialogue is a patient's question about the own condition and the clinician's
answer from the note, in the hospital's habit: fine-tuning learns from it how an answer sounds and where it ends.
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from common.storage import storage_errors, write_atomic
from simulations.judgement.answers import Draft, render
from simulations.judgement.clinical import CONDITIONS, Circumstance, Condition
from simulations.judgement.questions import Question, Severity
from simulations.patients.habits import Habit, habit
from simulations.patients.marked import Mark, Marked, fill, joined
from simulations.patients.note_texts import (
    ASKS,
    CIRCUMSTANCES,
    DETAILS,
    GREETINGS,
    HEADERS,
    KINDS,
    OPENINGS,
    RARE,
    RETURNING,
    SECTIONS,
    SMALL_TALK,
)
from simulations.patients.people import RARE_CODES, Patient, Person, patient, person
from simulations.seeding import stream

TODAY = date(2026, 11, 1)
"""The day the exports are made; nothing reads the clock."""
NOTES_PER_PATIENT: tuple[float, ...] = (0.42, 0.25, 0.14, 0.08, 0.05, 0.03, 0.02, 0.01)
"""How often a patient has 1, 2, … 8 notes; 2.3 on average."""
SHORTEST, LONGEST = 600, 900
_LABELS: Mapping[str, str] = {"FAX": "PHONE", "URL": "URL", "IP": "IP"}


@dataclass(frozen=True, slots=True)
class HospitalSpec:
    """One synthetic hospital: its folder's name, its number among the sites (which sets its habits), how many patients and canaries."""

    name: str
    number: int
    patients: int
    canaries: int = 1


@dataclass(frozen=True, slots=True)
class Canary:
    """A planted secret. It must be found in nothing that leaves the hospital; `note_id` and `patient_id` say where it was put."""

    secret: str
    kind: str
    note_id: str
    patient_id: str


@dataclass(frozen=True, slots=True)
class Exported:
    """What `write_hospital` wrote."""

    folder: Path
    patients: int
    notes: int
    dialogues: int
    identifiers: int
    canaries: tuple[Canary, ...]


def write_hospital(folder: Path, spec: HospitalSpec, seed: int) -> Exported:
    """Write the four files into `folder`; the same spec and seed write the same bytes. Raises StorageError."""
    with storage_errors(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
    people = [_someone(spec, number, seed) for number in range(spec.patients)]
    planned = [(one, visit) for one in people for visit in range(_visits(one, seed))]
    secrets = _canaries(spec, planned, seed)
    notes: list[dict[str, object]] = []
    gold: list[dict[str, Any]] = []
    for number, (one, visit) in enumerate(planned):
        note_id = f"{one.patient_id}-n{visit}"
        note = _write(spec, one, visit, number, secrets.get(note_id), seed)
        notes.append(note.row(note_id, one.patient_id))
        gold += note.gold(note_id)
    canaries = tuple(secrets.values())
    _lines(folder / "notes.jsonl", notes)
    _lines(folder / "patients.jsonl", (one.record() for one in people))
    _lines(folder / "gold.jsonl", gold)
    rows = [{"secret": c.secret, "kind": c.kind, "note_id": c.note_id, "patient_id": c.patient_id} for c in canaries]
    write_atomic(folder / "canaries.json", json.dumps(rows, indent=1) + "\n")
    dialogues = (len(gold) - len(notes)) // 2
    return Exported(folder, len(people), len(notes), dialogues, sum(len(row["spans"]) for row in gold), canaries)


def patients_of(spec: HospitalSpec, seed: int) -> tuple[list[Patient], tuple[Canary, ...]]:
    """The patients and the canaries that `write_hospital` writes for this spec and seed."""
    people = [_someone(spec, number, seed) for number in range(spec.patients)]
    return people, tuple(_canaries(spec, [(one, visit) for one in people for visit in range(_visits(one, seed))], seed).values())


def _lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _someone(spec: HospitalSpec, number: int, seed: int) -> Patient:
    case = _case(spec.name, number, seed)
    child, pregnant = case.circumstance is Circumstance.CHILD, case.circumstance is Circumstance.PREGNANT
    return patient(spec.name, number, seed, today=TODAY, child=child, woman=case.condition.women_only, fertile=pregnant)


def _visits(one: Patient, seed: int) -> int:
    draw = random.Random(stream("visits", one.patient_id, seed))
    return draw.choices(range(1, len(NOTES_PER_PATIENT) + 1), NOTES_PER_PATIENT)[0]


@dataclass(frozen=True, slots=True)
class _Case:
    condition: Condition
    circumstance: Circumstance


def _case(site: str, number: int, seed: int) -> _Case:
    draw = random.Random(stream("case", site, number, seed))
    condition = draw.choice(CONDITIONS)
    allowed = [c for c in condition.circumstances() if c is not Circumstance.NONE]
    return _Case(condition, draw.choice(allowed) if allowed and draw.random() < 0.6 else Circumstance.NONE)


def _canaries(spec: HospitalSpec, planned: list[tuple[Patient, int]], seed: int) -> dict[str, Canary]:
    """Random secrets, by the id of the note that will hold each: in turn a number and a name."""
    draw = random.Random(stream("canaries", spec.name, seed))
    chosen = draw.sample(planned, min(spec.canaries, len(planned)))
    found: dict[str, Canary] = {}
    for number, (one, visit) in enumerate(chosen):
        syllables = "".join(draw.choice(("va", "ko", "zu", "mir", "tel", "qua", "dro", "fen", "lis", "yab")) for _ in range(5))
        secret = f"CANARY-{draw.randint(10**7, 10**8 - 1)}" if number % 2 == 0 else f"Canary {syllables.capitalize()}"
        note_id = f"{one.patient_id}-n{visit}"
        found[note_id] = Canary(secret, "number" if number % 2 == 0 else "name", note_id, one.patient_id)
    return found


# -- one note ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Note:
    text: Marked
    kind: str
    day: date
    dialogues: tuple[tuple[Marked, Marked], ...]

    def row(self, note_id: str, patient_id: str) -> dict[str, object]:
        dialogues = [{"prompt": str(prompt), "answer": str(answer)} for prompt, answer in self.dialogues]
        return {
            "id": note_id, "patient_id": patient_id, "text": str(self.text), "kind": self.kind,
            "date": self.day.isoformat(), "dialogues": dialogues,
        }  # fmt: skip

    def gold(self, note_id: str) -> Iterator[dict[str, Any]]:
        """One row for the note and one for each side of a dialogue: {"id", "text", "spans"}."""
        yield {"id": note_id, "text": str(self.text), "spans": list(self.text.spans())}
        for number, sides in enumerate(self.dialogues):
            for name, side in zip(("prompt", "answer"), sides, strict=True):
                yield {"id": f"{note_id}/{number}/{name}", "text": str(side), "spans": list(side.spans())}


def _write(spec: HospitalSpec, one: Patient, visit: int, number: int, canary: Canary | None, seed: int) -> _Note:
    draw = random.Random(stream("note", one.patient_id, visit, seed))
    case = _case(spec.name, int(one.patient_id.rsplit("p", 1)[1]), seed)
    # The visits of a patient follow each other by some weeks.
    day = TODAY - timedelta(days=random.Random(stream("first", one.patient_id, seed)).randint(200, 400) - 24 * visit + draw.randint(0, 9))
    kind = KINDS[(number + draw.randint(0, 1)) % len(KINDS)]
    style, clinician, complaint = habit(spec.number), person(draw), draw.choice(case.condition.complaints)
    fields = _fields(one, case, day, style, clinician, complaint, draw)
    rare = [RARE_CODES[number % len(RARE_CODES)], RARE_CODES[(number + 5) % len(RARE_CODES)]]
    body = {section: [draw.choice(options)] for section, options in SECTIONS[kind].items()}
    extra = [RARE[code] for code in rare] + ([_planted(canary)[0]] if canary else [])
    details = draw.sample(DETAILS, len(DETAILS))
    text = _laid_out(body, extra, style, fields, canary)
    while len(text) < SHORTEST or (details and len(text) < 720 and draw.random() < 0.5):
        body["exam"].append(details.pop())
        text = _laid_out(body, extra, style, fields, canary)
    while len(text) > LONGEST and len(extra) > 1:
        extra.pop(0)
        text = _laid_out(body, extra, style, fields, canary)
    return _Note(text, kind, day, tuple(_dialogues(case, complaint, style, fields, draw, canary)))


def _fields(
    one: Patient, case: _Case, day: date, style: Habit, clinician: Person, complaint: str, draw: random.Random
) -> dict[str, str | Mark | Marked]:
    age = one.age_on(day)
    first, last = Mark(one.person.first, "NAME", "PATIENT"), Mark(one.person.last, "NAME", "PATIENT")
    header = style.name_style.format(first=one.person.first, last=one.person.last)
    he = one.person.gender == "male"
    condition = case.condition
    fields: dict[str, str | Mark | Marked] = {
        "hospital": Mark(style.hospital, "ORGANIZATION", "HOSPITAL"),
        "name": Mark(header, "NAME", "PATIENT"), "full": Mark(one.person.full, "NAME", "PATIENT"), "first": first, "last": last,
        "title": one.person.honorific, "he": "he" if he else "she", "He": "He" if he else "She", "his": "his" if he else "her",
        "age": Mark(str(age), "AGE", "AGE_OVER_89") if age > 89 else str(age),
        "person": ("boy" if he else "girl") if age < 12 else "man" if he else "woman",
        "mrn": Mark(one.record_number, "ID", "MRN"), "dob": Mark(one.birth_date.strftime(style.date_format), "DATE", "BIRTH"),
        "day": Mark(day.strftime(style.date_format), "DATE", "DATE"),
        "before": Mark((day - timedelta(days=draw.randint(2, 9))).strftime("%B %d").replace(" 0", " "), "DATE", "DATE"),
        "next": Mark((day + timedelta(days=condition.follow_up_days)).strftime(style.date_format), "DATE", "DATE"),
        "street": Mark(one.street, "LOCATION", "STREET"), "city": Mark(one.city, "LOCATION", "CITY"), "zip": Mark(one.postcode, "LOCATION", "ZIP"),
        "phone": Mark(one.phone, "PHONE", "PHONE"), "email": Mark(one.email, "EMAIL", "EMAIL"),
        "relative": Mark(one.relative.full, "NAME", "RELATIVE"), "relation": one.relation,
        "clinician": Mark(clinician.full, "NAME", "CLINICIAN"), "clinician_last": Mark(clinician.last, "NAME", "CLINICIAN"),
        "colleague": Mark(person(draw).full, "NAME", "CLINICIAN"),
        "complaint": complaint, "condition": condition.name, "drug": condition.advice(case.circumstance), "purpose": condition.purpose,
        "flag": draw.choice(condition.red_flags), "days": str(condition.follow_up_days),
        "circumstance": draw.choice(CIRCUMSTANCES[case.circumstance]),
        "avoided": f"{condition.drug} avoided for that reason" if not condition.suits(case.circumstance) else "no drug ruled out by it",
        "duration": draw.choice(("two days", "a week", "three weeks")), "room": str(draw.randint(2, 40)),
        "pressure": f"{draw.randint(104, 158)}/{draw.randint(60, 92)}", "pulse": str(draw.randint(58, 104)), "temperature": f"{draw.uniform(36.2, 38.4):.1f}",
    }  # fmt: skip
    return fields | {code: Mark(value, _LABELS.get(code, "ID"), code) for code, value in one.codes.items()}


def _planted(canary: Canary) -> tuple[str, str]:
    """The sentence of a note, and of a dialogue, that holds the secret."""
    if canary.kind == "number":
        return "Case reference number {canary}.", "My case number is {canary}."
    return "Copy to the carer, Mr {canary}.", "Mr {canary} looks after me."


def _laid_out(
    body: Mapping[str, list[str]], extra: list[str], style: Habit, fields: Mapping[str, str | Mark | Marked], canary: Canary | None
) -> Marked:
    if canary:
        fields = {**fields, "canary": Mark(canary.secret, "ID" if canary.kind == "number" else "NAME", "CANARY")}
    header = HEADERS[len(style.hospital) % len(HEADERS)]
    parts = [fill(header, fields)]
    for section, sentences in body.items():
        heading = style.headings[section]
        told = " ".join(s[0].upper() + s[1:] if s[0] != "{" else s for s in sentences)
        parts.append(fill(f"{heading.upper() if style.upper else heading}: {told}", fields))
    parts.append(fill(" ".join(extra), fields))
    parts.append(fill(style.sign_off, fields))
    return joined(style.join, parts).shortened(style.abbreviations)


# -- dialogues ---------------------------------------------------------------------------------------------------------


def _dialogues(
    case: _Case, complaint: str, style: Habit, fields: Mapping[str, str | Mark | Marked], draw: random.Random, canary: Canary | None
) -> Iterator[tuple[Marked, Marked]]:
    """One or two: the second, if any, is about what to do should it get worse."""
    severities = [Severity.MILD if draw.random() < 0.7 else Severity.LASTING]
    if draw.random() < 0.35:
        severities.append(Severity.RED_FLAG)
    for severity in severities:
        flag = str(fields["flag"])
        asked = [draw.choice(OPENINGS), draw.choice(RETURNING[severity]).replace("{flag}", flag)]
        if canary and severity is not Severity.RED_FLAG:
            asked = [_planted(canary)[1], asked[1]]
            fields = {**fields, "canary": Mark(canary.secret, "ID" if canary.kind == "number" else "NAME", "CANARY")}
        prompt = fill(" ".join([*asked, draw.choice(ASKS)]), fields)
        yield prompt, _answer(case, complaint, severity, style, fields, draw)


def _answer(
    case: _Case, complaint: str, severity: Severity, style: Habit, fields: Mapping[str, str | Mark | Marked], draw: random.Random
) -> Marked:
    question = Question("ward", "", case.condition.key, case.circumstance, severity, case.condition.split, complaint)
    care = {Severity.MILD: "return_if", Severity.LASTING: "visit", Severity.RED_FLAG: "urgent"}[severity]
    # Clinicians rarely forget it where a red flag stands; elsewhere it is a matter of the house.
    if draw.random() > (0.85 if severity is Severity.RED_FLAG else style.safety_net):
        care = ""
    swapped = case.circumstance if question.ruled_out else Circumstance.NONE
    said = Draft(case.condition, swapped, care, draw.choice(("", "", "calm")) if severity is Severity.MILD and not care else "")
    told = render(said, question, "ward", draw, fillers=0 if care else draw.randint(0, 1))
    opening = draw.choice(GREETINGS) + " " if style.greets and draw.random() < 0.6 else ""
    closing = " " + draw.choice(SMALL_TALK) if style.signs and draw.random() < 0.4 else ""
    if len((opening + told + closing).split()) > 30:
        opening = closing = ""
    return fill(opening, fields) + told + fill(closing, fields)
