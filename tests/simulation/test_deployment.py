"""A coordinator and hospitals as real processes over TLS: what a stranger may do, and what is refused and why.

The studies with faults are in test_deployment_faults.py. The figures are printed (pytest -s).
"""

import contextlib
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.proto.control_pb2 import ListRunsRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient

from client.deploy.bundles import approve
from client.deploy.connection import greet, load
from client.hospital.identity import make_card, make_keys
from common.errors import RosterRefused
from common.secure.introductions import Card
from server.deploy import desk
from server.deploy.folder import Deployment
from server.deploy.nodes import nodes, settle
from tests.helpers.deployment import World, call, wait_for, world
from tests.helpers.sites import make_site


def tell(figures: str) -> None:
    sys.stdout.write(f"\n{figures}\n")


def ask(world: World, path: str, *, method: str = "POST", port: int | None = None) -> int:
    """The status of a raw request with nothing but the coordinator's certificate; the path goes out as it stands."""
    context = ssl.create_default_context(cafile=str(world.desk / "tls" / "ca.crt"))
    with (
        socket.create_connection(("localhost", port or world.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as link,
    ):
        link.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        return int(link.recv(64).split()[1])


def list_runs(world: World, port: int) -> int:
    """The status of Flower's own control client with nothing but the certificate."""
    with client(ControlHttpClient, world, port) as control:
        return status(lambda: control.ListRuns(ListRunsRequest()))


def acquire_task(world: World, port: int) -> int:
    """The status of Flower's own runtime client without the SuperExec's secret: it asks for a run's task and token."""
    with client(RuntimeHttpClient, world, port) as runtime:
        return status(lambda: runtime.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"])))


def client(kind: Any, world: World, port: int) -> Any:
    version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
    certificate = (world.desk / "tls" / "ca.crt").read_bytes()
    return contextlib.closing(
        kind.from_server_address(f"localhost:{port}", insecure=False, root_certificates=certificate, interceptors=[version])
    )


def status(call: Callable[[], object]) -> int:
    try:
        call()
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    return 200


STRANGER = (
    "/", "/docs", "/openapi.json", "/v1/control/list-runs", "/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task",
    "/v1/runtime/pull-task-input", "/v1/fleet/register-node", "/v1/fleet/unregister-node", "/v1/fleet/../control/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs", "/v1/fleet/..%2fcontrol%2flist-runs", "//v1/control/list-runs", "/v1/fleet/pull-messages/../../control/list-runs",
    "/v1/fleet/pull-messages?x=/v1/control", "/V1/FLEET/pull-messages", "/v1/fleet/",
)  # fmt: skip


def test_a_certificate_alone_gets_nothing_and_refusals_have_reasons(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.found("ash")
        up = w.up()

        # Unprotected twin: without the proxy the same certificate opens the SuperLink's control calls, which have no login.
        deployment = Deployment.open(w.desk)
        inner = deployment.settings.superlink_port
        assert ask(w, "/openapi.json", method="GET", port=inner) == 200
        assert list_runs(w, inner) == 200
        assert list_runs(w, w.port) == 403
        answers = {path: ask(w, path) for path in STRANGER} | {
            "GET " + path: ask(w, path, method="GET") for path in ("/docs", "/v1/fleet/pull-messages")
        }
        assert set(answers.values()) == {403}, answers
        # The SuperLink itself is not open to the network, and asks the SuperExec for its secret.
        assert {c.laddr.ip for p in up.family() for c in p.net_connections("inet") if c.status == "LISTEN" and c.laddr.port == inner} == {
            "127.0.0.1"
        }
        assert acquire_task(w, inner) == 401

        # A site that is in no roster reaches the port, is turned away with the reason, and asks again later.
        make_site(w.site("elm"))
        make_keys(w.site("elm"))
        (w.site("elm") / "roster.json").write_bytes(deployment.roster_file.read_bytes())
        approve(w.site("elm"), w.bundle)
        elm = w.join("elm")
        wait_for(lambda: "supernode ended" in elm.text(), 180, "the refusal")
        assert "its card is not registered there" in elm.text(), elm.text()
        assert [node.site for node in nodes(deployment)] == ["ash"]

        # The same site, once it is admitted, joins by itself.
        desk.admit(deployment, make_card(w.site("elm"), "elm"), now=datetime.now(UTC))
        settle(deployment, desk.node_keys(deployment))
        w.wait_joined("elm", seconds=180)
        assert [(node.site, node.state) for node in nodes(deployment)] == [("ash", "registered"), ("elm", "online")]
        reached = greet(load(w.site("elm")))
        assert abs(reached.clock_ahead_seconds) < 5
        secret = (w.site("elm") / "keys" / "superexec.secret").read_bytes()
        assert "joined already" in call("wardround-site", "join", "--site", w.site("elm"), code=1)["error"]["reason"]
        assert (w.site("elm") / "keys" / "superexec.secret").read_bytes() == secret
        assert elm.stop() == 0

        # Revoked, its key never comes back.
        desk.revoke(deployment, "elm", now=datetime.now(UTC))
        assert settle(deployment, desk.node_keys(deployment)) == ["elm is no longer admitted with its former key"]
        with pytest.raises(RosterRefused, match="was registered before"):
            settle(deployment, {**desk.node_keys(deployment), "elm": Card.open(make_card(w.site("elm"), "elm")).node_key.encode()})
        assert up.stop() == 0
        wait_for(lambda: not w.left_over(), 30, "everything that was started has ended")
    tell(f"{len(answers)} requests with the coordinator's certificate alone: {dict(Counter(answers.values()))}")
