"""Pause, abort, the lock and the list of late sites: small files that a running stage obeys."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.errors import RunAborted, RunStopped, StorageError
from server.federate import orders
from server.run_folder import RunFolder
from tests.helpers.federation import study


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", study())


def test_a_pause_stops_once_and_is_taken_up(run: RunFolder) -> None:
    orders.obey(run)
    orders.pause(run)
    with pytest.raises(RunStopped, match="goes on"):
        orders.obey(run)
    orders.take_up(run)
    orders.obey(run)


def test_an_abort_is_for_good(run: RunFolder) -> None:
    clock = orders.ObedientClock(run)
    clock.sleep(0)
    orders.abort(run, now=datetime(2026, 11, 22, 1, tzinfo=UTC))
    orders.abort(run, now=datetime(2026, 11, 22, 2, tzinfo=UTC))
    assert orders.aborted_at(run) == "2026-11-22T01:00:00+00:00"
    for step in (lambda: orders.obey(run), lambda: orders.take_up(run), lambda: orders.pause(run), lambda: clock.sleep(0)):
        with pytest.raises(RunAborted, match="aborted at 2026-11-22T01"):
            step()


def test_a_damaged_order_to_end_still_ends(run: RunFolder) -> None:
    (run.path / "federation" / orders.ABORTED).write_text("{")
    with pytest.raises(RunAborted):
        orders.obey(run)


def test_one_process_works_on_a_run(run: RunFolder) -> None:
    with orders.alone(run), pytest.raises(StorageError, match="another process works on this run"), orders.alone(run):
        pass
    with orders.alone(run):
        pass


def test_late_sites_are_written_down_and_forgotten(run: RunFolder) -> None:
    note = orders.on_waiting(run)
    note("sft/3/0", ["birch", "ash"], 42.04)
    waiting = orders.waiting(run)
    assert waiting is not None
    assert (waiting.group, waiting.sites, waiting.seconds) == ("sft/3/0", ("ash", "birch"), 42.0)
    note("sft/3/0", [], 50.0)
    assert orders.waiting(run) is None
