"""A restored snapshot and a cloned site: the twin that compares nothing spends again; ours is noticed by its peers."""

import shutil
from pathlib import Path

import pytest

from common.errors import JournalBroken, ProtocolError
from common.privacy.heads import LedgerHead, heads_from_json, heads_to_json, require_forward
from common.privacy.ledger import Budget, Entry, Ledger
from common.privacy.mechanism import Mechanism, Unit
from tests.properties.test_ledger_laws import Memory

STEP = Mechanism(1.0, 0.1, 1.0, 9.0, Unit.PATIENT)


def ledger_of(folder: Path, keys: Memory) -> Ledger:
    return Ledger.open(folder / "ledger.jsonl", {Unit.PATIENT: Budget(8.0, 1e-6)}, keys)


def head_of(ledger: Ledger) -> LedgerHead:
    rows, digest = ledger.head
    return LedgerHead(rows, bytes.fromhex(digest))


def spend(ledger: Ledger, rounds: range) -> None:
    for number in rounds:
        ledger.commit(ledger.reserve(Entry("study", "sft", number, 0, 0, f"{number:064x}"), STEP))


def copy_of(folder: Path, keys: Memory, name: str) -> tuple[Path, Memory]:
    """The whole site, vault included: nothing on its own disk can tell."""
    target = folder.parent / name
    shutil.copytree(folder, target)
    twin = Memory()
    twin.keys = dict(keys.keys)
    return target, twin


@pytest.fixture
def site(tmp_path: Path) -> tuple[Path, Memory]:
    (tmp_path / "site").mkdir()
    keys = Memory()
    spend(ledger_of(tmp_path / "site", keys), range(3))
    return tmp_path / "site", keys


def test_a_restored_snapshot_is_noticed_and_the_twin_spends_again(site: tuple[Path, Memory]) -> None:
    snapshot = copy_of(*site, "snapshot")
    ledger = ledger_of(*site)
    spend(ledger, range(3, 6))
    known = require_forward({}, {"north": head_of(ledger)})
    restored = ledger_of(*snapshot)
    assert restored.epsilon(Unit.PATIENT) < ledger.epsilon(Unit.PATIENT), "on its own disk the copy looks as if nothing had been spent"
    spend(restored, range(3, 4))  # the twin: nobody compares, and the same patients pay twice for round 3
    with pytest.raises(ProtocolError, match="`north` went back from 12 rows to 8"):
        require_forward(known, {"north": head_of(restored)})


def test_of_two_clones_the_one_behind_is_refused_and_equal_lengths_differ(site: tuple[Path, Memory]) -> None:
    clone, original = ledger_of(*copy_of(*site, "clone")), ledger_of(*site)
    spend(original, range(3, 5))
    spend(clone, range(3, 5))
    assert original.head[0] == clone.head[0]
    known = require_forward({}, {"north": head_of(original)})
    with pytest.raises(ProtocolError, match="10 rows as before and they are others"):
        require_forward(known, {"north": head_of(clone)})
    spend(clone, range(5, 6))
    known = require_forward(known, {"north": head_of(clone)})
    with pytest.raises(ProtocolError, match="went back"):
        require_forward(known, {"north": head_of(original)})


def test_nothing_is_remembered_of_a_round_in_which_a_ledger_went_back(site: tuple[Path, Memory]) -> None:
    head = head_of(ledger_of(*site))
    known = {"north": head}
    with pytest.raises(ProtocolError, match="`north` went back"):
        require_forward(known, {"east": head, "north": LedgerHead(1, bytes(32))})
    assert known == {"north": head}
    assert heads_from_json(heads_to_json(known)) == known


def test_an_older_ledger_beside_a_newer_vault_is_refused_by_the_site_itself(site: tuple[Path, Memory]) -> None:
    folder, keys = site
    old = (folder / "ledger.jsonl").read_bytes()
    spend(ledger_of(folder, keys), range(3, 4))
    (folder / "ledger.jsonl").write_bytes(old)
    with pytest.raises(JournalBroken, match="older or foreign copy"):
        ledger_of(folder, keys)


@pytest.mark.parametrize(("rows", "digest"), [(-1, bytes(32)), (1, b"short")])
def test_a_head_that_is_none_is_refused(rows: int, digest: bytes) -> None:
    with pytest.raises(ProtocolError, match="ledger head"):
        LedgerHead(rows, digest)
