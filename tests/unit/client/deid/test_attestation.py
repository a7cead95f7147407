"""The attestation says every class in order, what was not checked, and what it is not; the quasi-identifiers count patients."""

import json
from pathlib import Path

from client.deid.assurance.attestation import CLASSES, IS_NOT, write_attestation
from client.deid.assurance.quasi import OVER_89, SMALL_PLACE, report
from client.deid.gate import hold_gate
from client.deid.pipeline import deidentify_notes, discard_clean
from client.deid.surrogates import Dates
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from client.records import CleanNote, PatientRecord, RawNote


def test_classes_in_order_counts_and_dates(tmp_path: Path) -> None:
    with Site.create(tmp_path / "north", "north", HospitalPolicy(max_leak_upper_bound=0.5), simulated_seed=1) as site:
        notes = [RawNote(f"n{i}", f"p{i}", f"Mr Quistgaard, MRN 471123{i}, seen 05/03/2024.") for i in range(8)]
        deidentify_notes(notes, [], site.vault, dates=Dates.SHIFT)
        token = hold_gate(site)
        page = write_attestation(site, token).read_text()
        body = json.loads((site.folder / "attestation.json").read_text())
        assert [row["letter"] for row in body["classes"]] == list("ABCDEFGHIJKLMNOPQR") == [row[0] for row in CLASSES]
        counts = {row["letter"]: row["replaced"] for row in body["classes"]}
        assert (counts["A"], counts["C"], counts["H"], counts["G"], counts["P"]) == (8, 8, 8, 0, None)
        assert IS_NOT in page
        assert "NOT Safe Harbor" in page
        assert not body["dates_as_safe_harbor"]
        assert "Quistgaard" not in page + json.dumps(body)
        discard_clean(site.vault)
        deidentify_notes([], [], site.vault)
        write_attestation(site, hold_gate(site))
        assert json.loads((site.folder / "attestation.json").read_text())["dates_as_safe_harbor"]


def test_rare_facts_and_their_combinations() -> None:
    notes = [CleanNote(f"n{i}", f"p{i}", "Has bronchitis.") for i in range(9)]
    notes += [CleanNote("a", "p1", "A 90+ year old with sarcoidosis and bronchitis."), CleanNote("b", "p2", "Now 90+.")]
    records = [PatientRecord("p1", addresses=("12 Mill Lane, Tinyhamlet",)), PatientRecord("p2", addresses=("4 Oak Street, Omaha 68102",))]
    found = report(notes, records)
    assert found.patients == 9
    assert found.facts == {OVER_89: 2, "sarcoidosis": 1, SMALL_PLACE: 1}
    assert found.combinations[0].patients == 1
    assert {OVER_89, SMALL_PLACE, "sarcoidosis"} in [set(combination.facts) for combination in found.combinations]
    assert found.standing_out == 2
