"""From the vault to the rows of one private step: who takes part is drawn by Poisson sampling over units, with a public rate.

A unit is whoever the guarantee protects: a patient, a record, a pair, an annotator, or the site as a whole. Each takes part with probability q, independently; of
its rows at most k are used, drawn at random each step. Nothing is ever divided by the number of units found here: the divisor is L = q·N_s
with the N_s that the hospital declared.

Protects against: batches drawn by shuffling but accounted as Poisson, a unit with a thousand rows, training on a data set without the
gate's token (rechecked here each time).
Does not protect against: people mentioned in other patients' notes; one patient under two record numbers is two units.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from client.deid.preferences import preferences_digest
from client.records import OVERALL, CleanNote, Preference
from client.train.engines import UnitRows
from client.train.noise import Stream
from client.train.objectives import EncodedPair
from common.config import AdapterConfig, ModelConfig
from common.errors import ConfigError, TrainingRefused
from common.models import Encoded, SharedBase
from common.privacy.mechanism import Unit

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Gate = Callable[[bytes], None]
"""Given the data set's digest: returns when the de-identification gate's token covers it, raises GateRefused otherwise."""


class TrainingVault(Protocol):
    """What training reads of the vault."""

    def digest(self) -> bytes: ...
    def note_units(self) -> list[int]: ...
    def notes(self, unit: int | None = None) -> Iterator[CleanNote]: ...
    def preferences(self, unit: int | None = None) -> Iterator[Preference]: ...
    def unit_of(self, patient_id: str) -> int | None: ...


class UnitData(Protocol[R_co]):
    """Rows by unit. Unit ids are the site's own numbers or handles; they never leave it."""

    def digest(self) -> str:
        """SHA-256 in hex over everything that could be drawn, and its order: what a replayed step must find unchanged."""
        ...

    def units(self) -> Sequence[int]: ...

    def rows(self, unit: int) -> Sequence[R_co]: ...


def poisson_sample(data: UnitData[R], *, rate: float, rows_per_unit: int, key: bytes) -> list[UnitRows[R]]:
    """Each unit with probability `rate`, and at most `rows_per_unit` of its rows, uniformly; from the step's key. May well be empty."""
    units = data.units()
    drawn = Stream(key, "units").bernoulli(rate, len(units))
    batch = []
    for unit, taken in zip(units, drawn, strict=True):
        if taken:
            rows = data.rows(unit)
            # A stream for each unit: whose rows are chosen depends on nobody else's presence.
            chosen = Stream(key, f"rows/{unit}").choose(len(rows), rows_per_unit)
            batch.append(UnitRows(tuple(rows[i] for i in chosen)))
    return batch


class SftData:
    """Dialogues of released notes as token rows; the unit is the patient, the record (a note), or the site.

    Raises GateRefused when the data set has no valid token, ConfigError for a unit that notes do not have.
    """

    def __init__(self, vault: TrainingVault, gate: Gate, base: SharedBase, model: ModelConfig, unit: Unit) -> None:
        if unit not in (Unit.PATIENT, Unit.RECORD, Unit.SITE):
            raise ConfigError(f'`privacy.unit = "{unit}"` does not apply to notes; use `patient`, `record` or `site`')
        self._digest = vault.digest()
        gate(self._digest)
        self._vault, self._base, self._model, self._unit = vault, base, model, unit
        self._records: list[CleanNote] = list(vault.notes()) if unit is Unit.RECORD else []

    def digest(self) -> str:
        return self._digest.hex()

    def units(self) -> list[int]:
        if self._unit is Unit.SITE:
            return [0]
        return list(range(len(self._records))) if self._unit is Unit.RECORD else self._vault.note_units()

    def rows(self, unit: int) -> list[Encoded]:
        whose = None if self._unit is Unit.SITE else unit
        notes = [self._records[unit]] if self._unit is Unit.RECORD else self._vault.notes(whose)
        return [_encode(self._base, self._model, d.prompt, d.answer) for note in notes for d in note.dialogues]


class PreferenceData:
    """Clinicians' choices as pairs of token rows; the unit is the patient, the pair, the annotator or the site.

    With the patient as unit, a pair that belongs to no patient is a unit of its own. With the pair, all annotators' votes on it are one
    unit; with the annotator, every vote is a row of whoever cast it.

    Weights are public functions of the votes on one pair. With the annotator as unit that would let one annotator's votes weigh another's, so
    there every vote counts 1, outweighed ones included; elsewhere a vote of weight 0 is left out. Ties are left out unless `ties`. `adapter`
    says how the reward is read.
    Raises GateRefused and ConfigError as `SftData` does, TrainingRefused for a weight outside [0, 1].
    """

    def __init__(
        self,
        vault: TrainingVault,
        gate: Gate,
        base: SharedBase,
        model: ModelConfig,
        unit: Unit,
        *,
        aspect: str = OVERALL,
        ties: bool = False,
        adapter: AdapterConfig | None = None,
    ) -> None:
        if unit not in (Unit.PATIENT, Unit.PAIR, Unit.ANNOTATOR, Unit.SITE):
            raise ConfigError(
                f'`privacy.preference_unit = "{unit}"` does not apply to preferences; use `patient`, `pair`, `annotator` or `site`'
            )
        notes = vault.digest()
        gate(notes)
        gate(preferences_digest(vault.preferences()))
        self._base, self._model, self._weighted = base, model, unit is not Unit.ANNOTATOR
        self._adapter = adapter or AdapterConfig()
        sha = hashlib.sha256(b"wardround preferences 2" + notes)
        groups: defaultdict[tuple[str, str], list[Preference]] = defaultdict(list)
        for preference in vault.preferences():
            if not 0 <= preference.weight <= 1:
                raise TrainingRefused(f"a pair has the weight {preference.weight:g}; weights lie in [0, 1]: settle the labels again")
            left_out = preference.aspect != aspect or (preference.tie and not ties) or (self._weighted and preference.weight == 0)
            if left_out:
                continue
            groups[_owner(preference, unit)].append(preference)
            for part in (preference.pair_id, preference.prompt, preference.chosen, preference.rejected, preference.annotator_id,
                         preference.patient_id or "", repr(preference.weight), repr(preference.tie), preference.aspect):  # fmt: skip
                sha.update(len(part.encode()).to_bytes(8, "big") + part.encode())
        self._digest = sha.hexdigest()
        self._groups = [groups[owner] for owner in sorted(groups)]

    def digest(self) -> str:
        return self._digest

    def units(self) -> list[int]:
        return list(range(len(self._groups)))

    def rows(self, unit: int) -> list[EncodedPair]:
        return [
            EncodedPair(
                self._encode(p.prompt, p.chosen),
                self._encode(p.prompt, p.rejected),
                p.weight if self._weighted else 1.0,
                p.tie,
            )
            for p in self._groups[unit]
        ]

    def _encode(self, prompt: str, answer: str) -> Encoded:
        model = self._model
        return self._base.encode_for(
            self._adapter, prompt, answer, max_prompt_tokens=model.max_prompt_tokens, max_answer_tokens=model.max_answer_tokens
        )


def _owner(preference: Preference, unit: Unit) -> tuple[str, str]:
    if unit is Unit.ANNOTATOR:
        return ("annotator", preference.annotator_id)
    if unit is Unit.SITE:
        return ("site", "")
    if unit is Unit.PATIENT and preference.patient_id is not None:
        return ("patient", preference.patient_id)
    return ("pair", preference.pair_id)


def _encode(base: SharedBase, model: ModelConfig, prompt: str, answer: str) -> Encoded:
    return base.encode(prompt, answer, max_prompt_tokens=model.max_prompt_tokens, max_answer_tokens=model.max_answer_tokens)
