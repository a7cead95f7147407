"""wardround-site: the desk of one hospital.

    wardround-site init DIR                                   a site: vault, key, policy, declared units
    wardround-site ingest PATH --format fhir|csv|jsonl        an export into the vault
    wardround-site deidentify                                 every pending note, then the gate
    wardround-site deidentify IN.jsonl OUT.jsonl              one file, without a site
    wardround-site doctor · budget · egress · withdraw PATIENT · purge · log verify

Commands on a site take it from --site, from WARDROUND_SITE, or from the current folder. Every command takes --json: one JSON object on
standard output, nothing else there. Exit codes: 0 done, 1 refused or failed with the reason and the remedy on standard error, 2 wrong usage.
"""

import os
from collections import Counter
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from client.acts import GateHeld, NotesDeidentified, NotesIngested, PatientWithdrawn, RawNotesPurged, SiteCreated
from client.policy import load_policy
from client.site import Site
from common.console import print_json, run_command
from common.errors import ConfigError
from common.journal import JSON
from common.privacy.mechanism import Unit
from common.terminal import progress_on

if TYPE_CHECKING:
    from client.deid.pipeline import DeidReport
    from client.deid.token import GateToken

app = typer.Typer(
    name="wardround-site",
    help="One hospital's side: take in notes, de-identify them, see what was spent and what left.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
log_app = typer.Typer(help="The site's hash-chained records.", no_args_is_help=True)
app.add_typer(log_app, name="log")


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    FHIR = "fhir"


class DateChoice(StrEnum):
    YEAR_ONLY = "year_only"
    SHIFT = "shift"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
SiteFolder = Annotated[Path, typer.Option("--site", metavar="DIR", envvar="WARDROUND_SITE", help="The site's folder.")]
Workers = Annotated[int, typer.Option("--workers", min=1, max=256, help="Processes that read notes at once.")]
DatesOption = Annotated[
    DateChoice,
    typer.Option("--dates", help="`year_only` keeps the year; `shift` moves all dates of a patient alike, which is not Safe Harbor."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_CPUS = max(1, min(8, os.cpu_count() or 1))


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
        key = site.vault.key_file
        if as_json:
            print_json(
                {"site": site.name, "folder": str(folder), "key_file": str(key), "declared": {str(u): n for u, n in site.declared.items()}}
            )
            return
    _say(f"site {site_name} is in {folder}")
    _say(
        f"its key is {key}: keep a copy in a safe place, apart from the vault's backup; without it nothing in the vault can ever be read again"
    )


@app.command()
def doctor(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """Check disk, memory, model, key, vault, records, declared units and the gate. Exit code 1 when something does not hold."""
    from client.doctor import examine

    checks = examine(folder)
    if as_json:
        print_json({"ok": all(check.holds for check in checks), "checks": [asdict(check) for check in checks]})
    else:
        table = Table("check", "", "")
        for check in checks:
            table.add_row(check.name, "holds" if check.holds else "DOES NOT HOLD", check.detail)
        Console().print(table)
    if not all(check.holds for check in checks):
        raise typer.Exit(1)


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder of an export, or its file of notes.")],
    kind: Annotated[Format, typer.Option("--format", help="fhir: NDJSON of FHIR R4; csv, jsonl: notes and patients.")],
    folder: SiteFolder = Path(),
    as_json: Json = False,
) -> None:
    """Take an export into the vault: all of it, or nothing with the file, line and field that is wrong."""
    from client.intake import read_csv, read_fhir, read_jsonl

    reader = {Format.FHIR: read_fhir, Format.CSV: read_csv, Format.JSONL: read_jsonl}[kind]
    with Site.open(folder) as site, progress_on() as progress:
        export = reader(path)
        progress.start("read the export", 1)
        done = site.vault.ingest(export.notes, export.records)
        progress.advance()
        site.record(NotesIngested(**asdict(done)))
    if as_json:
        print_json({**asdict(done), "left_aside": dict(export.left_aside)})
        return
    _say(
        f"{done.notes} new notes, {done.revised} revised, {done.unchanged} known already, {done.records} patients' records"
        + (f"; {done.withdrawn} notes of withdrawn patients were not taken" if done.withdrawn else "")
    )
    for what, number in sorted(export.left_aside.items()):
        _say(f"left aside: {what} ({number})")


@app.command()
def deidentify(
    source: Annotated[
        Path | None, typer.Argument(metavar="[IN.jsonl", help="A file of notes; leave it out to work on the site's vault.")
    ] = None,
    target: Annotated[Path | None, typer.Argument(metavar="OUT.jsonl]", help="Where the de-identified notes of IN.jsonl go.")] = None,
    folder: SiteFolder = Path(),
    workers: Workers = _CPUS,
    dates: DatesOption = DateChoice.YEAR_ONLY,
    again: Annotated[bool, typer.Option("--again", help="Do every raw note anew, after better records or for other dates.")] = False,
    as_json: Json = False,
) -> None:
    """De-identify the vault's pending notes and hold the gate; or, with IN and OUT, one file without a site."""
    from client.deid.gate import hold_gate
    from client.deid.pipeline import deidentify_pending
    from client.deid.surrogates import Dates
    from client.standalone import deidentify_file

    if source is not None:
        if target is None:
            raise typer.BadParameter("name the output as well: deidentify IN.jsonl OUT.jsonl", param_hint="OUT.jsonl")
        with progress_on() as progress:
            done = deidentify_file(source, target, workers=workers, dates=Dates(dates.value), progress=progress)
        if as_json:
            print_json({"notes": done.notes, "quarantined": done.quarantined, "identifiers": done.identifiers, "out": str(target)})
        else:
            _say(
                f"{done.notes} notes, {sum(done.identifiers.values())} identifiers replaced, {done.quarantined} notes held back; see {target}"
            )
        return
    with Site.open(folder) as site:
        if again:
            site.vault.discard_clean()
        with progress_on() as progress:
            report = deidentify_pending(site.vault, workers=workers, dates=Dates(dates.value), progress=progress)
        quarantined = sum(report.quarantined.values())
        site.record(NotesDeidentified(report.notes, report.released, quarantined, sum(report.identifiers.values())))
        token = hold_gate(site)
        site.record(GateHeld(token.notes, token.quarantined, token.leaking, token.leak_upper_bound))
    if as_json:
        print_json(_figures(report, token))
        return
    table = Table("class", "replaced")
    for kind, number in report.identifiers.items():
        table.add_row(kind, str(number))
    Console().print(table)
    _say(
        f"{token.notes} notes released, {token.quarantined} held back; at most {token.leak_upper_bound:.2%} hold a known identifier (95 %)"
    )
    _say(f"the gate's token is valid until {token.expires}")


def _figures(report: "DeidReport", token: "GateToken") -> dict[str, JSON]:
    return {
        "notes": report.notes,
        "released": token.notes,
        "quarantined": token.quarantined,
        "reasons": dict(report.quarantined),
        "identifiers": dict(report.identifiers),
        "leak_upper_bound": token.leak_upper_bound,
        "expires": token.expires,
    }


@app.command()
def budget(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """What was spent of the patients' privacy, by unit and study, and what is left."""
    with Site.open(folder) as site:
        ledger = site.ledger
        charges = ledger.charges()
        unprotected = ledger.unprotected
        accounts = [
            _Account(
                unit=unit,
                epsilon=None if unprotected else ledger.epsilon(unit),
                budget=allowed.epsilon,
                delta=allowed.delta,
                left=0.0 if unprotected else ledger.remaining(unit),
                steps=dict(Counter(charge.entry.study for charge in charges if charge.mechanism.unit is unit)),
            )
            for unit, allowed in ledger.budgets.items()
        ]
    if as_json:
        print_json(
            {"units": [asdict(account) for account in accounts], "not_private": unprotected, "rows": ledger.head[0], "head": ledger.head[1]}
        )
        return
    table = Table("unit", "spent ε", "of", "at δ", "steps by study")
    for account in accounts:
        spent = "∞" if account.epsilon is None else f"{account.epsilon:.3f}"
        studies = ", ".join(f"{study} {steps}" for study, steps in account.steps.items()) or "none"
        table.add_row(account.unit.value, spent, f"{account.budget:g}", f"{account.delta:g}", studies)
    Console().print(table)
    if unprotected:
        _say("NOT PRIVATE: this site has trained without privacy")


@app.command()
def egress(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """Every message that left this hospital: bytes, schema, when, about what; and every request that was refused, with the reason."""
    with Site.open(folder) as site:
        rows = [{"kind": row.kind, **row.body} for row in site.audit.rows() if row.kind in ("egress", "refusal")]
    sent = [row for row in rows if row["kind"] == "egress"]
    if as_json:
        print_json({"messages": len(sent), "bytes": sum(int(str(row["bytes"])) for row in sent), "rows": rows})
        return
    table = Table("when", "what", "bytes", "about")
    for row in rows:
        table.add_row(
            str(row["at"]), str(row.get("schema") or f"refused: {row.get('reason')}"), str(row.get("bytes", "")), str(row["about"])
        )
    Console().print(table)
    _say(f"{len(sent)} messages, {sum(int(str(row['bytes'])) for row in sent):,} bytes in all")


@app.command()
def withdraw(
    patient: Annotated[str, typer.Argument(metavar="PATIENT", help="The patient's id as in the export.")],
    folder: SiteFolder = Path(),
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete everything stored of a patient and never take it in again. What a model learned before is not forgotten by this."""
    from client.deid.gate import withdraw as withdraw_patient

    _confirm("delete everything of this patient", yes=yes, as_json=as_json)
    with Site.open(folder) as site:
        gone = withdraw_patient(site, patient)
        site.record(PatientWithdrawn(rows=sum(gone.values())))
    if as_json:
        print_json({"deleted": dict(gone)})
    else:
        _say(f"{sum(gone.values())} rows are deleted; later exports of this patient will not be taken in")


@app.command()
def purge(folder: SiteFolder = Path(), yes: Yes = False, as_json: Json = False) -> None:
    """Delete the raw notes and the patients' records; the de-identified notes stay."""
    _confirm("delete all raw notes and patients' records", yes=yes, as_json=as_json)
    with Site.open(folder) as site:
        waiting = site.vault.pending_count()
        if waiting:
            raise ConfigError(
                f"{waiting} raw notes are not de-identified yet; run `wardround-site deidentify` first, or they would be lost"
            )
        gone = site.vault.purge_raw()
        site.record(RawNotesPurged(notes=gone))
    if as_json:
        print_json({"deleted": gone})
    else:
        _say(f"{gone} raw notes are deleted")


@log_app.command()
def verify(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """Check every digest of the ledger and of the audit log."""
    with Site.open(folder) as site:
        site.ledger.verify()
        site.audit.verify()
        heads = {"ledger": site.ledger.head, "audit": site.audit.head}
    if as_json:
        print_json({name: {"rows": rows, "head": head} for name, (rows, head) in heads.items()})
    else:
        for name, (rows, head) in heads.items():
            _say(f"{name}: {rows} rows hold; head {head[:16]}")


@dataclass(frozen=True, slots=True)
class _Account:
    """One unit's account; `epsilon` is None when it is infinite, `steps` are counted by study."""

    unit: Unit
    epsilon: float | None
    budget: float
    delta: float
    left: float
    steps: dict[str, int]


def _declared(pairs: list[str]) -> dict[Unit, int]:
    found: dict[Unit, int] = {}
    for pair in pairs:
        unit, _, number = pair.partition("=")
        if unit not in set(Unit) or not number.isdigit():
            raise typer.BadParameter(f"use one of {', '.join(Unit)}, as in patient=1200", param_hint="--declare")
        found[Unit(unit)] = int(number)
    return found


def _confirm(what: str, *, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json:
        raise typer.BadParameter("say --yes as well: with --json nothing can be asked", param_hint="--yes")
    typer.confirm(f"{what}? this cannot be undone", abort=True)


def _say(sentence: str) -> None:
    Console().print(sentence, highlight=False, soft_wrap=True)


def main() -> None:
    run_command(app, "wardround-site")


if __name__ == "__main__":
    main()
