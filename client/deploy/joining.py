"""A site's programs: the SuperNode and the SuperExec that starts the app for each message. Outbound traffic goes to one port, and nothing else.

Protects against: a SuperNode that dies or loses its connection (it is started again, never too early for the coordinator's heartbeat);
other users of this machine who ask the SuperNode for tasks (a secret that only the SuperExec has); downloads by the app.
Does not protect against: a machine that is switched off; the round then closes without this site.
"""

import re
import secrets
import socket
import sys
from pathlib import Path

from client.deploy.bundles import approved_bundle
from client.deploy.connection import Connection, load
from client.hospital.identity import load_key, node_key_file, pinned_roster
from common.errors import ConfigError, RosterRefused
from common.storage import storage_errors, write_atomic
from common.supervisor import Program, clean_environment

REJOIN_SECONDS = 15.0
"""The coordinator takes a node for present until its heartbeat is missed twice (about a minute), and refuses a second one until then."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}

_REASONS = (
    (r"code: 2004|code: 2001", "the coordinator does not admit this site now: its card is not registered there, or its former connection has not lapsed yet"),
    # On a refused heartbeat Flower's node ends itself without a word.
    (r"401 Unauthorized|terminated gracefully", "the coordinator refuses this site's signature: the clock here is wrong, or the node's key was changed or withdrawn"),
    (r"CERTIFICATE_VERIFY_FAILED", "the certificate shown at that address is not the coordinator's"),
    (r"403 Forbidden", "the coordinator's proxy refuses the call; both sides need the same release of Wardround"),
    (r"Connection refused|ConnectError|Name or service not known|timed out|502 Bad Gateway", "the coordinator cannot be reached"),
)  # fmt: skip


def require_ready(folder: Path) -> Connection:
    """The connection, when everything is there that a node needs. Raises the error of the first thing that is missing."""
    connection = load(folder)
    load_key(folder)
    node_key_file(folder)
    roster = pinned_roster(folder)
    if roster is None:
        raise RosterRefused("no roster is pinned; compare the words of the coordinator's roster and run `wardround-site roster pin FILE`")
    if (roster.consortium, roster.coordinator) != (connection.invitation.consortium, connection.invitation.coordinator):
        raise RosterRefused("the pinned roster and the invitation are of different coordinators")
    if approved_bundle(folder) is None:
        raise ConfigError("no bundle is approved; look at the coordinator's bundle with `wardround-site approve BUNDLE`")
    return connection


def programs(folder: Path, connection: Connection) -> list[Program]:
    """SuperNode and SuperExec of the site in `folder` (absolute), on a free loopback port."""
    port = _free_port()
    secret = folder / "keys" / "superexec.secret"
    write_atomic(secret, secrets.token_bytes(32))
    with storage_errors(folder, "create the folder of Flower"):
        (folder / "flower").mkdir(mode=0o700, exist_ok=True)
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
    quiet = {**QUIET, "FLWR_HOME": str(folder / "flower")}
    # Only the SuperNode talks to the world, so only it hears of the proxy; the app that sees patients has no way out.
    outward = {"HTTPS_PROXY": connection.proxy, "NO_PROXY": "127.0.0.1,localhost"} if connection.proxy else {}
    node = [sys.executable, "-m", "client.deploy.supernode", str(folder), str(port)]
    superexec = [
        str(Path(sys.executable).parent / "flower-superexec"), "--insecure", "--runtime-api-address", f"127.0.0.1:{port}",
        "--superexec-auth-secret-file", str(secret),
    ]  # fmt: skip
    environment = clean_environment(quiet)
    return [
        Program("supernode", node, {**environment, **outward}, folder / "logs" / "supernode.log", REJOIN_SECONDS),
        Program("superexec", superexec, environment, folder / "logs" / "superexec.log"),
    ]


def reason(log: Path) -> str:
    """Why the SuperNode ended, in words for the IT desk, from the end of its log; Flower's own words stay in the log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            tail = file.read().decode("utf-8", "replace")
    except OSError:
        tail = ""
    found = [(match.end(), sentence) for pattern, sentence in _REASONS for match in re.finditer(pattern, tail)]
    return max(found)[1] if found else f"read the end of {log}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
