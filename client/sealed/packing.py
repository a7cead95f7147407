"""The records of `client/records.py` as bytes for the vault, and back."""

import json
from collections.abc import Sequence
from typing import Any

from client.records import CleanNote, Dialogue, PatientRecord, Preference, RawNote


def pack_record(record: PatientRecord) -> bytes:
    r = record
    return _dump([r.patient_id, r.names, r.birth_date, r.record_numbers, r.phones, r.emails, r.addresses, r.relatives, r.gender])


def unpack_record(plain: bytes) -> PatientRecord:
    patient_id, names, birth_date, numbers, phones, emails, addresses, relatives, gender = json.loads(plain)
    return PatientRecord(
        patient_id, tuple(names), birth_date, tuple(numbers), tuple(phones), tuple(emails), tuple(addresses), tuple(relatives), gender
    )


def pack_raw(note: RawNote) -> bytes:
    return _dump([note.note_id, note.patient_id, note.text, note.kind, note.date, _pairs(note.dialogues)])


def unpack_raw(plain: bytes) -> RawNote:
    note_id, patient_id, text, kind, date, dialogues = json.loads(plain)
    return RawNote(note_id, patient_id, text, kind, date, tuple(Dialogue(*pair) for pair in dialogues))


def pack_clean(note: CleanNote) -> bytes:
    return _dump([note.note_id, note.patient_id, note.text, note.kind, _pairs(note.dialogues), dict(note.counts)])


def unpack_clean(plain: bytes) -> CleanNote:
    note_id, patient_id, text, kind, dialogues, counts = json.loads(plain)
    return CleanNote(note_id, patient_id, text, kind, tuple(Dialogue(*pair) for pair in dialogues), counts)


def pack_preference(preference: Preference) -> bytes:
    p = preference
    return _dump([p.pair_id, p.prompt, p.chosen, p.rejected, p.annotator_id, p.patient_id, p.weight, p.on_policy, p.tie, p.aspect])


def unpack_preference(plain: bytes) -> Preference:
    return Preference(*json.loads(plain))


def _pairs(dialogues: Sequence[Dialogue]) -> list[list[str]]:
    return [[dialogue.prompt, dialogue.answer] for dialogue in dialogues]


def _dump(value: Any) -> bytes:
    # \ud800-style lone surrogates of a damaged export survive as escapes, so that any text can be stored
    return json.dumps(value, separators=(",", ":")).encode("ascii")
