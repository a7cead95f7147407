"""wardround-site label, agreement, people and pairs: one JSON object, exit codes 0, 1 and 2, and the report behind them."""

import contextlib
import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from client.cli import main
from client.feedback.desk import Desk
from client.feedback.items import Remarks, Scale, Tag, Verdict
from client.feedback.people import fits
from client.feedback.plots import agreement_plots
from client.feedback.report import agreement_of
from client.feedback.settings import LabelSettings, load_settings
from client.feedback.store import FeedbackStore
from client.feedback.texts import words
from client.hospital.site import Site
from common.errors import ConfigError
from tests.helpers.labelling import PASSWORD, add_questions, questions

Run = Callable[..., tuple[int, str, str]]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    Site.create(tmp_path / "north", "north", simulated_seed=1).close()
    monkeypatch.setenv("WARDROUND_SITE", str(tmp_path / "north"))

    def command(*given: Any) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["wardround-site", *map(str, given)])
        monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(str(ended.value.code)), out, err

    return command


def labelled(folder: Path, *, first: bool = False) -> None:
    """Twelve questions by two: Ann takes the better answer always, Ben in three of four, or whatever stands first."""
    with Site.open(folder) as site:
        store = FeedbackStore(site)
        add_questions(store, questions(12))
        desk, people = Desk(store, LabelSettings(max_share=1.0)), list(store.people.values())
        for who, person in enumerate(people[:2]):
            for n in range(12):
                screen = desk.screen(person.person_id, NOW + timedelta(seconds=30 * n))
                assert screen is not None
                answer = screen.order[0] if first and who else int(who == 1 and n % 4 == 0)
                remarks = Remarks(((1, Tag.UNSAFE_ADVICE),), ratings=((0, Scale.SAFETY, 5), (1, Scale.SAFETY, 1 + n % 2)))
                position = screen.order.index(answer) + 1
                desk.choose(person.person_id, screen.token, Verdict.ANSWER, position, remarks, NOW + timedelta(seconds=30 * n + 20))


def test_people_from_the_command_line(run: Run) -> None:
    code, out, _ = run("people", "add", "Ann Ower", "--json")
    assert (code, json.loads(out)["role"]) == (0, "annotator")
    code, _, err = run("people", "add", "ann  ower")
    assert (code, "has this name" in err) == (1, True)
    assert run("people", "password", "Ann Ower", "--json")[0] == 0
    assert run("people", "close", "Ann Ower", "--json")[0] == 0
    code, out, _ = run("people", "list", "--json")
    assert json.loads(out)["people"][0]["closed"] is True
    assert run("people", "close", "Nobody")[0] == 1
    assert run("people", "add", "Eve", "--role", "king")[0] == 2
    code, _, err = run("label", "--port", "0")
    assert (code, "nobody may label yet" in err) == (1, True)


def test_pairs_in_settled_out(run: Run, tmp_path: Path) -> None:
    for name in ("Ann", "Ben"):
        run("people", "add", name, "--json")
    labelled(tmp_path / "north")
    code, out, _ = run("pairs", "settle", "--json")
    told = json.loads(out)
    assert (code, told["states"]) == (0, {"settled": 9, "open": 3})
    assert told["pairs"] == 9
    with Site.open(tmp_path / "north") as site:
        rows = list(site.vault.preferences())
        assert sum(row.weight for row in rows if row.aspect == "overall") == 9
        assert {row.aspect for row in rows} == {"overall", "safety"}
    for kind in ("counts", "label-studio", "argilla"):
        code, out, _ = run("pairs", "export", tmp_path / kind, "--format", kind, "--json")
        assert (code, json.loads(out)["questions"]) == (0, 12)
        assert (tmp_path / kind).stat().st_mode & 0o077 == 0
    assert run("pairs", "export", tmp_path / "x", "--format", "jsonl")[0] == 2
    assert run("pairs", "import", tmp_path / "counts", "--format", "counts")[0] == 2
    code, _, err = run("pairs", "import", tmp_path / "counts")
    assert (code, "line 1: not valid JSON" in err) == (1, True)


def test_agreement_as_json_and_as_a_table(run: Run, tmp_path: Path) -> None:
    for name in ("Ann", "Ben"):
        run("people", "add", name, "--json")
    labelled(tmp_path / "north")
    code, out, _ = run("agreement", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["overall"]["percent"]["value"] == pytest.approx(0.75)
    assert told["couples"][0]["questions"] == 12
    assert told["by_scale"]["safety"]["value"] is not None
    assert "Ann" not in out
    code, out, _ = run("agreement")
    assert (code, "24 votes on 12 questions" in out) == (0, True)


def test_a_side_that_is_preferred_stands_out(run: Run, tmp_path: Path) -> None:
    for name in ("Ann", "Ben"):
        run("people", "add", name, "--json")
    labelled(tmp_path / "north", first=True)
    with Site.open(tmp_path / "north") as site:
        found = agreement_of(Desk(FeedbackStore(site), LabelSettings()))
    assert found.position["a2"].first == 12
    assert found.position["a2"].stands_out
    plots = agreement_plots(found, words("de"), {"a2": "<b>Ben</b>"})
    assert "fällt auf" in plots["position"]
    assert "&lt;b&gt;Ben" in plots["position"]
    assert "<b>" not in plots["position"]


def test_settings_are_read_or_refused_by_key(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == LabelSettings()
    (tmp_path / "labelling.toml").write_text("votes_per_pair = 0\ncolour = 1\n")
    with pytest.raises(ConfigError, match=r"votes_per_pair.*colour.*there is no such key"):
        load_settings(tmp_path)


def test_a_password_from_a_file_of_another_system_is_the_same(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run("people", "add", "Ann", "--json")[0] == 0
    typed = PASSWORD
    monkeypatch.setattr("tests.unit.client.feedback.test_commands.PASSWORD", typed + "\r")
    assert run("people", "add", "Ben", "--json")[0] == 0
    with Site.open(tmp_path / "north") as site:
        store = FeedbackStore(site)
        with store.locked():
            assert all(fits(store.named(name), typed) for name in ("Ann", "Ben"))


def test_the_page_ends_by_ctrl_c_and_that_is_no_failure(run: Run, tmp_path: Path) -> None:
    assert run("people", "add", "Ann", "--json")[0] == 0
    words = [sys.executable, "-m", "client.cli", "label", "--port", "0", "--json", "--site", str(tmp_path / "north")]
    page = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # as a shell starts it
    )  # fmt: skip
    assert page.stdout is not None
    address = json.loads(page.stdout.readline())["address"]
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(address.rstrip("/").rpartition(":")[2])), 1) as line:
            line.sendall(b"GET /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            if b"200" in line.recv(20):
                break
        time.sleep(0.05)
    page.send_signal(signal.SIGINT)
    assert page.communicate(timeout=30) == ("", "")
    assert page.returncode == 0
