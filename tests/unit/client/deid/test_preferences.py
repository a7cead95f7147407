"""Preferences are read like notes: surrogates in place of identifiers, once; what changes afterwards is not covered."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.deid.gate import cover_preferences, hold_gate
from client.deid.preferences import clean_preferences, preferences_digest
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from client.records import CleanNote, PatientRecord, Preference, RawNote
from common.errors import GateRefused

NAMED = Preference("q1", "I am Zebulon Quistgaard, what now?", "Rest, Mr Quistgaard.", "Call 402-555-0186.", "dr", "p1")
PLAIN = Preference("q2", "What helps against a cough?", "Honey and rest.", "Nothing helps.", "dr")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site.create(tmp_path / "north", "north", HospitalPolicy(max_leak_upper_bound=0.2), simulated_seed=1) as site:
        site.vault.ingest([RawNote(f"n{i}", "p1", "raw") for i in range(30)], [PatientRecord("p1", ("Zebulon Quistgaard",))])
        site.vault.put_notes([CleanNote(f"n{i}", "p1", f"Cough for {i} days.") for i in range(30)])
        yield site


def test_identifiers_are_replaced_once_and_plain_texts_stay(site: Site) -> None:
    site.vault.put_preferences([NAMED, PLAIN])
    assert clean_preferences(site.vault) == (2, 0)
    named, plain = site.vault.preferences()
    assert plain == PLAIN
    assert "quistgaard" not in repr([named.prompt, named.chosen]).lower()
    assert "0186" not in named.rejected
    name = named.chosen.removeprefix("Rest, Mr ").rstrip(".")
    assert name in named.prompt
    assert clean_preferences(site.vault) == (2, 0)
    assert list(site.vault.preferences()) == [named, plain]


def test_training_is_refused_preferences_that_the_token_does_not_cover(site: Site) -> None:
    hold_gate(site)
    site.vault.put_preferences([PLAIN])
    with pytest.raises(GateRefused, match=r"notes or preferences .* have changed"):
        site.gate(preferences_digest(site.vault.preferences()))
    cover_preferences(site)
    site.gate(preferences_digest(site.vault.preferences()))
    site.gate(site.vault.digest())


def test_a_preference_that_would_hold_back_a_note_is_deleted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.vault.put_preferences([NAMED, PLAIN])
    monkeypatch.setattr("client.deid.deidentifier.survives", lambda clean, inserted, known, originals: bool(known.names))
    assert clean_preferences(site.vault) == (1, 1)
    assert list(site.vault.preferences()) == [PLAIN]
