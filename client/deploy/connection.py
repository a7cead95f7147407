"""Where this site connects to: the coordinator's invitation, and the hospital's own web proxy if it has one.

SITE/invitation.json   as the coordinator signed it        SITE/authority.crt   the certificate authority out of it
SITE/connection.toml   proxy = "http://proxy.hospital.example:3128"

Protects against: any other machine in the coordinator's place: TLS is checked against this one authority, and no other.
Does not protect against: an invitation that nobody compared by its words.
"""

import re
import socket
import ssl
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import tomli_w

from common.errors import ConfigError, RosterRefused, StorageError
from common.secure.introductions import Invitation
from common.storage import write_atomic

INVITATION_FILE, AUTHORITY_FILE, CONNECTION_FILE = "invitation.json", "authority.crt", "connection.toml"
REACH_SECONDS = 20.0
_PROXY = re.compile(r"http://[A-Za-z0-9.-]{1,253}:[0-9]{1,5}/?")


@dataclass(frozen=True, slots=True)
class Connection:
    """`proxy` is an HTTP proxy that takes CONNECT; it sees the coordinator's address and sealed bytes."""

    folder: Path
    invitation: Invitation
    proxy: str | None

    @property
    def authority(self) -> Path:
        return self.folder / AUTHORITY_FILE


@dataclass(frozen=True, slots=True)
class Reached:
    """What one greeting of the coordinator's port showed: how far its clock is ahead of ours, and when its certificate lapses."""

    clock_ahead_seconds: float
    certificate_until: datetime


def accept(folder: Path, data: bytes, *, proxy: str | None) -> Connection:
    """Keep an invitation. Raises RosterRefused for a file that does not hold, or one of another coordinator than the site has; ConfigError for the proxy."""
    invitation = Invitation.open(data)
    if (folder / INVITATION_FILE).exists():
        known = load(folder).invitation
        if (known.consortium, known.coordinator) != (invitation.consortium, invitation.coordinator):
            raise RosterRefused(
                f"this site belongs to consortium {known.consortium}; an invitation of another coordinator needs a site of its own"
            )
    _require_proxy(proxy)
    write_atomic(folder / CONNECTION_FILE, tomli_w.dumps({} if proxy is None else {"proxy": proxy}))
    write_atomic(folder / AUTHORITY_FILE, invitation.authority, mode=0o644)
    write_atomic(folder / INVITATION_FILE, data, mode=0o644)
    return Connection(folder, invitation, proxy)


def load(folder: Path) -> Connection:
    """Raises StorageError when this site was never invited, RosterRefused or ConfigError when a file was changed."""
    try:
        invitation = Invitation.open((folder / INVITATION_FILE).read_bytes())
        settings = tomllib.loads((folder / CONNECTION_FILE).read_text(encoding="utf-8"))
        authority = (folder / AUTHORITY_FILE).read_text(encoding="ascii")
    except FileNotFoundError:
        raise StorageError(
            f"{folder / INVITATION_FILE}: this site has no invitation; run `wardround-site join --invitation FILE` with the coordinator's file"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{folder / CONNECTION_FILE}: cannot be read ({type(error).__name__})") from None
    unknown = set(settings) - {"proxy"}
    if unknown:
        raise ConfigError(f"{folder / CONNECTION_FILE}: unknown key `{min(unknown)}`; only `proxy` stands there")
    if authority != invitation.authority:
        raise RosterRefused(f"{folder / AUTHORITY_FILE}: not the authority of the invitation; delete it and take the invitation again")
    _require_proxy(settings.get("proxy"))
    return Connection(folder, invitation, settings.get("proxy"))


def greet(connection: Connection, *, now: datetime | None = None) -> Reached:
    """Open TLS to the coordinator's port, through the proxy if there is one, and ask for nothing: the proxy answers 403 with its time.

    Raises ConfigError saying what failed (name, connection, certificate), and what to ask of whom.
    """
    invitation = connection.invitation
    context = ssl.create_default_context(cadata=invitation.authority)
    # Only this authority: create_default_context loads no public one when it is given data.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    where = f"{invitation.address}" + (f" through {connection.proxy}" if connection.proxy else "")
    try:
        if connection.proxy:
            parts = urlsplit(connection.proxy)
            link = HTTPSConnection(str(parts.hostname), parts.port, context=context, timeout=REACH_SECONDS)
            link.set_tunnel(invitation.host, invitation.port)
        else:
            link = HTTPSConnection(invitation.host, invitation.port, context=context, timeout=REACH_SECONDS)
        try:
            link.connect()
            shown = link.sock.getpeercert() or {}
            link.request("HEAD", "/")
            answer = link.getresponse()
            moment = now or datetime.now(UTC)
            told = parsedate_to_datetime(answer.headers["Date"])
        finally:
            link.close()
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"{where}: the certificate shown there is not the coordinator's ({error.verify_message}); "
            "a device that opens TLS may stand in between: exempt this address from it, or check this machine's clock"
        ) from None
    except socket.gaierror:
        raise ConfigError(
            f"{where}: no such name; ask your network desk for its DNS entry, or the coordinator for an invitation with another address"
        ) from None
    except (OSError, HTTPException, KeyError, TypeError, ValueError) as error:
        remedy = (
            "the web proxy must answer at that address and let this machine CONNECT to the coordinator's"
            if connection.proxy
            else f"outbound TCP to port {invitation.port} must be open, or give your web proxy with --proxy"
        )
        raise ConfigError(f"{where}: no TLS connection ({type(error).__name__}); {remedy}, and the coordinator's `up` must run") from None
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
    return Reached((told - moment).total_seconds(), until)


def _require_proxy(proxy: object) -> None:
    if proxy is not None and not (isinstance(proxy, str) and _PROXY.fullmatch(proxy)):
        raise ConfigError(
            "a proxy is written as http://HOST:PORT, without name or password; let the proxy admit this machine by its address"
        )
