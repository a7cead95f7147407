"""Every message that leaves a site is searched and written down once, whatever was killed in between."""

import json
from pathlib import Path

import pytest

from common.errors import StorageError
from server.evaluate.leaks import LeakSearch, Planted
from server.federate.rounds import federate
from simulations.machine.grid import Fault, LocalGrid, When, identity
from simulations.machine.outgoing import Outgoing
from tests.helpers.federation import FakeClock, federation, post, site_folders, study, toy_app

PLANTED = [Planted("name", "Bartholomew Quill"), Planted("record_number", "88412207")]


def test_a_leak_in_a_message_is_counted_and_not_shown(tmp_path: Path) -> None:
    outgoing = Outgoing(tmp_path, LeakSearch(PLANTED))
    outgoing.record("alder", "hello", b"hi")
    outgoing.record("alder", "sft/0/0", b"\xff\x00seen by Bartholomew Quill\xfe")
    clean, leaking = outgoing.messages()
    assert (clean.kinds, leaking.kinds) == ({}, {"name": 1})
    assert "Quill" not in outgoing.path.read_text()


def test_the_same_bytes_of_a_round_stand_once_even_after_a_kill(tmp_path: Path) -> None:
    first = Outgoing(tmp_path, LeakSearch(PLANTED))
    first.record("alder", "hello", b"hi")
    with first.path.open("a") as file:
        file.write('{"site": "bir')  # killed in the middle of a line
    again = Outgoing(tmp_path, LeakSearch(PLANTED))
    again.record("alder", "hello", b"hi")
    again.record("birch", "hello", b"hi")
    assert [json.loads(line)["site"] for line in again.path.read_text().splitlines()] == ["alder", "birch"]


def test_a_damaged_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "messages.jsonl").write_text('{"site": 1}\n')
    with pytest.raises(StorageError, match="line 1: not a message"):
        Outgoing(tmp_path, LeakSearch(PLANTED))


def test_counts_of_an_earlier_process_join_the_report() -> None:
    search = LeakSearch(PLANTED)
    search.add("message of alder", 100, {"name": 1})
    search.text("log", "88412207")
    assert [(f.place, f.kind, f.count) for f in search.report().findings] == [("log", "record_number", 1), ("message of alder", "name", 1)]
    assert search.report().bytes == 108


def test_the_grid_reports_every_answer_even_one_that_is_lost_on_the_way(tmp_path: Path) -> None:
    sites = ["alder", "birch", "cedar", "dogwood"]
    outgoing = Outgoing(tmp_path, LeakSearch(PLANTED))
    faults = [Fault("birch", "sft", 0), Fault("cedar", "sft", 1, When.AFTER)]
    grid = LocalGrid(toy_app(), site_folders(tmp_path, sites), faults=faults, on_leaving=outgoing.record)
    config = study(rounds=2)
    with identity():
        federate(federation(config, sites), post(grid, sites, FakeClock()), tmp_path / "state.safetensors")
    sent = {(m.site, m.group.split("/")[1]) for m in outgoing.messages()}
    assert sent == {(s, r) for s in sites for r in "01"} - {("birch", "0")}
    assert all(m.bytes > 100 and not m.kinds for m in outgoing.messages())
