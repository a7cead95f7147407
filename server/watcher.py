"""Who is told of the progress of a ServerApp: Flower calls the app with a grid and a context, so a watcher in the same process is set here."""

from contextvars import ContextVar

from common.progress import Progress, Silent

WATCHER: ContextVar[Progress | None] = ContextVar("WATCHER", default=None)


def watcher() -> Progress:
    """The Progress that was set for this call, or one that says nothing."""
    return WATCHER.get() or Silent()
