"""wardround-coordinator: the desk of whoever runs a study.

    wardround-coordinator init DIR [--host NAME]            an example study to edit; with a host, a whole deployment
    wardround-coordinator roster add|rotate|revoke|renew|show · bundle · up        (on a deployment, see server/deploy/README.md)
    wardround-coordinator launch CONFIG --dry-run           σ, ε, bytes, hours, and what would be refused; contacts nobody
    wardround-coordinator launch CONFIG --out RUN [--superlink NAME] [--from RUN]    begin: enrol the sites and train the first line
    wardround-coordinator resume RUN [--superlink NAME]     go on where the run stands, or train its next line
    wardround-coordinator pause RUN · abort RUN · status RUN · log verify RUN
    wardround-coordinator pretrain RUN [--pairs F.jsonl] [--judge-pairs F.jsonl] · align RUN [--prompts F.jsonl]
    wardround-coordinator evaluate RUN [--pairs F.jsonl] [--questions F.jsonl]
    wardround-coordinator summarize RUN [--pairs F.jsonl] [--held-out F.jsonl] [--examples F.jsonl] [--planted F.jsonl] · release RUN · rollback VERSION [--run RUN]

Every command takes --json: one JSON object on standard output, nothing else there. Exit codes: 0 done, 1 refused or failed
with the reason and the remedy on standard error, 2 wrong usage.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.config import load_study
from common.console import print_json, run_command, say
from common.errors import ConfigError, RunAborted, RunLost, RunStopped
from common.journal import JSON
from common.storage import is_empty, storage_errors
from server.deploy import commands as deployment
from server.deploy.commands import DeploymentFolder, Json, Link, Yes, link
from server.deploy.folder import Deployment
from server.deploy.nodes import ONLINE, nodes
from server.deploy.processes import is_listening
from server.federate import orders
from server.federate.status import next_line, status
from server.launching import require_app, submit
from server.models_cli import COMMANDS as MODEL_COMMANDS
from server.run_folder import CONFIG_FILE, RunFolder

TRIES = 5
"""How often a line is begun again after the SuperLink or the ServerApp died under it."""

if TYPE_CHECKING:
    from server.federate.forecast import Forecast

app = typer.Typer(
    name="wardround-coordinator",
    help="Run a study across hospitals: plan it, start it, see where it stands, check its records.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
log_app = typer.Typer(help="The run's signed records.", no_args_is_help=True)
app.add_typer(log_app, name="log")
app.add_typer(deployment.app)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `launch` or `wardround simulate` leaves it.")]
SuperLink = Annotated[str, typer.Option("--superlink", help="Name of the SuperLink in Flower's config.toml.")]
VirtualSites = Annotated[
    Path | None,
    typer.Option("--virtual-sites", metavar="DIR", help="A folder of site folders, run on this machine by Flower's simulation engine."),
]
Bundle = Annotated[Path, typer.Option("--app", help="Folder with Wardround's pyproject.toml, from which the app bundle is built.")]


@app.command()
def launch(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A study in TOML.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="The run folder to make.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost and what would be refused.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the study.")] = None,
    superlink: SuperLink = "local",
    bundle: Bundle = Path(),
    virtual_sites: VirtualSites = None,
    deployment: DeploymentFolder = None,
    roster: Annotated[
        Path | None,
        typer.Option("--roster", metavar="FILE", help="The signed roster of the sites, when there is no deployment that has it."),
    ] = None,
    go_on_from: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", help="An earlier run: its SFT adapter is taken over, and the reward is trained on old and new pairs."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Begin a study: check it, make the run folder, and train its first line on the sites of a SuperLink."""
    from common.bases import shared_base  # PyTorch takes seconds to load, and the other commands need none of it
    from server.federate.forecast import forecast, forecast_json

    study = load_study(config, overrides or ())
    found = forecast(study, shared_base(study.model.base, study.model.dtype))
    if dry_run:
        if as_json:
            print_json(forecast_json(study, found))
        else:
            _show(found, study.privacy.delta)
        if found.refusals:
            raise typer.Exit(1)
        return
    if found.refusals:
        raise ConfigError("; ".join(found.refusals))
    if out is None:
        raise typer.BadParameter("name the run folder to make, or ask for --dry-run", param_hint="--out")
    to = link(deployment, superlink, bundle)
    require_app(to.app)  # what is missing is told before a folder is made
    _require_room(out)
    before = None if go_on_from is None else RunFolder.open(go_on_from.resolve())
    run = RunFolder.create(out.resolve(), study)
    if before is not None:
        from server.succession import take_over

        take_over(run, before)
    _adopt_roster(run, deployment, roster)
    _advance(run, to, virtual_sites, as_json)


@app.command()
def resume(
    run: Run,
    superlink: SuperLink = "local",
    bundle: Bundle = Path(),
    virtual_sites: VirtualSites = None,
    deployment: DeploymentFolder = None,
    as_json: Json = False,
) -> None:
    """Go on with the line that was interrupted or paused, or train the next one. Reward members need the clinicians' choices at the sites."""
    folder = RunFolder.open(run.resolve())
    orders.take_up(folder)
    _adopt_roster(folder, deployment, None)
    _advance(folder, link(deployment, superlink, bundle), virtual_sites, as_json)


@app.command()
def pause(run: Run, as_json: Json = False) -> None:
    """Stop the running line after its round, once that is committed; `resume` goes on. Nothing is lost."""
    orders.pause(RunFolder.open(run.resolve()))
    if as_json:
        print_json({"run": str(run), "paused": True})
    else:
        say("the line stops after the round that runs; `wardround-coordinator resume RUN` goes on")


@app.command()
def abort(run: Run, yes: Yes = False, as_json: Json = False) -> None:
    """End the run at once and for good. What the sites spent of their budgets stays spent; finished versions stay."""
    if not yes:
        if as_json:
            raise typer.BadParameter("say --yes as well: with --json nothing can be asked", param_hint="--yes")
        typer.confirm("end this run for good? it cannot be resumed", abort=True)
    orders.abort(RunFolder.open(run.resolve()), now=datetime.now(UTC))
    if as_json:
        print_json({"run": str(run), "aborted": True})
    else:
        say("the run is over")


for command in MODEL_COMMANDS:
    app.command()(command)


@app.command(name="status")
def show_status(run: Run, deployment: DeploymentFolder = None, as_json: Json = False) -> None:
    """Where every line of the study stands, whom the running round waits for, which sites missed rounds or are offline, what travelled."""
    folder = RunFolder.open(run)
    lines, enrolment, awaited = status(folder), folder.enrolment(), orders.waiting(folder)
    deployed = Deployment.open(deployment) if deployment else None
    # A machine that is down is when one asks: the run's own folder still says where it stands.
    answers = deployed is not None and is_listening(deployed)
    present = {node.site: node for node in nodes(deployed)} if deployed and answers else {}
    state = "aborted" if orders.aborted_at(folder) else "paused" if orders.is_paused(folder) else "open"
    if as_json:
        print_json(
            {
                "study_id": folder.study.study_id,
                "state": state,
                "sites": sorted(enrolment.declared) if enrolment else [],
                "next": next_line(folder),
                "lines": [{**asdict(line), "late": dict(line.late)} for line in lines],
                "waiting": {"group": awaited.group, "sites": list(awaited.sites), "seconds": awaited.seconds} if awaited else None,
                "superlink": answers if deployed else None,
                "nodes": {site: {"state": node.state, "since": node.since} for site, node in present.items()},
            }
        )
        return
    table = Table("line", "state", "rounds", "missed rounds", "MB up", "MB down", title=f"study {folder.study.study_id}, {state}")
    for line in lines:
        missed = ", ".join(f"{site} {count}" for site, count in line.late.items()) or "none"
        table.add_row(
            line.line, line.state, f"{line.rounds_done}/{line.rounds}", missed, f"{line.bytes_up / 1e6:.1f}", f"{line.bytes_down / 1e6:.1f}"
        )
    Console().print(table)
    if awaited:
        say(
            f"late now: {', '.join(awaited.sites)}; round {awaited.group} has waited for {awaited.seconds:.0f} s, as of {awaited.at:%H:%M:%S} UTC"
        )
    if deployed and not answers:
        say(f"the SuperLink on {deployed.superlink_address} does not answer; start it with `wardround-coordinator up`")
    for site, node in present.items():
        if node.state != ONLINE:
            say(f"{site} is {node.state} since {node.since}")


@log_app.command()
def verify(run: Run, as_json: Json = False) -> None:
    """Check the registry's chain, every signature and every file of every version."""
    folder = RunFolder.open(run)
    folder.registry.verify()
    versions, (rows, head) = folder.registry.versions(), folder.registry.journal.head
    if as_json:
        print_json({"rows": rows, "versions": len(versions), "head": head, "public_key": folder.registry.public_key})
    else:
        say(f"{rows} rows and {len(versions)} versions hold; head {head[:16]}, signed by {folder.registry.public_key[:16]}")


def _require_room(out: Path) -> None:
    """A run is begun in an empty folder, or where it was begun before."""
    if not is_empty(out) and not (out / CONFIG_FILE).exists():
        raise ConfigError(f"{out}: is not empty and holds no run; choose an empty or new folder")


def _adopt_roster(run: RunFolder, deployment: Path | None, roster: Path | None) -> None:
    """The run stands on the roster of its deployment, as it is now; the sites refuse a round over another than they pinned."""
    path = roster or (Deployment.open(deployment).roster_file if deployment else None)
    if path is not None:
        with storage_errors(path, "read the roster"):
            run.put_roster(path.read_bytes())


def _advance(run: RunFolder, to: Link, virtual_sites: Path | None, as_json: bool) -> None:
    line = next_line(run)
    if line is not None:
        try:
            with run.alone():
                _submit(run, line, to, virtual_sites)
        except RunAborted:
            raise
        except RunStopped as stopped:  # somebody asked for it: no failure, and nothing to restart
            if as_json:
                print_json({"run": str(run.path), "trained": None, "next": line, "paused": True})
            else:
                say(str(stopped))
            return
    following = next_line(run)
    result: dict[str, JSON] = {"run": str(run.path), "trained": line, "next": following}
    if as_json:
        print_json(result)
    elif line is None:
        say(f"every federated line of {run.path} is done")
    else:
        say(f"{line} is in the registry of {run.path}" + (f"; next is {following}" if following else "; all lines are done"))


def _submit(run: RunFolder, line: str, to: Link, virtual_sites: Path | None) -> None:
    """Train a line; on a deployment, a SuperLink or ServerApp that dies is waited for, and the line goes on from its last committed round."""
    for tries_left in reversed(range(TRIES)):
        try:
            submit(run, line, to.superlink, to.app, virtual_sites, to.environment)
            return
        except RunLost as lost:
            if not tries_left or not to.wait_until_up():
                raise
            typer.echo(f"{lost}; trying again, {tries_left} times at most", err=True)


def _show(found: "Forecast", delta: float) -> None:
    from server.federate.forecast import ASSUMPTIONS

    table = Table("stage", "unit", "sites", "rounds", "noise σ", "MB up", "MB down", "hours", title="at one site, bytes a round")
    for stage in found.stages:
        table.add_row(
            stage.stage.value + (f" × {stage.lines}" if stage.lines > 1 else ""),
            stage.unit.value,
            str(stage.sites),
            str(stage.rounds),
            "none" if stage.noise_multiplier is None else f"{stage.noise_multiplier:.3f}",
            f"{stage.bytes_up / 1e6:.2f}",
            f"{stage.bytes_down / 1e6:.2f}",
            f"{stage.hours * stage.lines:.2f}",
        )
    Console().print(table)
    for unit, value in found.epsilon.items():
        say(f"one {unit.value}: ε = {value:.2f} at δ = {delta:g} over the whole study")
    if not found.epsilon:
        say("NOT PRIVATE: the study trains without noise")
    say(f"{found.bytes_all / 1e6:,.0f} MB in all; about {found.hours:.2f} hours, if {ASSUMPTIONS}")
    for refusal in found.refusals:
        say(f"refused: {refusal}")


def main() -> None:
    run_command(app, "wardround-coordinator", interrupted="stopped; `wardround-coordinator resume RUN` continues")


if __name__ == "__main__":
    main()
