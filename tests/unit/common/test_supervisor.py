"""Programs are kept running, restarted with growing waits, and ended with everything they started."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from common import supervisor
from common.errors import StorageError
from common.supervisor import LONGEST_WAIT_SECONDS, Program, Supervisor, clean_environment, wait_before_restart


def test_waits_grow_to_a_bound() -> None:
    assert [wait_before_restart(n, 2.0) for n in (1, 2, 3, 4)] == [2.0, 4.0, 8.0, 16.0]
    assert wait_before_restart(10_000, 2.0) == LONGEST_WAIT_SECONDS
    assert wait_before_restart(1, 90.0) == 90.0, "a first wait above the bound is kept"


def test_what_dies_is_started_again_and_its_children_end_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 5.0)
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $$ $! >> {pids}; wait"
    said: list[str] = []
    watched = Supervisor([Program("lamp", ["/bin/sh", "-c", script], clean_environment({}), tmp_path / "log", 0.1)], said.append)
    watched.start()
    loop = threading.Thread(target=watched.run, kwargs={"poll_seconds": 0.05})
    loop.start()
    try:
        _until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 1)
        first, child = map(int, pids.read_text().split())
        os.kill(first, signal.SIGKILL)
        _until(lambda: len(pids.read_text().splitlines()) == 2)
        _until(lambda: not _alive(child))  # the child of the dead program must not live on; the kernel takes a moment to end it
        assert any("lamp ended with code -9" in sentence for sentence in said)
    finally:
        watched.stop()
        loop.join(20)
    _until(lambda: not any(_alive(int(pid)) for pid in pids.read_text().split()))
    assert watched.running() == {}


def test_a_killed_supervisor_takes_its_programs_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = (
        "from common.supervisor import *; from pathlib import Path\n"
        f"s = Supervisor([Program('lamp', ['/bin/sleep', '600'], clean_environment({{}}), Path('{tmp_path}/log'))], print)\n"
        f"s.start(); Path('{pid}').write_text(str(s.running()['lamp'])); s.run()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    _until(lambda: pid.exists() and pid.read_text() != "")
    lamp = int(pid.read_text())
    assert _alive(lamp)
    process.kill()
    process.wait()
    _until(lambda: not _alive(lamp))


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"lamp: the command `/no/such/lamp` is missing"):
        Supervisor([Program("lamp", ["/no/such/lamp"], {}, tmp_path / "log")], print).start()


def test_proxies_and_tokens_of_the_caller_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://elsewhere:1")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    found = clean_environment({"FLWR_HOME": "/f"})
    assert "HTTPS_PROXY" not in found
    assert "SECRET_TOKEN" not in found
    assert found["PATH"].startswith(str(Path(sys.executable).parent))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _until(holds, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
