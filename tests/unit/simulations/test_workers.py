"""Workers give the results of one process, in order, and leave nobody behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from common.errors import IntakeError, SealBroken, StorageError
from simulations.machine.workers import Workers, threads


def _square(number: int) -> int:
    return number * number


def _pid(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def _refuse(number: int) -> int:
    if number == 2:
        raise IntakeError(Path("notes.jsonl"), 7, "text", "is missing")
    return number


def _leak(_: int) -> int:
    raise ValueError("Maria Lopez, MRN 123")


def _die(number: int) -> int:
    if os.getppid() != number:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _raise_seal(_: int) -> int:
    raise SealBroken


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_order_whoever_computed_them(count: int) -> None:
    with Workers(count) as workers:
        assert list(workers.map(_square, range(7))) == [n * n for n in range(7)]
        assert list(workers.map(_square, [])) == []


def test_closed_workers_give_their_memory_back_and_start_again() -> None:
    with Workers(2) as workers:
        list(workers.map(_square, range(4)))
        workers.close()
        assert not psutil.Process().children()[1:]  # multiprocessing's own resource tracker may stay
        assert list(workers.map(_square, range(4))) == [0, 1, 4, 9]


def test_the_parts_are_shared_out() -> None:
    with Workers(2) as workers:
        assert len(set(workers.map(_pid, range(8)))) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_a_refusal_crosses_the_process_with_its_words(count: int) -> None:
    with Workers(count) as workers, pytest.raises(IntakeError, match=r"notes.jsonl, line 7, field `text`: is missing"):
        list(workers.map(_refuse, range(5)))


def test_a_refusal_without_arguments_crosses_too() -> None:
    with Workers(2) as workers, pytest.raises(SealBroken):
        list(workers.map(_raise_seal, range(2)))


def test_a_foreign_exception_loses_its_text() -> None:
    with Workers(2) as workers, pytest.raises(RuntimeError) as caught:
        list(workers.map(_leak, range(2)))
    assert "Lopez" not in str(caught.value)
    assert "ValueError" in str(caught.value)


def test_a_worker_that_dies_is_said_and_not_waited_for() -> None:
    with Workers(2) as workers, pytest.raises(StorageError, match="ended unexpectedly"):
        list(workers.map(_die, [os.getppid()] * 4))


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import time
        from simulations.machine.workers import Workers
        if __name__ == "__main__":
            workers = Workers(2)
            list(workers.map(abs, [1, 2, 3]))
            print(workers._others[0].process.pid, flush=True)
            list(workers.map(time.sleep, [30, 30]))
        """)
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)


def test_threads_are_given_back() -> None:
    import torch

    before = torch.get_num_threads()
    with threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


_INTERRUPTED = """
import os, sys, time
from common.console import run_command
from simulations.machine.workers import Workers

def busy(number):
    print("busy", os.getpid(), file=sys.stderr, flush=True)
    time.sleep(60)

def app(standalone_mode):
    with Workers(3) as workers:
        list(workers.map(busy, range(9)))

if __name__ == "__main__":
    run_command(app, "wardround")
"""


def test_an_interrupt_ends_all_at_once_without_a_traceback(tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the group: while the workers start, and while they work."""
    script = tmp_path / "script.py"
    script.write_text(_INTERRUPTED)
    for lines in (1, 3):
        program = subprocess.Popen(
            [sys.executable, script], stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a job in the background inherits that it is ignored
        )  # fmt: skip
        assert program.stderr is not None
        begun = [program.stderr.readline() for _ in range(lines)]
        assert all(line.startswith("busy") for line in begun), begun
        os.killpg(program.pid, signal.SIGINT)
        told = program.stderr.read()
        program.stderr.close()
        assert program.wait(timeout=30) == 1
        assert [line for line in told.splitlines() if not line.startswith("busy")] == [
            "wardround: stopped; run the same command again to continue"
        ]
        for line in begun:
            assert not psutil.pid_exists(int(line.split()[1])) or psutil.Process(int(line.split()[1])).status() == psutil.STATUS_ZOMBIE
