"""Everything that leaves this hospital, written into its own audit log before it leaves: bytes, schema, when, and about what.

SITE/audit.jsonl is hash-chained (`common/journal.py`), stays at the hospital and holds no text of a patient:
rows `egress` for messages, `refusal` for requests that were turned down, with the reason that the coordinator is not told.

Protects against: a message that nobody at the hospital can later account for (when the row cannot be written, the message does not go); a
request whose refusal is too long to be written down, which nobody would see.
Does not protect against: what a message says in ways its size and kind do not show; that is the protocol's strict schema.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from common.errors import WardroundError
from common.journal import Journal

Now = Callable[[], datetime]

MAX_REASON_CHARACTERS = 2_000
"""A reason may repeat a key or name that the coordinator chose, of up to a mebibyte; a row of the log takes no more than that in all."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def record_egress(audit: Journal, schema: str, size_bytes: int, about: str, *, now: Now = utc_now) -> None:
    """Write down that a message is about to leave. Raises StorageError, and then it must not leave."""
    _append(audit, "egress", {"schema": schema, "bytes": size_bytes, "about": about}, now)


def record_refusal(audit: Journal, error: Exception, about: str, *, now: Now = utc_now) -> None:
    """Write down why a request was refused, for the hospital's own desk. An unexpected error leaves its kind, never its text."""
    expected = isinstance(error, WardroundError)
    reason = str(error)[:MAX_REASON_CHARACTERS] if expected else f"a fault in the program: {type(error).__name__}"
    _append(
        audit, "refusal", {"code": error.code if isinstance(error, WardroundError) else "failed", "reason": reason, "about": about}, now
    )


def _append(audit: Journal, kind: str, body: dict[str, str | int], now: Now) -> None:
    audit.append(kind, {**body, "at": now().isoformat(timespec="seconds")})
