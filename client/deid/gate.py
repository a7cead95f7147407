"""The gate between de-identified notes and training: it looks again at every released note and signs what it saw.

    survival scan       every identifier the index knows of the patient, in every form of tier 0, and every canary that the caller planted:
                        a note that holds one is held back
    planted identities  copies of released notes with an invented patient's identifiers are de-identified; none may come out
    bound               Clopper–Pearson, one-sided 95 %: leaking notes among those looked at
    preferences         prompts and answers that clinicians were shown, and their corrections, are read like notes (`client/deid/preferences.py`)
    token               Ed25519 over data-set digest, site, gate version, thresholds, figures and expiry; rechecked at every load

Protects against: training on notes that did not pass, that changed since, that belong to another site, or that passed under looser rules
or too long ago.
Does not protect against: identifiers that neither the index nor the detectors know, of which the bound says nothing: that is for a
review by people (`client/deid/assurance/review.py`), whose figures the token carries. Token and digests stay on this machine.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from client.deid.assurance import planted
from client.deid.assurance.bounds import upper_bound
from client.deid.assurance.review import review_of
from client.deid.assurance.token import GATE_FILE, GATE_VERSION, GateToken, sign_token
from client.deid.known import Known
from client.deid.preferences import clean_preferences, preferences_digest
from client.deid.scan import Scan
from client.deid.vocabulary.words import fold
from client.hospital.site import Site
from client.records import CleanNote, PatientRecord
from common.errors import GateRefused

PLANTED_NOTES = 6
LEAK = "leak"
"""The reason code of a note that the gate itself held back."""


def hold_gate(site: Site, *, now: datetime | None = None, canaries: Sequence[str] = ()) -> GateToken:
    """Look at every released note, hold back what leaks, and sign a token when the policy's thresholds are met.

    Raises GateRefused with number, bound and remedy otherwise; then there is no token, not even an older one.
    """
    moment = now or datetime.now(UTC)
    (site.folder / GATE_FILE).unlink(missing_ok=True)
    preferences, _ = clean_preferences(site.vault)
    found, sample = _look_again(site, canaries)
    site.vault.put_notes([], [(note, LEAK) for note in found])
    counts = site.vault.counts()
    notes, quarantined = counts["notes"], counts["quarantine"]
    # those of earlier gates count as well: holding the gate again must not make the figure better
    leaking = sum(reason == LEAK for _, reason in site.vault.quarantined())
    if not notes:
        raise GateRefused(f"site {site.name} has no released note; ingest and de-identify notes first")
    tried, survived = _plant(sample)
    policy = site.policy
    bound = upper_bound(leaking, notes + leaking)
    share = quarantined / (notes + quarantined)
    review = review_of(site.vault)
    if survived:
        raise GateRefused(
            f"{survived} of {tried} planted identifiers came out of the de-identification; its installation is damaged, repair it"
        )
    if bound > policy.max_leak_upper_bound:
        raise GateRefused(
            f"{leaking} leaking among {notes + leaking} notes bound the leaking share by {bound:.4f}, above this hospital's "
            f"{policy.max_leak_upper_bound:g}; mend the records and run `wardround-site deidentify --again`, add notes, or raise `max_leak_upper_bound` in the policy if fewer must do"
        )
    if review.upper_bound > policy.max_review_upper_bound:
        raise GateRefused(
            f"people's review ({review.read} of a sample of {review.sample} read, {review.leaking} leaking) bounds the leaking share by "
            f"{review.upper_bound:.4f}, above this hospital's {policy.max_review_upper_bound:g}; run `wardround-site review`"
        )
    if share > policy.max_quarantined:
        raise GateRefused(
            f"{quarantined} of {notes + quarantined} notes are held back, a share of {share:.2f} above this hospital's {policy.max_quarantined:g}; "
            "check that the export is text in the right language and that the patients' records came with it"
        )
    token = GateToken(
        gate_version=GATE_VERSION,
        site=site.name,
        digest=site.vault.digest().hex(),
        preferences_digest=preferences_digest(site.vault.preferences()).hex(),
        notes=notes,
        preferences=preferences,
        quarantined=quarantined,
        leaking=leaking,
        planted=tried,
        survived=survived,
        leak_upper_bound=bound,
        reviewed=review.read if review.complete else 0,
        review_leaking=review.leaking if review.complete else 0,
        review_upper_bound=review.upper_bound,
        max_review_upper_bound=policy.max_review_upper_bound,
        max_leak_upper_bound=policy.max_leak_upper_bound,
        max_quarantined=policy.max_quarantined,
        simulated=site.vault.simulated,
        issued=moment.isoformat(timespec="seconds"),
        expires=(moment + timedelta(days=policy.gate_days)).isoformat(timespec="seconds"),
    )
    sign_token(site.folder, site.vault, token)
    return token


def verify_token(site: Site, *, now: datetime | None = None) -> GateToken:
    """The valid token of the site's data set as it is now. Raises GateRefused when there is none or it does not hold."""
    return site.gate_token(site.vault.digest(), now=now)


def withdraw(site: Site, patient_id: str, *, now: datetime | None = None) -> dict[str, int]:
    """Delete a patient and sign the smaller data set, if the larger one had a valid token. Returns rows deleted by table."""
    try:
        token: GateToken | None = verify_token(site, now=now)
    except GateRefused:
        token = None
    gone = site.vault.withdraw(patient_id)
    if token is not None:
        # what remains was looked at with the rest; figures and expiry stay those of that day
        counts = site.vault.counts()
        sign_token(
            site.folder,
            site.vault,
            replace(
                token,
                digest=site.vault.digest().hex(),
                preferences_digest=preferences_digest(site.vault.preferences()).hex(),
                notes=counts["notes"],
                preferences=counts["preferences"],
                quarantined=counts["quarantine"],
            ),
        )
    return gone


def cover_preferences(site: Site, *, now: datetime | None = None) -> tuple[int, int]:
    """Read the preferences that came since the gate was held, and sign a token that covers them too. Returns (that stay, deleted).

    Raises GateRefused when the notes have no valid token. Figures and expiry stay those of the day on which the gate was held.
    """
    token = verify_token(site, now=now)
    kept, deleted = clean_preferences(site.vault)
    digest = preferences_digest(site.vault.preferences()).hex()
    sign_token(site.folder, site.vault, replace(token, preferences=kept, preferences_digest=digest))
    return kept, deleted


def _look_again(site: Site, canaries: Sequence[str]) -> tuple[list[CleanNote], list[CleanNote]]:
    """(notes that leak, a few that do not)."""
    known = {record.patient_id: Known(record) for record in site.vault.records()}
    planted_secrets = [fold(canary) for canary in canaries]
    leaking: list[CleanNote] = []
    sample: list[CleanNote] = []
    for note in site.vault.notes():
        matcher = known.get(note.patient_id) or Known(PatientRecord(note.patient_id))
        texts = [note.text, *(text for dialogue in note.dialogues for text in (dialogue.prompt, dialogue.answer))]
        if any(
            next(iter(matcher.find(Scan(text))), None) is not None or any(secret in fold(text) for secret in planted_secrets)
            for text in texts
        ):
            leaking.append(note)
        elif len(sample) < PLANTED_NOTES:
            sample.append(note)
    return leaking, sample


def _plant(sample: Sequence[CleanNote]) -> tuple[int, int]:
    """(identifiers planted, identifiers that came out)."""
    from client.deid.deidentifier import Deidentifier, Work  # its libraries take seconds to load, and checking a token needs none of them

    copies = planted.planted(sample)
    cleaned = Deidentifier().clean([Work((note,), record, planted.secret(record)) for record, note in copies])
    figures = [planted.count_survivors(record, patient[0].note.text) for (record, _), patient in zip(copies, cleaned, strict=True)]
    return sum(tried for tried, _ in figures), sum(found for _, found in figures)
