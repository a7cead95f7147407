"""Time and memory of rivals on a machine that does other things too.

Time is CPU time, of all threads, and rivals take turns: a repetition is one call of each, and the order goes round, so that what heats,
throttles or shares the machine meets all of them alike. Memory is the peak of resident memory in another process, above what it was
before the call and after the allocator gave back what it kept: pages that an earlier rival left behind count for nobody.
"""

import ctypes
import gc
import multiprocessing
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from common.errors import ConfigError
from common.progress import Progress

T = TypeVar("T")
K = TypeVar("K")
Work = Callable[[], object]


def interleaved(
    rivals: Mapping[K, Work], repetitions: int, progress: Progress, *, clock: Callable[[], float] = time.process_time
) -> dict[K, list[float]]:
    """CPU seconds of each rival in each repetition. The caller has called each once before: first calls build caches."""
    names = list(rivals)
    seconds: dict[K, list[float]] = {name: [] for name in names}
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            began = clock()
            rivals[name]()
            seconds[name].append(clock() - began)
            progress.advance()
    return seconds


def in_child(function: Callable[..., T], *arguments: object) -> T:
    """`function(*arguments)` in a fresh process; both are importable or plain values. Raises ConfigError when the process dies."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        result: T = ours.recv()
    except EOFError:
        process.join()
        raise ConfigError(
            f"a measuring process ended without a result (exit code {process.exitcode}); its own error stands above, or memory ran out"
        ) from None
    finally:
        process.join()
        ours.close()
    return result


def _answer(pipe: Connection, function: Callable[..., T], arguments: tuple[object, ...]) -> None:
    pipe.send(function(*arguments))
    pipe.close()


def peak_bytes(work: Work) -> tuple[int, int]:
    """(resident bytes before `work`, peak of resident bytes during it). Linux only: raises ConfigError elsewhere."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc: what the allocator keeps of earlier calls would hide a part of this one's
        trim(0)
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        clear.write_text("5")  # the peak starts anew from what is resident now (proc(5), since Linux 4.0)
        before = _kilobytes(status, "VmRSS")
        work()
        return before * 1024, _kilobytes(status, "VmHWM") * 1024
    except OSError:
        raise ConfigError("peak memory is read from /proc/self, which this system does not have; run the benchmark on Linux") from None


def _kilobytes(status: Path, name: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1])
