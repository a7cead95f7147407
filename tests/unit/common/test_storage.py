"""A write is whole or did not happen."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import StorageError
from common.storage import held_alone, remove_staging, write_atomic


def test_writes_text_and_bytes_readable_by_the_owner_alone(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "grüß")
    write_atomic(tmp_path / "b", b"\x00\x01")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "grüß"
    assert (tmp_path / "b").read_bytes() == b"\x00\x01"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_mode_is_the_callers_choice(tmp_path: Path) -> None:
    write_atomic(tmp_path / "page.html", "x", mode=0o640)
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("code", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "quota"), (errno.EIO, "check the disk")])
def test_a_disk_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    path = tmp_path / "state"
    write_atomic(path, "old")
    real, calls = os.write, iter([3])

    def short_then_full(descriptor: int, data: bytes) -> int:
        part = next(calls, None)
        if part is None:
            raise OSError(code, "injected")
        return real(descriptor, bytes(data)[:part])

    monkeypatch.setattr(os, "write", short_then_full)
    with pytest.raises(StorageError, match=remedy) as caught:
        write_atomic(path, "a much longer new state")
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_file_size_limit_is_named(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from common.storage import write_atomic; from common.errors import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_atomic(Path(sys.argv[1]), b'x' * 8192)\n"
        "except StorageError as error: print(error)"
    )
    path = tmp_path / "big"
    shown = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout
    assert "ulimit -f" in shown
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="create it first"):
        write_atomic(tmp_path / "nowhere" / "file", "x")


def test_left_overs_of_a_kill_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".state.0123456789ab.part").write_text("half")
    (tmp_path / "state").write_text("whole")
    assert remove_staging(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_lock_is_held_by_one_and_freed_by_a_kill(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with held_alone(tmp_path / "lock", "busy"):
            os.write(writing, b"x")
            signal.pause()
        os._exit(1)
    os.read(reading, 1)
    with pytest.raises(StorageError, match=f"{tmp_path}: somebody works here"), held_alone(tmp_path / "lock", "somebody works here", patience_seconds=0.1):  # fmt: skip
        pass
    os.kill(child, signal.SIGKILL)
    with held_alone(tmp_path / "lock", "busy"):
        os.waitpid(child, 0)
    with held_alone(tmp_path / "lock", "busy", patience_seconds=0.1):
        pass
    os.close(reading)
    os.close(writing)
