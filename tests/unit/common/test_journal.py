"""The chain holds or says where it broke; a torn last line is cut; two writers take turns."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common.errors import JournalBroken, StorageError
from common.journal import ORIGIN, Journal, row_digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def _three(path: Path) -> Journal:
    journal = Journal.open(path)
    for i in range(3):
        journal.append("row", {"i": i})
    return journal


def test_rows_come_back_with_the_same_head(path: Path) -> None:
    journal = _three(path)
    again = Journal.open(path)
    assert again.rows() == journal.rows()
    assert again.head == journal.head == (3, journal.rows()[-1].digest)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Journal.open(path.with_name("new")).head == (0, ORIGIN)


def test_digest_of_a_row_is_a_known_answer() -> None:
    # sha256 of {"body":{"n":1},"index":0,"kind":"reserve","previous":"000…0"}, computed with sha256sum.
    assert row_digest(0, "reserve", {"n": 1}, ORIGIN) == "8ee1b47a24574c792b3c5b2f0c4a2bcb4b2e1c335e2ec6b7b9f17ce65b61b47d"


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_cut_at_any_byte(path: Path, cut: int) -> None:
    before = _three(path).rows()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    journal = Journal.open(path)
    assert journal.rows() == before[:2]
    assert journal.append("row", {"i": 9}).index == 2
    assert len(Journal.open(path).rows()) == 3


DAMAGE = {
    "a number changed": lambda lines: [lines[0].replace(b'"i":0', b'"i":7'), *lines[1:]],
    "a row removed": lambda lines: [lines[0], lines[2]],
    "rows swapped": lambda lines: [lines[1], lines[0], lines[2]],
    "a row twice": lambda lines: [lines[0], lines[0], *lines[1:]],
    "another order of keys": lambda lines: [json.dumps(dict(reversed(json.loads(lines[0]).items()))).encode() + b"\n", *lines[1:]],
    "an extra field": lambda lines: [lines[0].replace(b"{", b'{"a":1,', 1), *lines[1:]],
    "not JSON": lambda lines: [b"hello\n", *lines[1:]],
    "a list": lambda lines: [b"[]\n", *lines[1:]],
    "NUL bytes": lambda lines: [b"\0" * 40 + b"\n", *lines[1:]],
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_before_the_end_is_refused(path: Path, case: str) -> None:
    _three(path)
    path.write_bytes(b"".join(DAMAGE[case](path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(JournalBroken, match="restore it from a backup"):
        Journal.open(path)


def test_a_file_that_went_back_while_open_is_noticed(path: Path) -> None:
    journal = _three(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    with pytest.raises(JournalBroken, match="lost"):
        journal.append("row", {})


def test_a_file_exchanged_while_open_is_noticed(path: Path) -> None:
    journal = _three(path)
    path.unlink()
    other = Journal.open(path)
    for i in range(10, 14):
        other.append("row", {"i": i})
    with pytest.raises(JournalBroken, match="exchanged"):
        journal.append("row", {})


def test_verify_reads_the_file_again(path: Path) -> None:
    journal = _three(path)
    journal.verify()
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"i":0', b'"i":5'))
    with pytest.raises(JournalBroken, match="row 0"):
        journal.verify()


def test_a_full_disk_leaves_the_journal_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = _three(path)
    before, real = path.read_bytes(), os.write
    calls = iter([10])

    def full(descriptor: int, data: bytes) -> int:
        part = next(calls, None)
        if part is None:
            raise OSError(errno.ENOSPC, "injected")
        return real(descriptor, bytes(data)[:part])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="free some space"):
            journal.append("row", {"i": 3})
    assert path.read_bytes() == before
    assert journal.append("row", {"i": 3}).index == 3
    journal.verify()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, b"bytes"])
def test_what_json_cannot_keep_is_refused(path: Path, bad: object) -> None:
    journal = _three(path)
    with pytest.raises(StorageError, match="JSON cannot keep"):
        journal.append("row", {"x": bad})  # type: ignore[dict-item]  # the refusal under test
    assert journal.head[0] == 3


def test_a_row_without_measure_is_refused(path: Path) -> None:
    with pytest.raises(StorageError, match="beside the journal"):
        _three(path).append("row", {"x": "a" * (1 << 20)})


def test_two_objects_and_four_threads_share_one_file(path: Path) -> None:
    journals = [Journal.open(path), Journal.open(path)]

    def write(journal: Journal) -> None:
        for i in range(10):
            journal.append("row", {"i": i})

    threads = [threading.Thread(target=write, args=(journals[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Journal.open(path).head[0] == 40


def test_processes_share_one_file(path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from common.journal import Journal\n"
        "j = Journal.open(Path(sys.argv[1]))\nfor i in range(25): j.append('row', {'i': i})"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert Journal.open(path).head[0] == 75


def test_a_lock_that_is_never_given_back_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, other = Journal.open(path), Journal.open(path)
    monkeypatch.setattr("common.journal.LOCK_TIMEOUT_SECONDS", 0.05)
    with journal.locked(), pytest.raises(StorageError, match="another process"):
        other.append("row", {})


@pytest.mark.parametrize("seed", range(4))
def test_kill_at_any_moment_keeps_every_row_that_was_answered(path: Path, seed: int) -> None:
    """A writer prints the index of each row it was told is safe; after SIGKILL all of them stand."""
    script = (
        "import sys; from pathlib import Path; from common.journal import Journal\n"
        "j = Journal.open(Path(sys.argv[1]))\nwhile True: print(j.append('row', {'pad': 'x' * 300}).index, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3 + 5 * seed):
            process.stdout.readline()
        process.kill()
        answered = [int(line) for line in process.stdout.read().split("\n")[:-1]]
    rows = Journal.open(path).rows()
    assert [row.index for row in rows] == list(range(len(rows)))
    assert not answered or len(rows) > max(answered)
