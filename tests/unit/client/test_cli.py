"""wardround-site, command by command: one JSON object, exit codes 0, 1 and 2."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.errors import MarkupError

from client.cli import main
from client.federate.egress import record_egress, record_refusal
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from common.errors import PolicyRefused
from common.privacy.ledger import Entry
from common.privacy.mechanism import Mechanism, Unit

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def command(*words: Any) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["wardround-site", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(str(ended.value.code)), out, err

    return command


@pytest.fixture
def site(tmp_path: Path) -> Path:
    Site.create(tmp_path / "north", "north", HospitalPolicy(max_leak_upper_bound=1.0), declared_units={Unit.PATIENT: 90}).close()
    return tmp_path / "north"


def export(folder: Path) -> Path:
    folder.mkdir()
    notes = [{"id": f"n{i}", "patient_id": f"p{i % 3}", "text": f"Zebulon Quistgaard, MRN 471123{i}, has a cough."} for i in range(6)]
    (folder / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    (folder / "patients.jsonl").write_text(
        "".join(json.dumps({"patient_id": f"p{i}", "names": ["Zebulon Quistgaard"]}) + "\n" for i in range(3))
    )
    return folder


def test_a_site_from_init_to_purge(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, policy = tmp_path / "north", tmp_path / "policy.toml"
    policy.write_text("max_leak_upper_bound = 0.5\n")
    code, out, _ = run("init", folder, "--declare", "patient=90", "--policy", policy, "--json")
    assert (code, json.loads(out)["declared"]) == (0, {"patient": 90})
    monkeypatch.setenv("WARDROUND_SITE", str(folder))

    code, out, _ = run("doctor", "--json")
    assert (code, [check["name"] for check in json.loads(out)["checks"] if not check["holds"]]) == (1, ["gate"])

    code, out, _ = run("ingest", export(tmp_path / "export"), "--format", "jsonl", "--json")
    assert (code, json.loads(out)) == (0, {"notes": 6, "revised": 0, "unchanged": 0, "withdrawn": 0, "records": 3, "left_aside": {}})

    code, out, err = run("deidentify", "--workers", 1, "--json")
    figures = json.loads(out)
    assert (code, figures["notes"], figures["released"], figures["quarantined"]) == (0, 6, 6, 0)
    assert figures["identifiers"] == {"MRN": 6, "NAME": 6}
    assert figures["leak_upper_bound"] == pytest.approx(1 - 0.05 ** (1 / 6))
    assert "de-identify notes: 6" in err
    assert "de-identify" not in run("deidentify", "--json")[2]
    assert "de-identify notes: 6" in run("deidentify", "--again", "--workers", 1, "--json")[2]

    assert run("doctor", "--json")[0] == 0
    code, out, _ = run("withdraw", "p1", "--yes", "--json")
    assert (code, json.loads(out)["deleted"]["notes"]) == (0, 2)
    assert json.loads(run("ingest", tmp_path / "export", "--format", "jsonl", "--json")[1])["withdrawn"] == 2
    code, out, _ = run("purge", "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"deleted": 4})
    code, out, _ = run("log", "verify", "--json")
    assert (code, json.loads(out)["audit"]["rows"]) == (0, 11)
    assert run("doctor", "--json")[0] == 0


def test_what_people_read_holds_the_figures_and_the_warning(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "south"
    assert "without it nothing in the vault can ever be read again" in run("init", folder)[1]
    assert "6 new notes" in run("ingest", export(tmp_path / "export"), "--format", "jsonl", "--site", folder)[1]
    code, _, err = run("deidentify", "--site", folder, "--workers", 1)
    assert code == 1
    assert "above this hospital's 0.05" in err
    assert "patient" in run("budget", "--site", folder)[1]
    assert "0 messages" in run("egress", "--site", folder)[1]
    assert "rows hold" in run("log", "verify", "--site", folder)[1]
    assert "DOES NOT HOLD" in run("doctor", "--site", folder)[1]


def test_one_file_without_a_site(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "Dr. Quistgaard"}\n')
    code, out, _ = run("deidentify", tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--json", "--workers", 1)
    assert (code, json.loads(out)["identifiers"]) == (0, {"NAME": 1})
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert (row["spans"], row["quarantined"]) == ([{"start": 4, "end": 14, "label": "NAME"}], False)
    assert run("deidentify", tmp_path / "in.jsonl")[0] == 2


def test_the_budget_says_who_spent_what(run: Run, site: Path) -> None:
    with Site.open(site) as opened:
        mechanism = Mechanism(1.0, 0.1, 1.0, 9.0, Unit.PATIENT)
        for step in range(2):
            opened.ledger.commit(opened.ledger.reserve(Entry("asthma", "sft", step, 0, 0, "0" * 64), mechanism))
        spent = opened.ledger.epsilon(Unit.PATIENT)
    code, out, _ = run("budget", "--site", site, "--json")
    (account,) = [unit for unit in json.loads(out)["units"] if unit["unit"] == "patient"]
    assert code == 0
    assert (account["steps"], account["epsilon"], account["left"]) == ({"asthma": 2}, pytest.approx(spent), pytest.approx(8 - spent))
    (study,) = account["studies"]
    assert (study["study"], study["stage"], study["steps"], study["epsilon"]) == ("asthma", "sft", 2, pytest.approx(spent))
    assert study["first"] <= study["last"]
    assert "asthma 2" in run("budget", "--site", site)[1]


def test_what_was_spent_on_a_unit_is_shown_after_the_policy_took_it_back(run: Run, site: Path) -> None:
    (site / "policy.toml").write_text('allowed_units = ["patient", "record"]\n')
    with Site.open(site) as opened:
        mechanism = Mechanism(1.0, 0.1, 1.0, 9.0, Unit.RECORD)
        opened.ledger.commit(opened.ledger.reserve(Entry("asthma", "sft", 0, 0, 0, "0" * 64), mechanism))
    (site / "policy.toml").write_text('allowed_units = ["patient"]\n')
    accounts = {account["unit"]: account for account in json.loads(run("budget", "--site", site, "--json")[1])["units"]}
    assert accounts["record"]["epsilon"] > 1
    assert (accounts["record"]["budget"], accounts["record"]["left"], accounts["patient"]["budget"]) == (0.0, 0.0, 8.0)
    assert "record" in run("budget", "--site", site)[1]


def test_egress_lists_what_left_and_what_was_refused(run: Run, site: Path) -> None:
    with Site.open(site) as opened:
        opened.audit.append("egress", {"schema": "update", "bytes": 4096, "about": "round 0", "at": "2026-11-21T10:00:00+00:00"})
        opened.audit.append("refusal", {"code": "policy", "reason": "too few sites", "about": "round 1", "at": "2026-11-21T11:00:00+00:00"})
    code, out, _ = run("egress", "--site", site, "--json")
    listed = json.loads(out)
    assert (code, listed["messages"], listed["bytes"], len(listed["rows"])) == (0, 1, 4096, 2)
    assert "too few sites" in run("egress", "--site", site)[1]


def test_what_a_coordinator_wrote_is_shown_and_not_obeyed(run: Run, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twin: the same words through rich as they are end the listing, and the terminal obeys what else stands in them."""
    name, erase = "reward[/x]", "\x1b[2J\u202e"
    with pytest.raises(MarkupError):
        Console().print(name)
    Console().print(erase)
    assert "\x1b[2J" in capsys.readouterr().out
    with Site.open(site) as opened:
        record_egress(opened.audit, "round-reply/2", 12, name + erase)
        record_refusal(opened.audit, PolicyRefused(f"study {erase}"), name)
    code, out, _ = run("egress", "--site", site)
    assert code == 0
    assert "[/x]" in out
    assert not {"\x1b", "\u202e"} & set(out)


def test_a_folder_may_have_any_name(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "a [/x] [red] :smile: ü"
    code, out, err = run("init", folder, "--name", "north")
    assert (code, err) == (0, "")
    assert out.count("a [/x] [red] :smile: ü") == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("ingest", "nowhere", "--format", "csv"), 1, "no such file"),
        (("ingest", "nowhere", "--format", "xml"), 2, "xml"),
        (("deidentify",), 1, "no released note"),
        (("init", "SITE"), 1, "there already"),
        (("init", "elsewhere", "--declare", "patients=3"), 2, "patient=1200"),
        (("init", "elsewhere", "--policy", "nowhere.toml"), 1, "no such file"),
        (("withdraw", "p1", "--json"), 2, "--yes"),
        (("withdraw",), 2, "PATIENT"),
        (("frobnicate",), 2, "No such command"),
        (("budget", "--site", "nowhere"), 1, "wardround-site init"),
    ],
)
def test_refusals_and_wrong_usage_have_their_exit_codes(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(site.parent)
    monkeypatch.setenv("WARDROUND_SITE", str(site))
    ended, out, err = run(*(str(site) if word == "SITE" else word for word in words))
    assert (ended, out == "") == (code, "--json" not in words)
    assert said in err


def test_raw_notes_that_wait_are_not_purged(run: Run, site: Path, tmp_path: Path) -> None:
    run("ingest", export(tmp_path / "export"), "--format", "jsonl", "--site", site)
    code, _, err = run("purge", "--yes", "--site", site)
    assert code == 1
    assert "6 raw notes are not de-identified yet" in err


def test_the_doctor_sees_a_damaged_vault_ledger_and_key(run: Run, site: Path) -> None:
    (site / "audit.jsonl").write_text('{"index": 0}\n')
    (site / "vault.key").chmod(0o644)
    failed = {check["name"] for check in json.loads(run("doctor", "--site", site, "--json")[1])["checks"] if not check["holds"]}
    assert failed == {"site"}
    (site / "vault.key").chmod(0o600)
    failed = {check["name"] for check in json.loads(run("doctor", "--site", site, "--json")[1])["checks"] if not check["holds"]}
    assert failed == {"audit log", "gate", "keys"}
