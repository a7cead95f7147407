"""What a hospital's IT desk is told when the coordinator cannot be reached, and when it is sent the wrong file."""

import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.deploy.connection import accept, greet
from client.hospital.identity import make_keys, pin_roster
from common.errors import ConfigError, RosterRefused
from common.secure.introductions import Card, Invitation
from server.deploy import desk
from server.deploy.folder import Deployment, Settings
from tests.helpers.deployment import free_port


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    settings = Settings(consortium="north", host="127.0.0.1", port=free_port(), superlink_port=free_port())
    return desk.found(tmp_path / "desk", settings, now=datetime.now(UTC))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    make_keys(tmp_path / "ash")
    return tmp_path / "ash"


def test_nobody_answers(deployment: Deployment, site: Path) -> None:
    port = deployment.settings.port
    connection = accept(site, deployment.invitation_file.read_bytes(), proxy=None)
    with pytest.raises(
        ConfigError, match=rf"127.0.0.1:{port}: no TLS connection .* outbound TCP to port {port} must be open.*`up` must run"
    ):
        greet(connection)


def test_the_web_proxy_does_not_answer(deployment: Deployment, site: Path) -> None:
    connection = accept(site, deployment.invitation_file.read_bytes(), proxy=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ConfigError, match=r"through http://127.0.0.1:.*the web proxy must answer at that address"):
        greet(connection)


def test_something_else_listens_there(deployment: Deployment, site: Path) -> None:
    with socket.create_server(("127.0.0.1", deployment.settings.port)) as server:
        server.settimeout(10)
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        with pytest.raises(ConfigError, match="no TLS connection"):
            greet(accept(site, deployment.invitation_file.read_bytes(), proxy=None))


@pytest.mark.parametrize("proxy", ["https://proxy:3128", "http://user:word@proxy:3128", "proxy:3128", "http://proxy"])
def test_how_a_proxy_is_written(deployment: Deployment, site: Path, proxy: str) -> None:
    with pytest.raises(ConfigError, match="http://HOST:PORT, without name or password"):
        accept(site, deployment.invitation_file.read_bytes(), proxy=proxy)
    assert not (site / "connection.toml").exists(), "nothing is kept of what was refused"


def test_one_file_in_the_place_of_another_is_named(deployment: Deployment, site: Path) -> None:
    roster, invitation = deployment.roster_file.read_bytes(), deployment.invitation_file.read_bytes()
    with pytest.raises(RosterRefused, match=r"this is no roster of this version of Wardround .*ask the coordinator for roster.json again"):
        pin_roster(site, "ash", invitation, now=datetime.now(UTC))
    with pytest.raises(RosterRefused, match="this is no invitation of this version"):
        accept(site, roster, proxy=None)
    for read, data in ((Card.open, roster), (Invitation.open, b"\x00")):
        with pytest.raises(RosterRefused, match=r"this is no (card|invitation) of this version"):
            read(data)
