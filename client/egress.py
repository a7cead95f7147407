"""Everything that leaves this hospital, written into its own audit log before it leaves: bytes, schema, when, and about what.

SITE/audit.jsonl is hash-chained (`common/journal.py`), stays at the hospital and holds no text of a patient:
rows `egress` for messages, `refusal` for requests that were turned down, with the reason that the coordinator is not told.

Protects against: a message that nobody at the hospital can later account for (when the row cannot be written, the message does not go).
Does not protect against: what a message says in ways its size and kind do not show; that is the protocol's strict schema.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from common.errors import WardroundError
from common.journal import Journal

AUDIT_FILE = "audit.jsonl"
Now = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def record_egress(folder: Path, schema: str, size_bytes: int, about: str, *, now: Now = utc_now) -> None:
    """Write down that a message is about to leave. Raises StorageError, and then it must not leave."""
    _append(folder, "egress", {"schema": schema, "bytes": size_bytes, "about": about}, now)


def record_refusal(folder: Path, error: Exception, about: str, *, now: Now = utc_now) -> None:
    """Write down why a request was refused, for the hospital's own desk. An unexpected error leaves its kind, never its text."""
    expected = isinstance(error, WardroundError)
    reason = str(error) if expected else f"a fault in the program: {type(error).__name__}"
    _append(
        folder, "refusal", {"code": error.code if isinstance(error, WardroundError) else "failed", "reason": reason, "about": about}, now
    )


def _append(folder: Path, kind: str, body: dict[str, str | int], now: Now) -> None:
    Journal.open(folder / AUDIT_FILE).append(kind, {**body, "at": now().isoformat(timespec="seconds")})
