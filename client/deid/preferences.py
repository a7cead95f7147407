"""Prompts, answers and clinicians' own words, read like notes before a reward model may learn from them.

A preference that holds an identifier gets surrogates in its place, the same as in the patient's notes; one that would hold back a note is
deleted. What was read once is remembered, sealed, by its digest: surrogates are never read as originals.

Protects against: a name that a clinician typed into a correction; an identifier that a model repeated in a candidate answer.
Does not protect against: what the detectors miss; names of people unknown to the index in lower case.
"""

import json
import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from client.records import Dialogue, PatientRecord, Preference, RawNote
from client.sealed.sealing import KEY_BYTES
from client.sealed.vault import Vault

_READ, _NOBODY = "deid preferences", "deid nobody"


def preferences_digest(preferences: Iterable[Preference]) -> bytes:
    """SHA-256 over every preference's owner, texts and order: what the gate's token covers beside the notes."""
    digest = sha256(b"wardround clean preferences 1")
    for preference in preferences:
        digest.update(_digest(preference))
    return digest.digest()


def _digest(p: Preference) -> bytes:
    return sha256(json.dumps([p.pair_id, p.annotator_id, p.aspect, p.patient_id, p.prompt, p.chosen, p.rejected]).encode()).digest()


def clean_preferences(vault: Vault) -> tuple[int, int]:
    """Read every preference that was not read yet, in place. Returns (preferences that stay, preferences deleted)."""
    read = set(json.loads(vault.get(_READ) or b"[]"))
    fresh: defaultdict[str | None, list[Preference]] = defaultdict(list)
    kept = 0
    for preference in vault.preferences():
        kept += 1
        if _digest(preference).hex() not in read:
            fresh[preference.patient_id].append(preference)
    deleted = 0
    for patient_id, preferences in fresh.items():
        clean, dirty = _cleaned(vault, patient_id, preferences)
        # remembered first: a kill in between leaves digests of nothing, never a surrogate that would be read as an original
        read.update(_digest(preference).hex() for preference in clean)
        vault.put(_READ, json.dumps(sorted(read)).encode())
        vault.put_preferences(clean)
        vault.remove_preferences(dirty)
        deleted += len(dirty)
    return kept - deleted, deleted


def _cleaned(vault: Vault, patient_id: str | None, preferences: list[Preference]) -> tuple[list[Preference], list[Preference]]:
    """(with surrogates, those to delete) of one patient's preferences, or of those that belong to nobody."""
    from client.deid.deidentifier import Deidentifier, Work  # takes seconds to load, and a site without new preferences needs none of it

    unit = None if patient_id is None else vault.unit_of(patient_id)
    record, secret = (PatientRecord(""), _secret_of_nobody(vault)) if unit is None else vault.patient(unit)
    notes = tuple(
        RawNote(str(i), record.patient_id, p.prompt, dialogues=(Dialogue(p.chosen, p.rejected),)) for i, p in enumerate(preferences)
    )
    (done,) = Deidentifier().clean([Work(notes, record, secret)])
    clean, dirty = [], []
    for preference, cleaned in zip(preferences, done, strict=True):
        if cleaned.reason is None:
            (answers,) = cleaned.note.dialogues
            clean.append(replace(preference, prompt=cleaned.note.text, chosen=answers.prompt, rejected=answers.answer))
        else:
            dirty.append(preference)
    return clean, dirty


def _secret_of_nobody(vault: Vault) -> bytes:
    """The key of surrogates in texts that belong to no patient."""
    if vault.simulated:
        return sha256(b"simulated nobody").digest()
    secret = vault.get(_NOBODY)
    if secret is None:
        secret = secrets.token_bytes(KEY_BYTES)
        vault.put(_NOBODY, secret)
    return secret
