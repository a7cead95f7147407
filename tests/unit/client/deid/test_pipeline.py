"""A vault's notes through the pipeline: workers, resume after a kill, failures without text."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from client.deid import pipeline
from client.deid.deidentifier import Deidentifier
from client.deid.pipeline import deidentify_notes, deidentify_pending, report
from client.records import PatientRecord, RawNote
from client.sealed.vault import Vault
from common.errors import WardroundError

PARENT = os.getpid()
GIVEN = ("Ida", "Olaf", "Zebulon", "Ottilie", "Bartholomew", "Ines")
FAMILY = ("Quistgaard", "Torkelson", "Varnhagen", "Prewitt", "Pellworth", "Osterley", "Dunwick")


def export(patients: int) -> tuple[list[RawNote], list[PatientRecord]]:
    notes, records = [], []
    for i in range(patients):
        name, number = f"{GIVEN[i % 6]} {FAMILY[i % 7]}", str(4_711_000 + 37 * i)
        records.append(PatientRecord(f"p{i}", (name,), "1950-01-02", (number,)))
        for j in range(1 + i % 3):
            notes.append(
                RawNote(
                    f"n{i}-{j}",
                    f"p{i}",
                    f"{name}, MRN {number}, seen 05/0{1 + j}/2024 by Dr. {FAMILY[(i + 3) % 7]}. Cough.",
                    "visit",
                    "2024-05-01",
                )
            )
    return notes, records


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Counting:
    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, stage: str, total: int) -> None:
        self.total = total

    def advance(self, n: int = 1) -> None:
        self.done += n

    def note(self, text: str) -> None:
        pass


def test_everything_is_cleaned_once_and_reported(tmp_path: Path) -> None:
    notes, records = export(30)
    told = Counting()
    with Vault.create(tmp_path / "v", simulated_seed=3) as vault:
        done = deidentify_notes(notes, records, vault, progress=told)
        assert (done.notes, done.released, done.patients, dict(done.quarantined)) == (len(notes), len(notes), 30, {})
        assert (told.total, told.done) == (len(notes), len(notes))
        assert done.identifiers["MRN"] == len(notes)
        assert [note.note_id for note in vault.notes()] == [note.note_id for note in notes]
        text = " ".join(note.text for note in vault.notes())
        assert not any(word in text for word in ("/2024", *(record.record_numbers[0] for record in records)))
        digest = vault.digest()
        assert deidentify_pending(vault, progress=Counting()) == done
        assert deidentify_notes(notes, records, vault) == done
        assert vault.digest() == digest


def test_two_workers_give_what_one_gives(tmp_path: Path) -> None:
    notes, records = export(40)
    texts = []
    for workers in (1, 2):
        with Vault.create(tmp_path / str(workers), simulated_seed=3) as vault:
            done = deidentify_notes(notes, records, vault, workers=workers)
            texts.append(([(note.note_id, note.text, note.counts) for note in vault.notes()], done))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_is_stored_as_soon_as_it_holds_enough_text_however_few_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(pipeline, "BATCH_CHARACTERS", 4_000)
    text = "No cough today. " * 20
    notes = [RawNote(f"n{i}-{j}", f"p{i}", text) for i in range(9) for j in range((1, 13, 25)[i % 3])]
    stored = list[int]()
    with Vault.create(tmp_path / "v", simulated_seed=3) as vault:
        told = Counting()
        monkeypatch.setattr(told, "advance", stored.append)
        deidentify_notes(notes, [PatientRecord(f"p{i}") for i in range(9)], vault, workers=workers, progress=told)
        assert [note.note_id for note in vault.notes()] == [note.note_id for note in notes]
    assert stored == [1 + 13, 25] * 3


def test_a_killed_run_goes_on_and_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    notes, records = export(60)
    with Vault.create(tmp_path / "whole", simulated_seed=3) as vault:
        deidentify_notes(notes, records, vault)
        whole = [(note.note_id, note.text) for note in vault.notes()]
    with Vault.create(tmp_path / "cut", simulated_seed=3) as vault:
        vault.ingest(notes, records)
    script = f"""
        from pathlib import Path
        from client.deid.pipeline import deidentify_pending
        from client.sealed.vault import Vault
        from common.progress import Silent
        class Told(Silent):
            def advance(self, n=1): print(n, flush=True)
        deidentify_pending(Vault.open(Path({str(tmp_path / "cut")!r})), workers=2, progress=Told())
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    workers = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(workers) == 2
    until = time.monotonic() + 60
    while any(map(_lives, workers)):  # they hold notes: nobody would ever end them
        assert time.monotonic() < until, "the workers of a killed run go on"
        time.sleep(0.1)
    with Vault.open(tmp_path / "cut") as vault:
        stored = [(note.note_id, note.text) for note in vault.notes()]
        assert stored == whole[: len(stored)]
        done = deidentify_pending(vault)
        assert [(note.note_id, note.text) for note in vault.notes()] == whole
        assert done == report(vault)


def test_notes_that_come_later_get_the_same_surrogates(tmp_path: Path) -> None:
    notes, records = export(1)
    with Vault.create(tmp_path / "v") as vault:
        deidentify_notes(notes, records, vault)
        deidentify_notes([RawNote("later", "p0", f"{records[0].names[0]} is back.")], [], vault)
        first, later = vault.notes()
        assert later.text.split(" is")[0] in first.text


def test_a_failure_names_its_kind_and_place_and_never_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Deidentifier, patients: object) -> None:
        raise KeyError("Quistgaard")

    notes, records = export(3)
    monkeypatch.setattr(Deidentifier, "clean", broken)
    with Vault.create(tmp_path / "v") as vault:
        with pytest.raises(WardroundError, match=r"KeyError in .*test_pipeline, line") as caught:
            deidentify_notes(notes, records, vault)
        assert "Quistgaard" not in str(caught.value)
        assert caught.value.__suppress_context__
        assert vault.counts()["notes"] == 0


def die(deidentifier: Deidentifier, batch: list[object]) -> None:
    assert os.getpid() != PARENT
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_stops_the_run_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes, records = export(3)
    monkeypatch.setattr(pipeline, "_clean", die)
    with Vault.create(tmp_path / "v") as vault, pytest.raises(WardroundError, match="run again, with fewer workers"):
        deidentify_notes(notes, records, vault, workers=2)
