"""Progress on standard error: bars with time left on a terminal, one line a stage elsewhere.

Standard output is never touched: with `--json` it holds one object and nothing else.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from common.progress import Progress


@contextlib.contextmanager
def progress_on(stream: TextIO | None = None) -> Iterator[Progress]:
    """A Progress for the time of the `with` block: `Bars` when `stream` (standard error) is a terminal, otherwise `Lines`."""
    stream = stream or sys.stderr
    console = Console(file=stream)
    if console.is_terminal:
        bars = Bars(console)
        with bars.display:
            yield bars
            bars.finish()
    else:
        lines = Lines(stream)
        yield lines
        lines.finish()


class Bars:
    """One bar for the stage that runs; finished stages stay above it with their time."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn())
        times = (
            TimeElapsedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        self.display = RichProgress(*columns, *times, console=console, refresh_per_second=4)
        self._task: TaskID | None = None

    def start(self, stage: str, total: int) -> None:
        self.finish()
        self._task = self.display.add_task(stage, total=max(total, 1), note="")

    def advance(self, n: int = 1) -> None:
        if self._task is not None:
            self.display.advance(self._task, n)

    def note(self, text: str) -> None:
        if self._task is not None:
            self.display.update(self._task, note=text)

    def finish(self) -> None:
        """Fill the bar of the stage that ran: it is over, even when it was cut short."""
        if self._task is not None:
            self.display.update(
                self._task, total=self.display.tasks[self._task].completed or 1, completed=self.display.tasks[self._task].completed or 1
            )
            self._task = None


class Lines:
    """One line for each stage when it is over: its name, how much was done, how long it took, its last note."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._stage: str | None = None
        self._done = self._total = 0
        self._note = ""
        self._began = 0.0

    def start(self, stage: str, total: int) -> None:
        self.finish()
        self._stage, self._done, self._total, self._note, self._began = stage, 0, total, "", self._clock()

    def advance(self, n: int = 1) -> None:
        self._done += n

    def note(self, text: str) -> None:
        self._note = text

    def finish(self) -> None:
        if self._stage is not None:
            note = f"; {self._note}" if self._note else ""
            done = f"{self._done}" if self._done == self._total else f"{self._done} of {self._total}"
            self._stream.write(f"{self._stage}: {done} in {self._clock() - self._began:.1f} s{note}\n")
            self._stream.flush()
            self._stage = None
