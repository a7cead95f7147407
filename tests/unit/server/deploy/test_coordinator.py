"""A deployment on paper: what is generated is hardened in every point, and rosters and certificates follow."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from client.deploy.units import write_units as write_site_units
from client.hospital.identity import make_card, make_keys, rotate
from common.errors import ConfigError, RosterRefused, StorageError
from common.secure.roster import open_roster
from common.units import SANDBOX
from server.deploy import certificates, desk
from server.deploy.folder import Deployment, Settings
from server.deploy.processes import prepare, programs
from server.deploy.proxy import FLEET_CALLS, check_config, write_config
from tests.helpers.deployment import free_port, need_nginx

NOW = datetime.now(UTC)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    settings = Settings(consortium="north", host="wr.example", listen="127.0.0.1", port=free_port(), superlink_port=free_port())
    return desk.found(tmp_path / "desk", settings, now=NOW)


def test_every_hardening_is_on(deployment: Deployment) -> None:
    need_nginx()
    superlink, superexec, proxy = programs(deployment)
    line = " ".join(superlink.command)
    for option in ("--host 127.0.0.1", "--enable-supernode-auth", "--isolation process", "--superexec-auth-secret-file", "--database /",
                   "--ssl-certfile", "--disable-runtime-dependency-installation"):  # fmt: skip
        assert option in line, option
    assert "--insecure" not in " ".join((*superlink.command, *superexec.command))
    for program in (superlink, superexec):
        assert (program.environment["FLWR_TELEMETRY_ENABLED"], program.environment["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")
        assert program.environment["HF_HUB_OFFLINE"] == "1"
    assert proxy.command[-1] == "daemon off;"
    for path in deployment.keys.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_proxy_knows_the_calls_of_a_node_and_no_other(deployment: Deployment) -> None:
    need_nginx()
    text = write_config(deployment).read_text()
    check_config(deployment)
    assert text.count("proxy_pass") == 1
    assert f"({'|'.join(FLEET_CALLS)})" in text
    assert "register-node" not in text
    assert "return 403" in text
    assert "ssl_protocols TLSv1.3;" in text


def test_flower_has_no_call_that_the_proxy_should_know() -> None:
    """The list is Flower's own, less the two with which a stranger would register itself."""
    import flwr.superlink.routers.fleet.router as router

    source = Path(router.__file__).read_text()
    assert set(re.findall(r'@router\.post\("/([a-z-]+)"\)', source)) - {"register-node", "unregister-node"} == set(FLEET_CALLS)


def test_certificates_chain_and_renew(deployment: Deployment) -> None:
    authority = x509.load_pem_x509_certificate(deployment.ca_certificate.read_bytes())
    server = x509.load_pem_x509_certificate((deployment.tls / "server.crt").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "wr.example"}
    assert certificates.days_left(deployment, now=NOW) in (396, 397)
    certificates.renew_server(deployment, now=NOW + timedelta(days=380))
    assert certificates.days_left(deployment, now=NOW + timedelta(days=380)) in (396, 397)


def test_up_renews_a_certificate_that_lapses_and_refuses_readable_keys(deployment: Deployment) -> None:
    need_nginx()
    assert prepare(deployment, now=NOW) == []
    assert "renewed" in prepare(deployment, now=NOW + timedelta(days=370))[0]
    (deployment.keys / "ca.key").chmod(0o644)
    with pytest.raises(StorageError, match="chmod 600"):
        prepare(deployment, now=NOW)


def test_a_deployment_is_never_written_over(deployment: Deployment) -> None:
    with pytest.raises(StorageError, match="is there already"):
        desk.found(deployment.path, deployment.settings, now=NOW)
    (deployment.path / "coordinator.toml").write_text('consortium = "north"\nhost = "wr.example"\nprot = 1\n')
    with pytest.raises(ConfigError, match="prot"):
        Deployment.open(deployment.path)


def test_sites_are_admitted_rotated_and_revoked(deployment: Deployment, tmp_path: Path) -> None:
    for name in ("ash", "birch"):
        make_keys(tmp_path / name)
        desk.admit(deployment, make_card(tmp_path / name, name), now=NOW)
    assert set(desk.node_keys(deployment)) == {"ash", "birch"}
    with pytest.raises(RosterRefused, match="in the roster already"):
        desk.admit(deployment, make_card(tmp_path / "ash", "ash"), now=NOW)
    before = desk.node_keys(deployment)["ash"]
    rotate(tmp_path / "ash", "ash")
    desk.exchange_key(deployment, make_card(tmp_path / "ash", "ash"), None, now=NOW)
    assert desk.node_keys(deployment)["ash"] != before
    roster = desk.revoke(deployment, "birch", now=NOW)
    assert (roster.version, roster.sites) == (5, ("ash",))
    assert open_roster(deployment.roster_file.read_bytes()) == roster
    with pytest.raises(RosterRefused, match="retired"):
        desk.admit(deployment, make_card(tmp_path / "birch", "birch"), now=NOW)


def test_sites_that_are_admitted_at_the_same_time_all_stay(deployment: Deployment, tmp_path: Path) -> None:
    """Without the lock two rosters of one version would be signed, and one site would be lost."""
    names = [f"site-{number}" for number in range(8)]
    for name in names:
        make_keys(tmp_path / name)
    cards = [make_card(tmp_path / name, name) for name in names]
    with ThreadPoolExecutor(len(cards)) as together:
        versions = [roster.version for roster in together.map(lambda card: desk.admit(deployment, card, now=NOW), cards)]
    assert sorted(versions) == list(range(2, 10))
    assert desk.current_roster(deployment).sites == tuple(names)


def test_units_are_sandboxed(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    texts = [path.read_text() for path in (*deployment.units.glob("*.service"), write_site_units(tmp_path / "site")[0])]
    assert len(texts) == 3
    for text in texts:
        assert SANDBOX in text
        assert "User=wardround" in text
    container = (deployment.units / "Containerfile").read_text()
    assert "--no-index" in container
    assert "--require-hashes" in container
    assert "sha256sum --check" in container
    assert "USER wardround" in container
