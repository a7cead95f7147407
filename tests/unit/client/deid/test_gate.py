"""The gate: what it finds, what it signs, and every reason for which a token does not hold."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.deid import gate
from client.deid.assurance import planted
from client.deid.assurance.token import GATE_FILE
from client.deid.gate import hold_gate, upper_bound, verify_token, withdraw
from client.hospital.policy import HospitalPolicy
from client.hospital.site import POLICY_FILE, Site
from client.records import CleanNote, Dialogue, PatientRecord, RawNote
from common.errors import GateRefused

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site.create(tmp_path / "north", "north", HospitalPolicy(max_leak_upper_bound=0.08), simulated_seed=1) as site:
        records = [PatientRecord(f"p{i}", (f"Zebulon Quistgaard{'abcdefgh'[i]}",), record_numbers=(f"47112{i}4",)) for i in range(8)]
        site.vault.ingest([RawNote(f"n{i}", f"p{i % 8}", "raw") for i in range(80)], records)
        site.vault.put_notes([CleanNote(f"n{i}", f"p{i % 8}", f"Cough for {i} days. Better with rest.") for i in range(80)])
        yield site


def test_clean_notes_get_a_token_that_holds(site: Site) -> None:
    token = hold_gate(site, now=NOW)
    assert (token.site, token.notes, token.quarantined, token.leaking, token.survived, token.simulated) == ("north", 80, 0, 0, 0, True)
    assert token.planted >= 50
    assert token.leak_upper_bound == pytest.approx(1 - 0.05 ** (1 / 80))
    assert verify_token(site, now=NOW) == token
    site.gate_token(site.vault.digest(), now=NOW)


@pytest.mark.parametrize("leak", ["Mr Quistgaarda again", "record 471 12 04", "quist-\ngaarda"])
def test_a_note_that_still_holds_an_identifier_is_held_back_and_counted(site: Site, leak: str) -> None:
    site.vault.put_note(CleanNote("n0", "p0", leak))
    token = hold_gate(site, now=NOW)
    assert (token.notes, token.quarantined, token.leaking) == (79, 1, 1)
    assert token.leak_upper_bound == pytest.approx(upper_bound(1, 80))
    assert list(site.vault.quarantined()) == [("n0", "leak")]


def test_dialogues_and_planted_canaries_are_looked_at_too(site: Site) -> None:
    site.vault.put_notes(
        [CleanNote("n0", "p0", "ok", dialogues=(Dialogue("I am quistgaarda", "ok"),)), CleanNote("n1", "p1", "the canary-99 sings")]
    )
    assert hold_gate(site, now=NOW, canaries=["CANARY-99"]).leaking == 2


def test_too_many_leaks_too_few_notes_and_too_many_held_back_are_refused(site: Site) -> None:
    hold_gate(site, now=NOW)
    site.vault.put_notes([CleanNote(f"n{i}", f"p{i % 8}", f"quistgaard{'abcdefgh'[i % 8]}") for i in range(10)])
    with pytest.raises(GateRefused, match=r"10 leaking among 80 notes .* above this hospital's 0\.08"):
        hold_gate(site, now=NOW)
    with pytest.raises(GateRefused, match="have not passed the gate"):
        verify_token(site, now=NOW)
    with pytest.raises(GateRefused, match=r"10 leaking among 80 notes"):  # holding it again makes nothing better
        hold_gate(site, now=NOW)
    site.vault.put_notes([], [(CleanNote(f"n{i}", f"p{i % 8}", ""), "disagreement") for i in range(10, 35)])
    site.policy = HospitalPolicy(max_leak_upper_bound=1.0)
    with pytest.raises(GateRefused, match=r"35 of 80 notes are held back, a share of 0\.44 above this hospital's 0\.25"):
        hold_gate(site, now=NOW)


def test_no_notes_no_token(tmp_path: Path) -> None:
    with Site.create(tmp_path / "south", "south") as empty, pytest.raises(GateRefused, match="no released note"):
        hold_gate(empty, now=NOW)


def test_a_broken_de_identification_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.deid.deidentifier.merge", lambda spans: [])
    with pytest.raises(GateRefused, match="planted identifiers came out"):
        hold_gate(site, now=NOW)


def rewrite(site: Site, **change: object) -> None:
    path = site.folder / GATE_FILE
    stored = json.loads(path.read_text())
    stored["token"].update(change)
    path.write_text(json.dumps(stored))


SPOILT: dict[str, tuple[Callable[[Site], object], str]] = {
    "missing": (lambda site: (site.folder / GATE_FILE).unlink(), "have not passed"),
    "unreadable": (lambda site: (site.folder / GATE_FILE).write_text("{"), "cannot be read"),
    "unknown field": (lambda site: rewrite(site, extra=1), "cannot be read"),
    "edited": (lambda site: rewrite(site, notes=81), "not signed by this site"),
    "longer life": (lambda site: rewrite(site, expires="2099-01-01T00:00:00+00:00"), "not signed by this site"),
    "note added": (lambda site: site.vault.put_note(CleanNote("n99", "p1", "new")), "have changed"),
    "note changed": (lambda site: site.vault.put_note(CleanNote("n3", "p3", "new")), "have changed"),
    "other name": (lambda site: setattr(site, "name", "south"), "of site north, not south"),
    "stricter policy": (lambda site: setattr(site, "policy", HospitalPolicy(max_leak_upper_bound=0.01)), "a bound of 0.0368"),
    "no key": (lambda site: site.vault.erase("gate-signing-key"), "not signed by this site"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_token_holds_for_nothing_else(site: Site, case: str) -> None:
    hold_gate(site, now=NOW)
    spoil, said = SPOILT[case]
    spoil(site)
    with pytest.raises(GateRefused, match=said):
        verify_token(site, now=NOW)
    with pytest.raises(GateRefused):
        site.gate(site.vault.digest())


def test_a_token_expires_and_belongs_to_one_version(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hold_gate(site, now=NOW)
    verify_token(site, now=NOW + timedelta(days=89))
    with pytest.raises(GateRefused, match="expired on 2027-02-19"):
        verify_token(site, now=NOW + timedelta(days=90))
    monkeypatch.setattr("client.deid.assurance.token.GATE_VERSION", gate.GATE_VERSION + 1)
    with pytest.raises(GateRefused, match="of version 2, and this is version 3"):
        verify_token(site, now=NOW)


def test_a_token_of_another_site_does_not_hold(site: Site, tmp_path: Path) -> None:
    hold_gate(site, now=NOW)
    with Site.create(tmp_path / "copy", "north") as copy:
        (copy.folder / GATE_FILE).write_text((site.folder / GATE_FILE).read_text())
        with pytest.raises(GateRefused, match="not signed by this site"):
            verify_token(copy, now=NOW)


def test_withdrawing_a_patient_keeps_the_smaller_data_set_usable(site: Site) -> None:
    before = hold_gate(site, now=NOW)
    assert withdraw(site, "p3", now=NOW)["notes"] == 10
    after = verify_token(site, now=NOW)
    assert (after.notes, after.expires) == (70, before.expires)
    assert after.digest != before.digest
    site.vault.put_note(CleanNote("n99", "p1", "new"))
    withdraw(site, "p4", now=NOW)
    with pytest.raises(GateRefused, match="have changed"):
        verify_token(site, now=NOW)


def test_the_policy_of_the_file_decides(site: Site) -> None:
    (site.folder / POLICY_FILE).write_text("max_leak_upper_bound = 0.001\n")
    site.vault.close()
    with Site.open(site.folder) as again, pytest.raises(GateRefused, match=r"0\.001"):
        hold_gate(again, now=NOW)
    site.vault = again.vault


@pytest.mark.parametrize(
    ("leaking", "notes", "bound"), [(0, 59, 0.0495), (0, 300, 0.0099), (0, 1000, 0.0030), (0, 3000, 0.0010), (5, 5, 1.0), (2, 765, 0.0082)]
)
def test_the_bound_equals_published_figures(leaking: int, notes: int, bound: float) -> None:
    """Exact one-sided 95 % limits; 1 − 0.05^(1/n) when nothing leaked (Hanley and Lippman-Hand 1983)."""
    assert upper_bound(leaking, notes) == pytest.approx(bound, abs=6e-5)


def test_planted_identities_would_be_noticed() -> None:
    """The check can fail: left as they are, all identifiers count as survivors."""
    for record, copy in planted.planted([CleanNote("n", "p", "text")] * 3):
        tried, survived = planted.count_survivors(record, copy.text)
        assert tried == survived > 5
        assert planted.count_survivors(record, "nothing here 12345") == (tried, 0)
