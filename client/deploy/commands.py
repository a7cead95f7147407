"""Commands that tie a site to its coordinator: keys, roster, bundle, and the SuperNode itself."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from client.commands.options import Json, SiteFolder, Yes, commands, confirm
from client.hospital.identity import make_card, pin_roster, pinned_roster, review_roster, rotate
from client.hospital.site import Site
from common.console import print_json, say
from common.errors import RosterRefused, StorageError
from common.secure.identity import same_words
from common.secure.introductions import Card
from common.storage import held_alone, write_atomic

app = commands()
roster_app = typer.Typer(help="The roster of sites and keys that this site pinned.", no_args_is_help=True)
app.add_typer(roster_app, name="roster")

InFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file as the coordinator sent it.")]


@app.command()
def card(
    folder: SiteFolder = Path(),
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write it; DIR/NAME.card if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Write the card that introduces this site to the coordinator: its public keys, signed. It holds no secret."""
    with Site.open(folder) as site:
        name = site.name
    path, data = out or folder / f"{name}.card", make_card(folder, name)
    write_atomic(path, data, mode=0o644)
    words = Card.open(data).key.fingerprint
    if as_json:
        print_json({"site": name, "card": str(path), "fingerprint": words})
    else:
        say(f"{path}: send it to the coordinator, and read these words to them over the telephone:\n{words}")


@app.command(name="rotate")
def rotate_keys(folder: SiteFolder = Path(), yes: Yes = False, as_json: Json = False) -> None:
    """Make new keys in the place of the old ones, after a loss or on schedule; the coordinator then issues another roster."""
    confirm("replace this site's keys; it cannot take part until all sites pinned the next roster", yes=yes, as_json=as_json)
    with Site.open(folder) as site:
        name = site.name
    key, voucher = rotate(folder, name)
    path = folder / f"{name}.card"
    write_atomic(path, make_card(folder, name), mode=0o644)
    result = {"site": name, "card": str(path), "fingerprint": key.public.fingerprint, "voucher": voucher.hex() if voucher else None}
    if as_json:
        print_json(result)
    else:
        say(f"{path}: send it to the coordinator; the new key's words are:\n{key.public.fingerprint}")
        if voucher:
            say(f"and this, with which the former key vouches for it (roster rotate --voucher):\n{voucher.hex()}")


@roster_app.command()
def show(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """The pinned roster: who is in it, and its fingerprint in words."""
    roster = pinned_roster(folder)
    if roster is None:
        raise StorageError(f"{folder}: no roster is pinned; run `wardround-site roster pin FILE` with the coordinator's file")
    if as_json:
        print_json(
            {
                "consortium": roster.consortium,
                "version": roster.version,
                "expires": roster.expires.isoformat(),
                "fingerprint": roster.fingerprint,
                "sites": {member.site: member.key.fingerprint for member in roster.members},
            }
        )
        return
    say(f"consortium {roster.consortium}, version {roster.version}, valid until {roster.expires:%Y-%m-%d}\n{roster.fingerprint}")
    for member in roster.members:
        say(f"  {member.site}: {member.key.fingerprint}")


@roster_app.command()
def pin(
    file: InFile,
    folder: SiteFolder = Path(),
    words: Annotated[str | None, typer.Option("--words", help="The fingerprint as it was read to you; it must be the file's.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Pin the coordinator's roster, after you compared its words with the other sites. An old one, or another consortium's, is refused."""
    with Site.open(folder) as site:
        name = site.name
    data, now = _read(file), datetime.now(UTC)
    roster, lines = review_roster(folder, name, data, now=now)
    if words is not None and not same_words(words, roster.fingerprint):
        raise RosterRefused("these are not the words of this roster; ask for the file again, and for the words over another channel")
    if not as_json:
        for line in lines:
            say(line)
        say(f"its words are:\n{roster.fingerprint}")
    if words is None:
        confirm("pin it: did the coordinator and the other sites read the same words to you", yes=yes, as_json=as_json)
    pin_roster(folder, name, data, now=now)
    if as_json:
        print_json({"version": roster.version, "fingerprint": roster.fingerprint, "changes": lines})
    else:
        say(f"version {roster.version} is pinned")


@app.command()
def approve(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The app bundle (.fab) as the coordinator sent it.")],
    folder: SiteFolder = Path(),
    sha256: Annotated[str | None, typer.Option("--sha256", help="The digest as it was read to you; it must be the file's.")] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show every changed line before asking.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Look at a bundle of the coordinator's code, and let this one, and no other, run on this machine."""
    from client.deploy.assets import require_assets
    from client.deploy.bundles import approve as keep
    from client.deploy.bundles import approved_bundle, changes, difference, read_bundle
    from client.federate.egress import utc_now

    new, before = read_bundle(bundle), approved_bundle(folder)
    require_assets(new)
    if sha256 is not None and sha256.lower() != new.sha256:
        raise StorageError(f"{bundle}: its SHA-256 is {new.sha256}, not the one given; ask the coordinator for the file again")
    found = changes(before, new)
    if not as_json:
        say(f"SHA-256 {new.sha256}")
        say(
            f"{found.count} of {len(new.files)} files differ from the bundle approved before, {before.sha256[:16]}"
            if before
            else f"{len(new.files)} files; no bundle was approved here before"
        )
        for name in found.added if before else ():
            say(f"  new      {name}")
        for name in found.removed:
            say(f"  gone     {name}")
        for name, (plus, minus) in found.lines.items():
            say(f"  changed  {name}  +{plus} −{minus}")
        if diff:
            say(difference(before, new))
    if sha256 is None:
        confirm("let this bundle run on this machine, and no other", yes=yes, as_json=as_json, final=False)
    with Site.open(folder) as site:
        # First the record, then the permission.
        site.audit.append(
            "bundle", {"sha256": new.sha256, "before": before.sha256 if before else None, "at": utc_now().isoformat(timespec="seconds")}
        )
    keep(folder, new)
    if as_json:
        print_json(
            {
                "sha256": new.sha256,
                "before": before.sha256 if before else None,
                "added": list(found.added),
                "removed": list(found.removed),
                "changed": {name: {"added": plus, "removed": minus} for name, (plus, minus) in found.lines.items()},
            }
        )
    else:
        say("approved: this bundle may run here, and no other")


@app.command()
def join(
    folder: SiteFolder = Path(),
    invitation: Annotated[
        Path | None,
        typer.Option("--invitation", metavar="FILE", help="The coordinator's invitation, the first time or when its address changed."),
    ] = None,
    words: Annotated[str | None, typer.Option("--words", help="The invitation's fingerprint as it was read to you.")] = None,
    proxy: Annotated[str | None, typer.Option("--proxy", metavar="URL", help="The hospital's web proxy, as http://HOST:PORT.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Reach the coordinator and see what is missing; start nothing.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Connect this site to its coordinator and stay connected until stopped. Only outbound traffic, to one address and port."""
    from client.deploy import connection as link
    from client.deploy.joining import programs, reason, require_ready
    from common.secure.introductions import Invitation
    from common.supervisor import Supervisor

    folder = folder.absolute()
    Site.open(folder).close()
    if invitation is not None:
        data = _read(invitation)
        shown = Invitation.open(data)
        if words is not None and not same_words(words, shown.fingerprint):
            raise RosterRefused(
                "these are not the words of this invitation; ask for the file again, and for the words over another channel"
            )
        if words is None:
            if not as_json:
                say(f"consortium {shown.consortium} at {shown.address}; its words are:\n{shown.fingerprint}")
            confirm("accept it: did the coordinator read the same words to you", yes=yes, as_json=as_json)
        link.accept(folder, data, proxy=proxy)
    connection = link.load(folder)
    reached = link.greet(connection) if check else None
    if reached is None:
        connection = require_ready(folder)
    else:
        require_ready(folder)
        if as_json:
            print_json(
                {
                    "address": connection.invitation.address,
                    "clock_ahead_seconds": reached.clock_ahead_seconds,
                    "certificate_until": reached.certificate_until.isoformat(),
                }
            )
        else:
            say(
                f"{connection.invitation.address} answers with the coordinator's certificate, valid until {reached.certificate_until:%Y-%m-%d}; everything is there to join"
            )
        return

    def tell(sentence: str) -> None:
        said = f"{sentence}: {reason(folder / 'logs' / 'supernode.log')}" if sentence.startswith("supernode ended") else sentence
        typer.echo(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {said}", err=True)

    # Two would take each other's secret and log, and the coordinator admits one node a site.
    with held_alone(folder / ".joined", "this site is joined already, by a service or in another terminal; stop that first"):
        supervisor = Supervisor(programs(folder, connection), tell)
        supervisor.stop_on_signals()
        supervisor.start()
        supervisor.run()
    if as_json:
        print_json({"stopped": True})


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, on another disk.")],
    folder: SiteFolder = Path(),
    with_key: Annotated[
        bool, typer.Option("--with-key", help="Put the vault's key into the backup too: whoever has the file can then read it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy the whole site into one file: vault, ledger, audit log, keys of the transport, roster, bundle. The vault's key stays apart."""
    from client.deploy.backup import backup as save
    from client.federate.egress import utc_now

    with Site.open(folder) as site:
        done = save(site, file, with_key=with_key, now=utc_now())
    if as_json:
        print_json({"file": str(file), "files": done.files, "bytes": done.bytes, "with_key": done.with_key})
    else:
        say(
            f"{file}: {done.files} files, {done.bytes:,} bytes, "
            + ("with the vault's key" if done.with_key else "without the vault's key: keep that apart, nothing opens without it")
        )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `backup` wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    as_json: Json = False,
) -> None:
    """Make a site again from its backup, every byte checked. What was spent of the budgets since the backup is not in it."""
    from client.deploy.backup import restore as put_back

    done = put_back(file, folder)
    if as_json:
        print_json({"folder": str(folder), "files": done.files, "with_key": done.with_key})
        return
    say(
        f"{folder}: {done.files} files are back"
        + ("" if done.with_key else "; put the vault's key in its place, then run `wardround-site doctor`")
    )
    say("do not join a study with it that went on after the backup: its ledger misses what was spent since, and the other sites refuse it")


@app.command()
def units(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """Write a systemd unit and a container file for this site into DIR/units."""
    from client.deploy.units import write_units

    Site.open(folder).close()
    paths = [str(path) for path in write_units(folder.absolute())]
    if as_json:
        print_json({"files": paths})
    else:
        say("\n".join(paths))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from None
