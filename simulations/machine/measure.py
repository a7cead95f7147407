"""What a run costs the machine: seconds, CPU seconds and the peak of memory over all its processes."""

import contextlib
import ctypes
import gc
import threading
import time
from dataclasses import dataclass
from types import TracebackType

import psutil

INTERVAL_SECONDS = 1.0  # listing the processes of a busy machine takes some hundredths of a second


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall-clock and CPU seconds (this process and its descendants), and the peak so far of resident memory in MB."""

    seconds: float
    cpu_seconds: float
    peak_rss_mb: float


class Meter:
    """Watches resident memory of this process and all its descendants while its `with` block runs.

    Resident memory is summed over processes, so a page that two of them share counts twice: the figure errs upward.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory meter", daemon=True)

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def reading(self) -> Cost:
        """Since the program began (CPU) and since an arbitrary moment (wall clock): take the difference of two."""
        self._sample()
        own = self._process.cpu_times()
        seconds = own.user + own.system + own.children_user + own.children_system
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it ended between the listing and the reading, and counts as ended next time
                times = child.cpu_times()
                seconds += times.user + times.system
        return Cost(time.monotonic(), seconds, self._peak_bytes / 1e6)

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL_SECONDS):
            self._sample()

    def _sample(self) -> None:
        total = self._process.memory_info().rss
        for child in self._process.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.Error:  # it ended between the listing and the reading
                continue
        self._peak_bytes = max(self._peak_bytes, total)


def give_memory_back() -> None:
    """Hand freed memory to the system. After PPO the C library's heap kept 1.5 of 2.6 GB that nothing used any more.

    Where the C library has no such call, nothing is done and nothing is lost but memory.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
