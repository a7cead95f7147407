"""The coordinator's deployment on disk: where everything lies, and the few settings a person may change.

DIR/coordinator.toml     consortium, host, ports           DIR/study.toml     an example study
DIR/keys/                coordinator.key, superexec.secret, ca.key, server.key: readable by the owner alone
DIR/tls/                 ca.crt, server.crt                DIR/roster.json    the signed roster, and DIR/sites/ what each site sent
DIR/flower/              Flower's home                     DIR/state/         the SuperLink's database, on an encrypted disk
DIR/proxy/nginx.conf     DIR/units/                        DIR/invitation.json what every site gets
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.errors import ConfigError, StorageError
from common.storage import storage_errors, write_atomic

SETTINGS_FILE = "coordinator.toml"
SUPERLINK = "wardround"
"""The SuperLink's name in Flower's config.toml of this deployment."""

HOST = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*")
MAX_HOST = 253
CONSORTIUM = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
Port = Annotated[int, Field(ge=1, le=65535)]


def _a_name(value: str) -> str:
    if not CONSORTIUM.fullmatch(value):
        raise ValueError("use at most 63 of a-z, 0-9 and -, beginning with a letter or digit")
    return value


def _a_host(value: str) -> str:
    if len(value) > MAX_HOST or not HOST.fullmatch(value):
        raise ValueError("a name or an IPv4 address, without a port")
    return value


def _an_address(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError("an IPv4 address of this machine, or 0.0.0.0 for all of them") from None


class Settings(BaseModel):
    """coordinator.toml. `port` is the only one that the sites reach; the SuperLink listens on the loopback address alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    consortium: Annotated[str, AfterValidator(_a_name)]
    host: Annotated[str, AfterValidator(_a_host)]
    listen: Annotated[str, AfterValidator(_an_address)] = "0.0.0.0"  # noqa: S104  # the proxy's face to the sites; nothing else listens there
    port: Port = 8443
    superlink_port: Port = 18443

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.port == self.superlink_port:
            raise ValueError(f"port and superlink_port are both {self.port}; the proxy and the SuperLink need one each")
        return self

    @classmethod
    def checked(cls, tree: Mapping[str, object]) -> Self:
        """Raises ConfigError naming each key that is wrong, and what it may be."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False)
            told = (f"`{'.'.join(map(str, e['loc']))}`: {e['msg']}" if e["loc"] else str(e["msg"]) for e in problems)
            raise ConfigError("; ".join(one.replace("Value error, ", "") for one in told)) from None


@dataclass(frozen=True, slots=True)
class Deployment:
    path: Path
    settings: Settings

    @classmethod
    def create(cls, path: Path, settings: Settings) -> Self:
        """Lay the folders out. Raises StorageError when a deployment is there already."""
        if (path / SETTINGS_FILE).exists():
            raise StorageError(
                f"{path / SETTINGS_FILE}: a deployment is there already; choose another folder, or edit this file and run `up`"
            )
        made = cls(path, settings)
        with storage_errors(path, "create the folders"):
            path.mkdir(parents=True, exist_ok=True)
            for folder in (made.keys, made.flower, made.state):
                folder.mkdir(mode=0o700, exist_ok=True)
            for folder in (made.tls, made.proxy, made.logs, made.sites, made.units):
                folder.mkdir(exist_ok=True)
        write_atomic(path / SETTINGS_FILE, tomli_w.dumps(settings.model_dump()), mode=0o644)
        return made

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises StorageError when there is none, ConfigError naming the key that is wrong."""
        file = path.absolute() / SETTINGS_FILE
        try:
            tree = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StorageError(f"{file}: there is no deployment here; run `wardround-coordinator init {path} --host NAME` first") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{file}: cannot be read ({type(error).__name__})") from None
        try:
            return cls(path.absolute(), Settings.checked(tree))
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from None

    @property
    def address(self) -> str:
        """Where the sites connect to, as host:port."""
        return f"{self.settings.host}:{self.settings.port}"

    @property
    def superlink_address(self) -> str:
        return f"127.0.0.1:{self.settings.superlink_port}"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def tls(self) -> Path:
        return self.path / "tls"

    @property
    def flower(self) -> Path:
        return self.path / "flower"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def proxy(self) -> Path:
        return self.path / "proxy"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def sites(self) -> Path:
        return self.path / "sites"

    @property
    def units(self) -> Path:
        return self.path / "units"

    @property
    def app(self) -> Path:
        """The files of the app bundle."""
        return self.path / "app"

    @property
    def superexec_secret(self) -> Path:
        return self.keys / "superexec.secret"

    @property
    def ca_certificate(self) -> Path:
        return self.tls / "ca.crt"

    @property
    def roster_file(self) -> Path:
        return self.path / "roster.json"

    @property
    def invitation_file(self) -> Path:
        return self.path / "invitation.json"
