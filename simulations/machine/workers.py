"""Several processes for the work of a simulation that falls into independent parts: hospitals that train at the same time.

This process takes part, so `Workers(2)` starts one more. Each process computes with one thread: two that spin for each other
cost more than they bring. Results come back in the order of the parts, and none depends on who computed it.

Protects against: a worker that outlives a killed run (it watches its parent, so that a resumed run finds no second writer).
Does not protect against: a part that depends on what another part left in memory; give each all it needs.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self, TypeVar

from common.errors import StorageError, WardroundError

Part = TypeVar("Part")
Result = TypeVar("Result")
WATCH_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Worker:
    process: BaseProcess
    link: Connection


class Workers:
    """`count` processes, this one included. A context manager; the others start with the first `map` that has work for them."""

    def __init__(self, count: int) -> None:
        self._count, self._others = count, list[_Worker]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(at_once=kind is not None and not issubclass(kind, Exception))

    def close(self, *, at_once: bool = False) -> None:
        """End the other processes and give their memory back; a later `map` starts new ones. `at_once`: in the middle of a part, as a kill would."""
        for worker in self._others:
            worker.link.close()
            if at_once:
                worker.process.kill()
        for worker in self._others:
            worker.process.join(timeout=10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._others.clear()

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """function(part) for each part, in order. `function` is a module's own; it and the parts can be pickled. A part is taken from
        `parts` when its turn comes, so a sequence that makes its parts holds few at a time.

        Raises what the function raises, for the first part that failed, after the parts under way are done.
        """
        if self._count == 1 or len(parts) < 2:
            yield from map(function, parts)
            return
        self._start(min(self._count, len(parts)) - 1)
        waiting, results = deque(range(len(parts))), dict[int, tuple[bool, object]]()
        busy: dict[Connection, int] = {}
        idle = [worker.link for worker in self._others]
        with threads(1) if "torch" in sys.modules else contextlib.nullcontext():
            following = 0
            while following < len(parts):
                while idle and waiting:
                    number = waiting.popleft()
                    link = idle.pop()
                    link.send((function, parts[number]))
                    busy[link] = number
                if waiting:
                    number = waiting.popleft()
                    results[number] = _attempt(function, parts[number])
                for ready in wait(list(busy), timeout=None if not waiting and following not in results else 0):
                    assert isinstance(ready, Connection)
                    try:
                        results[busy.pop(ready)] = ready.recv()
                    except EOFError:
                        raise StorageError("a worker of the simulation ended unexpectedly; check memory, then resume the run") from None
                    idle.append(ready)
                while following in results:
                    done, value = results.pop(following)
                    following += 1
                    if not done:
                        while busy:  # nobody may still be writing when the caller handles the failure
                            for ready in wait(list(busy)):
                                assert isinstance(ready, Connection)
                                ready.recv()
                                busy.pop(ready)
                        assert isinstance(value, BaseException)
                        raise value
                    yield value  # type: ignore[misc]  # what `function` returned, through a pipe

    def _start(self, count: int) -> None:
        start = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        while len(self._others) < count:
            here, there = start.Pipe()
            process = start.Process(target=_work, args=(there, os.getpid()), daemon=True)
            with _interrupts_wait():  # the mask passes to the child: Ctrl-C is the parent's business, who ends the others
                process.start()
            there.close()
            self._others.append(_Worker(process, here))


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C inside is delivered when the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _attempt(function: Callable[[Part], Result], part: Part) -> tuple[bool, object]:
    try:
        return True, function(part)
    except WardroundError as error:
        return False, error
    except Exception as error:
        # The text of a foreign exception may hold a patient's; the class and the place are enough to find it.
        place = traceback.extract_tb(error.__traceback__)[-1]
        return False, RuntimeError(f"{type(error).__name__} in {place.name}, line {place.lineno} of {os.path.basename(place.filename)}")  # noqa: PTH119  # a name in a traceback


def _work(link: Connection, parent: int) -> None:
    """The life of a worker: take a part, answer, until the link closes or the parent is gone."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that a part imports later; importing it for nothing takes seconds
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            function, part = link.recv()
            link.send(_attempt(function, part))


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch computes with `count` threads inside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
