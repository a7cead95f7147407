"""The bound on leaking notes rests on the truth of the invented notes, and sees a leak when there is one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from client.hospital.site import Site
from client.records import CleanNote, Dialogue, PatientRecord, RawNote
from common.errors import StorageError
from simulations.report.truth import leaking_notes

TEXT = "Marguerite Oldfield, born 03/05/1951, Tel 555-0142."
GOLD = [
    {"id": "n1", "text": TEXT, "spans": [{"start": 0, "end": 19}, {"start": 26, "end": 36}, {"start": 42, "end": 50}]},
    {"id": "n1/0/prompt", "text": "Ask Dr Abelard.", "spans": [{"start": 7, "end": 14}]},
]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site.create(tmp_path / "site", "alder", simulated_seed=1)
    site.vault.ingest([RawNote("n1", "p1", TEXT)], [PatientRecord("p1")])
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GOLD))
    return site


CLEAN = CleanNote("n1", "p1", "Frieda Lang, born 1951, Tel 555-0199.", dialogues=(Dialogue("Ask Dr Heloise.", "Yes."),))


@pytest.mark.parametrize(
    ("note", "leaking"),
    [
        (CLEAN, 0),
        (replace(CLEAN, text=CLEAN.text + " seen: MARGUERITE\n OLDFIELD"), 1),
        (replace(CLEAN, text="Tel (555) 0142"), 1),
        (replace(CLEAN, dialogues=(Dialogue("Ask Dr Abelard.", "Yes."),)), 1),
        (replace(CLEAN, text="Abelards and 1951"), 0),
    ],
)
def test_a_surviving_identifier_is_counted(site: Site, tmp_path: Path, note: CleanNote, leaking: int) -> None:
    site.vault.put_notes([note])
    assert leaking_notes(site, tmp_path) == (leaking, 1)


def test_an_export_without_truth_is_not_measured(site: Site, tmp_path: Path) -> None:
    (tmp_path / "gold.jsonl").unlink()
    assert leaking_notes(site, tmp_path) is None


def test_a_damaged_truth_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "gold.jsonl").write_text('{"id": "n1"}\n')
    with pytest.raises(StorageError, match="line 1: not a row of truth"):
        leaking_notes(site, tmp_path)
