import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from client.deid.standalone import FileReport, deidentify_file
from client.deid.surrogates import Dates
from common.errors import IntakeError, StorageError
from common.progress import Silent

ROWS: list[dict[str, Any]] = [
    {
        "id": "a",
        "text": "Zebulon Quistgaard (MRN 4711234) has a cough.",
        "patient_id": "p1",
        "record": {"names": ["Zebulon Quistgaard"], "mrn": "4711234"},
    },
    {"id": "b", "text": "No identifiers here: BP 120/80."},
    {"id": "c", "text": "quistgaard is back, 4711234.", "patient_id": "p1", "record": None},
    {"id": "d", "text": ""},
]


def run(folder: Path, rows: list[Any], **options: Any) -> FileReport:
    (folder / "in.jsonl").write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return deidentify_file(
        folder / "in.jsonl", folder / "out.jsonl", **{"workers": 1, "dates": Dates.YEAR_ONLY, "progress": Silent(), **options}
    )


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_lines_come_out_in_order_with_spans_in_the_input(tmp_path: Path, workers: int) -> None:
    done = run(tmp_path, ROWS, workers=workers)
    out = read(tmp_path)
    assert done == FileReport(4, 0, {"MRN": 2, "NAME": 2})
    assert [row["id"] for row in out] == ["a", "b", "c", "d"]
    assert [ROWS[0]["text"][s["start"] : s["end"]] for s in out[0]["spans"]] == ["Zebulon Quistgaard", "4711234"]
    assert [s["label"] for s in out[0]["spans"]] == ["NAME", "ID"]
    assert (out[1]["text"], out[1]["spans"], out[1]["quarantined"]) == (ROWS[1]["text"], [], False)
    name, number = out[0]["text"].split(" (")[0].split()[1], out[0]["text"].split("MRN ")[1][:7]
    assert out[2]["text"] == f"{name.lower()} is back, {number}."
    assert out[3] == {"id": "d", "text": "", "spans": [], "quarantined": False}


def test_the_output_never_replaces_its_own_input(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n")
    (tmp_path / "linked.jsonl").hardlink_to(path)
    for target in (path, tmp_path / "linked.jsonl"):
        with pytest.raises(StorageError, match="would replace its own input"):
            deidentify_file(path, target, workers=1, dates=Dates.YEAR_ONLY, progress=Silent())
    assert json.loads(path.read_text()) == ROWS[0]


def test_a_full_disk_leaves_no_output(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": str(i), "text": "Seen today, better. " * 50}) + "\n" for i in range(9)))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            deidentify_file(source, tmp_path / "out.jsonl", workers=1, dates=Dates.YEAR_ONLY, progress=Silent())
        except StorageError as error:
            code = 7 if "ulimit -f" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", ".out.jsonl.part"}, (
        "no output, and what is done is kept for the next try"
    )
    deidentify_file(source, tmp_path / "out.jsonl", workers=1, dates=Dates.YEAR_ONLY, progress=Silent())
    assert [row["id"] for row in read(tmp_path)] == [str(i) for i in range(9)]


def test_a_note_that_is_held_back_has_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.deid.deidentifier.survives", lambda *_: True)
    assert run(tmp_path, ROWS[:1]).quarantined == 1
    (row,) = read(tmp_path)
    assert (row["text"], row["quarantined"], len(row["spans"])) == (None, True, 2)


def test_two_runs_give_the_same_spans_and_other_surrogates(tmp_path: Path) -> None:
    text = " ".join(f"MRN {4_711_234 + i}" for i in range(9))
    outs = []
    for _ in range(2):
        run(tmp_path, [{"id": "a", "text": text}])
        outs.append(read(tmp_path)[0])
    assert outs[0]["spans"] == outs[1]["spans"]
    assert outs[0]["text"] != outs[1]["text"]


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ("{", None, "not valid JSON"),
        ({"text": "Quistgaard"}, "id", "missing or empty"),
        ({"id": "x"}, "text", "missing"),
        ({"id": "x", "text": ["Quistgaard"]}, "text", "a string"),
        ({"id": "a", "text": "Quistgaard"}, "id", "earlier line"),
        ({"id": "x", "text": "t", "record": ["Quistgaard"]}, "record", "an object"),
        ({"id": "x", "text": "t", "record": {"names": {"Quistgaard": 1}}}, "record.names", "a string"),
        ({"id": "x", "text": "t", "record": {"birth_date": "Quistgaard"}}, "record.birth_date", "YYYY-MM-DD"),
    ],
)
def test_a_wrong_line_is_refused_and_nothing_is_written(tmp_path: Path, row: Any, field: str | None, said: str) -> None:
    with pytest.raises(IntakeError) as caught:
        run(tmp_path, [ROWS[0], row])
    assert (caught.value.line, caught.value.field) == (2, field)
    assert said in str(caught.value)
    assert "Quistgaard" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_older_output_stays_when_the_run_fails(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("old\n")
    with pytest.raises(IntakeError):
        run(tmp_path, ["{"])
    assert (tmp_path / "out.jsonl").read_text() == "old\n"


def test_many_patients_more_than_a_batch(tmp_path: Path) -> None:
    rows = [
        {"id": f"n{i}", "text": f"Dr. Varnhagen saw the patient on 05/03/2024, number {i}.", "patient_id": f"p{i % 17}"} for i in range(40)
    ]
    run(tmp_path, rows, workers=2)
    out = read(tmp_path)
    assert [row["id"] for row in out] == [row["id"] for row in rows]
    assert all(row["text"].endswith(f"number {i}.") for i, row in enumerate(out))
    assert out[0]["text"].split()[1] == out[17]["text"].split()[1]


def test_an_output_is_no_input(tmp_path: Path) -> None:
    run(tmp_path, ROWS)
    with pytest.raises(IntakeError, match="de-identified already"):
        deidentify_file(tmp_path / "out.jsonl", tmp_path / "twice.jsonl", workers=1, dates=Dates.YEAR_ONLY, progress=Silent())


@pytest.mark.parametrize("cut", ["between patients", "within a row", "after a part of a patient"])
def test_a_run_that_was_killed_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    rows = [{"id": f"n{i}", "text": f"Dr. Varnhagen, MRN 47112{i:02}.", "patient_id": f"p{i % 20}"} for i in range(40)]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.deid.standalone._write_whole", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, rows)
    part = tmp_path / ".out.jsonl.part"
    lines = part.read_bytes().splitlines(keepends=True)
    kept = lines[:31] if cut == "between patients" else lines[:30]
    part.write_bytes(b"".join(kept) + (lines[30][:40] if cut == "within a row" else b""))
    done = [json.loads(line)[2]["text"] for line in kept[1:29]]
    monkeypatch.undo()
    report = run(tmp_path, rows)
    out = read(tmp_path)
    assert [row["id"] for row in out] == [row["id"] for row in rows]
    assert report == FileReport(40, 0, {"MRN": 40, "NAME": 40})
    assert set(done) <= {row["text"] for row in out}  # finished patients were not done again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_another_input_does_not_go_on_with_the_part_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".out.jsonl.part").write_text("1 year_only 0000\n[0, {}, {}, true]\n")
    assert run(tmp_path, ROWS).notes == 4
