import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.records import CleanNote, Dialogue, PatientRecord, Preference, RawNote
from client.sealed.sealing import Sealer
from client.sealed.vault import KEY_FILE, Vault
from common.errors import IntakeError, SealBroken, StorageError

SECRET_TEXT = "Zebulon Quistgaard came in on 3 May"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with Vault.create(tmp_path / "site") as vault:
        yield vault


def raw(number: int, patient: str = "p1", text: str = SECRET_TEXT) -> RawNote:
    return RawNote(f"n{number}", patient, text, "progress", "2024-05-03", (Dialogue("What?", "This."),))


def clean(number: int, patient: str = "p1", text: str = "clean") -> CleanNote:
    return CleanNote(f"n{number}", patient, text, "progress", (Dialogue("Q", "A"),), {"NAME": 2})


def test_what_goes_in_comes_out_after_reopening(tmp_path: Path) -> None:
    record = PatientRecord("p1", ("Zebulon Quistgaard",), "1950-01-02", ("123",), ("555",), ("a@b.c",), ("1 Road",), ("Ida",), "M")
    preference = Preference("q1", "prompt", "better", "worse", "dr-1", "p1", 0.5, True, tie=True, aspect="safety")
    with Vault.create(tmp_path / "site") as vault:
        vault.ingest([raw(1)], [record])
        vault.put_note(clean(1))
        vault.put_preferences([preference])
        secret, digest = vault.patient_secret("p1"), vault.digest()
    with Vault.open(tmp_path / "site") as vault:
        assert list(vault.raw_notes()) == [raw(1)]
        assert list(vault.records()) == [record]
        assert list(vault.notes()) == [clean(1)]
        assert list(vault.preferences()) == [preference]
        assert (vault.patient_secret("p1"), vault.digest()) == (secret, digest)
        assert len(secret) == 32


def test_no_file_of_the_vault_shows_a_text_or_an_identifier(vault: Vault) -> None:
    vault.ingest([raw(1, "patient-4711")], [PatientRecord("patient-4711", ("Zebulon Quistgaard",))])
    vault.put_note(clean(1, "patient-4711"))
    vault.put("ledger-key", b"\x07" * 32)
    for file in vault.folder.iterdir():
        content = file.read_bytes()
        for hidden in (b"Quistgaard", b"patient-4711", b"n1\0", b"\x07" * 32, vault.patient_secret("patient-4711")):
            assert hidden not in content, file.name


def test_ingest_twice_changes_nothing_and_a_revised_note_is_de_identified_again(vault: Vault) -> None:
    assert vault.ingest([raw(1), raw(2)]).notes == 2
    vault.put_notes([clean(1), clean(2)])
    again = vault.ingest([raw(1), raw(2, text="amended")])
    assert (again.notes, again.unchanged, again.revised) == (0, 1, 1)
    assert [note.note_id for note in vault.raw_notes(pending=True)] == ["n2"]
    assert [note.note_id for note in vault.notes()] == ["n1"]


def test_a_reader_that_fails_leaves_nothing_half_written(vault: Vault) -> None:
    def notes() -> Iterator[RawNote]:
        yield raw(1)
        raise IntakeError(Path("export.jsonl"), 2, "text", "is missing")

    with pytest.raises(IntakeError, match="line 2"):
        vault.ingest(notes(), [PatientRecord("p9")])
    assert not any(vault.counts().values())


def test_a_note_id_of_another_patient_is_refused_without_its_value(vault: Vault) -> None:
    vault.ingest([raw(1, "p1")])
    with pytest.raises(IntakeError, match="another patient") as caught:
        vault.ingest([raw(1, "p2")])
    assert "n1" not in str(caught.value)
    assert vault.unit_of("p2") is None


def test_quarantined_notes_are_neither_pending_nor_released(vault: Vault) -> None:
    vault.ingest([raw(1), raw(2)])
    vault.put_notes([clean(1)], [(clean(2), "names")])
    assert list(vault.raw_notes(pending=True)) == []
    assert list(vault.notes()) == [clean(1)]
    assert list(vault.quarantined()) == [("n2", "names")]
    vault.put_notes([clean(2)])
    assert list(vault.quarantined()) == []


def test_discarded_clean_notes_are_pending_again_where_the_raw_note_is_left(vault: Vault) -> None:
    vault.ingest([raw(1), raw(2)])
    vault.put_notes([clean(1), clean(3)], [(clean(2), "names")])
    vault.discard_clean()
    assert [note.note_id for note in vault.raw_notes(pending=True)] == ["n1", "n2"]
    assert [note.note_id for note in vault.notes()] == ["n3"]


def test_units_number_patients_and_are_never_reused(vault: Vault) -> None:
    vault.ingest([raw(1, "p1"), raw(2, "p2"), raw(3, "p3")])
    vault.put_notes([clean(1, "p1"), clean(3, "p3")])
    last = vault.unit_of("p3")
    assert last is not None
    assert vault.note_units() == [vault.unit_of("p1"), last]
    assert [note.note_id for note in vault.notes(unit=last)] == ["n3"]
    vault.withdraw("p3")
    vault.ingest([raw(4, "p4")])
    newest = vault.unit_of("p4")
    assert newest is not None
    assert newest > last


def test_a_withdrawn_patient_is_gone_and_does_not_come_back(vault: Vault) -> None:
    vault.ingest([raw(1), raw(2, "p2")], [PatientRecord("p1")])
    vault.put_notes([clean(1), clean(2, "p2")])
    vault.put_preferences([Preference("q", "p", "a", "b", "dr", "p1"), Preference("q2", "p", "a", "b", "dr")])
    with vault.transaction():
        vault.shelf("items").put("i1", b"of the patient", owner=vault.owner("p1"))
        vault.shelf("items").put("i2", b"of nobody", owner=vault.owner(None))
    assert vault.withdraw("p1") == {
        "records": 1,
        "raw": 1,
        "notes": 1,
        "quarantine": 0,
        "preferences": 1,
        "items": 1,
        "screens": 0,
        "choices": 0,
        "patients": 1,
    }
    assert vault.ingest([raw(1)], [PatientRecord("p1")]).withdrawn == 1
    assert [note.patient_id for note in vault.notes()] == ["p2"]
    assert [preference.pair_id for preference in vault.preferences()] == ["q2"]
    assert list(vault.shelf("items").rows()) == [b"of nobody"]
    for refused in (lambda: vault.patient_secret("p1"), lambda: vault.put_note(clean(1))):
        with pytest.raises(IntakeError, match="withdrawn"):
            refused()


def test_the_digest_moves_with_every_released_byte_and_with_nothing_else(vault: Vault) -> None:
    vault.put_notes([clean(1), clean(2)])
    digest = vault.digest()
    vault.ingest([raw(9)])
    vault.put_notes([], [(clean(3), "names")])
    vault.put_preferences([Preference("q", "p", "a", "b", "dr")])
    assert vault.digest() == digest
    vault.put_note(clean(2, text="cleam"))
    assert vault.digest() != digest


def test_keys_are_put_got_and_erased(vault: Vault) -> None:
    assert vault.get("step") is None
    vault.put("step", b"k" * 32)
    assert vault.get("step") == b"k" * 32
    vault.erase("step")
    assert vault.get("step") is None
    vault.erase("step")


def test_secrets_differ_between_patients_and_between_sites(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "a") as a, Vault.create(tmp_path / "b") as b:
        assert len({a.patient_secret("p1"), a.patient_secret("p2"), b.patient_secret("p1")}) == 3
        assert not a.simulated


def test_a_simulated_vault_repeats_its_secrets_and_says_so_for_ever(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "a", simulated_seed=7) as a, Vault.create(tmp_path / "b", simulated_seed=7) as b:
        assert a.patient_secret("p1") == b.patient_secret("p1") != a.patient_secret("p2")
        assert a.simulated
    with Vault.open(tmp_path / "a") as again:
        assert again.simulated
        assert again.patient_secret("p3") == Vault.create(tmp_path / "c", simulated_seed=7).patient_secret("p3")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    Vault.create(tmp_path / "site").close()
    assert (tmp_path / "site" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / "site" / KEY_FILE).chmod(mode)
    with pytest.raises(StorageError, match="chmod 600"):
        Vault.open(tmp_path / "site")


def test_missing_short_and_foreign_keys_are_refused(tmp_path: Path) -> None:
    Vault.create(tmp_path / "site").close()
    Vault.create(tmp_path / "other").close()
    key = tmp_path / "site" / KEY_FILE
    key.write_bytes((tmp_path / "other" / KEY_FILE).read_bytes())
    with pytest.raises(SealBroken):
        Vault.open(tmp_path / "site")
    key.write_bytes(b"short")
    with pytest.raises(StorageError, match="5 bytes instead of 32"):
        Vault.open(tmp_path / "site")
    key.unlink()
    with pytest.raises(StorageError, match="missing"):
        Vault.open(tmp_path / "site")


def test_a_vault_is_never_created_over_another_nor_opened_where_none_is(tmp_path: Path) -> None:
    Vault.create(tmp_path / "site").close()
    with pytest.raises(StorageError, match="there already"):
        Vault.create(tmp_path / "site")
    with pytest.raises(StorageError, match="wardround-site init"):
        Vault.open(tmp_path / "nowhere")


def test_a_row_moved_to_another_patient_or_place_does_not_open(vault: Vault) -> None:
    vault.put_notes([clean(1, "p1"), clean(2, "p2", "other")])
    one, two = vault.unit_of("p1"), vault.unit_of("p2")
    for tampering in (
        "UPDATE notes SET unit = 3 - unit",
        "UPDATE notes SET sealed = (SELECT sealed FROM notes n WHERE n.unit <> notes.unit)",
    ):
        with vault._db.transaction():
            vault._db.run(tampering)
        with pytest.raises(SealBroken):
            list(vault.notes())
        with vault._db.transaction():
            vault._db.run("UPDATE notes SET unit = CASE WHEN position = 1 THEN ? ELSE ? END", (one, two))


@pytest.mark.parametrize("change", ["kind", "handle", "owner", "bit", "short"])
def test_a_seal_opens_only_in_its_own_place(change: str) -> None:
    sealer = Sealer(b"k" * 32)
    handle = sealer.handle("note", "n1")
    sealed = sealer.seal("note", handle, 3, b"text")
    assert sealer.open("note", handle, 3, sealed) == b"text"
    place = (
        "raw" if change == "kind" else "note",
        sealer.handle("note", "n2") if change == "handle" else handle,
        4 if change == "owner" else 3,
    )
    damaged = {"bit": sealed[:-1] + bytes([sealed[-1] ^ 1]), "short": sealed[:9]}.get(change, sealed)
    with pytest.raises(SealBroken) as caught:
        sealer.open(*place, damaged)
    assert str(caught.value) == "the sealed message does not open"


def test_reprs_and_errors_show_neither_keys_nor_text(vault: Vault) -> None:
    shown = f"{vault!r} {vault._sealer!r} {raw(1)!r} {clean(1, text=SECRET_TEXT)!r}"
    assert "Quistgaard" not in shown
    assert (vault.folder / KEY_FILE).read_bytes().hex() not in shown


def test_a_full_disk_is_an_error_with_a_remedy_and_stores_nothing(tmp_path: Path) -> None:
    Vault.create(tmp_path / "site").close()
    script = f"""
        import resource, signal
        from pathlib import Path
        from client.records import RawNote
        from client.sealed.vault import Vault
        from common.errors import StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        vault = Vault.open(Path({str(tmp_path / "site")!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        try:
            vault.ingest(RawNote(str(i), "p", "x" * 9000) for i in range(900))
        except StorageError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "check free space" in done.stdout, done
    with Vault.open(tmp_path / "site") as vault:
        assert vault.counts()["raw"] == 0


def test_kill_at_any_moment_leaves_whole_batches(tmp_path: Path) -> None:
    Vault.create(tmp_path / "site").close()
    script = f"""
        from pathlib import Path
        from client.records import CleanNote
        from client.sealed.vault import Vault
        vault = Vault.open(Path({str(tmp_path / "site")!r}))
        for batch in range(100_000):
            vault.put_notes([CleanNote(f"{{batch}}-{{i}}", "p", "text" * 50) for i in range(7)])
            print(batch, flush=True)
    """
    for after in (3, 11, 25):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Vault.open(tmp_path / "site") as vault:
            stored = [note.note_id for note in vault.notes()]
        assert len(stored) >= 7 * after
        assert len(stored) == len(set(stored))
        assert len(stored) % 7 == 0


def test_a_shelf_keeps_rows_by_name_and_a_failed_step_leaves_none(vault: Vault) -> None:
    shelf = vault.shelf("choices")
    with vault.transaction():
        shelf.put("a", b"first", owner=0)
        shelf.put("a", b"second", owner=0)
    assert (shelf.get("a"), shelf.get("b"), list(shelf.rows())) == (b"second", None, [b"second"])

    def fail_half_way() -> None:
        with vault.transaction():
            shelf.delete(["a"])
            vault.put_preferences([Preference("q", "p", "a", "b", "dr")])  # a transaction within one belongs to it
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert (shelf.get("a"), list(vault.preferences())) == (b"second", [])
    before = vault.version()
    with Vault.open(vault.folder) as other, other.transaction():
        other.shelf("choices").put("c", b"from elsewhere", owner=0)
    assert vault.version() != before


def test_a_vault_from_before_the_labelling_page_gets_its_tables(tmp_path: Path) -> None:
    Vault.create(tmp_path / "old").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "old" / "vault.db")) as raw_database:
        for table in ("items", "screens", "choices", "people"):
            raw_database.execute(f"DROP TABLE {table}")
        raw_database.commit()
    with Vault.open(tmp_path / "old") as vault:
        assert list(vault.shelf("people").rows()) == []


def test_preferences_are_dropped_by_pair_and_annotator(vault: Vault) -> None:
    vault.put_preferences(Preference(pair, "p", "a", "b", who) for pair in ("item-1", "item-2", "q") for who in ("x", "y"))
    vault.put_preferences([Preference("item-1", "p", "a", "b", "x", aspect="safety")])
    assert vault.drop_preferences("item-", "x") == 3
    assert vault.drop_preferences("item-") == 2
    assert [p.pair_id for p in vault.preferences()] == ["q", "q"]
