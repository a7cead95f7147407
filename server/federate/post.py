"""Sending to sites and taking their answers one by one: at most one answer is in memory, however many sites there are.

Flower's own `send_and_receive` gathers every reply in a list before anything is added up.

Protects against: a site that never answers (the deadline is ours; Flower waits), one that answers twice, a node that vanished.
Does not protect against: a slow network that makes every site late; then the round has too few survivors and is repeated.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

UNREACHABLE, LATE, NOT_APPROVED = "unreachable", "late", "bundle-not-approved"
"""What the coordinator itself says of a site that did not answer; a site's own refusals are codes of `common/errors.py`."""

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.02, 3.0


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since any fixed moment; never goes back."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@runtime_checkable
class Streaming(Protocol):
    """A grid whose `pull_messages` gives answers one at a time, as they are taken: all can be asked for at once without gathering them."""

    streams: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one site: a record, or the reason why there is none."""

    site: str
    record: RecordDict | None
    problem: str | None = None


OnWaiting = Callable[[str, Sequence[str], float], None]
"""Told the group, the sites that are awaited, and for how many seconds, whenever a wait has grown long; no sites when it is over."""


class Post:
    """Carries records to the nodes of `addresses` (site → Flower's node id) over any Grid."""

    def __init__(self, grid: Grid, addresses: Mapping[str, int], clock: Clock, on_waiting: OnWaiting | None = None) -> None:
        self._grid, self._addresses, self.clock = grid, dict(addresses), clock
        self._on_waiting = on_waiting

    def ask(self, requests: Mapping[str, RecordDict], *, message_type: str, group: str, timeout_seconds: float) -> Iterator[Answer]:
        """One Answer for each request, as they arrive; sites without a node, or late, come last. `group` names the round in Flower's records."""
        reachable = [site for site in requests if site in self._addresses]
        # The time to live drops a late answer in the network; the deadline below stops the waiting.
        messages = [
            Message(requests[site], dst_node_id=self._addresses[site], message_type=message_type, group_id=group, ttl=timeout_seconds)
            for site in reachable
        ]
        # Flower gives None for a message it could not take, and no ids at all when together they were too large.
        sent = list(self._grid.push_messages(messages)) if messages else []
        pending = {message_id: site for message_id, site in zip(sent, reachable, strict=False) if message_id}
        unsent = set(requests) - set(pending.values())
        yield from (Answer(site, None, UNREACHABLE) for site in sorted(unsent))
        yield from self._collect(pending, group, timeout_seconds)

    def _collect(self, pending: dict[str, str], group: str, timeout_seconds: float) -> Iterator[Answer]:
        began, wait, told = self.clock.now(), FIRST_WAIT_SECONDS, False
        while pending:
            for reply in self._pull(list(pending)):
                site = pending.pop(reply.metadata.reply_to_message_id, None)
                if site is not None:
                    yield Answer(site, reply.content) if reply.has_content() else Answer(site, None, _problem(reply))
            waited = self.clock.now() - began
            if not pending or waited >= timeout_seconds:
                break
            if self._on_waiting and wait >= LONGEST_WAIT_SECONDS:
                self._on_waiting(group, list(pending.values()), waited)
                told = True
            self.clock.sleep(min(wait, timeout_seconds - waited))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        if told and self._on_waiting:
            self._on_waiting(group, (), self.clock.now() - began)
        yield from (Answer(site, None, LATE) for site in sorted(pending.values()))

    def _pull(self, message_ids: list[str]) -> Iterator[Message]:
        if isinstance(self._grid, Streaming) and self._grid.streams:
            yield from self._grid.pull_messages(message_ids)
            return
        for message_id in message_ids:
            # Asked one at a time: a list of ids would bring every finished answer into memory at once.
            yield from self._grid.pull_messages([message_id])


def _problem(reply: Message) -> str:
    """Flower's own errors: a bundle that the hospital did not approve, or a node that is gone. Their text is not read."""
    return NOT_APPROVED if reply.error.code == ErrorCode.INVALID_FAB else UNREACHABLE
