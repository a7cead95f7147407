"""The site's SuperNode: Flower's own, with one question in front of every run: did this hospital approve this bundle?

python -m client.deploy.supernode SITE PORT         (started and kept running by `wardround-site join`)

Flower asks its `trusted_entities` whether a bundle may run, but only bundles of its public hub carry such signatures. The two functions that
decide are replaced here: the answer comes from the SHA-256 that the hospital approved. Flower's release is pinned, and when those functions
are not the ones we know this program refuses to start.

Protects against: code that the hospital did not approve; the refusal stands in the audit log with the digest, and the coordinator is told
that the bundle is not approved, and nothing else. A reply that is lost because one of its parts had to be sent twice.
Does not protect against: other programs on this machine under the same user.
"""

import contextlib
import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supernode import start_client_internal as internal
from flwr.supernode.cli.flower_supernode import flower_supernode

from client.deploy.bundles import is_approved
from client.deploy.connection import load
from client.federate.egress import record_refusal
from client.hospital.identity import load_key, node_key_file
from common.errors import ConfigError, PolicyRefused, WardroundError
from common.journal import Journal
from common.storage import write_atomic

PORT_RANGE = range(1, 65536)
_VERIFY, _CONNECT = "_verify_fab", "http_request_response"
_KNOWN = {
    _VERIFY: ("fab", "trusted_entities"),
    _CONNECT: ("server_address", "insecure", "root_certificates", "authentication_keys", "max_retries", "max_wait_time"),
}


def guard(approved: Callable[[bytes], bool], refused: Callable[[str], None]) -> None:
    """Let Flower run a bundle only when `approved` says so of its bytes; `refused` gets the SHA-256 of the others, once each.

    Raises ConfigError when Flower is not the release this was written for.
    """
    for name, parameters in _KNOWN.items():
        found = getattr(internal, name, None)
        if found is None or tuple(inspect.signature(found).parameters) != parameters:
            raise ConfigError(f"this release of Flower has no `{name}` as we know it; install the pinned one (constraints.txt)")
    connect, told = getattr(internal, _CONNECT), set[str]()

    @contextlib.contextmanager
    def connection(*arguments: Any, **options: Any) -> Iterator[tuple[Any, ...]]:
        with connect(*arguments, **options) as calls:
            get_fab, push_object = calls[4], calls[6]

            def get_marked(fab_hash: str, run_id: int) -> Fab:
                fab: Fab = get_fab(fab_hash, run_id)
                # Without this word Flower answers for itself that the bundle cannot be verified, and never asks.
                fab.verifications["valid_license"] = "asked of the hospital"
                return fab

            def push_again(run_id: int, session_id: str, object_id: str, content: bytes) -> None:
                # "Not taken" is also what the coordinator says to a part that it has: the call was made twice because the first answer got lost.
                # Flower would drop the whole reply. If the part is really missing, the round's deadline finds out.
                with contextlib.suppress(ObjectPushError):
                    push_object(run_id, session_id, object_id, content)

            yield (*calls[:4], get_marked, calls[5], push_again, *calls[7:])

    def verify(fab: Fab, trusted_entities: dict[str, str]) -> bool:  # noqa: ARG001  # Flower's signature; nobody but the hospital is asked
        digest = hashlib.sha256(fab.content).hexdigest()
        # Flower stores and unpacks the bundle under the digest it was told: it must be that of these bytes.
        if fab.hash_str == digest and approved(fab.content):
            return True
        if digest not in told:
            told.add(digest)
            refused(digest)
        return False

    setattr(internal, _CONNECT, connection)
    setattr(internal, _VERIFY, verify)


def main() -> None:
    folder, port = Path(sys.argv[1]).absolute(), int(sys.argv[2])
    if port not in PORT_RANGE or '"' in str(folder):
        raise ConfigError(f"port {port} or folder {folder} cannot be used")
    connection = load(folder)
    audit = Journal.open(folder / "audit.jsonl")

    def refused(digest: str) -> None:
        reason = PolicyRefused(
            f"the coordinator sent bundle {digest}, which this hospital did not approve; look at it and run `wardround-site approve`"
        )
        # The bundle is refused whether or not there is room to write it down.
        with contextlib.suppress(WardroundError):
            record_refusal(audit, reason, "bundle", now=lambda: datetime.now(UTC))

    guard(lambda content: is_approved(folder, content), refused)
    sys.argv = [
        "flower-supernode", "--superlink", connection.invitation.address, "--root-certificates", str(connection.authority),
        "--auth-supernode-private-key", str(node_key_file(folder)), "--node-config", f'site-dir="{folder}"',
        "--trusted-entities", str(_entities(folder)), "--isolation", "process", "--superexec-auth-secret-file",
        str(folder / "keys" / "superexec.secret"), "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    os.chdir(folder)
    flower_supernode()


def _entities(folder: Path) -> Path:
    """Flower only asks when it knows somebody to ask: the hospital itself."""
    public = Ed25519PublicKey.from_public_bytes(load_key(folder).public.raw)
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    path = folder / "flower" / "trusted.yaml"
    write_atomic(path, f"hospital: '{line}'\n")
    return path


if __name__ == "__main__":
    try:
        main()
    except WardroundError as error:
        sys.stderr.write(f"wardround-site: {error}\n")
        sys.exit(1)
