"""A site whose files were edited, damaged or exchanged: every command says which file, what is wrong with it and what to do; none shows a fault."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.cli import main
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from client.records import PatientRecord, RawNote
from common.privacy.mechanism import Unit

Run = Callable[..., tuple[int, Any]]
DECLARED = "\n[declared_units]\npatient = 90\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    with Site.create(tmp_path / "north", "north", HospitalPolicy(max_leak_upper_bound=1.0), declared_units={Unit.PATIENT: 90}) as made:
        made.vault.ingest([RawNote(f"n{i}", "p1", "a cough for three days" * 60) for i in range(200)], [PatientRecord("p1", ("Ann Lee",))])
    return tmp_path / "north"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def command(*words: Any) -> tuple[int, Any]:
        monkeypatch.setattr("sys.argv", ["wardround-site", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(str(ended.value.code)), json.loads(capsys.readouterr().out)

    return command


def damaged(site: Path) -> None:
    """Pages in the middle of the database."""
    database = bytearray((site / "vault.db").read_bytes())
    for start in range(40 * 4096, len(database) - 4096, 4096):
        database[start : start + 200] = bytes(200)
    (site / "vault.db").write_bytes(database)


def as_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "settings emptied": (lambda site: (site / "site.toml").write_text(""), "budget", "site.toml: `name` is missing"),
    "settings of another type": (lambda site: (site / "site.toml").write_text("name = 5" + DECLARED), "budget", "`name` is 5: it should be a valid string"),
    "a name of no site": (lambda site: (site / "site.toml").write_text('name = "N orth"' + DECLARED), "budget", "`name` is 'N orth': String should match"),
    "a number as a word": (lambda site: (site / "site.toml").write_text('name = "n"' + DECLARED.replace("90", '"90"')), "budget", "should be a valid integer"),
    "an unknown unit": (lambda site: (site / "site.toml").write_text('name = "n"' + DECLARED.replace("patient", "patients")), "budget", "should be 'patient', 'record'"),
    "more units than a message takes": (lambda site: (site / "site.toml").write_text('name = "n"' + DECLARED.replace("90", "2000000000")), "budget", "from 1 to 1,000,000,000"),
    "a misspelt key": (lambda site: (site / "site.toml").write_text('name = "n"\nkeyfile = "x"' + DECLARED), "budget", "did you mean `key_file`?"),
    "a key file that is a number": (lambda site: (site / "site.toml").write_text('name = "n"\nkey_file = 5' + DECLARED), "budget", "`key_file` is 5"),
    "a folder for settings": (lambda site: as_folder(site / "site.toml"), "budget", "site.toml: cannot be read (Is a directory)"),
    "a policy of words": (lambda site: (site / "policy.toml").write_text('max_epsilon = "2"'), "budget", "`max_epsilon` is '2': it should be a valid number"),
    "a policy of truths": (lambda site: (site / "policy.toml").write_text("max_epsilon = true"), "budget", "`max_epsilon` is True: it should be a valid number"),
    "a policy without bottom": (lambda site: (site / "policy.toml").write_text("a = " + "[" * 5000), "budget", "not valid TOML: nested too deeply"),
    "settings of the page": (lambda site: (site / "labelling.toml").write_text("votes_per_pair = 0"), "agreement", "`votes_per_pair` is 0: it should be greater than or equal to 1"),
    "the key of another vault": (lambda site: (site / "vault.key").write_bytes(os.urandom(32)), "budget", "does not open"),
    "half a key": (lambda site: (site / "vault.key").write_bytes(b"abc"), "budget", "holds 3 bytes instead of 32"),
    "a database of noise": (lambda site: (site / "vault.db").write_bytes(os.urandom(5000)), "budget", "it is damaged, or no vault; restore it from its backup"),
    "an empty database": (lambda site: (site / "vault.db").write_bytes(b""), "budget", "restore it from its backup"),
    "a damaged database": (damaged, "backup ../copy.tar", "restore it from its backup"),
    "a ledger of noise": (lambda site: (site / "ledger.jsonl").write_bytes(os.urandom(90) + b"\n"), "budget", "row 0 does not follow"),
    "a folder for the ledger": (lambda site: as_folder(site / "ledger.jsonl"), "budget", "a folder stands where the file should be"),
    "an audit log of noise": (lambda site: (site / "audit.jsonl").write_bytes(b"{}\n"), "purge --yes", "row 0 does not follow"),
    "a node key of noise": (lambda site: (site / "keys" / "node.key").write_bytes(b"xx"), "card", "holds no key of a node"),
    "half a signing key": (lambda site: (site / "keys" / "identity.key").write_bytes(b"xx"), "card", "holds no key of 32 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_damage_is_named_with_its_file(site: Path, run: Run, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    from client.hospital.identity import make_keys

    make_keys(site)
    change, words, said = CASES[case]
    change(site)
    monkeypatch.chdir(site)
    code, found = run(*words.split(), "--site", site)
    assert code == 1
    assert found["error"]["code"] != "fault", found
    assert said in found["error"]["reason"], found
    assert "Ann Lee" not in str(found)
    assert "cough" not in str(found)


def test_a_broken_audit_log_refuses_an_act_before_it_is_done(site: Path, run: Run, tmp_path: Path) -> None:
    (site / "audit.jsonl").write_bytes(b"{}\n")
    export = tmp_path / "notes.jsonl"
    export.write_text('{"id": "new", "patient_id": "p2", "text": "a cough"}\n')
    for words in (("ingest", export, "--format", "jsonl"), ("withdraw", "p1", "--yes"), ("purge", "--yes")):
        assert run(*words, "--site", site)[1]["error"]["code"] == "journal", words
    with Site.open(site) as opened:
        assert opened.vault.counts()["raw"] == 200


def test_a_lost_key_is_made_again_and_the_old_one_vouches_where_it_can(site: Path, run: Run) -> None:
    for lose in (lambda: (site / "keys" / "identity.key").unlink(), lambda: shutil.rmtree(site / "keys")):
        run("rotate", "--yes", "--site", site)
        lose()
        assert "`wardround-site rotate`" in run("card", "--site", site)[1]["error"]["reason"]
        code, made = run("rotate", "--yes", "--site", site)
        assert (code, made["voucher"]) == (0, None)
        assert run("card", "--site", site)[1]["fingerprint"] == made["fingerprint"]


def test_withdrawing_nobody_is_said(site: Path, run: Run) -> None:
    assert run("withdraw", "p9", "--yes", "--site", site)[1]["known"] is False
    assert run("withdraw", " p1 ", "--yes", "--site", site)[1]["known"] is True, "as intake reads an id"
    assert run("withdraw", " ", "--yes", "--site", site)[0] == 2


@pytest.mark.parametrize(
    ("declared", "said"),
    [(("patient=²",), "as in patient=1200"), (("patient=5", "patient=6"), "declared twice"), (("site=5",), "as in patient=1200"), (("patient=" + "9" * 40,), "as in")],
)  # fmt: skip
def test_what_is_declared_is_one_plain_number_a_unit(run: Run, tmp_path: Path, declared: tuple[str, ...], said: str) -> None:
    code, found = run("init", tmp_path / "south", *(word for number in declared for word in ("--declare", number)))
    assert (code, said in found["error"]["reason"]) == (2, True), found


def test_a_site_is_made_in_an_empty_folder_alone(run: Run, tmp_path: Path) -> None:
    """A policy that lies there already would be written over by the default one."""
    folder = tmp_path / "south"
    folder.mkdir()
    (folder / "policy.toml").write_text("max_epsilon = 1.0\n")
    code, found = run("init", folder)
    assert (code, "is not empty" in found["error"]["reason"]) == (1, True), found
    assert [path.name for path in folder.iterdir()] == ["policy.toml"]
    assert (folder / "policy.toml").read_text() == "max_epsilon = 1.0\n"


def test_a_site_may_be_made_on_a_disk_of_its_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    assert run("init", tmp_path / "disk", "--name", "south")[0] == 0


def test_a_review_needs_a_terminal(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["wardround-site", "review", "--site", str(site)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (1, "")
    assert "on a terminal and nowhere else" in err


def test_a_restore_onto_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run("restore", tmp_path / "none.tar", tmp_path / "file")[1]["error"]["code"] == "storage"
