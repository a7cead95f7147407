"""A coordinator that asks for weaker terms, one study after another. A hospital that permits them is the twin that loses; the default refuses."""

from pathlib import Path

import pytest

from client.hospital.policy import HospitalPolicy, Request
from client.hospital.site import Site
from common.config import Stage, StudyConfig
from common.errors import BudgetExhausted, PolicyRefused
from common.privacy.accounting import epsilon_merged, merge
from common.privacy.ledger import Entry
from common.privacy.mechanism import Unit
from common.privacy.schedule import step_mechanism

LARGEST, DELTA = 4.0, 1e-6


def study_of(unit: Unit) -> StudyConfig:
    privacy = {"unit": unit, "epsilon": LARGEST, "delta": DELTA, "noise_multiplier": 1.0, "sampling_rate": 0.1}
    return StudyConfig.model_validate({"study_id": f"by-{unit}", "privacy": privacy})


def drain(site: Site, study: StudyConfig) -> None:
    """Rounds of the SFT stage until the hospital says no."""
    site.policy.admit(Request.of(study, Stage.SFT, sites=8))
    for number in range(1000):
        mechanism = step_mechanism(study, Stage.SFT, expected_units=9.0)
        site.ledger.commit(site.ledger.reserve(Entry(study.study_id, "sft", number, 0, 0, f"{number:064x}"), mechanism))


def patients_epsilon(site: Site) -> float:
    """What a patient with one note lost: for that patient a record is the patient, whatever the account is called."""
    steps = [*site.ledger.spent(Unit.PATIENT), *site.ledger.spent(Unit.RECORD)]
    as_patient = [step_mechanism(study_of(Unit.PATIENT), Stage.SFT, expected_units=9.0).times(step.steps) for step in steps]
    return epsilon_merged(merge(as_patient), DELTA)


def attack(folder: Path, policy: HospitalPolicy) -> float:
    with Site.create(folder, folder.name, policy) as site:
        with pytest.raises(BudgetExhausted):
            drain(site, study_of(Unit.PATIENT))
        with pytest.raises((BudgetExhausted, PolicyRefused)):
            drain(site, study_of(Unit.RECORD))
        return patients_epsilon(site)


def test_another_unit_is_a_second_budget_over_the_same_patients(tmp_path: Path) -> None:
    both = HospitalPolicy(max_epsilon=LARGEST, max_delta=DELTA, allowed_units=(Unit.PATIENT, Unit.RECORD))
    twin, ours = attack(tmp_path / "twin", both), attack(tmp_path / "ours", HospitalPolicy(max_epsilon=LARGEST, max_delta=DELTA))
    assert twin > LARGEST * 1.2, f"the patient lost {twin:.2f} of {LARGEST}"
    assert ours <= LARGEST, f"the patient lost {ours:.2f} of {LARGEST}"


def test_a_study_that_takes_the_masks_off_is_refused_unless_the_hospital_permits_it() -> None:
    open_study = StudyConfig.model_validate({"secure": {"exchange": "plain"}})
    request = Request.of(open_study, Stage.SFT, sites=8)
    HospitalPolicy(allowed_exchanges=("masked", "plain")).admit(request)
    with pytest.raises(PolicyRefused, match=r"exchange plain, not by masked; change `secure.exchange`"):
        HospitalPolicy().admit(request)
