"""The question in front of every run: did this hospital approve this bundle? Asked through Flower's own code path, with and without us."""

import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError, push_object_contents_from_iterable
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation.noop_federation_manager import NoOpFederationManager
from flwr.supernode import start_client_internal as internal
from flwr.supernode.nodestate import NodeStateFactory

from client.deploy.supernode import guard
from common.errors import ConfigError

GOOD, BAD = b"approved bytes", b"other bytes"


@pytest.fixture
def flower(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Flower's two functions, put back afterwards, and a connection that hands out whatever bundle the test says."""
    monkeypatch.setattr(internal, "_verify_fab", internal._verify_fab)
    sent = SimpleNamespace(content=GOOD, digest=None, superlink=InMemoryLinkState(NoOpFederationManager(), ObjectStoreFactory().store()))

    @contextlib.contextmanager
    def connect(
        server_address: str, insecure: bool, root_certificates: Any = None, authentication_keys: Any = None, max_retries: Any = None,
        max_wait_time: Any = None,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        def get_fab(fab_hash: str, run_id: int) -> Fab:
            return Fab(sent.digest or hashlib.sha256(sent.content).hexdigest(), sent.content, {})

        def push_object(run_id: int, session_id: str, object_id: str, content: bytes) -> None:
            if not sent.superlink.store_object(run_id, session_id, object_id, content):
                raise ObjectPushError(object_id, run_id, session_id)

        yield 7, None, None, lambda run_id: SimpleNamespace(fab_hash="?"), get_fab, None, push_object, None

    monkeypatch.setattr(internal, "http_request_response", connect)
    monkeypatch.setattr(internal, "_sent", sent, raising=False)
    return monkeypatch


def receive(monkeypatch: pytest.MonkeyPatch, trusted: dict[str, str] | None) -> bool:
    """Whether Flower's loop, given one message of a new run, goes on to run its bundle."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    message = Message(RecordDict(), dst_node_id=7, message_type="query.hello")
    message.metadata.__dict__["_message_id"] = "1"
    message.metadata.__dict__["_run_id"] = 5
    stores = ObjectStoreFactory()
    state = NodeStateFactory(stores).state()
    state.set_node_id(7)

    class WouldRun(Exception):
        pass

    def run(*_: object) -> None:
        raise WouldRun

    monkeypatch.setattr(internal, "get_fused_config_from_fab", run)
    with internal._init_connection("localhost:1", False) as calls:
        try:
            internal._pull_and_store_message(
                state=state, object_store=stores.store(), node_config={}, receive=lambda: (message, None), get_run=calls[3], get_fab=calls[4],
                pull_object=None, confirm_message_received=None, trusted_entities=trusted,
            )  # fmt: skip
        except WouldRun:
            return True
    (reply,) = state.get_messages_legacy(is_reply=True)
    assert reply.has_error()
    assert "other bytes" not in str(reply.error)
    return False


def test_an_unprotected_node_runs_whatever_it_is_sent(flower: pytest.MonkeyPatch) -> None:
    internal._sent.content = BAD
    assert receive(flower, None)


def test_ours_runs_what_was_approved_and_nothing_else(flower: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    guard(lambda content: content == GOOD, refused.append)
    hospital = {"hospital": "ssh-ed25519 AAAA"}
    assert receive(flower, hospital)
    internal._sent.content = BAD
    assert not receive(flower, hospital)
    assert not receive(flower, hospital)
    assert refused == [hashlib.sha256(BAD).hexdigest()], "written down once"
    internal._sent.content, internal._sent.digest = GOOD, "0" * 64
    assert not receive(flower, hospital), "approved bytes under another digest would be unpacked over another bundle"


def send_reply(number: int) -> tuple[int, int]:
    """(parts of a reply, parts that the SuperLink's own store has in the end), sent by Flower's own code; the call for the second part is made twice."""
    reply = RecordDict({"config": ConfigRecord({"number": number}), "metrics": MetricRecord({"number": number})})
    superlink, contents = internal._sent.superlink, {key: part.deflate() for key, part in get_all_nested_objects(reply).items()}
    session = superlink.start_session(5)
    parts = superlink.preregister_object_tree(get_object_tree(reply), session)
    with internal._init_connection("localhost:1", False) as calls, contextlib.suppress(ObjectPushError):
        push_object_contents_from_iterable(
            ((part, contents[part]) for part in (*parts[:2], *parts[1:])), partial(calls[6], 5, session), max_concurrent_pushes=1
        )
    return len(parts), sum(bool(superlink.object_store.get(part)) for part in parts)


def test_a_part_that_is_sent_twice_does_not_cost_the_reply(flower: pytest.MonkeyPatch) -> None:
    assert send_reply(1) == (3, 2), "Flower alone gives the reply up in the middle"
    guard(lambda content: True, lambda digest: None)
    assert send_reply(2) == (3, 3)


def test_another_release_of_flower_is_refused(flower: pytest.MonkeyPatch) -> None:
    flower.setattr(internal, "_verify_fab", lambda fab: True)
    with pytest.raises(ConfigError, match="install the pinned one"):
        guard(lambda content: True, lambda digest: None)
