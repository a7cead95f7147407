"""Programs that are kept running: started in order, restarted when they end, stopped together.

Protects against: a program that dies (it starts again after a wait that grows to a bound), one that dies over and over (no tight loop),
children that outlive their parent (each program leads a process group of its own, and the group is ended as a whole).
a supervisor that is killed: the kernel then ends its programs as well.
Does not protect against: a program that hangs without ending; grandchildren of a killed supervisor, which under systemd end with its
control group.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import StorageError

Say = Callable[[str], None]

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 60.0
STEADY_SECONDS = 60.0
"""A program that ran this long counts as healthy: its next wait starts from the first again."""
GRACE_SECONDS = 15.0
LOG_BYTES = 50 * 2**20
"""A log that has grown beyond this becomes NAME.log.1 at the next start, in the place of an older one."""
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Program:
    """One command line, with everything it gets from the environment. `log` is appended to; None keeps the supervisor's standard error.

    first_wait_seconds   before the first restart; doubles up to LONGEST_WAIT_SECONDS
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None = None
    first_wait_seconds: float = FIRST_WAIT_SECONDS


def wait_before_restart(failures: int, first_wait_seconds: float = FIRST_WAIT_SECONDS) -> float:
    """Seconds before restart number `failures` (from 1): first·2^(failures − 1), at most LONGEST_WAIT_SECONDS."""
    return min(first_wait_seconds * 2.0 ** min(failures - 1, 30), max(first_wait_seconds, LONGEST_WAIT_SECONDS))


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a program needs of this process's environment, and `extra`; no proxies, tokens or cloud settings of whoever started it."""
    kept = {
        name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "TZ", "OMP_NUM_THREADS") if name in os.environ
    }
    tools = str(Path(sys.executable).parent)
    return {**kept, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "PYTHONUNBUFFERED": "1", **extra}


class Supervisor:
    """Runs programs until `stop`. `say` gets one line for each start and end; nothing a program prints passes through it."""

    def __init__(self, programs: Sequence[Program], say: Say) -> None:
        self._kept = [_Kept(program) for program in programs]
        self._say = say
        self._stopping = threading.Event()

    def start(self) -> None:
        for kept in self._kept:
            self._launch(kept)

    def run(self, poll_seconds: float = 0.5) -> None:
        """Watch until `stop` is called (by a signal, say); then end every program, the last one first."""
        try:
            while not self._stopping.wait(poll_seconds):
                for kept in self._kept:
                    self._look_after(kept, time.monotonic())
        finally:
            for kept in reversed(self._kept):
                kept.end()

    def stop(self) -> None:
        self._stopping.set()

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT end the programs and then this process, in order. Call it from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def running(self) -> dict[str, int]:
        """Process id of each program that runs, by name."""
        return {kept.program.name: kept.process.pid for kept in self._kept if kept.process is not None and kept.process.poll() is None}

    def _look_after(self, kept: "_Kept", now: float) -> None:
        if kept.process is not None:
            code = kept.process.poll()
            if code is None:
                return
            kept.end()  # whatever of its group is still alive
            kept.failures = 1 if now - kept.started >= STEADY_SECONDS else kept.failures + 1
            wait = wait_before_restart(kept.failures, kept.program.first_wait_seconds)
            kept.due = now + wait
            self._say(f"{kept.program.name} ended with code {code}; it starts again in {wait:.0f} s")
        elif now >= kept.due:
            self._launch(kept)

    def _launch(self, kept: "_Kept") -> None:
        kept.launch()
        self._say(f"{kept.program.name} is started")


class _Kept:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.started = self.due = 0.0
        self.failures = 0

    def launch(self) -> None:
        program = self.program
        try:
            if program.log and program.log.exists() and program.log.stat().st_size > LOG_BYTES:
                program.log.replace(program.log.with_suffix(".log.1"))
            with contextlib.ExitStack() as stack:
                output = stack.enter_context(program.log.open("ab")) if program.log else sys.stderr
                self.process = subprocess.Popen(
                    list(program.command), env=dict(program.environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    start_new_session=True, preexec_fn=_end_with_parent,
                )  # fmt: skip
        except FileNotFoundError:
            raise StorageError(f"{program.name}: the command `{program.command[0]}` is missing; install it and start again") from None
        except OSError as error:
            raise StorageError(f"{program.name}: cannot be started ({error.strerror})") from None
        self.started = time.monotonic()

    def end(self) -> None:
        """SIGTERM to the program's whole group, SIGKILL to what is left after GRACE_SECONDS."""
        process, self.process = self.process, None
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _end_with_parent() -> None:
    """In the child, before it becomes the program: SIGTERM when the supervisor dies (prctl(2), PR_SET_PDEATHSIG = 1)."""
    _LIBC.prctl(1, signal.SIGTERM)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
