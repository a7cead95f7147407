"""Real hospitals, as small as they can be: a vault with notes and preferences, a gate token, a ledger, an audit log."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from client.deid.assurance.token import GATE_VERSION, GateToken, sign_token
from client.deid.preferences import preferences_digest
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from client.records import CleanNote, Dialogue, Preference
from common.privacy.mechanism import Unit

PATIENTS = 20
POLICY = HospitalPolicy(allowed_exchanges=("masked", "plain"))


def make_site(folder: Path, *, patients: int = PATIENTS, policy: HospitalPolicy = POLICY, simulated_seed: int | None = 1) -> None:
    """A hospital of `patients`, each with one note, one dialogue and one preference; the gate's token is signed as after a clean pass."""
    name = folder.name
    with Site.create(folder, name, policy, declared_units={Unit.PATIENT: patients}, simulated_seed=simulated_seed) as site:
        site.vault.put_notes(
            CleanNote(f"n{p}", f"p{p}", "text", dialogues=(Dialogue(f"what about item {p} of {name}", f"take {p} tablets"),))
            for p in range(patients)
        )
        site.vault.put_preferences(
            Preference(f"q{p}", f"prompt {p} of {name}", f"see a doctor {p}", "nothing", annotator_id="a", patient_id=f"p{p}")
            for p in range(patients)
        )
        sign(site)


def sign(site: Site) -> None:
    """Sign the data set as it is now."""
    now = datetime.now(UTC)
    token = GateToken(
        gate_version=GATE_VERSION, site=site.name, digest=site.vault.digest().hex(),
        preferences_digest=preferences_digest(site.vault.preferences()).hex(), notes=PATIENTS, preferences=PATIENTS, reviewed=0, review_leaking=0,
        review_upper_bound=1.0, max_review_upper_bound=1.0, quarantined=0, leaking=0, planted=10,
        survived=0, leak_upper_bound=0.01, max_leak_upper_bound=0.05, max_quarantined=0.25, simulated=site.vault.simulated,
        issued=now.isoformat(timespec="seconds"), expires=(now + timedelta(days=1)).isoformat(timespec="seconds"),
    )  # fmt: skip
    sign_token(site.folder, site.vault, token)
