"""Every reader: what it understands, and every refusal by file, line and field, without the value."""

import base64
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.intake import Export, read_csv, read_fhir, read_jsonl, take_in
from client.intake.export import MAX_LINE_BYTES
from client.records import Dialogue, PatientRecord, RawNote
from client.sealed.vault import Vault
from common.errors import IntakeError, StorageError
from common.progress import Silent

HIDDEN = "Zebulon Quistgaard"
NOTE = {
    "id": "n1",
    "patient_id": "p1",
    "text": HIDDEN,
    "kind": "progress",
    "date": "2024-05-03",
    "dialogues": [{"prompt": "Q?", "answer": "A."}],
}
PATIENT = {"patient_id": "p1", "names": [HIDDEN], "birth_date": "1950-01-02", "mrn": 4711, "phone": "555-0101"}


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def read_all(export: Export) -> tuple[list[PatientRecord], list[RawNote]]:
    return list(export.records), list(export.notes)


# ---- JSONL -----------------------------------------------------------------------------------------------------------


def test_jsonl_folder(tmp_path: Path) -> None:
    write_lines(tmp_path / "notes.jsonl", NOTE, "", {**NOTE, "id": "n2", "date": "2024-05-03T10:00:00", "dialogues": None, "ward": "7"})
    write_lines(tmp_path / "patients.jsonl", PATIENT)
    export = read_jsonl(tmp_path)
    records, notes = read_all(export)
    assert records == [PatientRecord("p1", (HIDDEN,), "1950-01-02", ("4711",), ("555-0101",))]
    assert notes[0] == RawNote("n1", "p1", HIDDEN, "progress", "2024-05-03", (Dialogue("Q?", "A."),))
    assert (notes[1].date, notes[1].dialogues) == ("2024-05-03", ())
    assert export.left_aside == {"field ward": 1}


def test_usual_names_of_an_index_are_understood(tmp_path: Path) -> None:
    write_lines(tmp_path / "notes.jsonl")
    row = {
        "patient_id": "p",
        "first_name": "Ida",
        "last_name": "Bo",
        "maiden_name": "Ek",
        "dob": "1950",
        "ssn": "1-2",
        "address": "1 Road",
        "city": "X",
        "sex": "F",
    }
    write_lines(tmp_path / "patients.jsonl", row)
    (record,) = read_jsonl(tmp_path).records
    assert record == PatientRecord("p", ("Ida Bo", "Ek"), "1950", ("1-2",), (), (), ("1 Road", "X"), (), "F")


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        ('{"id": "n2", ', None, "not valid JSON at column"),
        ("[" * 100_000, None, "nested too deeply"),
        ('["n2"]', None, "a JSON object is expected"),
        ("{", None, "at column 2; each line holds one whole object"),
        (json.dumps(NOTE)[:-1] + ', "text": "another"}', None, "a key stands twice"),
        ('{"id": ' + "9" * 5000 + "}", None, "more than 4,300 digits"),
        ({**NOTE, "id": "n" * 513}, "id", "longer than 512 characters"),
        ({**NOTE, "id": "n2", "patient_id": "p\u0000"}, "patient_id", "cannot be printed"),
        ({**NOTE, "id": " n1 "}, "id", "earlier line"),
        ({**NOTE, "patient_id": None}, "patient_id", "missing or empty"),
        ({k: v for k, v in NOTE.items() if k != "patient_id"}, "patient_id", "missing or empty"),
        ({**NOTE, "patient_id": "  "}, "patient_id", "missing or empty"),
        ({k: v for k, v in NOTE.items() if k != "text"}, "text", "missing or empty"),
        ({**NOTE, "id": ""}, "id", "missing or empty"),
        ({**NOTE, "id": "n1"}, "id", "earlier line"),
        ({**NOTE, "id": "n2", "text": [HIDDEN]}, "text", "a string is expected"),
        ({**NOTE, "id": "n2", "text": True}, "text", "a string is expected"),
        ({**NOTE, "id": "n2", "text": HIDDEN + "\ud800"}, "text", "surrogate pair"),
        ({**NOTE, "id": "n2", "date": "3 May 2024"}, "date", "YYYY-MM-DD"),
        ({**NOTE, "id": "n2", "date": "2024-02-30"}, "date", "no such day"),
        ({**NOTE, "id": "n2", "dialogues": {"prompt": HIDDEN}}, "dialogues", "a list"),
        ({**NOTE, "id": "n2", "dialogues": [HIDDEN]}, "dialogues[0]", "an object"),
        ({**NOTE, "id": "n2", "dialogues": [{"prompt": HIDDEN}]}, "dialogues[0].answer", "missing or empty"),
    ],
)
def test_jsonl_refusals(tmp_path: Path, line: Any, field: str | None, said: str) -> None:
    path = write_lines(tmp_path / "notes.jsonl", NOTE, line)
    with pytest.raises(IntakeError) as caught:
        read_all(read_jsonl(path))
    assert (caught.value.path, caught.value.line, caught.value.field) == (path, 2, field)
    assert said in str(caught.value)
    assert HIDDEN not in str(caught.value)
    assert caught.value.__cause__ is None


def test_jsonl_patient_refusals_and_missing_files(tmp_path: Path) -> None:
    write_lines(tmp_path / "notes.jsonl", NOTE)
    write_lines(tmp_path / "patients.jsonl", PATIENT, {**PATIENT, "birth_date": "02/01/1950"})
    with pytest.raises(IntakeError, match=r"patients.jsonl, line 2, field `birth_date`"):
        read_all(read_jsonl(tmp_path))
    with pytest.raises(IntakeError, match="no such file"):
        read_all(read_jsonl(tmp_path / "nowhere.jsonl"))


def test_another_encoding_and_an_endless_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(json.dumps(NOTE).encode() + b'\n{"id": "M\xfcller"}\n')
    with pytest.raises(IntakeError, match="line 2: not UTF-8"):
        read_all(read_jsonl(path))
    with path.open("wb") as file:
        file.truncate(MAX_LINE_BYTES + 10)
    with pytest.raises(IntakeError, match="longer than"):
        read_all(read_jsonl(path))


def test_a_byte_order_mark_is_no_error_and_a_blank_note_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(NOTE).encode() + b"\n" + json.dumps({**NOTE, "id": "n2", "text": " \n"}).encode())
    export = read_jsonl(path)
    assert [note.note_id for note in export.notes] == ["n1"]
    assert export.left_aside == {"notes without text": 1}


# ---- CSV -------------------------------------------------------------------------------------------------------------


def test_csv_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text(
        'id,patient_id,text,date,ward\nn1,p1,"Seen, today.\nBetter.",2024-05-03,7\n\nn2,p1,' + "x" * 200_000 + ",,7\n"
    )
    (tmp_path / "patients.csv").write_text("patient_id,names,mrn\np1,Ida Bo|Ida Ek,0047\n")
    export = read_csv(tmp_path)
    records, notes = read_all(export)
    assert records == [PatientRecord("p1", ("Ida Bo", "Ida Ek"), None, ("0047",))]
    assert notes[0] == RawNote("n1", "p1", "Seen, today.\nBetter.", "note", "2024-05-03")
    assert len(notes[1].text) == 200_000
    assert export.left_aside == {"field ward": 1}


@pytest.mark.parametrize(
    ("text", "line", "field", "said"),
    [
        ("id,text\nn1,x\n", 1, "patient_id", "no such column in the header; name id, patient_id, text there"),
        ("", 1, "id", "no such column"),
        ("id;patient_id;text\nn1;p1;x\n", 1, "id", "separated by semicolons; export them with commas"),
        ("id\tpatient_id\ttext\n", 1, "id", "separated by tabs"),
        ("id,patient_id,text,,\nn1,p1,x,,\n", 1, None, "column 4 has no name"),
        ("id,patient_id,text,id\n", 1, None, "twice"),
        ("id,patient_id,text\nn1,p1,x\nn2,p1\n", 3, None, "2 cells where the header has 3"),
        ('id,patient_id,text\nn1,p1,"two\nlines"\nn2,,x\n', 4, "patient_id", "missing or empty"),
        ('id,patient_id,text\nn1,p1,"open\n', 2, None, "quote"),
        ("id,patient_id,text\nn1,p1,x\nn1,p1,y\n", 3, "id", "earlier line"),
    ],
)
def test_csv_refusals(tmp_path: Path, text: str, line: int, field: str | None, said: str) -> None:
    path = tmp_path / "notes.csv"
    path.write_text(text)
    with pytest.raises(IntakeError) as caught:
        read_all(read_csv(path))
    assert (caught.value.line, caught.value.field) == (line, field)
    assert said in str(caught.value)


def test_csv_in_another_encoding_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_bytes(b"id,patient_id,text\nn1,p1,M\xfcller\n")
    with pytest.raises(IntakeError, match="not UTF-8"):
        read_all(read_csv(tmp_path))
    with pytest.raises(IntakeError, match="no such file"):
        read_all(read_csv(tmp_path / "nowhere.csv"))


# ---- FHIR ------------------------------------------------------------------------------------------------------------


def base64_of(text: str, encoding: str = "utf-8") -> str:
    return base64.b64encode(text.encode(encoding)).decode()


def document(**change: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "DocumentReference",
        "id": "d1",
        "status": "current",
        "subject": {"reference": "Patient/p1"},
        "date": "2024-06-01T10:00:00Z",
        "type": {"coding": [{"display": "Progress note"}]},
        "content": [{"attachment": {"contentType": "text/plain; charset=utf-8", "data": base64_of(HIDDEN)}}],
        "context": {"encounter": [{"reference": "Encounter/e1"}]},
    }
    return {key: value for key, value in {**resource, **change}.items() if value is not None}


FHIR_PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"value": "4711", "type": {"text": "MRN"}}],
    "name": [{"family": "Quistgaard", "given": ["Zebulon", "K"]}, {"use": "maiden", "family": "Ek"}],
    "telecom": [{"system": "phone", "value": "555-0101"}, {"system": "email", "value": "z@q.example"}],
    "birthDate": "1950-01-02",
    "gender": "male",
    "address": [{"line": ["1 Road"], "city": "Elm", "postalCode": "05001"}],
    "contact": [{"name": {"family": "Bo", "given": ["Ida"]}, "telecom": [{"system": "phone", "value": "555-0102"}]}],
}
ENCOUNTER = {
    "resourceType": "Encounter",
    "id": "e1",
    "status": "finished",
    "class": {"code": "AMB"},
    "subject": {"reference": "Patient/p1"},
    "period": {"start": "2024-05-03T09:00:00Z"},
}


def write_export(
    folder: Path, *documents: Any, patients: tuple[Any, ...] = (FHIR_PATIENT,), encounters: tuple[Any, ...] = (ENCOUNTER,)
) -> Path:
    write_lines(folder / "Patient.ndjson", *patients)
    write_lines(folder / "DocumentReference.ndjson", *documents)
    write_lines(folder / "Encounter.ndjson", *encounters)
    return folder


def test_fhir_folder(tmp_path: Path) -> None:
    page = "<html><style>p{}</style><p>Seen &amp; sent home</p><br>Bo</html>"
    html = document(id="d2", context=None, content=[{"attachment": {"contentType": "text/html", "data": base64_of(page)}}])
    latin = document(
        id="d3", content=[{"attachment": {"contentType": "text/plain; charset=iso-8859-1", "data": base64_of("Müller", "latin-1")}}]
    )
    scan = document(id="d4", content=[{"attachment": {"contentType": "application/pdf", "data": base64_of("%PDF")}}])
    far = document(
        id="d5", subject={"reference": "https://ehr.example/fhir/Patient/p1/_history/2"}, content=[{"attachment": {"url": "Binary/b1"}}]
    )
    write_lines(tmp_path / "Observation.ndjson", {"resourceType": "Observation"})
    export = read_fhir(write_export(tmp_path, document(), html, latin, scan, far))
    records, notes = read_all(export)
    assert records == [
        PatientRecord(
            "p1",
            ("Zebulon K Quistgaard", "Ek"),
            "1950-01-02",
            ("4711",),
            ("555-0101", "555-0102"),
            ("z@q.example",),
            ("1 Road", "Elm", "05001"),
            ("Ida Bo",),
            "male",
        )
    ]
    assert notes[0] == RawNote("d1", "p1", HIDDEN, "Progress note", "2024-05-03")
    assert (notes[1].text, notes[1].date) == ("Seen & sent home\n\nBo", "2024-06-01")
    assert [note.text for note in notes[2:]] == ["Müller"]
    assert export.left_aside == {"files of other resource types": 1, "attachments that hold no text": 2, "documents without text": 2}


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"subject": None}, "subject", "does not refer to a Patient"),
        ({"subject": {"reference": "Group/g1"}}, "subject", "does not refer to a Patient"),
        ({"id": None}, "id", "missing or empty"),
        ({"status": None}, "status", "not a FHIR R4 DocumentReference"),
        ({HIDDEN: 1}, "resource", "not a FHIR R4"),
        ({"content": [{"attachment": {"data": "***"}}]}, "content.0.attachment.data", "not valid base64"),
        ({"content": [{"attachment": {"data": base64_of("Müller", "latin-1")}}]}, "content.0.attachment.data", "character set"),
        (
            {"content": [{"attachment": {"contentType": "text/plain; charset=klingon", "data": base64_of("x")}}]},
            "content.0.attachment.contentType",
            "not known",
        ),
        ({"context": [{"reference": "Encounter/e1"}]}, "context", "of FHIR R5"),
        ({"resourceType": "Patient"}, "resourceType", "one type a file"),
        ({"id": "d1"}, "id", "earlier line"),
    ],
)
def test_fhir_refusals(tmp_path: Path, change: dict[str, Any], field: str, said: str) -> None:
    write_export(tmp_path, document(), document(**{"id": "d2", **change}))
    with pytest.raises(IntakeError) as caught:
        read_all(read_fhir(tmp_path))
    assert (caught.value.line, caught.value.field) == (2, field)
    assert said in str(caught.value)
    assert HIDDEN not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("encounter", "release"),
    [
        (
            {
                **ENCOUNTER,
                "class": [{"coding": [{"code": "AMB"}]}],
                "status": "completed",
                "period": None,
                "actualPeriod": {"start": "2024-05-03"},
            },
            "R5",
        ),
        ({**ENCOUNTER, "reason": [{"text": "cough"}]}, "STU3"),
    ],
)
def test_a_resource_of_another_release_is_refused_by_its_name(tmp_path: Path, encounter: dict[str, Any], release: str) -> None:
    write_export(tmp_path, document(), encounters=({key: value for key, value in encounter.items() if value is not None},))
    with pytest.raises(IntakeError, match=rf"Encounter\.ndjson, line 1, .*the resource is of FHIR {release}; export as R4"):
        read_all(read_fhir(tmp_path))


def test_a_bundle_is_refused_by_its_name(tmp_path: Path) -> None:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": FHIR_PATIENT}]}
    with pytest.raises(IntakeError, match="line 1, field `resourceType`: a Bundle; export as bulk data"):
        read_fhir(write_lines(tmp_path / "bundle.json", bundle))
    (tmp_path / "bundle.json").write_text(json.dumps(FHIR_PATIENT, indent=1))
    with pytest.raises(IntakeError, match="line 1: not valid JSON at column 2; each line holds one whole object"):
        read_fhir(tmp_path / "bundle.json")


def test_fhir_refuses_what_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match=r"no \.ndjson file"):
        read_fhir(tmp_path)
    write_lines(tmp_path / "a.ndjson", {"id": HIDDEN})
    with pytest.raises(IntakeError, match="line 1, field `resourceType`: is missing") as caught:
        read_fhir(tmp_path)
    assert HIDDEN not in str(caught.value)
    write_lines(tmp_path / "a.ndjson", {**FHIR_PATIENT, "id": None})
    with pytest.raises(IntakeError, match="field `id`"):
        read_all(read_fhir(tmp_path))


# ---- into the vault ----------------------------------------------------------------------------------------------------


def test_one_patient_however_the_id_is_spaced(tmp_path: Path) -> None:
    """Two patients made of one would have two budgets."""
    (tmp_path / "notes.csv").write_text("id, patient_id, text\nn1,p1,x\nn2, p1 ,y\n")
    write_lines(tmp_path / "patients.csv", "patient_id,names", "p1 ,Ida Bo")
    with Vault.create(tmp_path / "vault") as vault:
        done = take_in(vault, read_csv(tmp_path), Silent())
        assert (done.notes, done.records, vault.counts()["patients"]) == (2, 1, 1)


def test_a_note_of_another_patient_is_refused_by_file_and_line(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "vault") as vault:
        take_in(vault, read_jsonl(write_lines(tmp_path / "first.jsonl", NOTE)), Silent())
        second = write_lines(tmp_path / "second.jsonl", {**NOTE, "id": "n2"}, "", {**NOTE, "patient_id": "p2"})
        with pytest.raises(IntakeError, match=rf"{second}, line 3, field `id`: the vault holds a note with this id for another patient"):
            take_in(vault, read_jsonl(second), Silent())
        assert vault.counts()["raw"] == 1


@pytest.mark.parametrize(("text", "read"), [("", read_jsonl), ("\n \n", read_jsonl), ("id,patient_id,text\n", read_csv), ("", read_fhir)])
def test_an_export_of_nothing_is_refused(tmp_path: Path, text: str, read: Callable[[Path], Export]) -> None:
    path = tmp_path / "notes"
    path.write_text(text)
    with Vault.create(tmp_path / "vault") as vault, pytest.raises(IntakeError, match="holds no note and no patient; is it the right file"):
        take_in(vault, read(path), Silent())


def test_an_export_that_is_read_advances_by_its_bytes(tmp_path: Path) -> None:
    class Told(Silent):
        total = done = 0

        def start(self, stage: str, total: int) -> None:
            self.total = total

        def advance(self, n: int = 1) -> None:
            self.done += n

    write_lines(tmp_path / "notes.jsonl", *({**NOTE, "id": f"n{i}", "text": "x" * 5000} for i in range(20)))
    write_lines(tmp_path / "patients.jsonl", PATIENT)
    (tmp_path / "notes.csv").write_text("id,patient_id,text\n" + "".join(f"c{i},p1,{'y' * 5000}\n" for i in range(20)))
    with Vault.create(tmp_path / "vault") as vault:
        for read in (read_jsonl, read_csv):
            told = Told()
            take_in(vault, read(tmp_path), told)
            assert 100 <= told.total <= 110
            assert told.total - 5 <= told.done <= told.total


def test_a_full_disk_takes_nothing_in(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "notes.jsonl", *({**NOTE, "id": f"n{i}", "text": HIDDEN * 500} for i in range(300)))
    Vault.create(tmp_path / "vault").close()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
            with Vault.open(tmp_path / "vault") as vault:
                take_in(vault, read_jsonl(path), Silent())
        except StorageError as error:
            code = 7 if "nothing of this step was stored: check free space" in str(error) and HIDDEN not in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with Vault.open(tmp_path / "vault") as vault:
        assert not any(vault.counts().values())
        assert take_in(vault, read_jsonl(path), Silent()).notes == 300


# ---- all of them -----------------------------------------------------------------------------------------------------


def break_jsonl(folder: Path) -> Export:
    write_lines(folder / "patients.jsonl", PATIENT)
    return read_jsonl(write_lines(folder / "notes.jsonl", NOTE, "{").parent)


def break_csv(folder: Path) -> Export:
    (folder / "notes.csv").write_text("id,patient_id,text\nn1,p1,x\nn2,,x\n")
    return read_csv(folder)


def break_fhir(folder: Path) -> Export:
    return read_fhir(write_export(folder, document(), document(id="d2", subject=None)))


@pytest.mark.parametrize("broken", [break_jsonl, break_csv, break_fhir])
def test_a_broken_export_leaves_the_vault_as_it_was(tmp_path: Path, broken: Callable[[Path], Export]) -> None:
    with Vault.create(tmp_path / "vault") as vault:
        export = broken(tmp_path)
        with pytest.raises(IntakeError):
            vault.ingest(export.notes, export.records)
        assert not any(vault.counts().values())
