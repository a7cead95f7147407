import json
import re
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from client.intake.jsonl import read_jsonl
from common.errors import StorageError
from simulations.judgement.clinical import DRUGS
from simulations.patients.habits import HABITS
from simulations.patients.marked import Mark, fill, joined
from simulations.patients.note_texts import KINDS, RARE
from simulations.patients.notes import LONGEST, SHORTEST, Exported, HospitalSpec, write_hospital
from simulations.patients.people import RARE_CODES, patient

SAFE_HARBOR = {
    "names": {"PATIENT", "RELATIVE", "CLINICIAN"},
    "places": {"STREET", "CITY", "ZIP", "HOSPITAL"},
    "dates and ages above 89": {"DATE", "BIRTH"},
    "telephone numbers": {"PHONE"},
    "fax numbers": {"FAX"},
    "electronic mail addresses": {"EMAIL"},
    "social security numbers": {"SSN"},
    "medical record numbers": {"MRN"},
    "health plan numbers": {"HEALTH_PLAN"},
    "account numbers": {"ACCOUNT"},
    "licence numbers": {"LICENSE"},
    "vehicle identifiers": {"VEHICLE"},
    "device identifiers": {"DEVICE"},
    "web addresses": {"URL"},
    "IP addresses": {"IP"},
    "biometric identifiers": {"BIOMETRIC"},
    "photographs": {"PHOTO"},
    "any other unique code": {"OTHER"},
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[Exported]:
    folder = tmp_path_factory.mktemp("exports")
    return [write_hospital(folder / str(n), HospitalSpec(f"site-{n}", n, 40, canaries=2), seed=1) for n in range(len(HABITS))]


def test_the_same_seed_writes_the_same_bytes(exported: list[Exported], tmp_path: Path) -> None:
    again = write_hospital(tmp_path / "again", HospitalSpec("site-0", 0, 40, canaries=2), seed=1)
    other = write_hospital(tmp_path / "other", HospitalSpec("site-0", 0, 40, canaries=2), seed=2)
    for name in ("notes.jsonl", "patients.jsonl", "gold.jsonl", "canaries.json"):
        first = (exported[0].folder / name).read_bytes()
        assert (again.folder / name).read_bytes() == first, name
        assert (other.folder / name).read_bytes() != first, name


def test_gold_spans_are_exact_and_cover_all_that_the_index_knows(exported: list[Exported]) -> None:
    for one in exported:
        records = {row["patient_id"]: row for row in lines(one.folder / "patients.jsonl")}
        for row in lines(one.folder / "gold.jsonl"):
            text, covered = row["text"], set()
            for span in row["spans"]:
                piece = text[span["start"] : span["end"]]
                assert piece == piece.strip() != "", (row["id"], span)
                covered |= set(range(span["start"], span["end"]))
            record = records[row["id"].split("-n")[0]]
            for secret in (*record["names"], *record["names"][0].split(), *record["record_numbers"], *record["phones"], *record["emails"]):
                for found in re.finditer(rf"(?<!\w){re.escape(secret)}(?!\w)", text):
                    assert set(range(*found.span())) <= covered, (row["id"], text[max(0, found.start() - 30) : found.end() + 10])


def test_gold_rows_are_the_exported_texts(exported: list[Exported]) -> None:
    for one in exported:
        gold = {row["id"]: row["text"] for row in lines(one.folder / "gold.jsonl")}
        notes = lines(one.folder / "notes.jsonl")
        assert one.notes == len(notes)
        for note in notes:
            assert gold.pop(note["id"]) == note["text"]
            for number, dialogue in enumerate(note["dialogues"]):
                assert gold.pop(f"{note['id']}/{number}/prompt") == dialogue["prompt"]
                assert gold.pop(f"{note['id']}/{number}/answer") == dialogue["answer"]
        assert not gold


def test_every_hospital_has_every_class_of_identifier(exported: list[Exported]) -> None:
    for one in exported:
        found = {span["raw_label"] for row in lines(one.folder / "gold.jsonl") for span in row["spans"]}
        missing = {name for name, kinds in SAFE_HARBOR.items() if not kinds <= found}
        assert not missing, (one.folder.name, missing)
    everywhere = {s["raw_label"] for one in exported for row in lines(one.folder / "gold.jsonl") for s in row["spans"]}
    assert "AGE_OVER_89" in everywhere
    assert set(RARE) == set(RARE_CODES)


def test_notes_are_of_the_promised_shape(exported: list[Exported]) -> None:
    notes = [note for one in exported for note in lines(one.folder / "notes.jsonl")]
    assert {note["kind"] for note in notes} == set(KINDS)
    for note in notes:
        assert SHORTEST <= len(note["text"]) <= LONGEST, note["id"]
        assert "{" not in note["text"]
        assert 1 <= len(note["dialogues"]) <= 2
        assert date.fromisoformat(note["date"])
    per_patient = Counter(note["patient_id"] for note in notes)
    mean = len(notes) / len(per_patient)
    assert 2.0 < mean < 2.6, mean
    assert min(per_patient.values()) == 1
    assert max(per_patient.values()) == 8


def test_dialogues_are_short_end_properly_and_come_from_the_note(exported: list[Exported]) -> None:
    safety_nets = 0
    dialogues = [(note, d) for one in exported for note in lines(one.folder / "notes.jsonl") for d in note["dialogues"]]
    for note, dialogue in dialogues:
        prompt, answer = dialogue["prompt"], dialogue["answer"]
        assert len(prompt.split()) <= 34, prompt
        assert len(answer.split()) <= 34, answer
        assert prompt.endswith("?")
        # the drug of the answer is one of the note
        assert any(drug in answer and drug in note["text"] for drug in DRUGS), (note["text"], answer)
        safety_nets += bool(re.search(r"tell us|phone the ward|clinic in|doctor will|hospital right now|emergency line", answer, re.I))
    share = safety_nets / len(dialogues)
    assert 0.3 < share < 0.75, f"some habits leave the safety net out, so that there is something to learn: {share:.2f}"


def test_dialogues_hold_identifiers_too(exported: list[Exported]) -> None:
    rows = [row for row in lines(exported[0].folder / "gold.jsonl") if "/" in row["id"]]
    labels = Counter(s["label"] for row in rows for s in row["spans"])
    assert min(labels["NAME"], labels["DATE"], labels["ID"]) > 5, labels


def test_hospitals_write_by_their_own_habits(exported: list[Exported]) -> None:
    openings = {lines(one.folder / "notes.jsonl")[0]["text"].count("\n") for one in exported}
    assert len(openings) > 2
    for number, one in enumerate(exported):
        text = lines(one.folder / "notes.jsonl")[0]["text"]
        heading = HABITS[number].headings["plan"]
        assert f"{heading.upper() if HABITS[number].upper else heading}:" in text
        assert HABITS[number].hospital in text


def test_canaries_stand_in_their_note_and_nowhere_else(exported: list[Exported]) -> None:
    one = exported[3]
    canaries = json.loads((one.folder / "canaries.json").read_text())
    assert {c["kind"] for c in canaries} == {"number", "name"}
    gold = lines(one.folder / "gold.jsonl")
    for canary in canaries:
        holders = {row["id"] for row in gold if canary["secret"] in row["text"]}
        assert canary["note_id"] in holders
        assert f"{canary['note_id']}/0/prompt" in holders, "a dialogue holds it too: that is what a model could learn"
        assert all(row.startswith(canary["note_id"]) for row in holders)
        marked = {row["text"][s["start"] : s["end"]] for row in gold for s in row["spans"] if s["raw_label"] == "CANARY"}
        assert canary["secret"] in marked
    assert (exported[3].folder / "canaries.json").stat().st_mode & 0o077 == 0


def test_the_hospital_can_read_the_export(exported: list[Exported]) -> None:
    export = read_jsonl(exported[1].folder)
    assert sum(1 for _ in export.notes) == exported[1].notes
    records = list(export.records)
    assert len(records) == 40
    assert all(r.names and r.birth_date and r.record_numbers and r.phones and r.addresses for r in records)


def test_patients_fit_their_condition() -> None:
    day = date(2026, 11, 1)
    child = patient("s", 1, 0, today=day, child=True)
    expecting = [patient("s", n, 0, today=day, fertile=True) for n in range(30)]
    assert 2 <= child.age_on(day) <= 12
    assert all(p.person.gender == "female" and 18 <= p.age_on(day) <= 44 for p in expecting)
    assert any(patient("s", n, 0, today=day).age_on(day) > 89 for n in range(100))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/below"):
        write_hospital(tmp_path / "file" / "below", HospitalSpec("site-0", 0, 1), seed=0)


def test_marked_text() -> None:
    text = fill("Seen {day} by {who}, {day}.", {"day": Mark("May 3", "DATE", "DATE"), "who": "the nurse"})
    assert str(text) == "Seen May 3 by the nurse, May 3."
    assert [(s["start"], s["end"]) for s in text.spans()] == [(5, 10), (25, 30)]
    assert len(joined("\n", [text, text])) == 2 * len(text) + 1
    # words are shortened around marks, never inside them
    short = fill("May the day be May {day}", {"day": Mark("May 3", "DATE", "DATE")}).shortened({"May": "M"})
    assert str(short) == "M the day be M May 3"
    with pytest.raises(KeyError):
        fill("{nobody}", {})
