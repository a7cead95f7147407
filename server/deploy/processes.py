"""What runs on the coordinator's machine: SuperLink, SuperExec and the proxy, each with every hardening it has.

SuperLink     loopback only, TLS, node authentication, a database file, process isolation, no installation of dependencies
SuperExec     starts the ServerApp; proves itself to the SuperLink with a secret, which no site and no other user has
proxy         the one port that the sites reach

Protects against: a site, or anybody with the certificate, that takes a run's task or token (without process isolation and the secret the
SuperLink gives them to whoever asks); the telemetry and update calls of Flower; packages installed while a study runs.
Does not protect against: other users of this machine with root rights, or a disk that is read elsewhere: put DIR on an encrypted one.
"""

import os
import secrets
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import tomli_w

from common.errors import ConfigError, StorageError
from common.storage import write_atomic
from common.supervisor import Program, Say, Supervisor, clean_environment
from server.deploy import certificates, proxy
from server.deploy.folder import SUPERLINK, Deployment
from server.launching import QUIET

START_SECONDS = 90.0


def environment(deployment: Deployment) -> dict[str, str]:
    """For everything of Flower's on this machine: its home in DIR, quiet, and no downloads of models."""
    return clean_environment({**QUIET, "FLWR_HOME": str(deployment.flower), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})


def programs(deployment: Deployment) -> list[Program]:
    """In the order in which they start."""
    flower, logs = environment(deployment), deployment.logs
    authority, secret = str(deployment.ca_certificate), str(deployment.superexec_secret)
    superlink = [
        _tool("flower-superlink"), "--host", "127.0.0.1", "--port", str(deployment.settings.superlink_port),
        "--ssl-certfile", str(deployment.tls / "server.crt"), "--ssl-keyfile", str(deployment.keys / "server.key"),
        "--ssl-ca-certfile", authority, "--enable-supernode-auth", "--database", str(deployment.state / "superlink.db"),
        "--isolation", "process", "--superexec-auth-secret-file", secret, "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    superexec = [
        _tool("flower-superexec"), "--runtime-api-address", deployment.superlink_address, "--root-certificates", authority,
        "--superexec-auth-secret-file", secret,
    ]  # fmt: skip
    return [
        Program("superlink", superlink, flower, logs / "superlink.log"),
        Program("superexec", superexec, flower, logs / "superexec.log"),
        Program("proxy", proxy.command(deployment), clean_environment({}), logs / "proxy.log"),
    ]


def write_flower_home(deployment: Deployment) -> None:
    """Flower's config.toml, which knows this SuperLink and no other, and the SuperExec's secret."""
    tree = {
        "superlink": {
            "default": SUPERLINK,
            SUPERLINK: {"address": deployment.superlink_address, "root-certificates": str(deployment.ca_certificate)},
        }
    }
    write_atomic(deployment.flower / "config.toml", tomli_w.dumps(tree))
    if not deployment.superexec_secret.exists():
        write_atomic(deployment.superexec_secret, secrets.token_bytes(32))


def prepare(deployment: Deployment, *, now: datetime | None = None) -> list[str]:
    """Write every generated file anew, renew the certificate when it is due, and check what can be checked. Returns what was done.

    Raises ConfigError or StorageError with the remedy: nginx missing or not content, a port that is taken, a file that others may read.
    """
    moment, done = now or datetime.now(UTC), []
    if not (deployment.tls / "server.crt").exists() or certificates.days_left(deployment, now=moment) < certificates.RENEW_DAYS:
        certificates.renew_server(deployment, now=moment)
        done.append(f"the server certificate is renewed, for {certificates.SERVER_DAYS} days")
    write_flower_home(deployment)
    proxy.write_config(deployment)
    proxy.check_config(deployment)
    for path in sorted(deployment.keys.iterdir()):
        if path.stat().st_mode & 0o077:
            raise StorageError(f"{path}: other users of this machine may read it; run: chmod 600 {path}")
    for address, port in (("127.0.0.1", deployment.settings.superlink_port), (deployment.settings.listen, deployment.settings.port)):
        _require_free(address, port)
    return done


def start(deployment: Deployment, say: Say) -> Supervisor:
    """Start everything and wait until the SuperLink answers. Raises StorageError when it does not; then everything is stopped again."""
    supervisor = Supervisor(programs(deployment), say)
    supervisor.start()
    deadline = time.monotonic() + START_SECONDS
    while not is_listening(deployment):
        if time.monotonic() > deadline or "superlink" not in supervisor.running():
            supervisor.stop()
            supervisor.run()
            raise StorageError(f"the SuperLink does not answer on {deployment.superlink_address}; read {deployment.logs / 'superlink.log'}")
        time.sleep(0.2)
    return supervisor


def is_listening(deployment: Deployment) -> bool:
    """Whether something takes connections on the SuperLink's port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", deployment.settings.superlink_port)) == 0


def _require_free(address: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            raise ConfigError(
                f"port {port} needs root rights; choose one above 1023 in coordinator.toml, or give nginx CAP_NET_BIND_SERVICE"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{address}:{port} cannot be used ({os.strerror(error.errno or 0)}); is `up` running already? Or change the port in coordinator.toml"
            ) from None


def _tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)
