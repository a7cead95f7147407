"""Commands of a deployment: found it, keep its roster, build its bundle, run it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from common.console import print_json, say
from common.errors import ConfigError, StorageError
from common.journal import JSON
from common.secure.roster import Roster
from common.storage import write_atomic
from server.deploy import bundle as bundles
from server.deploy import desk
from server.deploy.folder import SUPERLINK, Deployment, Settings
from server.deploy.nodes import settle
from server.deploy.processes import environment, is_listening, prepare, start
from server.example import example_study

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
roster_app = typer.Typer(
    help="The sites of the consortium and their keys; each change is a version that every site pins.", no_args_is_help=True
)
app.add_typer(roster_app, name="roster")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DeploymentFolder = Annotated[
    Path | None, typer.Option("--deployment", metavar="DIR", envvar="WARDROUND_COORDINATOR", help="The folder that `init --host` made.")
]
DeploymentDir = Annotated[
    Path, typer.Option("--deployment", metavar="DIR", envvar="WARDROUND_COORDINATOR", help="The folder that `init --host` made.")
]
CardFile = Annotated[Path, typer.Argument(metavar="CARD", help="The site's card, compared by its words.")]
SiteName = Annotated[str, typer.Argument(metavar="SITE", help="The site's name.")]


RECOVERY_SECONDS, SETTLE_SECONDS = 600.0, 10.0


@dataclass(frozen=True, slots=True)
class Link:
    """Where a line is sent: the SuperLink's name, the app's folder, and the environment of `flwr` (None: this process's)."""

    superlink: str
    app: Path
    environment: Mapping[str, str] | None
    deployment: Deployment | None = None

    def wait_until_up(self) -> bool:
        """Whether there is a deployment whose SuperLink answers, within RECOVERY_SECONDS."""
        if self.deployment is None:
            return False
        deadline = time.monotonic() + RECOVERY_SECONDS
        time.sleep(SETTLE_SECONDS)  # the sites' nodes come back by themselves, a few seconds after the SuperLink
        while not is_listening(self.deployment):
            if time.monotonic() > deadline:
                return False
            time.sleep(1.0)
        return True


def link(folder: Path | None, superlink: str, source: Path) -> Link:
    """The deployment's own SuperLink and bundle when there is a deployment, else what the caller named."""
    if folder is None:
        return Link(superlink, source.resolve(), None)
    deployment = Deployment.open(folder)
    if not (deployment.app / "pyproject.toml").exists():
        raise ConfigError(f"{deployment.app}: no bundle yet; run `wardround-coordinator bundle` and let the sites approve it")
    if not is_listening(deployment):
        raise StorageError(f"the SuperLink on {deployment.superlink_address} does not answer; start it with `wardround-coordinator up`")
    return Link(SUPERLINK, deployment.app, environment(deployment), deployment)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    host: Annotated[str | None, typer.Option("--host", help="The name or address by which the sites reach this machine.")] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The one port that the sites reach.")] = 8443,
    superlink_port: Annotated[int, typer.Option("--superlink-port", min=1, max=65535, help="A loopback port for the SuperLink.")] = 18443,
    listen: Annotated[str, typer.Option("--listen", help="The address that the proxy listens on.")] = "0.0.0.0",  # noqa: S104  # the sites' way in
    consortium: Annotated[str, typer.Option("--consortium", help="A name for these hospitals together.")] = "consortium",
    as_json: Json = False,
) -> None:
    """Write DIR/study.toml, an example with every key; with --host also keys, certificates, roster, invitation and units of a deployment."""
    if host is None:
        path = example_study(folder)
        if as_json:
            print_json({"study": str(path)})
        else:
            say(f"wrote {path}; edit it, then run: wardround-coordinator launch {path} --dry-run")
        return
    given = {"consortium": consortium, "host": host, "port": port, "superlink_port": superlink_port, "listen": listen}
    try:
        settings = Settings.checked(given)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    deployment = desk.found(folder, settings, now=datetime.now(UTC))
    study = folder / "study.toml"
    if not study.exists():
        example_study(folder)
    words = desk.open_invitation(deployment).fingerprint
    if as_json:
        print_json(
            {"study": str(study), "deployment": str(deployment.path), "invitation": str(deployment.invitation_file), "fingerprint": words}
        )
        return
    say(
        f"the deployment is in {deployment.path}; keep a copy of {deployment.keys} in a safe place, and {deployment.state} on an encrypted disk"
    )
    say(f"send {deployment.invitation_file} to every site, and read them these words over the telephone:\n{words}")


@app.command()
def bundle(
    folder: DeploymentDir = Path(),
    source: Annotated[Path, typer.Option("--app", help="Folder with Wardround's pyproject.toml.")] = Path(),
    as_json: Json = False,
) -> None:
    """Build the app bundle that the sites approve: DIR/wardround.fab and its SHA-256."""
    deployment = Deployment.open(folder)
    data = bundles.build(source)
    bundles.unpack(data, deployment.app)
    data, path = bundles.build(deployment.app), deployment.path / "wardround.fab"
    write_atomic(path, data, mode=0o644)
    if as_json:
        print_json({"bundle": str(path), "sha256": bundles.digest(data)})
    else:
        say(f"{path}: send it to every site; its SHA-256 is\n{bundles.digest(data)}")


@app.command()
def up(
    folder: DeploymentDir = Path(),
    check: Annotated[bool, typer.Option("--check", help="Write and check every configuration file; start nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run the SuperLink, hardened and on loopback, and the TLS proxy in front of it, until stopped. What dies is started again."""
    deployment = Deployment.open(folder)
    done = prepare(deployment)
    if check:
        if as_json:
            print_json({"deployment": str(deployment.path), "done": list(done)})
        else:
            say("\n".join([*done, "every configuration file is written and holds; `up` starts it"]))
        return

    def tell(sentence: str) -> None:
        typer.echo(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {sentence}", err=True)

    supervisor = start(deployment, tell)
    supervisor.stop_on_signals()
    try:
        for sentence in (*done, *settle(deployment, desk.node_keys(deployment)), f"{deployment.address} is open to the sites"):
            tell(sentence)
    except BaseException:
        supervisor.stop()
        raise
    finally:
        supervisor.run()
    if as_json:
        print_json({"stopped": True})


@roster_app.command()
def add(card: CardFile, folder: DeploymentDir = Path(), as_json: Json = False) -> None:
    """Admit a site by its card, in the next version of the roster."""
    deployment = Deployment.open(folder)
    _changed(deployment, desk.admit(deployment, _read(card), now=datetime.now(UTC)), as_json)


@roster_app.command()
def rotate(
    card: CardFile,
    folder: DeploymentDir = Path(),
    voucher: Annotated[
        str | None,
        typer.Option("--voucher", metavar="HEX", help="The former key's word for the new one, as the site's `rotate` printed it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a site the new key of its card."""
    deployment = Deployment.open(folder)
    try:
        vouched = None if voucher is None else bytes.fromhex(voucher)
    except ValueError:
        raise typer.BadParameter("hex digits, as `wardround-site rotate` printed them", param_hint="--voucher") from None
    _changed(deployment, desk.exchange_key(deployment, _read(card), vouched, now=datetime.now(UTC)), as_json)


@roster_app.command()
def revoke(site: SiteName, folder: DeploymentDir = Path(), as_json: Json = False) -> None:
    """Take a site out; its key can never come back, and its node is turned away at once."""
    deployment = Deployment.open(folder)
    _changed(deployment, desk.revoke(deployment, site, now=datetime.now(UTC)), as_json)


@roster_app.command()
def renew(
    folder: DeploymentDir = Path(),
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How long the next version is valid.")] = desk.ROSTER_DAYS,
    as_json: Json = False,
) -> None:
    """The same sites and keys, valid for longer."""
    deployment = Deployment.open(folder)
    _changed(deployment, desk.renew(deployment, days, now=datetime.now(UTC)), as_json)


@roster_app.command()
def show(folder: DeploymentDir = Path(), as_json: Json = False) -> None:
    """The current version: who is in it, and its fingerprint in words."""
    deployment = Deployment.open(folder)
    _show(deployment, desk.current_roster(deployment), [], as_json)


def _changed(deployment: Deployment, roster: Roster, as_json: bool) -> None:
    # A SuperLink that is down learns it when `up` starts it.
    done = settle(deployment, desk.node_keys(deployment)) if is_listening(deployment) else []
    _show(deployment, roster, done, as_json)


def _show(deployment: Deployment, roster: Roster, done: list[str], as_json: bool) -> None:
    if as_json:
        sites: dict[str, JSON] = {member.site: member.key.fingerprint for member in roster.members}
        print_json(
            {
                "roster": str(deployment.roster_file),
                "version": roster.version,
                "fingerprint": roster.fingerprint,
                "expires": roster.expires.isoformat(),
                "sites": sites,
                "done": list(done),
            }
        )
        return
    say(f"consortium {roster.consortium}, version {roster.version}, valid until {roster.expires:%Y-%m-%d}")
    for member in roster.members:
        say(f"  {member.site}: {member.key.fingerprint}")
    for sentence in done:
        say(sentence)
    say(f"send {deployment.roster_file} to every site; they pin it when they all read these words:\n{roster.fingerprint}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from None
