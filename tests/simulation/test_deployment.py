"""A coordinator and hospitals as real processes over TLS: what a stranger may do, and what is refused and why.

The studies with faults are in test_deployment_faults.py. The figures are printed (pytest -s).
"""

import socket
import ssl
import sys
from collections import Counter
from pathlib import Path

import psutil

from client.deploy.connection import accept, greet
from server.deploy import desk
from server.deploy.folder import Deployment
from server.deploy.nodes import nodes, settle
from tests.helpers.deployment import World, wait_for, world


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

        # Unprotected twin: without the proxy the same calls reach the SuperLink, which answers them (it has no login).
        inner = Deployment.open(w.desk).settings.superlink_port
        assert ask(w, "/openapi.json", method="GET", port=inner) == 200
        assert ask(w, "/v1/control/list-runs", port=inner) != 403
        answers = {path: ask(w, path) for path in STRANGER} | {
            "GET " + path: ask(w, path, method="GET") for path in ("/docs", "/v1/fleet/pull-messages")
        }
        assert set(answers.values()) == {403}, answers
        # The SuperLink itself is not open to the network, and asks the SuperExec for its secret.
        assert {c.laddr.ip for p in up.family() for c in p.net_connections("inet") if c.status == "LISTEN" and c.laddr.port == inner} == {
            "127.0.0.1"
        }
        assert ask(w, "/v1/runtime/acquire-task", port=inner) in (400, 401, 403, 422)

        # A site that reaches the port with a node key the coordinator never registered is told so, and starts again later.
        deployment = Deployment.open(w.desk)
        settle(deployment, {})
        ash = w.join("ash")
        wait_for(lambda: "supernode ended" in ash.text(), 120, "the refusal")
        assert "its card is not registered there" in ash.text(), ash.text()
        assert [node.state for node in nodes(deployment)] == []

        # The same site, once it is admitted, joins by itself.
        settle(deployment, desk.node_keys(deployment))
        w.wait_joined("ash", seconds=120)
        assert [(node.site, node.state) for node in nodes(deployment)] == [("ash", "online")]
        reached = greet(accept(w.site("ash"), deployment.invitation_file.read_bytes(), proxy=None))
        assert abs(reached.clock_ahead_seconds) < 3
        assert ash.stop() == 0
        assert up.stop() == 0
        assert not [p for p in psutil.process_iter() if str(tmp_path) in " ".join(p.cmdline())], "everything that was started has ended"
    tell(f"{len(answers)} requests with the coordinator's certificate alone: {dict(Counter(answers.values()))}")
