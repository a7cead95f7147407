"""The export that `wardround bench export` takes through a hospital's desk, and the desk itself on two megabytes."""

import json
from collections import Counter
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.progress import Silent
from simulations.bench.export import MEGABYTES, Export, write_export


def test_the_export_has_patients_of_very_different_numbers_of_notes_and_the_size_that_was_asked_for(tmp_path: Path) -> None:
    ids, characters = write_export(tmp_path / "one", 400_000)
    notes = [json.loads(line) for line in (tmp_path / "one" / "notes.jsonl").read_text().splitlines()]
    known = {json.loads(line)["patient_id"] for line in (tmp_path / "one" / "patients.jsonl").read_text().splitlines()}
    number = Counter(note["patient_id"] for note in notes)
    assert [note["id"] for note in notes] == ids
    assert sum(len(note["text"]) for note in notes) == characters >= 400_000
    assert set(number) == known
    assert min(number.values()) == 1
    assert max(number.values()) > 5
    assert write_export(tmp_path / "two", 400_000) == (ids, characters)


@pytest.mark.parametrize("megabytes", ["much", "0", "1e9"])
def test_a_size_that_is_none_is_refused(megabytes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEGABYTES, megabytes)
    with pytest.raises(ConfigError, match=r"no number of megabytes between 0\.1 and 100000"):
        Export().run(1, Silent())


@pytest.mark.slow  # takes a vault through three processes: three minutes
def test_an_export_loses_and_doubles_nothing_when_it_is_killed_twice() -> None:
    outcome = Export(megabytes=6.0).run(1, Silent())
    parts = [row for row in outcome.rows if "largest_worker_bytes" in row]
    assert [row["killed"] for row in parts] == [True, True, False]
    assert all(row["notes"] for row in parts)
    assert all(ratio.met for ratio in outcome.ratios.values())
