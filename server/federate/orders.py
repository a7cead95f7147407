"""What the coordinator's desk asks of a running stage, and what the stage says of itself: small files in RUN/federation.

pause          the stage stops after the round that runs, once it is committed; `resume` goes on
aborted.json   the stage stops at once and never goes on; what sites spent of their budgets stays spent
waiting.json   the sites that the running round still waits for, and since when
lock           held by the one ServerApp that works on the run

Protects against: two ServerApps on one run (a crashed SuperLink may leave one behind), a stage that only a kill would stop.
Does not protect against: somebody who deletes these files.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from common.errors import RunAborted, RunStopped, StorageError
from common.storage import storage_errors, write_atomic
from server.federate.post import SystemClock
from server.run_folder import RunFolder

PAUSE, ABORTED, WAITING, LOCK = "pause", "aborted.json", "waiting.json", "lock"


@dataclass(frozen=True, slots=True)
class Waiting:
    """`group` is line/round/attempt; `sites` have not answered at `at`, after `seconds` of waiting."""

    group: str
    sites: tuple[str, ...]
    seconds: float
    at: datetime


def pause(run: RunFolder) -> None:
    """Ask the running stage to stop after its round. Raises RunAborted when the run is over already."""
    require_not_aborted(run)
    write_atomic(run.path / "federation" / PAUSE, "", mode=0o644)


def is_paused(run: RunFolder) -> bool:
    return (run.path / "federation" / PAUSE).exists()


def take_up(run: RunFolder) -> None:
    """Forget a pause. Raises RunAborted when the run was ended for good."""
    require_not_aborted(run)
    (run.path / "federation" / PAUSE).unlink(missing_ok=True)


def abort(run: RunFolder, *, now: datetime) -> None:
    """End the run for good. Asked again, it stays as it was."""
    path = run.path / "federation" / ABORTED
    if not path.exists():
        write_atomic(path, json.dumps({"at": now.isoformat(timespec="seconds")}) + "\n", mode=0o644)


def aborted_at(run: RunFolder) -> str | None:
    """When the run was ended, or None."""
    try:
        return str(json.loads((run.path / "federation" / ABORTED).read_text(encoding="utf-8"))["at"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return "an unknown time"


def require_not_aborted(run: RunFolder) -> None:
    moment = aborted_at(run)
    if moment is not None:
        raise RunAborted(f"{run.path}: the run was aborted at {moment}; begin a new study under another study_id")


def obey(run: RunFolder) -> None:
    """Called after each committed round. Raises RunStopped or RunAborted when somebody asked for it."""
    require_not_aborted(run)
    if is_paused(run):
        raise RunStopped("paused after the last committed round; `wardround-coordinator resume RUN` goes on")


@contextlib.contextmanager
def alone(run: RunFolder) -> Iterator[None]:
    """Hold the run's lock. Raises StorageError when another process works on the run."""
    path = run.path / "federation" / LOCK
    with storage_errors(path, "open the lock"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"{run.path}: another process works on this run; wait until it ends, or stop it") from None
        yield
    finally:
        os.close(descriptor)


class ObedientClock(SystemClock):
    """Waits like the system's clock, and stops waiting when the run is aborted."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    def sleep(self, seconds: float) -> None:
        require_not_aborted(self._run)
        super().sleep(seconds)


def on_waiting(run: RunFolder) -> Callable[[str, Sequence[str], float], None]:
    """For `Post`: keeps waiting.json true while a round waits; an empty list of sites removes it."""
    path = run.path / "federation" / WAITING

    def note(group: str, sites: Sequence[str], seconds: float) -> None:
        # Only the desk's view: a full disk must not end a round for it.
        with contextlib.suppress(StorageError):
            if sites:
                body = {"group": group, "sites": sorted(sites), "seconds": round(seconds, 1), "at": datetime.now(UTC).isoformat()}
                write_atomic(path, json.dumps(body) + "\n", mode=0o644)
            else:
                path.unlink(missing_ok=True)

    return note


def waiting(run: RunFolder) -> Waiting | None:
    """Whom the running round waits for, or None."""
    try:
        tree = json.loads((run.path / "federation" / WAITING).read_text(encoding="utf-8"))
        return Waiting(str(tree["group"]), tuple(map(str, tree["sites"])), float(tree["seconds"]), datetime.fromisoformat(tree["at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
