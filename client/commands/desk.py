"""A site from the outside: make it, and see whether it is in order."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from client.commands.options import Json, SiteFolder, commands
from client.hospital.acts import SiteCreated
from client.hospital.identity import make_keys
from client.hospital.policy import load_policy
from client.hospital.site import Site
from common.console import plain, print_json, say
from common.privacy.mechanism import Unit

app = commands()
MAX_DIGITS = 12
"""Of a declared number; its own bound is below that."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    name: Annotated[str | None, typer.Option("--name", help="The site's name in studies; the folder's name if left out.")] = None,
    declare: Annotated[
        list[str] | None,
        typer.Option(
            "--declare", metavar="UNIT=NUMBER", help="How many units the hospital declares, such as patient=1200. Public; never counted."
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="What the hospital permits; configs/hospital.example.toml is an example.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="Keep the vault's key here instead of in DIR, on another disk.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a site: an encrypted vault with its key, the policy, the declared numbers of units."""
    site_name = folder.resolve().name if name is None else name
    with Site.create(
        folder, site_name, None if policy is None else load_policy(policy), declared_units=_declared(declare or []), key_file=key_file
    ) as site:
        site.record(SiteCreated(simulated=site.vault.simulated))
        key, words = site.vault.key_file, make_keys(folder).public.fingerprint
        if as_json:
            print_json(
                {
                    "site": site.name,
                    "folder": str(folder),
                    "key_file": str(key),
                    "fingerprint": words,
                    "declared": {str(u): n for u, n in site.declared.items()},
                }
            )
            return
    say(f"site {site_name} is in {folder}")
    say(
        f"its key is {key}: keep a copy in a safe place, apart from the vault's backup; without it nothing in the vault can ever be read again"
    )


@app.command()
def doctor(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """Check disk, memory, model, key, vault, records, declared units and the gate. Exit code 1 when something does not hold."""
    from client.hospital.doctor import examine

    checks = examine(folder)
    if as_json:
        print_json({"ok": all(check.holds for check in checks), "checks": [asdict(check) for check in checks]})
    else:
        table = Table("check", "", "")
        for check in checks:
            table.add_row(check.name, "holds" if check.holds else "DOES NOT HOLD", plain(check.detail))
        Console().print(table)
    if not all(check.holds for check in checks):
        raise typer.Exit(1)


def _declared(pairs: list[str]) -> dict[Unit, int]:
    found: dict[Unit, int] = {}
    for pair in pairs:
        unit, _, number = pair.partition("=")
        if unit not in set(Unit) - {Unit.SITE} or not (number.isascii() and number.isdigit()) or len(number) > MAX_DIGITS:
            raise typer.BadParameter(f"use one of {', '.join(set(Unit) - {Unit.SITE})}, as in patient=1200", param_hint="--declare")
        if unit in found:
            raise typer.BadParameter(f"`{unit}` is declared twice", param_hint="--declare")
        found[Unit(unit)] = int(number)
    return found
