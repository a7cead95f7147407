"""Who is told of the progress of a ServerApp: Flower calls the app with a grid and a context, so a watcher in the same process is set here."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from common.progress import Progress, Silent
from server.federate.checkpoint import RoundState
from server.federate.scoring import Score

OnState = Callable[[str, RoundState], None]
"""Shown the line (`sft`, `reward-0`, …) and the state after each round, before it is saved: a kill in between repeats round and call."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who counts the rounds, who looks at the adapter after each (to measure it on public data, say), and what groups are compared by."""

    progress: Progress
    on_state: OnState | None = None
    score: Score | None = None


WATCHER: ContextVar[Watcher | None] = ContextVar("WATCHER", default=None)


def watcher() -> Watcher:
    """The Watcher that was set for this call, or one that says and does nothing."""
    return WATCHER.get() or Watcher(Silent())
