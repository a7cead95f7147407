"""Options and words that the commands of a site share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
SiteFolder = Annotated[Path, typer.Option("--site", metavar="DIR", envvar="WARDROUND_SITE", help="The site's folder.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def commands() -> typer.Typer:
    """A group whose commands stand on the top level of `wardround-site`."""
    return typer.Typer(pretty_exceptions_enable=False, add_completion=False)


def confirm(what: str, *, yes: bool, as_json: bool, final: bool = True) -> None:
    """Ask before what cannot be undone (`final`), or should not be done unread. With --json nothing can be asked, so --yes must be there."""
    if yes:
        return
    if as_json:
        raise typer.BadParameter("say --yes as well: with --json nothing can be asked", param_hint="--yes")
    typer.confirm(f"{what}?" + (" this cannot be undone" if final else ""), abort=True)
