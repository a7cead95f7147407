"""Flower's Grid in one process: the same ServerApp and ClientApp objects, without Ray, sockets or waiting.

Every message is turned into protobuf bytes and back on its way, as on a real grid, so nothing is shared by accident and the bytes are
the real ones. A site works when its answer is pulled, as many at once as there are `workers`, so that few updates are in memory at a time.

    grid = LocalGrid(client_app, site_folders, run_config)
    run_server(server_app, grid)

Faults are part of the grid: `Fault("site-3", "reward-0", 4)` makes that site unreachable in that round. They are drawn from the study,
so a resumed run meets the same ones.
"""

import contextlib
import pkgutil
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import overload

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from common.errors import ConfigError
from common.progress import Progress, Silent
from common.secure.masked.site import PHASES, UPDATE
from server.federate.scoring import Score
from server.watcher import WATCHER, OnState, Watcher
from simulations.machine.workers import Workers

SERVER_NODE, TASK, RUN = 1, 1, 1
FIRST_SITE_NODE = 1001

OnLeaving = Callable[[str, str, bytes], None]
"""Told of everything that leaves a site, before anybody reads it: the site's folder, Flower's group of the message, its content as bytes."""

UserConfig = Mapping[str, bool | float | int | str]


class When(StrEnum):
    """Whether a faulty site never heard the question of a phase (nor any later one), or answered it and then vanished before the answer arrived."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Fault:
    """`site` (a folder's name) is unreachable in round `round` of `line` (`sft`, `reward-0`, …), from phase `phase` of the exchange on.

    Without `phase`, a site that vanishes before vanishes from the beginning, and one that vanishes after does so when it has trained.
    """

    site: str
    line: str
    round: int
    when: When = When.BEFORE
    phase: str | None = None

    def on(self, site: str, group: str) -> When | None:
        """What becomes of a message of `group` (`line/round/attempt/phase`, as the coordinator names it) to `site`."""
        line, number, _, phase = (*group.split("/"), "", "", "", "")[:4]
        if (self.site, self.line, str(self.round)) != (site, line, number):
            return None
        gone_from = self.phase or (PHASES[0] if self.when is When.BEFORE else UPDATE)
        if gone_from not in PHASES or phase not in PHASES:
            return self.when  # an exchange of one phase, or a test's own
        late = PHASES.index(phase) - PHASES.index(gone_from)
        if late == 0:
            return self.when
        return When.BEFORE if late > 0 else None


@dataclass(slots=True)
class _Node:
    folder: Path
    context: Context


class LocalGrid(Grid):
    """One node a site folder; a site is named by its folder. One run follows another: Flower's task identity belongs to the whole process,
    so sites that work at the same time do so in the processes of `workers`, not in threads.

    client_app  the app, or where it stands ("client.app:app"): workers can only be told the latter
    """

    streams = True  # answers are worked out as they are taken

    def __init__(
        self,
        client_app: ClientApp | str,
        site_folders: Sequence[Path],
        run_config: UserConfig | None = None,
        faults: Iterable[Fault] = (),
        on_leaving: OnLeaving | None = None,
        workers: Workers | None = None,
    ) -> None:
        if workers is not None and not isinstance(client_app, str):
            raise ConfigError("a grid with workers needs to know where its app stands, as in `client.app:app`, not the app itself")
        self._app, self._run_config, self._on_leaving = client_app, dict(run_config or {}), on_leaving
        self._workers = workers or Workers(1)
        self._faults = frozenset(faults)
        self._nodes = {
            FIRST_SITE_NODE + i: _Node(folder, self._context(FIRST_SITE_NODE + i, {"site-dir": str(folder)}))
            for i, folder in enumerate(site_folders)
        }
        names = {node.folder.name for node in self._nodes.values()}
        unknown = sorted(fault.site for fault in self._faults if fault.site not in names)
        if unknown:
            raise ConfigError(f"a fault is planned for `{unknown[0]}`, which is not a site of this grid")
        self._waiting: dict[str, Message] = {}
        self._run = Run.create_empty(RUN)

    def _context(self, node_id: int, node_config: UserConfig) -> Context:
        return Context(RUN, node_id, dict(node_config), RecordDict(), dict(self._run_config))

    # -- flwr.serverapp.Grid -------------------------------------------------------------------------------------------

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None) -> Message:
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message_id = secrets.token_hex(16)
            message.metadata.__dict__["_message_id"] = message_id
            self._waiting[message_id] = message  # as it is: messages of a round share the adapter's bytes
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._answers(list(message_ids))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:  # noqa: ARG002  # of Grid; nobody waits here
        return list(self.pull_messages(self.push_messages(messages)))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _answers(self, message_ids: Iterable[str]) -> Iterator[Message]:
        requests = [message for key in message_ids if (message := self._waiting.pop(key, None)) is not None]
        reached = [m for m in requests if self._fault(m) is not When.BEFORE and m.metadata.dst_node_id in self._nodes]
        answered = self._workers.map(_work, _Jobs(self._app, {node_id: node.context for node_id, node in self._nodes.items()}, reached))
        for request in requests:
            # Answers come in the order of those asked, whoever worked them out.
            reply = _from_bytes(next(answered)) if any(request is m for m in reached) else None
            if reply is not None and self._on_leaving and reply.has_content():
                content = recorddict_to_proto(reply.content).SerializeToString(deterministic=True)
                self._on_leaving(self._nodes[request.metadata.dst_node_id].folder.name, request.metadata.group_id, content)
            if reply is None or self._fault(request) is When.AFTER:
                with identity():
                    reply = Message(Error(ErrorCode.NODE_UNAVAILABLE, "node unavailable"), reply_to=request)
            yield reply

    def _fault(self, request: Message) -> When | None:
        node = self._nodes.get(request.metadata.dst_node_id)
        found = (fault.on(node.folder.name, request.metadata.group_id) for fault in self._faults) if node is not None else ()
        return next((when for when in found if when is not None), None)


def run_server(
    server_app: ServerApp,
    grid: LocalGrid,
    run_config: UserConfig | None = None,
    progress: Progress | None = None,
    on_state: OnState | None = None,
    score: Score | None = None,
) -> None:
    """Run a ServerApp to its end on `grid`; `progress` is told of its rounds, `on_state` shown their adapters, groups are compared by `score`.

    What the app raises comes through.
    """
    context = Context(RUN, SERVER_NODE, {}, RecordDict(), dict(run_config or {}))
    token = WATCHER.set(Watcher(progress or Silent(), on_state, score))
    try:
        with identity(SERVER_NODE):
            server_app(grid, context)
    finally:
        WATCHER.reset(token)


@contextlib.contextmanager
def identity(node_id: int = SERVER_NODE) -> Iterator[None]:
    """`Message()` reads the process-wide TaskIdentity, which Flower sets in each of its processes; here it changes hands in one."""
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = TASK, RUN, node_id
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


@dataclass(frozen=True, slots=True)
class _Job:
    """One message to one site, complete: the answer depends on nothing but this and the site's folder."""

    app: ClientApp | str
    context: Context
    request: bytes


class _Jobs(Sequence[_Job]):
    """The jobs of some requests, each made when it is taken: their bytes are the adapter's over and over."""

    def __init__(self, app: ClientApp | str, contexts: Mapping[int, Context], requests: Sequence[Message]) -> None:
        self._app, self._contexts, self._requests = app, contexts, requests

    def __len__(self) -> int:
        return len(self._requests)

    @overload
    def __getitem__(self, index: int) -> _Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Job]: ...
    def __getitem__(self, index: int | slice) -> _Job | list[_Job]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        request = self._requests[index]
        return _Job(self._app, self._contexts[request.metadata.dst_node_id], _to_bytes(request))


def _work(job: _Job) -> bytes:
    app = pkgutil.resolve_name(job.app) if isinstance(job.app, str) else job.app
    request = _from_bytes(job.request)
    with identity(request.metadata.dst_node_id):
        try:
            reply = app(request, job.context)
        except Exception as error:  # as Flower's own SuperNode does: a raising app becomes an error message
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, type(error).__name__), reply_to=request)
    return _to_bytes(reply)


def _to_bytes(message: Message) -> bytes:
    return bytes(message_to_proto(message).SerializeToString())


def _from_bytes(data: bytes) -> Message:
    return message_from_proto(ProtoMessage.FromString(data))
