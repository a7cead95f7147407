"""The values that carry a patient, from the raw note to the labelled pair. They print their length, never their text.

Only types of this module and of the rooms beside it may hold text of a hospital; none of them can be sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

OVERALL = "overall"
"""The aspect of a plain choice: which answer is better, all things considered."""


def shown(kind: str, *texts: str) -> str:
    """The repr of a value that holds text: how much, never what."""
    return f"{kind}(<{sum(map(len, texts)):,} chars>)".replace(",", " ")


@dataclass(frozen=True, slots=True, repr=False)
class PatientRecord:
    """What the hospital's own index knows of a patient: the identifiers that tier 0 of the de-identification looks for.

    `names` holds whole names as written in the index ("Maria J. Lopez"); dates are ISO (YYYY-MM-DD).
    """

    patient_id: str
    names: tuple[str, ...] = ()
    birth_date: str | None = None
    record_numbers: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    relatives: tuple[str, ...] = ()
    gender: str | None = None

    def __repr__(self) -> str:
        return "PatientRecord(<hidden>)"


@dataclass(frozen=True, slots=True, repr=False)
class Dialogue:
    """One instruction and its answer, grounded in a note: what supervised fine-tuning learns from."""

    prompt: str
    answer: str

    def __repr__(self) -> str:
        return shown("Dialogue", self.prompt, self.answer)


@dataclass(frozen=True, slots=True, repr=False)
class RawNote:
    """A note as the hospital exported it, identifiers and all. Only `client/intake` makes one, only `client/deid` reads it."""

    note_id: str
    patient_id: str
    text: str
    kind: str = "note"
    date: str | None = None
    dialogues: tuple[Dialogue, ...] = ()

    def __repr__(self) -> str:
        return shown("RawNote", self.text, *(d.prompt + d.answer for d in self.dialogues))


@dataclass(frozen=True, slots=True, repr=False)
class CleanNote:
    """A note after de-identification: identifiers replaced by surrogates. `counts` maps a class of identifier to how many were replaced."""

    note_id: str
    patient_id: str
    text: str
    kind: str = "note"
    dialogues: tuple[Dialogue, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return shown("CleanNote", self.text, *(d.prompt + d.answer for d in self.dialogues))


@dataclass(frozen=True, slots=True, repr=False)
class Preference:
    """One clinician's choice between two answers to one prompt.

    patient_id    the patient whose question it is, or None when the prompt belongs to nobody
    weight        in [0, 1]: a public function of the agreement on this pair alone; 0 keeps a vote that the pair's other votes outweigh,
                  which only the annotator as privacy unit reads (see `client/train/examples.py`)
    on_policy     whether one of the answers was sampled from a model of this study
    tie           the annotator found neither better; the order of the two then means nothing
    aspect        what was judged: "overall", or one property of an answer such as "safety"
    """

    pair_id: str
    prompt: str
    chosen: str
    rejected: str
    annotator_id: str
    patient_id: str | None = None
    weight: float = 1.0
    on_policy: bool = False
    tie: bool = False
    aspect: str = OVERALL

    def __repr__(self) -> str:
        return shown("Preference", self.prompt, self.chosen, self.rejected)
