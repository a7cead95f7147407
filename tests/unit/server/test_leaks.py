"""A planted value is found however it is written, an unplanted page is clean, and a finding never shows the value."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from common.errors import StorageError
from server.evaluate.leaks import LeakSearch, Planted

NAME, PHONE, CANARY = Planted("name", "José O'Connor-Ruiz"), Planted("phone", "(555) 014-7788"), Planted("canary", "zephyr quartz 8841")
PLANTED = [NAME, PHONE, CANARY, Planted("date", "3 May")]

LEAKS = {
    "as written": "seen by José O'Connor-Ruiz today",
    "upper case": "SEEN BY JOSÉ O'CONNOR-RUIZ",
    "without accents": "jose o'connor-ruiz",
    "over two lines": "call José\n  O'Connor-\nRuiz back",
    "escaped as HTML": "<td>José O&#39;Connor-Ruiz</td>",
    "escaped as JSON": json.dumps({"text": "José O'Connor-Ruiz\nlives"}),
    "phone with other separators": "ring 555.014.7788, then wait",
    "phone without separators": "tel:5550147788",
    "phone over two lines": "555 014\n7788",
    "canary": "the code is Zephyr-Quartz 8841.",
}


@pytest.mark.parametrize("text", LEAKS.values(), ids=LEAKS)
def test_finds_every_way_of_writing(text: str) -> None:
    search = LeakSearch(PLANTED)
    search.text("page", text)
    assert search.report().found == 1, search.report()


@pytest.mark.parametrize("text", ["José O'Connor", "555 014 7789", "15550147788", "0.5550147788123", "3 May", "zephyr quartz 88412", ""])
def test_leaves_other_text_alone(text: str) -> None:
    search = LeakSearch(PLANTED)
    search.text("page", text)
    assert search.report().found == 0, search.report()


def test_finds_text_inside_binary() -> None:
    noise = np.random.default_rng(0).normal(size=5000).astype("<f4").tobytes()
    search = LeakSearch(PLANTED)
    search.data("clean", noise)
    search.data("dirty", noise + struct.pack("<i", -7) + b"\xff" + "José O'Connor-Ruiz".encode() + b"\xfe" + noise)
    assert [(f.place, f.kind, f.count) for f in search.report().findings] == [("dirty", "name", 1)]


def test_folder_searches_names_and_contents_and_skips_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "vault").write_text("José O'Connor-Ruiz")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "zephyr-quartz-8841.log").write_text("nothing")
    (tmp_path / "summary.json").write_text(json.dumps({"phone": "555-014-7788"}))
    search = LeakSearch(PLANTED)
    search.folder(tmp_path, skip=[tmp_path / "sites"])
    report = search.report()
    assert {(f.place, f.kind) for f in report.findings} == {("logs/zephyr-quartz-8841.log", "canary"), ("summary.json", "phone")}
    assert (report.planted, report.too_short, report.places) == (3, 1, 2)


def test_the_report_never_shows_a_value() -> None:
    search = LeakSearch(PLANTED)
    search.text("page", NAME.value)
    shown = repr(search.report()) + repr(PLANTED)
    assert "Connor" not in shown
    assert "014" not in shown


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_text("x")

    def denied(self: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(StorageError, match=r"log: cannot be searched"):
        LeakSearch(PLANTED).folder(tmp_path)
