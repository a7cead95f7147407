"""A site is made whole or not at all, and never over something that is there."""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from client.hospital import founding
from client.hospital import site as site_module
from client.hospital.founding import MARKER
from client.hospital.policy import HospitalPolicy
from client.hospital.site import POLICY_FILE, SITE_FILE, Site
from client.sealed import sealing, vault
from client.sealed.sealing import KEY_BYTES
from client.sealed.vault import DATABASE, KEY_FILE
from common import storage
from common.errors import StorageError, WardroundError
from common.privacy.mechanism import Unit

WATCHED = frozenset(module.__file__ for module in (founding, site_module, vault, sealing, storage))
SURVIVED = 7


def make(folder: Path, key_file: Path | None) -> None:
    Site.create(folder, "north", HospitalPolicy(max_epsilon=3.0), declared_units={Unit.PATIENT: 9}, key_file=key_file).close()


def killed_at(line: int, folder: Path, key_file: Path | None) -> bool:
    """Make a site in a forked process that is killed before its `line`-th line of our own code; False when it was done before."""
    child = os.fork()
    if child == 0:
        left = [line]

        def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
            if frame.f_code.co_filename not in WATCHED:
                return None
            if event == "line":
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            make(folder, key_file)
        finally:
            sys.settrace(None)
            os._exit(SURVIVED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("elsewhere", "step"),
    [(False, 6), (True, 6), pytest.param(False, 1, marks=pytest.mark.slow), pytest.param(True, 1, marks=pytest.mark.slow)],
)
def test_killed_before_any_line_it_is_there_or_can_be_made_again(tmp_path: Path, elsewhere: bool, step: int) -> None:
    complete, line = 0, 1 - step
    while True:
        line += step
        folder, key_file = tmp_path / f"north-{line}", tmp_path / f"{line}.key" if elsewhere else None
        if not killed_at(line, folder, key_file):
            break
        if (folder / SITE_FILE).exists():
            complete += 1
        else:
            with pytest.raises(StorageError, match="wardround-site init"):
                Site.open(folder)
            make(folder, key_file)
        with Site.open(folder) as site:
            assert site.policy.max_epsilon == 3.0
            assert site.declared_units(Unit.PATIENT) == 9
        wanted = {DATABASE, POLICY_FILE, SITE_FILE, *([] if elsewhere else [KEY_FILE])}
        assert {path.name for path in folder.iterdir()} == wanted, f"killed before line {line}"
    assert line > 100
    assert complete > 0


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """At every size of file from nothing to enough, through the limit that the system sets on a process."""
    for largest in (0, 31, 100, 4096):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
                make(tmp_path / "deep" / "north", None)
            except WardroundError:
                code = SURVIVED
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == SURVIVED, largest
        assert not (tmp_path / "deep" / "north").exists(), largest
    make(tmp_path / "deep" / "north", None)


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    make(tmp_path / "north", None)
    (tmp_path / "north" / SITE_FILE).rename(tmp_path / "lost.toml")
    before = {path.name: path.read_bytes() for path in (tmp_path / "north").iterdir()}
    with pytest.raises(StorageError, match=r"vault is there already; restore site\.toml from its backup"):
        make(tmp_path / "north", None)
    assert {path.name: path.read_bytes() for path in (tmp_path / "north").iterdir()} == before
    foreign = tmp_path / "foreign.key"
    foreign.write_bytes(b"k" * KEY_BYTES)
    with pytest.raises(StorageError, match="a key is there already"):
        make(tmp_path / "south", foreign)
    assert foreign.read_bytes() == b"k" * KEY_BYTES


def test_the_key_of_another_site_survives_a_marker_that_names_its_place(tmp_path: Path) -> None:
    """An attempt dies before its key is written, another site then puts its key in that place, and the first is begun anew."""
    key_file = tmp_path / "shared.key"
    line = 1
    while not (tmp_path / "north" / MARKER).exists() or not (tmp_path / "north" / MARKER).read_bytes():
        assert killed_at(line, tmp_path / "north", key_file)
        line += 1
    assert not key_file.exists()
    make(tmp_path / "south", key_file)
    with pytest.raises(StorageError, match="a key is there already"):
        make(tmp_path / "north", key_file)
    Site.open(tmp_path / "south").close()


def test_two_processes_do_not_make_one_site(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        import client.hospital.site as room

        def wait(*_: Any) -> None:
            os.write(writing, b"x")
            signal.pause()

        room.write_atomic = wait  # type: ignore[assignment]  # in this child alone
        make(tmp_path / "north", None)
        os._exit(1)
    os.read(reading, 1)
    with pytest.raises(StorageError, match="another process is making a site here"):
        make(tmp_path / "north", None)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    make(tmp_path / "north", None)
    Site.open(tmp_path / "north").close()


def test_the_marker_of_a_completed_site_goes_when_it_is_opened(tmp_path: Path) -> None:
    make(tmp_path / "north", None)
    (tmp_path / "north" / MARKER).write_bytes(b"{}")
    Site.open(tmp_path / "north").close()
    assert not (tmp_path / "north" / MARKER).exists()
