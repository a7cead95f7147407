"""Two hundred planted identifiers, and every byte written outside the vault searched for them, with the network switched off."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SYLLABLES = ("bram", "quist", "tork", "varn", "osta", "pell", "wort", "zeb", "ulon", "drix")

SCRIPT = """
    import logging, socket, sys, contextlib
    logging.basicConfig(level=logging.DEBUG, filename=sys.argv[2])

    def refused(*_, **__):
        raise OSError("the network is switched off")

    socket.socket.connect = socket.socket.bind = socket.getaddrinfo = socket.create_connection = refused
    from client.cli import main

    folder = sys.argv[1]
    site = ["--site", f"{folder}/site"]
    commands = [
        ["init", f"{folder}/site", "--policy", f"{folder}/policy.toml"],
        ["ingest", f"{folder}/export", "--format", "jsonl", *site],
        ["ingest", f"{folder}/broken", "--format", "jsonl", *site],
        ["ingest", f"{folder}/broken.csv", "--format", "csv", *site],
        ["ingest", f"{folder}/broken.ndjson", "--format", "fhir", *site],
        ["ingest", f"{folder}/clash.jsonl", "--format", "jsonl", *site],
        ["deidentify", "--workers", "2", *site],
        ["deidentify", "--json", *site],
        ["deidentify", f"{folder}/broken/notes.jsonl", f"{folder}/out.jsonl"],
        ["doctor", *site],
        ["budget", *site],
        ["egress", "--json", *site],
        ["withdraw", "p3", "--yes", *site],
        ["log", "verify", *site],
    ]
    for words in commands:
        sys.argv = ["wardround-site", *words]
        try:
            main()
        except SystemExit as ended:
            print("exit", ended.code)
"""


def planted() -> list[dict[str, str]]:
    people = []
    for i in range(50):
        family = (SYLLABLES[i % 10] + SYLLABLES[(i // 10 + 3) % 10] + "berg" + "abcdefghij"[i % 10]).capitalize()
        people.append(
            {
                "name": f"Zebulon {family}",
                "number": f"{88_000_000 + 7_919 * i}",
                "email": f"{family.lower()}@mail.example",
                "phone": f"402-77{i:01}-{4000 + i:04}"[:12],
            }
        )
    return people


def write(folder: Path) -> list[str]:
    """The export, and broken ones beside it; returns every identifier in it."""
    people = planted()
    notes, patients = [], []
    for i, one in enumerate(people):
        text = f"{one['name']}, MRN {one['number']}, {one['email']}, tel {one['phone']}. Cough for {i} days.\nSigned by {people[(i + 7) % 50]['name']}"
        notes.append(
            {
                "id": f"note-{one['number']}",
                "patient_id": f"p{i}",
                "text": text,
                "kind": one["name"],
                "dialogues": [{"prompt": f"I am {one['name']}", "answer": "Rest."}],
            }
        )
        patients.append(
            {
                "patient_id": f"p{i}",
                "names": [one["name"]],
                "record_numbers": [one["number"]],
                "emails": [one["email"]],
                "phones": [one["phone"]],
            }
        )
    for name, rows in (("notes", notes), ("patients", patients)):
        (folder / "export").mkdir(exist_ok=True)
        (folder / "export" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "broken").mkdir()
    (folder / "broken" / "notes.jsonl").write_text(json.dumps(notes[0])[:-9] + "\n")
    (folder / "broken" / "patients.jsonl").write_text(
        json.dumps({**patients[0], "birth_date": people[0]["name"], people[1]["name"]: 1}) + "\n"
    )
    (folder / "broken.csv").write_text(f"id,patient_id,text,{people[2]['name']}\n{people[3]['name']},,x\n")
    (folder / "broken.ndjson").write_text(
        json.dumps({"resourceType": "DocumentReference", "status": people[4]["name"], people[5]["name"]: 3}) + "\n"
    )
    (folder / "clash.jsonl").write_text(json.dumps({**notes[0], "patient_id": "p9"}) + "\n")
    (folder / "policy.toml").write_text("max_leak_upper_bound = 0.5\n")
    return [value for one in people for value in (one["name"].split()[1], one["number"], one["email"], one["phone"])]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, bytes], str]:
    """(identifiers, every file and stream that was written, standard output)."""
    folder, temporary = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("tmp")
    identifiers = write(folder)
    inputs = {path for path in folder.rglob("*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), str(folder / "debug.log")],
        capture_output=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        check=False,
        timeout=300,
    )
    files = {
        str(path): path.read_bytes() for root in (folder, temporary) for path in root.rglob("*") if path.is_file() and path not in inputs
    }
    return identifiers, {**files, "stdout": done.stdout, "stderr": done.stderr}, done.stdout.decode()


def test_the_commands_ran_without_the_network_as_they_should(written: tuple[list[str], dict[str, bytes], str]) -> None:
    identifiers, files, out = written
    assert len(set(identifiers)) == 200
    codes = [line.split()[1] for line in out.splitlines() if line.startswith("exit ")]
    assert codes == ["0", "0", "1", "1", "1", "1", "0", "0", "1", "0", "0", "0", "0", "0"], (out, files["stderr"].decode())
    assert files["stderr"].count(b"line 1") >= 3
    assert any(path.endswith("debug.log") and content for path, content in files.items())


def test_no_planted_identifier_is_in_any_byte_outside_the_input(written: tuple[list[str], dict[str, bytes], str]) -> None:
    identifiers, files, _ = written
    found = {
        (name, identifier)
        for name, content in files.items()
        for identifier in identifiers
        if identifier.lower().encode() in content.lower() or identifier.encode("utf-16-le") in content
    }
    assert not found, sorted((name, len(identifier)) for name, identifier in found)


def test_the_search_would_find_one(written: tuple[list[str], dict[str, bytes], str], tmp_path: Path) -> None:
    identifiers, _, _ = written
    write(tmp_path)
    content = (tmp_path / "export" / "notes.jsonl").read_bytes().lower()
    assert all(identifier.lower().encode() in content for identifier in identifiers)
