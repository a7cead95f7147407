"""Quasi-identifiers: facts that single nobody out alone and somebody together. A report for the privacy officer; it changes nothing.

Looked at are an age over 89, a diagnosis that few patients of the data set have, and a home in a small place. A place is small when it is no
town of 15,000 people or more (GeoNames) and its ZIP code begins with a prefix of 20,000 people or fewer, or no such town is named in the address.

Protects against: not knowing that a data set holds people who stand out.
Does not protect against: combinations of other facts (a profession, an event); diagnoses that no ending or eponym gives away.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from client.deid.surrogates import SMALL_ZIP_PREFIXES
from client.deid.vocabulary.words import fold, words
from client.records import CleanNote, PatientRecord

RARE_BELOW = 5
"""A diagnosis of fewer patients than this is rare here; a combination of fewer patients stands out."""

OVER_89, SMALL_PLACE = "age over 89", "small place"

_DIAGNOSIS = re.compile(
    r"\b(?:[a-z]{3,}(?:itis|osis|oma|omas|emia|aemia|pathy|trophy|plasia|sclerosis|megaly|penia|uria|sarcoma|carcinoma|lymphoma|myeloma)|"
    r"[A-Z][a-z]+(?:['’]s)? (?:disease|syndrome|dystrophy|ataxia|chorea|anemia|anaemia))\b"
)
_ZIP = re.compile(r"\b(\d{3})\d{2}(?:-\d{4})?\b")


@dataclass(frozen=True, slots=True)
class Combination:
    """Facts, and how many patients share all of them."""

    facts: tuple[str, ...]
    patients: int


@dataclass(frozen=True, slots=True)
class QuasiReport:
    """patients          looked at
    facts             how many patients have each of the rare facts
    combinations      of two and three rare facts, fewest patients first
    standing_out      patients with a combination that fewer than `RARE_BELOW` share, or with a rare diagnosis
    """

    patients: int
    facts: Mapping[str, int]
    combinations: tuple[Combination, ...]
    standing_out: int


def report(notes: Iterable[CleanNote], records: Iterable[PatientRecord] = ()) -> QuasiReport:
    """The rare facts of a data set. Notes are read once, in any order; what is kept is each patient's diagnoses."""
    diagnoses: dict[str, set[str]] = defaultdict(set)
    facts: dict[str, set[str]] = defaultdict(set)
    for note in notes:
        texts = [note.text, *(text for dialogue in note.dialogues for text in (dialogue.prompt, dialogue.answer))]
        for text in texts:
            diagnoses[note.patient_id].update(fold(match.group()) for match in _DIAGNOSIS.finditer(text))
            if "90+" in text:
                facts[note.patient_id].add(OVER_89)
    for record in records:
        if record.patient_id in diagnoses and any(map(_small, record.addresses)):
            facts[record.patient_id].add(SMALL_PLACE)
    common = Counter(diagnosis for found in diagnoses.values() for diagnosis in found)
    for patient, found in diagnoses.items():
        facts[patient].update(diagnosis for diagnosis in found if common[diagnosis] < RARE_BELOW)
    counts = Counter(fact for found in facts.values() for fact in found)
    sharing = Counter(combination for found in facts.values() for size in (2, 3) for combination in combinations(sorted(found)[:12], size))
    rare = {combination for combination, patients in sharing.items() if patients < RARE_BELOW}
    standing_out = sum(
        any(fact not in (OVER_89, SMALL_PLACE) or counts[fact] < RARE_BELOW for fact in found)
        or any(combination in rare for combination in combinations(sorted(found)[:12], 2))
        for found in facts.values()
    )
    ordered = sorted(sharing.items(), key=lambda item: (item[1], item[0]))
    return QuasiReport(
        len(diagnoses), dict(counts.most_common()), tuple(Combination(*item) for item in ordered if item[0] in rare), standing_out
    )


def _small(address: str) -> bool:
    """Whether an address names no town of the lists, and no ZIP code outside the prefixes of few people."""
    zips = _ZIP.findall(address)
    if zips:
        return zips[-1] in SMALL_ZIP_PREFIXES
    parts = [fold(part).strip() for part in re.split(r"[,\n]", address)]
    return bool(parts) and not any(re.sub(r"[\d\W_]+$", "", part) in words().places for part in parts)
